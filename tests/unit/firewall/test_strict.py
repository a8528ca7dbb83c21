"""How --netpol-strict judges a flow: each node for the pods that are its own."""

import pytest
from harness.firewalling import folded, view_of
from harness.shop import DB, NAMESPACES, NODE, NODES, OUTSIDE, PODS, WEB, policy
from strategies import by_key, records

from kube_router.core.state import State
from kube_router.events.model import NetworkPolicy
from kube_router.plugins.firewall.evaluate import Settings
from kube_router.plugins.firewall.flows import Question
from kube_router.plugins.firewall.strict import judge_of

UNKNOWN = "10.1.0.99"
CLOSED_WEB = policy("{podSelector: {matchLabels: {app: web}}, policyTypes: [Egress]}", "shop/web")
CLOSED_DB = policy("{podSelector: {matchLabels: {app: db}}, policyTypes: [Ingress]}", "shop/db")
OPEN_80 = policy("{podSelector: {matchLabels: {app: db}}, ingress: [{ports: [{port: 80}]}]}", "shop/db")


def state(*policies: NetworkPolicy) -> State:
    return folded(by_key((*NODES, *NAMESPACES, *PODS, *policies)))


def goes_on(
    *policies: NetworkPolicy, ends: tuple[str, str] = (WEB, DB), local: str = "both", port: int = 80, **settings: bool
) -> bool:
    """Say whether a flow may go on; ``local`` says which of its ends are pods of this node."""
    question = Question(*ends, port, "TCP", local in ("both", "source"), local in ("both", "destination"))
    return judge_of(view_of(state(*policies)), Settings(**settings))(question)


def test_what_no_policy_denies_goes_on() -> None:
    assert goes_on()


@pytest.mark.parametrize(("local", "goes"), [("both", False), ("source", False), ("destination", True)])
def test_what_the_source_s_egress_denies_its_own_node_ends(local: str, goes: bool) -> None:
    assert goes_on(CLOSED_WEB, local=local) is goes


@pytest.mark.parametrize(("local", "goes"), [("both", False), ("source", True), ("destination", False)])
def test_what_the_destination_s_ingress_denies_its_own_node_ends(local: str, goes: bool) -> None:
    assert goes_on(CLOSED_DB, local=local) is goes


def test_a_flow_is_judged_by_its_port() -> None:
    assert goes_on(OPEN_80, port=80)
    assert not goes_on(OPEN_80, port=81)


def test_a_flow_from_outside_or_from_the_pod_s_node_is_judged_by_who_it_is() -> None:
    assert not goes_on(CLOSED_DB, ends=(OUTSIDE, DB), local="destination")
    shut = policy("{policyTypes: [Ingress]}")
    assert goes_on(shut, ends=(NODE, WEB), local="destination")  # a node reaches the pods on it
    assert not goes_on(shut, ends=(NODE, DB), local="destination")


def test_under_default_deny_addresses_of_no_known_pod_are_denied() -> None:
    assert goes_on(ends=(OUTSIDE, UNKNOWN), local="destination")
    assert not goes_on(ends=(OUTSIDE, UNKNOWN), local="destination", default_deny=True)


def test_a_judge_keeps_to_the_moment_it_was_made() -> None:
    then = state()
    judge = judge_of(view_of(then), Settings())
    for record in records([("networkpolicies", CLOSED_DB.key, CLOSED_DB)], view_of(then).seq):
        then.apply(record)
    question = Question(WEB, DB, 80, "TCP", True, True)
    assert judge(question)
    assert not judge_of(view_of(then), Settings())(question)
