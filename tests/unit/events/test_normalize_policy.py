"""NetworkPolicies: absences keep their meaning, and what cannot be read admits nothing."""

import json
from typing import Any

import pytest

from kube_router.events.errors import ObjectError
from kube_router.events.model import (
    IPBlock,
    NetworkPolicy,
    PolicyPeer,
    PolicyPort,
    PolicyRule,
    Requirement,
    Selector,
)
from kube_router.events.normalize_policy import normalize_networkpolicy
from kube_router.events.resource import Normalized


def policy(spec: object) -> Normalized:
    raw = json.dumps({"metadata": {"name": "allow", "namespace": "prod", "resourceVersion": "9"}, "spec": spec})
    return normalize_networkpolicy(raw.encode(), str)


def test_a_policy_is_kept_as_written() -> None:
    result = policy(
        {
            "podSelector": {
                "matchLabels": {"app": "web"},
                "matchExpressions": [
                    {"key": "tier", "operator": "In", "values": ["a", "b"]},
                    {"key": "x", "operator": "Exists"},
                    {"key": "y", "operator": "Like", "values": None},
                ],
            },
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                {
                    "from": [
                        {"podSelector": {}},
                        {"namespaceSelector": {"matchLabels": {"team": "a"}}, "podSelector": None},
                        {"ipBlock": {"cidr": "10.0.0.1/8", "except": ["10.1.0.0/16", "nonsense"]}},
                        {},
                    ],
                    "ports": [
                        {"port": 80},
                        {"port": "http", "protocol": "UDP"},
                        {"port": 8000, "endPort": 8080},
                        {"protocol": "SCTP"},
                        {"port": 70000, "protocol": "ICMP"},
                    ],
                }
            ],
            "egress": [{}],
        }
    )
    assert result.problems == ()
    assert result.obj == NetworkPolicy(
        namespace="prod",
        name="allow",
        pod_selector=Selector(
            match_labels={"app": "web"},
            match_expressions=(
                Requirement(key="tier", operator="In", values=("a", "b")),
                Requirement(key="x", operator="Exists"),
                Requirement(key="y", operator="Like"),
            ),
        ),
        policy_types=("Ingress", "Egress"),
        ingress=(
            PolicyRule(
                peers=(
                    PolicyPeer(pod_selector=Selector()),
                    PolicyPeer(namespace_selector=Selector(match_labels={"team": "a"})),
                    PolicyPeer(ip_block=IPBlock(cidr="10.0.0.1/8", excepts=("10.1.0.0/16", "nonsense"))),
                    PolicyPeer(),
                ),
                ports=(
                    PolicyPort(port=80),
                    PolicyPort(protocol="UDP", port="http"),
                    PolicyPort(port=8000, end_port=8080),
                    PolicyPort(protocol="SCTP"),
                    PolicyPort(protocol="ICMP", port=70000),
                ),
            ),
        ),
        egress=(PolicyRule(),),
    )


@pytest.mark.parametrize(
    ("spec", "types"),
    [
        ({}, ("Ingress",)),
        ({"policyTypes": None, "egress": []}, ("Ingress",)),
        ({"policyTypes": [], "egress": [{}]}, ("Ingress", "Egress")),
        ({"egress": [{}]}, ("Ingress", "Egress")),
        ({"policyTypes": ["Egress"], "ingress": [{}]}, ("Egress",)),
    ],
)
def test_absent_policy_types_follow_from_the_rules(spec: dict[str, Any], types: tuple[str, ...]) -> None:
    obj = policy(spec).obj
    assert isinstance(obj, NetworkPolicy)
    assert obj.policy_types == types


@pytest.mark.parametrize("rule", [{}, {"from": None, "ports": None}, {"from": [], "ports": []}])
def test_absent_and_empty_peers_are_everybody(rule: dict[str, Any]) -> None:
    obj = policy({"ingress": [rule]}).obj
    assert isinstance(obj, NetworkPolicy)
    assert obj.ingress == (PolicyRule(),)


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        (
            {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [None]},
            "spec.ingress[0]: expected object, got null; the policy admits nothing to or from its pods until fixed",
        ),
        (
            {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"ports": [{"port": 1.5}]}]},
            "spec.ingress[0].ports[0].port: expected int | str | null, got float; "
            "the policy admits nothing to or from its pods until fixed",
        ),
        (
            {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": "Ingress", "ingress": [{}]},
            "spec.policyTypes: expected array | null, got str; "
            "the policy admits nothing to or from its pods until fixed",
        ),
    ],
)
def test_a_policy_that_cannot_be_read_admits_nothing_to_the_pods_it_selects(
    spec: dict[str, Any], complaint: str
) -> None:
    result = policy(spec)
    assert [problem.text for problem in result.problems] == [complaint]
    assert result.rv == "9"
    assert result.obj == NetworkPolicy(
        namespace="prod",
        name="allow",
        pod_selector=Selector(match_labels={"app": "web"}),
        policy_types=("Ingress", "Egress"),
    )


@pytest.mark.parametrize("spec", ["nonsense", {"podSelector": []}, {"podSelector": {"matchLabels": [1]}}, None])
def test_a_policy_for_nobody_knows_whom_is_refused(spec: object) -> None:
    with pytest.raises(ObjectError, match=r"NetworkPolicy prod/allow: spec"):
        policy(spec)
