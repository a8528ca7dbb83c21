"""A denied connection is told by the agent of the node that denied it, with names, at once and from its journal."""

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from harness.command import kr
from harness.machine import until
from harness.policed import Policed, policed
from harness.reach import REFUSED, Target, reach

pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.fixture(scope="module", name="lab")
def _lab() -> Iterator[Policed]:
    with policed("drops") as made:
        yield made


def denied(lab: Policed, source: str, destination: str, port: int, protocol: str, *, family: int) -> None:
    target = Target(lab.reach.address(destination, family), port, protocol)
    assert reach(lab.lab.machines.namespace_of(source), [target]) == [REFUSED]


def told(*argv: str) -> list[dict[str, Any]]:
    done = kr("drops", "-o", "json", *argv)
    assert (done.status, done.err) == (0, "")
    return [json.loads(line) for line in done.out.splitlines()]


def live(lab: Policed, node: str) -> list[dict[str, Any]]:
    return told("--control-socket", str(lab.lab.agent(node).control_socket))


def words(drop: dict[str, Any]) -> str:
    said = [drop[each] for each in ("direction", "source_pod", "destination_pod", "protocol", "port")]
    return " ".join(map(str, [*said, *drop["policies"]]))


def test_who_was_denied_by_which_policies_is_told_by_the_node_that_denied_it(lab: Policed) -> None:
    lab.enforce("""
        x/closed: {podSelector: {matchLabels: {app: b}}, policyTypes: [Ingress]}
        x/closed-too: {podSelector: {}, policyTypes: [Ingress]}
        y/kept-in: {podSelector: {matchLabels: {app: b}}, policyTypes: [Egress]}
    """)
    for node in ("node-1", "node-2"):
        assert lab.status(node)["says"]["drops"].startswith("reading NFLOG group 100")
    denied(lab, "y/a", "x/b", 80, "tcp", family=4)
    denied(lab, "y/a", "x/b", 53, "udp", family=6)
    denied(lab, "y/b", "y/a", 81, "tcp", family=6)
    expected = {
        "node-1": ["egress y/b y/a TCP 81 y/kept-in"],
        "node-2": ["ingress y/a x/b TCP 80 x/closed x/closed-too", "ingress y/a x/b UDP 53 x/closed x/closed-too"],
    }
    for node, drops in expected.items():
        until(partial(_all_told, lab, node, drops), what=f"the drops of {node}")
        assert [words(drop) for drop in told("--from", str(lab.lab.agent(node).journal))] == drops
        assert lab.status(node)["says"]["drops"] == f"reading NFLOG group 100, {len(drops)} denied packets"
    (leaving,) = live(lab, "node-1")
    assert (leaving["source"], leaving["destination"]) == (lab.reach.address("y/b", 6), lab.reach.address("y/a", 6))


def _all_told(lab: Policed, node: str, drops: list[str]) -> bool:
    return sorted(dict.fromkeys(map(words, live(lab, node)))) == sorted(drops)
