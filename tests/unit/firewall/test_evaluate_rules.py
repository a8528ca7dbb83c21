"""Whom a rule admits, and at which ports: each word of the NetworkPolicy API, all verdicts written out.

A row names peers or ports as a policy's author writes them, and *all* that they let through of a fixed crowd, or of a
fixed list of ports: what a row does not name is denied.
"""

import time
from typing import Any

import pytest
import yaml
from harness.shop import BARE, CROWD, DB, OTHER_NODE, OUTSIDE, TRIED, WEB, allowed, ask, pod, policy, world

WEB_PODS = {"podSelector": {"matchLabels": {"app": "web"}}}

# -- peers: who of the crowd reaches the web pod of shop at 8080/TCP, and whom it reaches ------------------------------

EVERYBODY = "shop/db data/web data/job bare lost/web n1 n2 out"
ANY_POD = "namespaceSelector: {}, podSelector"  # of any namespace
PEERS = {
    # podSelector alone: pods of the policy's own namespace
    "all of the namespace": ("podSelector: {}", "shop/db"),
    "by a label": ("podSelector: {matchLabels: {app: db}}", "shop/db"),
    "by a label that only a pod elsewhere has": ("podSelector: {matchLabels: {app: job}}", ""),
    "by a label that is empty": ("podSelector: {matchLabels: {tier: ''}}", "shop/db"),
    # namespaceSelector alone: all pods of these namespaces; a namespace that nobody knows is none of them
    "all namespaces": ("namespaceSelector: {}", "shop/db data/web data/job bare"),
    "a namespace by its label": ("namespaceSelector: {matchLabels: {team: red}}", "shop/db"),
    "a namespace by its empty label": ("namespaceSelector: {matchLabels: {team: ''}}", "data/web data/job"),
    "a namespace by its name": (
        "namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: data}}",
        "data/web data/job",
    ),
    "a namespace by what it lacks": (
        "namespaceSelector: {matchExpressions: [{key: team, operator: DoesNotExist}]}",
        "bare",
    ),
    # both: such pods in such namespaces
    "such pods of any namespace": (f"{ANY_POD}: {{matchLabels: {{app: web}}}}", "data/web"),
    "all pods of such namespaces": (
        "namespaceSelector: {matchLabels: {team: ''}}, podSelector: {}",
        "data/web data/job",
    ),
    "such pods of such namespaces": (
        "namespaceSelector: {matchLabels: {team: ''}}, podSelector: {matchLabels: {app: job}}",
        "data/job",
    ),
    # matchExpressions, as Kubernetes' library judges labels
    "In": (f"{ANY_POD}: {{matchExpressions: [{{key: app, operator: In, values: [web, db]}}]}}", "shop/db data/web"),
    "In, the empty value": (
        f"{ANY_POD}: {{matchExpressions: [{{key: tier, operator: In, values: ['']}}]}}",
        "shop/db",
    ),
    "NotIn holds for a label that is not there": (
        f"{ANY_POD}: {{matchExpressions: [{{key: tier, operator: NotIn, values: [back, front]}}]}}",
        "shop/db data/web bare",
    ),
    "NotIn, the empty value": (
        f"{ANY_POD}: {{matchExpressions: [{{key: tier, operator: NotIn, values: ['']}}]}}",
        "data/web data/job bare",
    ),
    "Exists holds for an empty value": (
        f"{ANY_POD}: {{matchExpressions: [{{key: tier, operator: Exists}}]}}",
        "shop/db data/job",
    ),
    "DoesNotExist": (f"{ANY_POD}: {{matchExpressions: [{{key: tier, operator: DoesNotExist}}]}}", "data/web bare"),
    "all requirements together": (
        f"{ANY_POD}: {{matchLabels: {{app: db}}, matchExpressions: [{{key: tier, operator: Exists}}]}}",
        "shop/db",
    ),
    "requirements that no pod fulfils together": (
        f"{ANY_POD}: {{matchLabels: {{app: job}}, matchExpressions: [{{key: tier, operator: DoesNotExist}}]}}",
        "",
    ),
    # ipBlock: whoever has the address, pods and nodes too
    "the whole of IPv4": ("ipBlock: {cidr: 0.0.0.0/0}", EVERYBODY),
    "a block outside": ("ipBlock: {cidr: 198.51.100.0/24}", "out"),
    "a block of pods": ("ipBlock: {cidr: 10.2.0.0/24}", "shop/db data/web lost/web"),
    "a block of one address": ("ipBlock: {cidr: 10.2.0.11/32}", "shop/db"),
    "a block with host bits set": ("ipBlock: {cidr: 10.2.0.99/24}", "shop/db data/web lost/web"),
    "a block of nodes": ("ipBlock: {cidr: 192.0.2.2/31}", "n2"),
    "a block without its exceptions": (
        "ipBlock: {cidr: 0.0.0.0/0, except: [10.2.0.0/16, 192.0.2.2/32]}",
        "data/job bare n1 out",
    ),
    "exceptions that overlap": (
        "ipBlock: {cidr: 10.0.0.0/8, except: [10.2.0.0/28, 10.2.0.0/16, 10.2.0.8/29]}",
        "data/job bare",
    ),
    "a block of the other family": ("ipBlock: {cidr: '::/0'}", ""),
}
RULES = {
    "no rules": ("[]", ""),
    "an empty rule": ("[{}]", EVERYBODY),
    "an empty list of peers": ("[{PEERS: []}]", EVERYBODY),
    "two peers, either": (
        "[{PEERS: [{namespaceSelector: {matchLabels: {team: ''}}}, {podSelector: {matchLabels: {app: db}}}]}]",
        "shop/db data/web data/job",
    ),
    "one block holds what another excepts": (
        "[{PEERS: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.2.0.0/16]}}, {ipBlock: {cidr: 10.2.0.12/32}}]}]",
        "data/web data/job bare",
    ),
    "each block has its own exceptions": (
        "[{PEERS: [{ipBlock: {cidr: 10.1.0.0/16, except: [10.1.0.13/32]}},"
        " {ipBlock: {cidr: 10.2.0.0/16, except: [10.2.0.12/32]}}]}]",
        "shop/db bare lost/web",
    ),
    "two rules": ("[{PEERS: [{podSelector: {}}]}, {PEERS: [{ipBlock: {cidr: 198.51.100.7/32}}]}]", "shop/db out"),
    "of two rules one is for another port": (
        "[{PEERS: [{podSelector: {}}], ports: [{port: 80}]}, {PEERS: [{ipBlock: {cidr: 10.2.0.12/32}}]}]",
        "data/web",
    ),
    **{name: (f"[{{PEERS: [{{{peer}}}]}}]", who) for name, (peer, who) in PEERS.items()},
}


def rules_of(text: str, word: str) -> list[Any]:
    found = yaml.safe_load(text.replace("PEERS", word))
    assert isinstance(found, list)
    return found


def reaching(rules: str, family: int = 0) -> set[str]:
    cluster, to = world(policy({**WEB_PODS, "ingress": rules_of(rules, "from")})), CROWD["shop/web"][family]
    return {name for name, ips in CROWD.items() if name != "shop/web" and allowed(cluster, ips[family], to)}


def reached(rules: str, family: int = 0) -> set[str]:
    spec = {**WEB_PODS, "policyTypes": ["Egress"], "egress": rules_of(rules, "to")}
    cluster, source = world(policy(spec)), CROWD["shop/web"][family]
    return {name for name, ips in CROWD.items() if name != "shop/web" and allowed(cluster, source, ips[family])}


@pytest.mark.parametrize(("rules", "who"), RULES.values(), ids=RULES)
def test_ingress_admits_exactly_these_and_the_pods_own_node(rules: str, who: str) -> None:
    assert reaching(rules) == {*who.split(), "n1"}


@pytest.mark.parametrize(("rules", "who"), RULES.values(), ids=RULES)
def test_egress_admits_exactly_these(rules: str, who: str) -> None:
    assert reached(rules) == set(who.split())


@pytest.mark.parametrize("name", [name for name, (rules, _) in RULES.items() if "ipBlock" not in rules])
def test_selectors_mean_the_same_in_ipv6(name: str) -> None:
    rules, who = RULES[name]
    assert (reaching(rules, 1), reached(rules, 1)) == ({*who.split(), "n1"}, set(who.split()))


@pytest.mark.parametrize(
    ("block", "who"),
    [
        ("cidr: '::/0'", EVERYBODY),
        ("cidr: 0.0.0.0/0", ""),
        ("cidr: 'fd00:2::/32'", "shop/db data/web lost/web"),
        ("cidr: 'fd00::/8', except: ['fd00:2::/64']", "data/job bare"),
        ("cidr: 'fd00:2::11/128'", "shop/db"),
    ],
)
def test_a_block_of_ipv6_is_for_ipv6(block: str, who: str) -> None:
    rules = f"[{{PEERS: [{{ipBlock: {{{block}}}}}]}}]"
    assert (reaching(rules, 1), reached(rules, 1)) == ({*who.split(), "n1"}, set(who.split()))


def test_among_ten_thousand_blocks_the_one_that_holds_an_address_is_found_at_once() -> None:
    inside = [f"10.{number // 256}.{number % 256}.0/24" for number in range(10_000)]
    blocks: list[dict[str, Any]] = [{"ipBlock": {"cidr": cidr}} for cidr in inside]
    one = policy({**WEB_PODS, "ingress": [{"from": [*blocks, {"podSelector": {}}, *blocks]}]})
    other = policy({**WEB_PODS, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": inside}}]}]})
    sources = [f"10.{second}.{third}.9" for second in (2, 39, 40) for third in range(100)]
    before = time.process_time()
    admitted, left = ([ask(cluster, source, WEB) for source in sources] for cluster in (world(one), world(other)))
    assert time.process_time() - before < 5.0  # a look at every block takes some twenty
    matches = [each.ingress.match for each in admitted]
    assert [match.peer if match is not None else None for match in matches[98:102]] == [610, 611, 9984, 9985]
    assert [verdict.allowed for verdict in admitted] == [True] * 116 + [False] * 84 + [False] * 100
    assert [verdict.allowed for verdict in left] == [not verdict.allowed for verdict in admitted]


# -- ports: which of these the outside reaches at the web pod, which the web pod reaches at the database ---------------

PORTS = {
    "none named": ("[]", " ".join(TRIED)),
    "a number, TCP where nothing is said": ("[{port: 80}]", "80/TCP"),
    "of another protocol": ("[{port: 8080, protocol: UDP}]", "8080/UDP"),
    "of SCTP": ("[{port: 80, protocol: SCTP}]", "80/SCTP"),
    "a whole protocol": ("[{protocol: UDP}]", "53/UDP 8080/UDP"),
    "a whole protocol, TCP where nothing is said": ("[{}]", "80/TCP 8080/TCP 8081/TCP 8090/TCP 8091/TCP"),
    "a range, both ends included": ("[{port: 8080, endPort: 8090}]", "8080/TCP 8081/TCP 8090/TCP"),
    "a range of one": ("[{port: 80, endPort: 80}]", "80/TCP"),
    "all there are": ("[{port: 1, endPort: 65535, protocol: UDP}]", "53/UDP 8080/UDP"),
    "several, any": ("[{port: 80}, {port: 53, protocol: UDP}]", "80/TCP 53/UDP"),
    "a name nobody has": ("[{port: nowhere}]", ""),
}


def into_web(ports: str) -> set[str]:
    cluster = world(policy({**WEB_PODS, "ingress": [{"ports": yaml.safe_load(ports)}]}))
    return {port for port in TRIED if allowed(cluster, OUTSIDE, WEB, port)}


def out_to_db(ports: str) -> set[str]:
    spec = {**WEB_PODS, "policyTypes": ["Egress"], "egress": [{"ports": yaml.safe_load(ports)}]}
    cluster = world(policy(spec))
    return {port for port in TRIED if allowed(cluster, WEB, DB, port)}


@pytest.mark.parametrize(("ports", "which"), PORTS.values(), ids=PORTS)
def test_exactly_these_ports_are_open_in_either_direction(ports: str, which: str) -> None:
    assert (into_web(ports), out_to_db(ports)) == (set(which.split()), set(which.split()))


@pytest.mark.parametrize(
    ("port", "of_web", "of_db"),
    [
        ("{port: http}", "8080/TCP", "80/TCP"),  # each pod its own number
        ("{port: dns, protocol: UDP}", "53/UDP", ""),
        ("{port: dns}", "", ""),  # the name is there, but not for TCP
        ("{port: alt, protocol: UDP}", "8080/UDP", ""),
        ("{port: alt}", "", ""),
    ],
)
def test_a_named_port_is_the_receiving_pods_own(port: str, of_web: str, of_db: str) -> None:
    assert (into_web(f"[{port}]"), out_to_db(f"[{port}]")) == (set(of_web.split()), set(of_db.split()))


HTTP_OUT = "{podSelector: {}, policyTypes: [Egress], egress: [{PEERS, ports: [{port: http}]}]}"


@pytest.mark.parametrize("peers", ["to: []", "to: [{ipBlock: {cidr: 0.0.0.0/0}}]", "to: [{namespaceSelector: {}}]"])
def test_egress_to_a_named_port_asks_each_destination_and_what_is_no_pod_has_no_names(peers: str) -> None:
    cluster = world(policy(HTTP_OUT.replace("PEERS", peers)))
    ends = (DB, "10.2.0.12", OUTSIDE, OTHER_NODE, BARE, "10.2.0.99")
    assert [end for end in ends if allowed(cluster, WEB, end, "80/TCP")] == [DB]
    assert [end for end in ends if allowed(cluster, WEB, end, "8080/TCP")] == ["10.2.0.12"]


def test_egress_to_a_named_port_is_for_pods_that_are_peers_only() -> None:
    cluster = world(policy(HTTP_OUT.replace("PEERS", "to: [{podSelector: {}}]")))
    assert [allowed(cluster, WEB, DB, "80/TCP"), allowed(cluster, WEB, "10.2.0.12", "8080/TCP")] == [True, False]


def test_a_name_that_two_containers_give_means_both_ports() -> None:
    two = pod("shop/web", 1, 10, "app=web", "http=8080/TCP http=8081/TCP")
    cluster = world(two, policy("{podSelector: {}, ingress: [{ports: [{port: http}]}]}"))
    assert [port for port in TRIED if allowed(cluster, OUTSIDE, WEB, port)] == ["8080/TCP", "8081/TCP"]


def test_of_two_pods_with_one_address_on_two_nodes_ingress_asks_the_one_on_the_node_that_judges() -> None:
    here, there = pod("shop/a", 1, 10, ports="http=80/TCP"), pod("shop/b", 1, 10, ports="http=81/TCP", node_name="n2")
    web = pod("shop/web", 1, 10, phase="Succeeded")
    cluster = world(here, there, web, policy("{podSelector: {}, ingress: [{ports: [{port: http}]}]}"))
    assert [allowed(cluster, OUTSIDE, WEB, port) for port in ("80/TCP", "81/TCP")] == [True, False]


def test_peers_and_ports_of_a_rule_have_to_match_together() -> None:
    spec = """
      podSelector: {}
      ingress:
      - {from: [{podSelector: {}}], ports: [{port: 80}]}
      - {from: [{ipBlock: {cidr: 198.51.100.0/24}}], ports: [{port: 8080}]}
    """
    cluster = world(policy(spec))
    verdicts = {(who, port): allowed(cluster, who, WEB, port) for who in (DB, OUTSIDE) for port in TRIED[1:4:2]}
    assert verdicts == {
        (DB, "80/TCP"): True,
        (DB, "8080/TCP"): False,
        (OUTSIDE, "80/TCP"): False,
        (OUTSIDE, "8080/TCP"): True,
    }
