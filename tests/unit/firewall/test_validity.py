"""A policy is refused for what API validation would refuse, each fault said with its path, and for nothing else."""

import json
import time
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

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
from kube_router.plugins.firewall.validity import FAULTS_MAX, PROTOCOLS, TYPES, faults_of

LONG = "a" * 63
ENTRIES = 10_000
SECONDS = 1.0  # five times what ten thousand entries take on a slow machine: a quadratic loop takes minutes


def faults(spec: str | dict[str, Any]) -> list[str]:
    """Return the faults of a policy with this spec, YAML or a mapping."""
    written = {"podSelector": {}} | (yaml.safe_load(spec) if isinstance(spec, str) else spec)
    raw = json.dumps({"metadata": {"namespace": "shop", "name": "p"}, "spec": written})
    policy = normalize_networkpolicy(raw.encode(), str).obj
    assert isinstance(policy, NetworkPolicy)
    return list(faults_of(policy))


def of_port(port: dict[str, Any]) -> list[str]:
    return [fault.removeprefix("spec.ingress[0].ports[0]") for fault in faults({"ingress": [{"ports": [port]}]})]


def of_peer(peer: dict[str, Any]) -> list[str]:
    return [fault.removeprefix("spec.egress[0].to[0]") for fault in faults({"egress": [{"to": [peer]}]})]


def of_selector(selector: dict[str, Any]) -> list[str]:
    return [fault.removeprefix("spec.podSelector") for fault in faults({"podSelector": selector})]


# -- what is well ------------------------------------------------------------------------------------------------------


def test_a_policy_that_uses_everything_has_no_fault() -> None:
    assert faults("""
      podSelector: {matchLabels: {app: web}, matchExpressions: [{key: tier, operator: NotIn, values: [a, ""]}]}
      policyTypes: [Ingress, Egress]
      ingress:
      - from:
        - podSelector: {matchExpressions: [{key: app.kubernetes.io/name, operator: Exists}]}
        - namespaceSelector: {matchExpressions: [{key: team, operator: DoesNotExist}]}
        - {podSelector: {}, namespaceSelector: {matchLabels: {team: ""}}}
        - ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16, 10.1.2.0/24, 10.255.255.255/32]}
        ports: [{port: 80}, {port: http}, {protocol: UDP, port: 1, endPort: 65535}, {protocol: SCTP}]
      - {}
      egress:
      - to: [{ipBlock: {cidr: "fd00::/8", except: ["fd00:1::/32"]}}, {ipBlock: {cidr: "::/0"}}]
    """) == []  # fmt: skip


def test_a_block_with_host_bits_set_is_no_fault() -> None:
    assert of_peer({"ipBlock": {"cidr": "10.1.2.3/8", "except": ["10.9.9.9/16"]}}) == []


@pytest.mark.parametrize("port", ["http", "a", "1a", "web-2", "a23456789012345"])
def test_a_port_name_is_well(port: str) -> None:
    assert of_port({"port": port}) == []


@pytest.mark.parametrize("key", ["a", "A.b_c-9", LONG, f"{'a.' * 126}b/x", f"example.com/{LONG}"])
def test_a_label_key_is_well(key: str) -> None:
    assert of_selector({"matchLabels": {key: ""}}) == []


# -- directions --------------------------------------------------------------------------------------------------------


def test_a_direction_nobody_knows_is_a_fault() -> None:
    assert faults({"policyTypes": ["Ingress", "egress"]}) == [
        "spec.policyTypes[1]: 'egress' is neither Ingress nor Egress"
    ]


def test_more_than_two_directions_are_a_fault_though_each_is_known() -> None:
    assert faults({"policyTypes": ["Ingress", "Egress", "Ingress"]}) == ["spec.policyTypes: holds 3, more than 2"]
    assert faults({"policyTypes": ["Egress", "Egress"]}) == []


# -- ports -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("port", "fault"),
    [
        ({"port": 0}, ".port: 0 is not 1-65535"),
        ({"port": -1}, ".port: -1 is not 1-65535"),
        ({"port": 65536}, ".port: 65536 is not 1-65535"),
        ({"port": ""}, ".port: '' is no port name (at most 15 of a-z, 0-9 and -)"),
        ({"port": "80"}, ".port: '80' is no port name (at most 15 of a-z, 0-9 and -)"),
        ({"port": "HTTP"}, ".port: 'HTTP' is no port name (at most 15 of a-z, 0-9 and -)"),
        ({"port": "a234567890123456"}, ".port: 'a234567890123456' is no port name (at most 15 of a-z, 0-9 and -)"),
        ({"port": "-a"}, ".port: '-a' is no port name (at most 15 of a-z, 0-9 and -)"),
        ({"port": "a-"}, ".port: 'a-' is no port name (at most 15 of a-z, 0-9 and -)"),
        ({"port": "a--b"}, ".port: 'a--b' is no port name (at most 15 of a-z, 0-9 and -)"),
        ({"port": "a.b"}, ".port: 'a.b' is no port name (at most 15 of a-z, 0-9 and -)"),
        ({"port": "web\n"}, ".port: 'web\\n' is no port name (at most 15 of a-z, 0-9 and -)"),
        ({"port": "wéb"}, ".port: 'wéb' is no port name (at most 15 of a-z, 0-9 and -)"),
        ({"protocol": "ICMP"}, ".protocol: 'ICMP' is none of TCP, UDP, SCTP"),
        ({"protocol": "tcp", "port": 80}, ".protocol: 'tcp' is none of TCP, UDP, SCTP"),
        ({"port": 80, "endPort": 70}, ".endPort: 70 is less than port 80"),
        ({"port": 80, "endPort": 0}, ".endPort: 0 is less than port 80"),
        ({"port": 80, "endPort": 65536}, ".endPort: 65536 is not 1-65535"),
        ({"endPort": 80}, ".endPort: needs a port that is a number"),
        ({"port": "http", "endPort": 80}, ".endPort: needs a port that is a number"),
    ],
)
def test_a_port_is_refused(port: dict[str, Any], fault: str) -> None:
    assert of_port(port) == [fault]


def test_a_range_of_one_port_is_well() -> None:
    assert of_port({"port": 80, "endPort": 80}) == []


# -- peers -------------------------------------------------------------------------------------------------------------


def test_a_peer_that_holds_nothing_selects_nobody_and_everybody_and_is_refused() -> None:
    assert of_peer({}) == [": holds none of podSelector, namespaceSelector and ipBlock"]


@pytest.mark.parametrize("other", ["podSelector", "namespaceSelector"])
def test_a_block_beside_a_selector_is_refused(other: str) -> None:
    assert of_peer({"ipBlock": {"cidr": "10.0.0.0/8"}, other: {}}) == [f": ipBlock does not go with {other}"]


@pytest.mark.parametrize(
    ("cidr", "shown"),
    [
        ("", "''"),
        ("10.0.0.1", "'10.0.0.1'"),
        ("10.0.0.0/33", "'10.0.0.0/33'"),
        ("10.0.0.0/-1", "'10.0.0.0/-1'"),
        ("10.0.0.0/", "'10.0.0.0/'"),
        ("10.0.0.0/8/8", "'10.0.0.0/8/8'"),
        ("10.0.0.0/255.0.0.0", "'10.0.0.0/255.0.0.0'"),
        ("10.0.0/8", "'10.0.0/8'"),
        ("010.0.0.0/8", "'010.0.0.0/8'"),
        ("fd00::/129", "'fd00::/129'"),
        ("fe80::1%eth0/64", "'fe80::1%eth0/64'"),
        ("10.0.0.0/٨", "'10.0.0.0/٨'"),
        ("10.0.0.0 /8", "'10.0.0.0 /8'"),
        (" 10.0.0.0/8", "' 10.0.0.0/8'"),
        ("10.0.0.0/8\n", "'10.0.0.0/8\\n'"),
        ("default", "'default'"),
        ("9" * 200 + "/8", "'" + "9" * 100 + "…'"),
    ],
)
def test_a_block_that_is_no_cidr_is_refused(cidr: str, shown: str) -> None:
    assert of_peer({"ipBlock": {"cidr": cidr}}) == [f".ipBlock.cidr: {shown} is no CIDR such as 10.0.0.0/8"]


@pytest.mark.parametrize(
    ("excepted", "what"),
    [
        ("nonsense", "is no CIDR such as 10.1.0.0/16"),
        ("10.1.0.0", "is no CIDR such as 10.1.0.0/16"),
        ("10.2.0.0/16", "is not strictly inside 10.1.0.0/16"),
        ("10.1.0.0/16", "is not strictly inside 10.1.0.0/16"),
        ("10.1.2.3/16", "is not strictly inside 10.1.0.0/16"),
        ("10.0.0.0/8", "is not strictly inside 10.1.0.0/16"),
        ("0.0.0.0/0", "is not strictly inside 10.1.0.0/16"),
        ("fd00::/64", "is not strictly inside 10.1.0.0/16"),
    ],
)
def test_an_exception_that_is_not_strictly_inside_its_block_is_refused(excepted: str, what: str) -> None:
    block = {"cidr": "10.1.0.0/16", "except": ["10.1.1.0/24", excepted]}
    assert of_peer({"ipBlock": block}) == [f".ipBlock.except[1]: '{excepted}' {what}"]


def test_an_exception_from_a_block_that_is_none_is_judged_by_itself() -> None:
    assert of_peer({"ipBlock": {"cidr": "all", "except": ["10.0.0.0/8", "some"]}}) == [
        ".ipBlock.cidr: 'all' is no CIDR such as 10.0.0.0/8",
        ".ipBlock.except[1]: 'some' is no CIDR such as 10.1.0.0/16",
    ]


# -- selectors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("requirement", "fault"),
    [
        ({"key": "a", "operator": "In"}, ".values: In needs at least one"),
        ({"key": "a", "operator": "NotIn", "values": []}, ".values: NotIn needs at least one"),
        ({"key": "a", "operator": "Exists", "values": ["b"]}, ".values: Exists takes none"),
        ({"key": "a", "operator": "DoesNotExist", "values": [""]}, ".values: DoesNotExist takes none"),
        ({"key": "a", "operator": "Gt", "values": ["1"]}, ".operator: 'Gt' is none of In, NotIn, Exists, DoesNotExist"),
        ({"key": "a", "operator": "in", "values": ["1"]}, ".operator: 'in' is none of In, NotIn, Exists, DoesNotExist"),
        ({"key": "a"}, ".operator: '' is none of In, NotIn, Exists, DoesNotExist"),
        ({"operator": "Exists"}, ": '' is no label key"),
        ({"key": "a", "operator": "In", "values": ["b", "c d"]}, ": 'c d' is no label value"),
    ],
)
def test_a_requirement_is_refused(requirement: dict[str, Any], fault: str) -> None:
    assert of_selector({"matchExpressions": [requirement]}) == [f".matchExpressions[0]{fault}"]


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("a b", "'a b'"),
        ("-a", "'-a'"),
        ("a.", "'a.'"),
        ("a\n", "'a\\n'"),
        ("/a", "'/a'"),
        ("a/", "'a/'"),
        ("a/b/c", "'a/b/c'"),
        ("Example.com/a", "'Example.com/a'"),
        ("a..b/c", "'a..b/c'"),
        (LONG + "a", f"'{LONG}a'"),
        ("a." * 127 + "/x", "'" + "a." * 50 + "…'"),
        ("ä", "'ä'"),
    ],
)
def test_a_label_key_is_refused(key: str, shown: str) -> None:
    assert of_selector({"matchLabels": {key: "b"}}) == [f".matchLabels: {shown} is no label key"]


@pytest.mark.parametrize("value", ["a b", "-a", "a-", "a/b", "ä", LONG + "a"])
def test_a_label_value_is_refused(value: str) -> None:
    assert of_selector({"matchLabels": {"a": value}}) == [f".matchLabels: '{value}' is no label value"]


def test_a_selector_is_judged_wherever_it_stands() -> None:
    bad = {"matchExpressions": [{"key": "a", "operator": "Like"}]}
    text = ".matchExpressions[0].operator: 'Like' is none of In, NotIn, Exists, DoesNotExist"
    peer = {"podSelector": bad, "namespaceSelector": bad}
    assert faults({"podSelector": bad, "ingress": [{}, {"from": [{"podSelector": {}}, peer]}]}) == [
        f"spec.podSelector{text}",
        f"spec.ingress[1].from[1].podSelector{text}",
        f"spec.ingress[1].from[1].namespaceSelector{text}",
    ]


# -- as a whole --------------------------------------------------------------------------------------------------------


def test_a_direction_the_policy_does_not_name_is_judged_too() -> None:
    assert faults({"policyTypes": ["Ingress"], "egress": [{"ports": [{"port": 0}]}]}) == [
        "spec.egress[0].ports[0].port: 0 is not 1-65535"
    ]


def test_of_many_faults_the_first_ten_are_told_and_the_rest_counted() -> None:
    found = faults({"ingress": [{"ports": [{"port": port} for port in range(65536, 65549)]}]})
    assert len(found) == FAULTS_MAX + 1
    assert found[0] == "spec.ingress[0].ports[0].port: 65536 is not 1-65535"
    assert found[-1] == "spec: and 3 faults more"


@pytest.mark.parametrize("inside", ["10.{}.{}.0/24", "11.{}.{}.0/24"], ids=["well", "faulty"])
def test_ten_thousand_exceptions_are_judged_in_no_time(inside: str) -> None:
    excepts = tuple(inside.format(n // 256, n % 256) for n in range(ENTRIES))
    peer = PolicyPeer(ip_block=IPBlock(cidr="10.0.0.0/8", excepts=excepts))
    policy = NetworkPolicy(namespace="shop", name="p", ingress=(PolicyRule(peers=(peer,)),))
    before = time.process_time()
    found = faults_of(policy)
    assert time.process_time() - before < SECONDS
    assert bool(found) == inside.startswith("11")


def test_texts_without_end_are_judged_in_no_time() -> None:
    endless = ["a" * 100_000, "a." * 50_000, "a-" * 50_000, "a" * 100_000 + "/a", "1" * 100_000 + "/8", "-" * 100_000]
    peers = [
        (PolicyPeer(pod_selector=Selector(match_labels={text: text})), PolicyPeer(ip_block=IPBlock(cidr=text)))
        for text in endless
    ]
    ports = [(PolicyPort(port=text, protocol=text),) for text in endless]
    rules = tuple(PolicyRule(peers=who, ports=what) for who, what in zip(peers, ports, strict=True))
    before = time.process_time()
    found = faults_of(NetworkPolicy(namespace="shop", name="p", ingress=rules))
    assert time.process_time() - before < SECONDS
    assert max(len(fault) for fault in found) < 250


_texts = st.one_of(st.text(max_size=20), st.sampled_from(("10.0.0.0/8", "fd00::/8", "::1/128", "http", "In", "a/b")))
_selectors = st.builds(
    Selector,
    match_labels=st.dictionaries(_texts, _texts, max_size=2),
    match_expressions=st.lists(
        st.builds(
            Requirement,
            key=_texts,
            operator=st.one_of(_texts, st.sampled_from(("In", "NotIn", "Exists", "DoesNotExist"))),
            values=st.lists(_texts, max_size=2).map(tuple),
        ),
        max_size=2,
    ).map(tuple),
)
_peers = st.builds(
    PolicyPeer,
    pod_selector=st.none() | _selectors,
    namespace_selector=st.none() | _selectors,
    ip_block=st.none() | st.builds(IPBlock, cidr=_texts, excepts=st.lists(_texts, max_size=2).map(tuple)),
)
_numbers = st.one_of(st.integers(-(2**64), 2**64), st.sampled_from((0, 1, 80, 65535, 65536)))
_ports = st.builds(
    PolicyPort,
    protocol=_texts | st.sampled_from(PROTOCOLS),
    port=st.none() | _numbers | _texts,
    end_port=st.none() | _numbers,
)
_rules = st.lists(
    st.builds(PolicyRule, peers=st.lists(_peers, max_size=2).map(tuple), ports=st.lists(_ports, max_size=2).map(tuple)),
    max_size=2,
).map(tuple)


@given(
    st.builds(
        NetworkPolicy,
        namespace=st.just("shop"),
        name=st.just("p"),
        pod_selector=_selectors,
        policy_types=st.lists(_texts | st.sampled_from(TYPES), max_size=3).map(tuple),
        ingress=_rules,
        egress=_rules,
    )
)
def test_any_policy_is_judged_and_every_fault_is_one_short_line_with_its_path(policy: NetworkPolicy) -> None:
    found = faults_of(policy)
    assert len(found) <= FAULTS_MAX + 1
    for fault in found:
        path, colon, what = fault.partition(": ")
        assert path.startswith("spec")
        assert colon
        assert what
        assert fault.isprintable()
        assert len(fault) < 250
