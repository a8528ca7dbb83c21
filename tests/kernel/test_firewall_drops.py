"""The reader of denied packets against the real kernel's log."""

import socket
import subprocess
from collections.abc import Callable

import anyio
import pytest
from harness.netns import run_in_new

from kube_router.plugins.firewall.drops import Drops

pytestmark = pytest.mark.root

RULES = """
table inet t {
    chain out {
        type filter hook output priority 0;
        tcp dport 99 log prefix "netpol-egress " group 100 snaplen 128 reject with tcp reset
        udp dport 99 log prefix "netpol-ingress " group 100 snaplen 128 drop
        udp dport 98 log prefix "somebody else " group 100 snaplen 128 drop
    }
}
"""


def in_a_namespace(body: Callable[[], None]) -> None:
    def prepared() -> None:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        subprocess.run(["nft", "-f", "-"], input=RULES, text=True, check=True)
        body()

    run_in_new(prepared)


def send(address: str, port: int, *, tcp: bool, count: int = 1) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for _ in range(count):
        with socket.socket(family, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as client:
            client.settimeout(5)
            try:
                client.connect((address, port))
                client.send(b"x")
            except (ConnectionRefusedError, PermissionError):
                continue


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not condition():  # noqa: ASYNC110 - the kernel sets no event
            await anyio.sleep(0.01)


def drops(notes: list[str]) -> Drops:
    return Drops(describe=lambda address: "", policies_of=lambda address, direction: ["a/p"], note=notes.append)


def test_denied_packets_are_told_and_others_are_not() -> None:
    notes: list[str] = []

    async def main() -> None:
        reader = drops(notes)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader.run)
            await until(lambda: reader.state.startswith("reading"))
            for address in ("127.0.0.1", "::1"):
                send(address, 98, tcp=False)
                send(address, 99, tcp=True)
                send(address, 99, tcp=False)
            await until(lambda: len(notes) == 4)
            tasks.cancel_scope.cancel()

    in_a_namespace(lambda: anyio.run(main))
    assert notes == [
        "denied egress 127.0.0.1 -> 127.0.0.1 TCP 99; isolated by a/p",
        "denied ingress 127.0.0.1 -> 127.0.0.1 UDP 99; isolated by a/p",
        "denied egress ::1 -> ::1 TCP 99; isolated by a/p",
        "denied ingress ::1 -> ::1 UDP 99; isolated by a/p",
    ]


def test_a_group_that_somebody_else_reads_is_said_and_taken_when_it_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kube_router.plugins.firewall.drops.AGAIN_S", 0.05)

    async def main() -> None:
        first, second = drops([]), drops([])
        async with anyio.create_task_group() as tasks:
            async with anyio.create_task_group() as others:
                others.start_soon(first.run)
                await until(lambda: first.state.startswith("reading"))
                tasks.start_soon(second.run)
                await until(lambda: second.state.startswith("somebody else reads"))
                others.cancel_scope.cancel()
            await until(lambda: second.state.startswith("reading"))
            tasks.cancel_scope.cancel()

    in_a_namespace(lambda: anyio.run(main))


def test_a_flood_is_read_without_holding_up_the_loop() -> None:
    notes: list[str] = []
    found: list[int] = []

    async def main() -> None:
        reader = drops(notes)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader.run)
            await until(lambda: reader.state.startswith("reading"))
            await anyio.to_thread.run_sync(lambda: send("127.0.0.1", 99, tcp=False, count=5000))
            await until(lambda: len(reader.since(0)) == 1000)
            found.extend(drop.number for drop in reader.since(0))
            tasks.cancel_scope.cancel()

    # The thread that sends has to be in the namespace too.
    in_a_namespace(lambda: anyio.run(main))
    assert len(notes) <= 130
    assert found == list(range(found[0], found[0] + 1000))
