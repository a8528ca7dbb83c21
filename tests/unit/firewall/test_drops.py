"""What becomes of a denied packet: kept, told within bounds, answered."""

import errno
import logging
import os
import time
from pathlib import Path
from typing import NoReturn

import anyio
import pytest

from kube_router.plugins.firewall import drops as module
from kube_router.plugins.firewall.drops import KEPT, TOLD_A_MINUTE, Drops
from kube_router.plugins.firewall.nflog import Packet

PACKET = Packet("ingress", "TCP", "10.0.0.1", "10.0.0.2", 40000, 5432)
PODS = {"10.0.0.1": "a/web", "10.0.0.2": "a/db"}


@pytest.fixture(name="notes")
def _notes() -> list[str]:
    return []


@pytest.fixture(name="drops")
def _drops(notes: list[str]) -> Drops:
    return Drops(
        describe=lambda address: PODS.get(address, ""),
        policies_of=lambda address, direction: ["a/closed"] if (address, direction) == ("10.0.0.2", "ingress") else [],
        note=notes.append,
    )


def test_a_drop_is_noted_with_pods_and_the_policies_that_isolate_the_judged_end(drops: Drops, notes: list[str]) -> None:
    drops.take(PACKET)
    assert notes == ["denied ingress a/web (10.0.0.1) -> a/db (10.0.0.2) TCP 5432; isolated by a/closed"]


def test_an_address_of_no_pod_stands_for_itself(drops: Drops, notes: list[str]) -> None:
    drops.take(Packet("egress", "GRE", "192.0.2.9", "10.0.0.2"))
    assert notes == ["denied egress 192.0.2.9 -> a/db (10.0.0.2) GRE; no policy isolates it now"]


def test_icmp_is_told_by_its_type_and_code(drops: Drops, notes: list[str]) -> None:
    drops.take(Packet("egress", "ICMP", "192.0.2.9", "10.0.0.2", icmp_type=8, icmp_code=0))
    assert notes == ["denied egress 192.0.2.9 -> a/db (10.0.0.2) ICMP type 8 code 0; no policy isolates it now"]


def test_of_many_policies_the_first_are_told_and_all_are_kept(notes: list[str]) -> None:
    many = [f"a/p{number}" for number in range(8)]
    drops = Drops(describe=lambda address: "", policies_of=lambda address, direction: many, note=notes.append)
    drops.take(PACKET)
    assert notes == [
        "denied ingress 10.0.0.1 -> 10.0.0.2 TCP 5432; isolated by a/p0, a/p1, a/p2, a/p3, a/p4 and 3 more"
    ]
    assert drops.since(0)[0].document()["policies"] == many


def test_a_drop_is_one_line_in_the_log(drops: Drops, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    drops.take(PACKET)
    drops.take(Packet("egress", "ICMPv6", "fd00::1", "fd00::2", icmp_type=128, icmp_code=0))
    assert caplog.messages == [
        "packet_denied direction=ingress src=10.0.0.1 src_pod=a/web dst=10.0.0.2 dst_pod=a/db proto=TCP dport=5432"
        " policies=a/closed",
        "packet_denied direction=egress src=fd00::1 dst=fd00::2 proto=ICMPv6 icmp_type=128",
    ]


def test_too_many_are_kept_but_not_told(drops: Drops, notes: list[str]) -> None:
    for _ in range(TOLD_A_MINUTE + 50):
        drops.take(PACKET)
    assert TOLD_A_MINUTE <= len(notes) <= TOLD_A_MINUTE + 5
    assert drops.untold == TOLD_A_MINUTE + 50 - len(notes)
    assert len(drops.since(0)) == TOLD_A_MINUTE + 50


def test_how_many_were_not_told_is_told_with_the_next_one_that_is(
    drops: Drops, notes: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for _ in range(TOLD_A_MINUTE + 50):
        drops.take(PACKET)
    now += 0.5
    drops.take(PACKET)
    now += 0.5
    drops.take(PACKET)
    assert (len(notes), drops.untold) == (TOLD_A_MINUTE + 3, 50)
    assert notes[-3] == "denied 50 more, too many to tell of each"
    assert "packets_denied_untold count=50" in caplog.messages
    assert drops.status == "not started, 172 denied packets, 50 of them neither logged nor journaled: too many"


def test_only_the_last_ones_are_kept(drops: Drops) -> None:
    for _ in range(KEPT + 10):
        drops.take(PACKET)
    assert [drop.number for drop in drops.since(KEPT + 7)] == [KEPT + 8, KEPT + 9, KEPT + 10]
    assert len(drops.since(0)) == KEPT


def test_an_answer_holds_what_came_after_the_number_asked_for(drops: Drops) -> None:
    drops.take(PACKET)
    drops.take(PACKET)
    answer = drops.answer({"what": "drops", "after": 1})
    assert answer["last"] == 2
    assert answer["drops"] == [
        {
            "number": 2,
            "t": drops.since(1)[0].t,
            "direction": "ingress",
            "source": "10.0.0.1",
            "source_pod": "a/web",
            "source_port": 40000,
            "destination": "10.0.0.2",
            "destination_pod": "a/db",
            "protocol": "TCP",
            "port": 5432,
            "icmp_type": None,
            "icmp_code": None,
            "policies": ["a/closed"],
        }
    ]


@pytest.mark.parametrize("after", [99, "x", None, -1, 1.0])
def test_a_number_that_makes_no_sense_asks_for_all(drops: Drops, after: object) -> None:
    drops.take(PACKET)
    answer = drops.answer({"after": after})
    assert len(answer["drops"]) == 1  # type: ignore[arg-type]


def test_a_number_from_before_a_restart_asks_for_all(drops: Drops) -> None:
    drops.take(PACKET)
    drops.take(PACKET)
    born = drops.answer({})["born"]
    assert isinstance(born, int)
    asked = [drops.answer({"after": 1, "born": each})["drops"] for each in (born, born - 1)]
    assert [len(found) for found in asked] == [1, 2]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "owners", "words"),
    [
        (errno.EPERM, "  100   2475     0 2   128    100  1\n", "somebody else reads NFLOG group 100"),
        (errno.EPERM, "  100   2475     0 2   128    100  1\n", "netlink port 2475"),
        (errno.EPERM, "    5   2475     0 2   128    100  1\n", "NFLOG group 100 cannot be read without CAP_NET_ADMIN"),
        (errno.EPERM, None, "NFLOG group 100 cannot be read without CAP_NET_ADMIN"),
        (errno.EINVAL, None, "the kernel has no nfnetlink_log"),
        (errno.EPROTONOSUPPORT, None, "the kernel has no nfnetlink_log"),
        (errno.EMFILE, None, "NFLOG group 100 cannot be read: [Errno 24]"),
    ],
)
async def test_why_nothing_is_read_is_said_once_and_it_is_tried_again(
    drops: Drops,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    error: int,
    owners: str | None,
    words: str,
) -> None:
    tries = 0

    def refused() -> NoReturn:
        nonlocal tries
        tries += 1
        raise OSError(error, os.strerror(error))

    if owners is not None:
        (tmp_path / "owners").write_text(owners)
    monkeypatch.setattr(module, "OWNERS", tmp_path / "owners")
    monkeypatch.setattr(module, "AGAIN_S", 0.001)
    monkeypatch.setattr(module, "_bound", refused)
    states = set()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(drops.run)
        with anyio.fail_after(10):
            while tries < 3:
                states.add(drops.status)
                await anyio.sleep(0.001)
        tasks.cancel_scope.cancel()
    assert words in max(states - {"not started"})
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert caplog.messages[0].startswith("drops_reader state=")
    assert drops.state == "stopped"
