"""Pods with the same policies share one class chain, whatever the order in which their policies are told."""

from kube_router.plugins.firewall.classes import Classes
from kube_router.plugins.firewall.model import Chain, Ruleset

A, B, EMPTY = "pi_000000000000000a", "pi_000000000000000b", "pi_000000000000000c"


def begun() -> tuple[Ruleset, Classes]:
    ruleset = Ruleset()
    ruleset.add_map("ingress4")
    ruleset.add_chain("deny_ingress", Chain(("reject",)))
    for name in (A, B):
        ruleset.add_chain(name, Chain((f'counter name "{name}" accept',)))
    ruleset.add_chain(EMPTY, Chain(()))
    return ruleset, Classes(ruleset)


def test_the_order_of_policies_does_not_matter() -> None:
    ruleset, classes = begun()
    verdict = classes.verdict("ingress", [A, B])
    assert classes.verdict("ingress", [B, A]) == verdict
    assert ruleset.chains[verdict.removeprefix("goto ")].rules == (f"jump {A}", f"jump {B}", "goto deny_ingress")


def test_a_policy_without_rules_is_not_tried_and_a_class_of_such_needs_no_chain() -> None:
    ruleset, classes = begun()
    assert classes.verdict("ingress", [EMPTY]) == "goto deny_ingress"
    assert classes.verdict("ingress", [EMPTY, A]) == classes.verdict("ingress", [A])
    assert classes.verdict("ingress", []) == ""
    assert len([name for name in ruleset.chains if name.startswith("ci_")]) == 1


def test_a_class_chain_goes_with_the_last_address_that_is_sent_there() -> None:
    ruleset, classes = begun()
    verdict = classes.verdict("ingress", [A, B])
    for address in ("10.0.0.1", "10.0.0.2"):
        classes.send("ingress4", address, verdict)
    classes.send("ingress4", "10.0.0.1", "goto deny_ingress")
    assert verdict.removeprefix("goto ") in ruleset.chains
    classes.send("ingress4", "10.0.0.2", "")
    assert verdict.removeprefix("goto ") not in ruleset.chains
    assert ruleset.verdicts["ingress4"] == {"10.0.0.1": "goto deny_ingress"}
    assert "deny_ingress" in ruleset.chains
