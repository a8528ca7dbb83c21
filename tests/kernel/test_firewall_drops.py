"""The reader of denied packets against the real kernel's log."""

import ctypes
import logging
import os
import socket
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Awaitable, Callable
from contextlib import suppress

import anyio
import anyio.to_thread
import pytest
from harness.netns import run_in_new, sh

from kube_router.plugins.firewall import drops as module
from kube_router.plugins.firewall import nflog
from kube_router.plugins.firewall.drops import KEPT, TOLD_A_MINUTE, Drop, Drops
from kube_router.plugins.firewall.fixed import Settings, fixed_ruleset
from kube_router.plugins.firewall.render import write_table

pytestmark = pytest.mark.root

NAMES = {"127.0.0.1": "a/web", "::1": "a/web6"}
READING = "reading NFLOG group 100"
WAIT_S = 20
CAP_NET_ADMIN = 12
FLOOD = 5_000
LOGGED = """
table inet t {
    chain out {
        type filter hook output priority 0;
        udp dport 99 log prefix "netpol-ingress " group 100 snaplen 128 drop
        udp dport 97 log prefix "netpol-egress " group 100 snaplen 128 drop
        udp dport 98 log prefix "somebody else " group 100 snaplen 128 drop
    }
}
"""
DENIED = """
table inet kube-router-firewall {
    chain test {
        type filter hook output priority 0;
        th dport 98 accept
        tcp dport 5432 goto deny_egress
        icmp type echo-request goto deny_egress
        icmpv6 type echo-request goto deny_ingress
        meta l4proto { udp, 132 } goto deny_ingress
    }
}
"""


def in_a_namespace(rules: str, body: Callable[[], Awaitable[None]]) -> None:
    def prepared() -> None:
        sh("nft -f -", stdin=rules)
        anyio.run(body)

    run_in_new(prepared)


def send(address: str, port: int, *, tcp: bool = False, count: int = 1) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for _ in range(count):
        with socket.socket(family, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as client:
            client.settimeout(5)
            with suppress(ConnectionRefusedError, PermissionError):
                client.connect((address, port))
                client.send(b"x")


def send_raw(address: str, protocol: int, packet: bytes) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_RAW, protocol) as client, suppress(PermissionError):
        client.sendto(packet, (address, 0))


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(WAIT_S):
        while not condition():  # noqa: ASYNC110 - the kernel sets no event
            await anyio.sleep(0.01)


def drops(notes: list[str]) -> Drops:
    return Drops(
        describe=lambda address: NAMES.get(address, ""),
        policies_of=lambda address, direction: [f"a/{direction}"],
        note=notes.append,
    )


def test_what_the_firewall_s_own_chains_deny_is_told_with_names() -> None:
    notes: list[str] = []

    async def main() -> None:
        reader = drops(notes)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader.run)
            await until(lambda: reader.state == READING)
            for address, icmp, echo in (("127.0.0.1", 1, 8), ("::1", 58, 128)):
                send(address, 98)
                send(address, 99)
                send_raw(address, icmp, struct.pack("!BBHHH", echo, 0, 0, 1, 1))
            send("127.0.0.2", 5432, tcp=True)
            send_raw("::1", 132, struct.pack("!HHII", 1000, 2000, 7, 0) + b"\1\0\0\4")
            await until(lambda: len(notes) >= 6)
            tasks.cancel_scope.cancel()

    in_a_namespace(write_table(fixed_ruleset(Settings(judge_icmp=True))) + DENIED, main)
    assert list(dict.fromkeys(notes)) == [  # TCP may try twice
        "denied ingress a/web (127.0.0.1) -> a/web (127.0.0.1) UDP 99; isolated by a/ingress",
        "denied egress a/web (127.0.0.1) -> a/web (127.0.0.1) ICMP type 8 code 0; isolated by a/egress",
        "denied ingress a/web6 (::1) -> a/web6 (::1) UDP 99; isolated by a/ingress",
        "denied ingress a/web6 (::1) -> a/web6 (::1) ICMPv6 type 128 code 0; isolated by a/ingress",
        "denied egress a/web (127.0.0.1) -> 127.0.0.2 TCP 5432; isolated by a/egress",
        "denied ingress a/web6 (::1) -> a/web6 (::1) SCTP 2000; isolated by a/ingress",
    ]


def test_what_other_rules_log_to_the_group_is_not_told() -> None:
    notes: list[str] = []

    async def main() -> None:
        reader = drops(notes)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader.run)
            await until(lambda: reader.state == READING)
            send("127.0.0.1", 98)
            send("127.0.0.1", 99)
            await until(lambda: bool(notes))
            tasks.cancel_scope.cancel()

    in_a_namespace(LOGGED, main)
    assert notes == ["denied ingress a/web (127.0.0.1) -> a/web (127.0.0.1) UDP 99; isolated by a/ingress"]


HOLDER = """
import socket, sys
holder = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
holder.bind((0, 0))
holder.send(bytes.fromhex(sys.argv[1]))
holder.recv(4096)
print("has it", flush=True)
sys.stdin.read()
"""


def start_holder() -> "subprocess.Popen[str]":
    """Return a process that has the group until its input ends."""
    argv = [sys.executable, "-c", HOLDER, nflog.bind().hex()]
    holder = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "has it\n"
    return holder


def test_a_group_that_another_process_has_is_said_once_and_taken_when_it_is_free(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "AGAIN_S", 0.02)
    caplog.set_level(logging.INFO, module.__name__)
    pids: list[int] = []

    async def main() -> None:
        other = start_holder()
        pids.append(other.pid)
        reader = drops([])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader.run)
            await until(lambda: reader.state.startswith("somebody else reads NFLOG group 100"))
            await anyio.sleep(0.1)  # meanwhile it is tried again
            other.communicate()
            await until(lambda: reader.state == READING)
            tasks.cancel_scope.cancel()

    in_a_namespace(LOGGED, main)
    assert [(record.levelname, record.message) for record in caplog.records] == [
        (
            "WARNING",
            "drops_reader state='somebody else reads NFLOG group 100 (tcpdump or ulogd? "
            f"netlink port {pids[0]}, mostly its pid)'",
        ),
        ("INFO", "drops_reader state='reading NFLOG group 100'"),
    ]


def test_an_agent_that_may_not_read_the_group_says_so() -> None:
    said: list[str] = []

    async def main() -> None:
        reader = drops([])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader.run)
            await until(lambda: reader.state != "not started")
            said.append(reader.state)
            tasks.cancel_scope.cancel()

    def unprivileged() -> None:
        give_up_net_admin()
        anyio.run(main)

    run_in_new(unprivileged)
    assert said == ["NFLOG group 100 cannot be read without CAP_NET_ADMIN"]


def give_up_net_admin() -> None:
    """Take CAP_NET_ADMIN from this thread, which ends with its test."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, data) == 0, os.strerror(ctypes.get_errno())
    data[0] &= ~(1 << CAP_NET_ADMIN)
    assert libc.capset(header, data) == 0, os.strerror(ctypes.get_errno())


async def flood(reader: Drops, count: int) -> None:
    """Have at least this many packets denied, until as many as are kept were read, and the last one too."""
    # The thread is this one's child, so it is in the namespace too.
    await anyio.to_thread.run_sync(lambda: send("127.0.0.1", 99, count=count))
    with anyio.fail_after(WAIT_S):
        while len(kept := reader.since(0)) < KEPT or kept[-1].packet.port != 97:
            send("127.0.0.1", 97, count=10)
            await anyio.sleep(0.01)


def test_a_flood_neither_holds_up_the_loop_nor_fills_the_memory() -> None:
    notes: list[str] = []
    kept: list[Drop] = []
    lags: list[float] = []
    traced: list[int] = []

    async def main() -> None:
        reader = drops(notes)

        async def measure() -> None:
            while True:
                before = anyio.current_time()
                await anyio.sleep(0.001)
                lags.append(anyio.current_time() - before)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader.run)
            await until(lambda: reader.state == READING)
            tasks.start_soon(measure)
            tracemalloc.start()
            for _ in range(2):
                await flood(reader, FLOOD)
                traced.append(tracemalloc.get_traced_memory()[0])
            tracemalloc.stop()
            kept.extend(reader.since(0))
            tasks.cancel_scope.cancel()

    in_a_namespace(LOGGED, main)
    assert [drop.number for drop in kept] == list(range(kept[0].number, kept[0].number + KEPT))
    assert TOLD_A_MINUTE <= len(notes) <= 2 * TOLD_A_MINUTE
    assert traced[1] - traced[0] < 100_000
    assert max(lags) < 1
