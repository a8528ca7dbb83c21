"""What becomes of a denied packet: kept, told within bounds, answered."""

import pytest

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
    drops.take(Packet("egress", "ICMP", "192.0.2.9", "10.0.0.2"))
    assert notes == ["denied egress 192.0.2.9 -> a/db (10.0.0.2) ICMP; no policy isolates it now"]


def test_too_many_are_kept_but_not_told(drops: Drops, notes: list[str]) -> None:
    for _ in range(TOLD_A_MINUTE + 50):
        drops.take(PACKET)
    assert TOLD_A_MINUTE <= len(notes) <= TOLD_A_MINUTE + 5
    assert drops.untold == TOLD_A_MINUTE + 50 - len(notes)
    assert len(drops.since(0)) == TOLD_A_MINUTE + 50


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
    (drop,) = answer["drops"]  # type: ignore[misc]  # a JSON document
    assert drop == {
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
        "policies": ["a/closed"],
    }


@pytest.mark.parametrize("after", [99, "x", None, -1])
def test_a_number_from_before_a_restart_asks_for_all(drops: Drops, after: object) -> None:
    drops.take(PACKET)
    answer = drops.answer({"after": after})
    assert len(answer["drops"]) == 1  # type: ignore[arg-type]
