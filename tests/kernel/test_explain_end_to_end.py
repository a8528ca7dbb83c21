"""What ``kr explain`` says, of a running agent and of its journal, is what packets meet."""

import json
from collections.abc import Iterator

import pytest
from harness.command import kr
from harness.policed import PODS, Policed, policed
from harness.reach import REACHED, REFUSED

pytestmark = [pytest.mark.root, pytest.mark.slow]

POLICIES = """
    x/closed: {podSelector: {matchLabels: {app: b}}, policyTypes: [Ingress]}
    x/web: {podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: y}}}], ports: [{port: web}]}]}
    y/few: {podSelector: {matchLabels: {app: b}}, policyTypes: [Egress], egress: [{to: [{podSelector: {}}]}]}
"""
SOURCES = (*PODS, "node-1", "node-2")
PORTS = ("80/tcp", "81/tcp", "53/udp")


@pytest.fixture(scope="module", name="lab")
def _lab() -> Iterator[Policed]:
    with policed("explain") as made:
        yield made


def socket(lab: Policed, node: str) -> tuple[str, str]:
    return "--control-socket", str(lab.lab.agent(node).control_socket)


def test_a_verdict_is_what_packets_meet(lab: Policed) -> None:
    lab.enforce(POLICIES)
    probes, met = [], []
    for port in PORTS:
        for family in (4, 6):
            seen = lab.reach.seen(port, family)
            for source in SOURCES:
                for target, result in zip(PODS, seen[source], strict=True):
                    number, _, protocol = port.partition("/")
                    ends = {"src": lab.reach.address(source, family), "dst": lab.reach.address(target, family)}
                    probes.append(json.dumps({**ends, "port": int(number), "protocol": protocol}))
                    met.append(result)
    assert {*met} == {REACHED, REFUSED}
    for node in ("node-1", "node-2"):
        done = kr("explain", "--probes", "-", *socket(lab, node), stdin="\n".join(probes).encode())
        answers = [json.loads(line) for line in done.out.splitlines()]
        assert [REACHED if answer["allowed"] else REFUSED for answer in answers] == met
        assert done.status == 0


def test_a_question_about_a_moment_is_answered_from_the_agents_journal(lab: Policed) -> None:
    lab.enforce("")
    before = lab.lab.agent("node-2").status()["journal"]["last_seq"]
    lab.enforce("x/closed: {podSelector: {matchLabels: {app: b}}, policyTypes: [Ingress]}")
    words = ("explain", "y/a", "x/b:web", *socket(lab, "node-2"))
    now = kr(*words, "-o", "json")
    answer = json.loads(now.out)
    assert (now.status, answer["port"], answer["ingress"]["why"]) == (1, 80, "isolated")
    (closed,) = [each for each in answer["ingress"]["isolated_by"] if each["policy"] == "x/closed"]
    assert closed["seq"] > before
    assert kr(*words, "--at", str(before)).status == 0
    then = kr(*words, "--at", str(closed["seq"]), "-o", "json")
    assert (then.status, json.loads(then.out)) == (1, answer)


def test_the_status_says_how_the_firewall_does(lab: Policed) -> None:
    lines = [line.strip() for line in kr("status", *socket(lab, "node-1")).out.splitlines()]
    assert any(line.startswith("nftables: ") for line in lines)
    assert any(line.startswith("drops: reading NFLOG group 100") for line in lines)
