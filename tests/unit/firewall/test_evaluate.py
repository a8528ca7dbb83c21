"""Which policies judge a connection, what comes before them, and which pods and policies count."""

from itertools import permutations
from typing import Any

import pytest
from harness.shop import CROWD, DB, OTHER_NODE, OUTSIDE, WEB, allowed, ask, pod, policy, world

from kube_router.events.model import NetworkPolicy
from kube_router.plugins.firewall.evaluate import Decision, Match, Settings, Verdict

NODE = "192.0.2.1"
DENY_INGRESS = "{podSelector: {}, policyTypes: [Ingress]}"
DENY_EGRESS = "{podSelector: {}, policyTypes: [Egress]}"

# -- which pods, which directions --------------------------------------------------------------------------------------

IN, OUT = (OUTSIDE, WEB), (WEB, OUTSIDE)


@pytest.mark.parametrize(
    ("spec", "into_web", "out_of_web"),
    [
        (DENY_INGRESS, False, True),
        (DENY_EGRESS, True, False),
        ("{podSelector: {}, policyTypes: [Ingress, Egress]}", False, False),
        ("{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{}]}", True, False),
        ("{podSelector: {}, policyTypes: [Ingress, Egress], egress: [{}]}", False, True),
        # without policyTypes: ingress, and egress where there are rules for it
        ("{podSelector: {}}", False, True),
        ("{podSelector: {}, egress: []}", False, True),
        ("{podSelector: {}, egress: [{to: [{podSelector: {}}]}]}", False, False),
        ("{podSelector: {}, ingress: [{}], egress: [{}]}", True, True),
        # rules of a direction that is not named mean nothing
        ("{podSelector: {}, policyTypes: [Egress], ingress: [{}], egress: []}", True, False),
        ("{podSelector: {}, policyTypes: [Ingress], egress: [{to: [{podSelector: {}}]}]}", False, True),
        # which pods
        ("{policyTypes: [Ingress]}", False, True),
        ("{podSelector: {matchLabels: {app: web}}}", False, True),
        ("{podSelector: {matchLabels: {app: db}}}", True, True),
        ("{podSelector: {matchExpressions: [{key: tier, operator: NotIn, values: [back]}]}}", False, True),
    ],
)
def test_a_policy_closes_these_directions_of_these_pods(spec: str, into_web: bool, out_of_web: bool) -> None:
    cluster = world(policy(spec))
    assert (allowed(cluster, *IN), allowed(cluster, *OUT)) == (into_web, out_of_web)


def test_a_policy_is_for_its_own_namespace_only() -> None:
    cluster = world(policy(DENY_INGRESS, "data/p"))
    assert (allowed(cluster, OUTSIDE, WEB), allowed(cluster, OUTSIDE, "10.2.0.12")) == (True, False)


def test_several_policies_admit_what_any_of_them_admits() -> None:
    first = policy("{podSelector: {}, ingress: [{ports: [{port: 80}]}]}", "shop/a")
    second = policy("{podSelector: {}, ingress: [{ports: [{port: 8080}]}]}", "shop/b")
    cluster = world(policy(DENY_INGRESS, "shop/0"), first, second)
    assert [allowed(cluster, *IN, port) for port in ("80/TCP", "8080/TCP", "8081/TCP")] == [True, True, False]


def test_both_ends_have_to_allow() -> None:
    out = policy("{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 80}]}]}", "shop/out")
    into = policy("{podSelector: {}, ingress: [{ports: [{port: 8080}]}]}", "data/in")
    cluster = world(out, into)
    verdicts = [ask(cluster, WEB, "10.2.0.12", port) for port in ("80/TCP", "8080/TCP", "8081/TCP")]
    assert [(verdict.egress.allowed, verdict.ingress.allowed) for verdict in verdicts] == [
        (True, False),
        (False, True),
        (False, False),
    ]
    assert not any(verdict.allowed for verdict in verdicts)


def test_what_a_policy_admits_as_ingress_opens_no_egress() -> None:
    cluster = world(policy("{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{}]}"))
    assert (allowed(cluster, OUTSIDE, WEB), allowed(cluster, WEB, OUTSIDE), allowed(cluster, DB, WEB)) == (
        True,
        False,
        False,
    )


# -- before any policy -------------------------------------------------------------------------------------------------

CLOSED = (policy("{policyTypes: [Ingress, Egress]}"), policy("{policyTypes: [Ingress, Egress]}", "data/p"))


def test_a_pod_reaches_itself_in_each_family() -> None:
    cluster = world(*CLOSED)
    for address in CROWD["shop/web"]:
        assert ask(cluster, address, address) == Verdict(Decision(True, "itself"), Decision(True, "itself"))


@pytest.mark.parametrize("source", [NODE, "10.1.0.1", "2001:db8::1", "fd00:1::1"])
def test_a_node_and_its_bridge_reach_the_pods_on_it_and_no_others(source: str) -> None:
    family = ":" in source
    cluster = world(*CLOSED)
    assert ask(cluster, source, CROWD["shop/web"][family]).ingress == Decision(True, "its node")
    assert ask(cluster, source, CROWD["data/job"][family]).allowed
    assert not ask(cluster, source, CROWD["shop/db"][family]).allowed


def test_a_pod_does_not_reach_its_node_against_its_egress_policies() -> None:
    cluster = world(*CLOSED)
    for destination in (NODE, "10.1.0.1", OTHER_NODE):
        assert ask(cluster, WEB, destination) == Verdict(
            Decision(False, "isolated", None, ("shop/p",)), Decision(True, "no pod")
        )


def test_icmp_passes_unless_it_is_to_be_judged() -> None:
    cluster = world(*CLOSED)
    assert ask(cluster, OUTSIDE, WEB, "/ICMP") == Verdict(Decision(True, "icmp"), Decision(True, "icmp"))
    assert not ask(cluster, OUTSIDE, WEB, "/ICMP", Settings(judge_icmp=True)).allowed


@pytest.mark.parametrize(
    ("rule", "passes"),
    [("{}", True), ("{from: [{ipBlock: {cidr: 198.51.100.0/24}}]}", True), ("{from: [{podSelector: {}}]}", False),
     ("{ports: [{protocol: TCP}]}", False), ("{ports: [{port: 1, endPort: 65535, protocol: UDP}]}", False)],
)  # fmt: skip
def test_icmp_that_is_judged_has_no_port_so_only_rules_without_ports_admit_it(rule: str, passes: bool) -> None:
    cluster = world(policy("{podSelector: {}, ingress: [RULE]}".replace("RULE", rule)))
    assert ask(cluster, OUTSIDE, WEB, "/ICMP", Settings(judge_icmp=True)).allowed == passes


# -- which pods count --------------------------------------------------------------------------------------------------

FROM_DB = "{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {matchLabels: {app: db}}}]}]}"


@pytest.mark.parametrize(
    ("changes", "is_peer"),
    [
        ({}, True),
        ({"phase": "Pending"}, True),
        ({"phase": ""}, True),
        ({"phase": "Unknown"}, True),
        ({"terminating": True}, True),
        ({"phase": "Succeeded"}, False),
        ({"phase": "Failed"}, False),
        ({"phase": "Succeeded", "terminating": True}, False),
        ({"host_network": True}, False),
        ({"ips": ()}, False),
        ({"ips": ("fd00:2::11",)}, False),
        ({"ips": (DB,)}, True),
        ({"labels": {"app": "other"}}, False),
        ({"labels": {}}, False),
    ],
)
def test_a_selector_yields_pods_that_have_an_address_and_may_still_run(changes: dict[str, Any], is_peer: bool) -> None:
    cluster = world(pod("shop/db", 2, 11, "app=db", **changes), policy(FROM_DB))
    assert allowed(cluster, DB, WEB) == is_peer


@pytest.mark.parametrize(
    ("changes", "closed"),
    [({"terminating": True}, True), ({"phase": "Pending"}, True), ({"phase": "Succeeded"}, False),
     ({"phase": "Failed"}, False), ({"host_network": True}, False)],
)  # fmt: skip
def test_policies_hold_for_a_pod_until_it_has_finished(changes: dict[str, Any], closed: bool) -> None:
    cluster = world(pod("shop/web", 1, 10, "app=web", **changes), *CLOSED)
    assert (allowed(cluster, *IN), allowed(cluster, *OUT)) == (not closed, not closed)


def test_policies_are_not_for_pods_on_the_hosts_network_and_do_not_select_them() -> None:
    agent = pod("shop/agent", 2, 0, "app=db", ips=(OTHER_NODE,), host_network=True)
    cluster = world(agent, *CLOSED, policy(FROM_DB, "shop/q"))
    assert ask(cluster, OUTSIDE, OTHER_NODE) == Verdict(Decision(True, "no pod"), Decision(True, "no pod"))
    assert not allowed(cluster, OTHER_NODE, WEB)


def test_an_address_that_has_passed_to_another_pod_is_the_new_one_s() -> None:
    finished = pod("shop/db", 2, 11, "app=db", phase="Succeeded")
    heir = pod("data/heir", 2, 11, "app=heir")
    cluster = world(finished, heir, policy(FROM_DB))
    assert cluster.party(DB).pod == heir
    assert not allowed(cluster, DB, WEB)


def test_of_two_pods_with_one_address_the_one_that_stays_counts_then_the_first_by_name() -> None:
    cluster = world(pod("data/a", 2, 11, terminating=True), pod("shop/z", 2, 11), pod("shop/db", 2, 11))
    assert [each.key for each in cluster.party(DB).pods] == ["shop/db", "shop/z", "data/a"]


# -- addresses of pods nobody knows ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "destination", "egress", "ingress"),
    [
        (OUTSIDE, "10.1.0.99", True, False),
        ("10.1.0.99", OUTSIDE, False, True),
        (WEB, "fd00:2::99", True, False),
        ("10.1.0.99", "10.2.0.99", False, False),
        (NODE, "10.1.0.99", True, True),  # a node reaches its pods, known or not
        ("10.1.0.1", "10.1.0.99", True, True),
        (OTHER_NODE, "10.1.0.99", True, False),
        ("10.1.0.99", NODE, False, True),
        (WEB, OUTSIDE, True, True),
        (WEB, DB, True, True),
        (OUTSIDE, "10.3.0.9", True, True),  # of no node's pod network
        (OUTSIDE, "10.1.0.1", True, True),  # a bridge is a node's own
        ("10.1.0.1", OUTSIDE, True, True),
    ],
)
def test_default_deny_closes_addresses_of_pods_that_nobody_knows(
    source: str, destination: str, egress: bool, ingress: bool
) -> None:
    denying = ask(world(), source, destination, settings=Settings(default_deny=True))
    assert (denying.egress.allowed, denying.ingress.allowed) == (egress, ingress)
    assert {each.why for each in denying if not each.allowed} <= {"unknown address"}
    assert ask(world(), source, destination).allowed


# -- policies that cannot be read --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "into_web", "out_of_web"),
    [
        ("{podSelector: {}, ingress: [{}, {ports: [{port: 80, endPort: 70}]}]}", False, True),
        ("{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/33}}]}, {}]}", False, True),
        ("{podSelector: {}, ingress: [{}], egress: [{ports: [{port: 0}]}]}", False, False),
        ("{podSelector: {}, policyTypes: [Egress], ingress: [{from: [{}]}], egress: [{}]}", True, False),
        ("{podSelector: {}, policyTypes: [Ingress, Both], ingress: [{}]}", False, False),
        ("{podSelector: {matchLabels: {app: db}}, ingress: [{from: [{}]}]}", True, True),
        # a requirement that cannot be read selects nobody less
        ("{podSelector: {matchExpressions: [{key: app, operator: Gt, values: ['1']}]}, ingress: [{}]}", False, True),
        ("{podSelector: {matchExpressions: [{key: app, operator: In}]}, ingress: [{}]}", False, True),
        ("{podSelector: {matchExpressions: [{key: none, operator: Exists, values: [x]}]}, ingress: [{}]}", False, True),
        ("{podSelector: {matchLabels: {app: db}, matchExpressions: [{key: app, operator: Gt}]}}", True, True),
    ],
)
def test_a_faulty_policy_closes_what_it_names_for_its_pods_and_admits_nothing(
    spec: str, into_web: bool, out_of_web: bool
) -> None:
    cluster = world(policy(spec))
    assert (allowed(cluster, *IN), allowed(cluster, *OUT)) == (into_web, out_of_web)


def test_a_policy_that_names_no_direction_closes_both() -> None:
    cluster = world(NetworkPolicy(namespace="shop", name="p", policy_types=()))
    assert (allowed(cluster, *IN), allowed(cluster, *OUT)) == (False, False)


def test_a_faulty_policy_takes_nothing_from_what_another_admits() -> None:
    faulty = policy("{podSelector: {}, ingress: [{from: [{}]}]}", "shop/faulty")
    cluster = world(faulty, policy("{podSelector: {}, ingress: [{ports: [{port: 80}]}]}", "shop/well"))
    assert [allowed(cluster, *IN, port) for port in ("80/TCP", "8080/TCP")] == [True, False]


# -- who decided -------------------------------------------------------------------------------------------------------


def test_a_verdict_names_the_policy_the_rule_the_peer_and_the_port_that_decided() -> None:
    spec = """
      podSelector: {}
      ingress:
      - {from: [{podSelector: {}}], ports: [{port: 8080}]}
      - {from: [{podSelector: {}}, {ipBlock: {cidr: 198.51.100.0/24}}], ports: [{port: 80}, {protocol: UDP}, {}]}
      - {}
    """
    cluster = world(policy(DENY_INGRESS, "shop/a"), policy(spec, "shop/b"))
    both = ("shop/a", "shop/b")
    assert [ask(cluster, *pair, port).ingress for pair, port in (((DB, WEB), "8080/TCP"), (IN, "8080/TCP"))] == [
        Decision(True, "rule", Match("shop/b", 0, 0, 0), both),
        Decision(True, "rule", Match("shop/b", 1, 1, 2), both),
    ]
    assert ask(cluster, OTHER_NODE, WEB).ingress == Decision(True, "rule", Match("shop/b", 2, None, None), both)


def test_of_several_peers_that_match_the_first_is_named() -> None:
    matching: tuple[dict[str, Any], ...] = (
        {"podSelector": {}},
        {"ipBlock": {"cidr": "10.0.0.0/8"}},
        {"ipBlock": {"cidr": "10.2.0.0/16"}},
    )
    for peers in permutations(matching):
        cluster = world(policy({"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "::/0"}}, *peers]}]}))
        assert ask(cluster, DB, WEB).ingress.match == Match("shop/p", 0, 1, None)


def test_a_verdict_without_policies_says_why() -> None:
    cluster = world(policy(DENY_INGRESS))
    assert ask(cluster, *IN) == Verdict(Decision(True, "no pod"), Decision(False, "isolated", None, ("shop/p",)))
    assert ask(cluster, *OUT) == Verdict(Decision(True, "not isolated"), Decision(True, "no pod"))
