"""Every form a policy's rules take in nft's words, and the sets they look into."""

import re
from typing import Any

import pytest
from harness.shop import compiled_for, policy

from kube_router.events.model import NetworkPolicy
from kube_router.plugins.firewall.compile import COMMENT_LENGTH_MAX, Compiled, FixedSet, NamedKey, PeerKey, Uses
from kube_router.plugins.firewall.model import FAMILIES, IPV4, IPV6, Direction, SetType
from kube_router.plugins.firewall.terms import Term

without_hashes = re.compile(r"(?<=@[a-z][46])_\w+|(?<=@p)_\w+").sub
WEB = (Term("app", "In", ("web",)),)
RED = (Term("team", "In", ("red",)),)


def compiled(rules: str, types: str = "Ingress", *, families: Any = FAMILIES) -> Compiled:
    """Return what becomes of these rules, of each direction that is named."""
    spec = "\n".join(f"{direction.lower()}: {rules}" for direction in types.split(", "))
    return compiled_for(policy(f"policyTypes: [{types}]\n{spec}"), families)


def matches(found: Compiled, direction: Direction = "ingress") -> list[str]:
    """Return the rules of a direction without what they all end in, and sets by their prefix."""
    name = found.names[direction]
    end = f'counter name "{name}" accept'
    assert all(rule.endswith(end) for rule in found.chains[name].rules)
    return [without_hashes("", rule.removesuffix(end).rstrip()) for rule in found.chains[name].rules]


# -- peers and ports, each alone ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "ingress", "egress"),
    [
        ("[{}]", [""], [""]),
        ("[]", [], []),
        ("[{PEERS: [{podSelector: {}}]}]", ["ip saddr @s4", "ip6 saddr @s6"], ["ip daddr @s4", "ip6 daddr @s6"]),
        ("[{PEERS: [{ipBlock: {cidr: 10.0.0.0/8}}]}]", ["ip saddr 10.0.0.0/8"], ["ip daddr 10.0.0.0/8"]),
        ("[{PEERS: [{ipBlock: {cidr: 10.0.0.5/32}}]}]", ["ip saddr 10.0.0.5"], ["ip daddr 10.0.0.5"]),
        (
            "[{PEERS: [{ipBlock: {cidr: 10.0.0.4/31}}, {ipBlock: {cidr: 10.0.0.6/32}}]}]",
            ["ip saddr 10.0.0.4-10.0.0.6"],
            ["ip daddr 10.0.0.4-10.0.0.6"],
        ),
        (
            '[{PEERS: [{ipBlock: {cidr: "fd00::/8", except: ["fd00::/64"]}}, {ipBlock: {cidr: 0.0.0.0/0}}]}]',
            ["ip saddr 0.0.0.0/0", "ip6 saddr fd00:0:0:1::-fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
            ["ip daddr 0.0.0.0/0", "ip6 daddr fd00:0:0:1::-fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
        ),
        (
            "[{PEERS: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}]}]",
            ["ip saddr @b4"],
            ["ip daddr @b4"],
        ),
        ("[{PEERS: [{ipBlock: {cidr: 10.0.0.0/24, except: [10.0.0.0/25, 10.0.0.128/25]}}]}]", [], []),
        ("[{ports: [{protocol: TCP}]}]", ["meta l4proto tcp"], ["meta l4proto tcp"]),
        ("[{ports: [{port: 80}]}]", ["tcp dport 80"], ["tcp dport 80"]),
        ("[{ports: [{port: 80, protocol: SCTP}]}]", ["sctp dport 80"], ["sctp dport 80"]),
        (
            "[{ports: [{port: 30000, endPort: 30100, protocol: UDP}]}]",
            ["udp dport 30000-30100"],
            ["udp dport 30000-30100"],
        ),
        ("[{ports: [{port: 80, endPort: 80}]}]", ["tcp dport 80"], ["tcp dport 80"]),
        (
            "[{ports: [{port: 53, protocol: UDP}, {port: 53}]}]",
            ["meta l4proto . th dport @p"],
            ["meta l4proto . th dport @p"],
        ),
        (
            "[{ports: [{port: http}]}]",
            ["ip daddr . meta l4proto . th dport @n4", "ip6 daddr . meta l4proto . th dport @n6"],
            ["ip daddr . meta l4proto . th dport @n4", "ip6 daddr . meta l4proto . th dport @n6"],
        ),
    ],
)
def test_a_rule_is_written(rules: str, ingress: list[str], egress: list[str]) -> None:
    assert matches(compiled(rules.replace("PEERS", "from"))) == ingress
    assert matches(compiled(rules.replace("PEERS", "to"), "Egress"), "egress") == egress


def test_each_peer_goes_with_each_kind_of_ports() -> None:
    rules = """[{from: [{podSelector: {}}, {ipBlock: {cidr: 10.0.0.0/8}}],
                 ports: [{port: 80}, {port: 81}, {port: 90, endPort: 99}, {protocol: UDP}, {port: http}]}]"""
    assert matches(compiled(rules, families=[IPV4])) == [
        "tcp dport 90-99 ip saddr @s4",
        "meta l4proto udp ip saddr @s4",
        "ip saddr @s4 meta l4proto . th dport @p",
        "ip saddr @s4 ip daddr . meta l4proto . th dport @n4",
        "tcp dport 90-99 ip saddr 10.0.0.0/8",
        "meta l4proto udp ip saddr 10.0.0.0/8",
        "ip saddr 10.0.0.0/8 meta l4proto . th dport @p",
        "ip saddr 10.0.0.0/8 ip daddr . meta l4proto . th dport @n4",
    ]


def test_rules_that_are_equal_are_written_once() -> None:
    assert matches(compiled("[{ports: [{port: 80}]}, {ports: [{port: 80}, {port: 80}]}]")) == ["tcp dport 80"]


def test_a_family_that_is_not_in_play_has_no_rules_but_those_of_both() -> None:
    rules = '[{from: [{podSelector: {}}, {ipBlock: {cidr: "::/0"}}]}, {ports: [{port: http}, {port: 80}]}]'
    ipv4 = ["ip saddr @s4", "tcp dport 80", "ip daddr . meta l4proto . th dport @n4"]
    assert matches(compiled(rules, families=[IPV4])) == ipv4
    assert matches(compiled(rules, families=[])) == ["tcp dport 80"]


# -- sets --------------------------------------------------------------------------------------------------------------


def test_peers_are_named_by_whom_they_select() -> None:
    rules = """[{from: [
        {podSelector: {matchLabels: {app: web}}},
        {namespaceSelector: {matchLabels: {team: red}}},
        {namespaceSelector: {matchLabels: {team: red}}, podSelector: {matchLabels: {app: web}}},
    ]}]"""
    assert list(compiled(rules, families=[IPV4]).uses.peers.values()) == [
        (PeerKey("shop", (), WEB), IPV4),
        (PeerKey(None, RED, ()), IPV4),
        (PeerKey(None, RED, WEB), IPV4),
    ]


def test_equal_peers_of_two_policies_share_a_set_and_those_of_another_namespace_do_not() -> None:
    spec = "ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]"
    other = "ingress: [{from: [{podSelector: {matchExpressions: [{key: app, operator: In, values: [web]}]}}]}]"
    one, two, far = (
        set(compiled_for(policy(spec, key), FAMILIES).uses.peers)
        for spec, key in ((spec, "shop/a"), (other, "shop/b"), (spec, "data/a"))
    )
    assert one == two
    assert not one & far


def test_what_a_policy_itself_says_is_a_fixed_set() -> None:
    rules = """[{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}],
                 ports: [{port: 443}, {port: 53, protocol: UDP}, {port: 80}]}]"""
    assert list(compiled(rules).uses.fixed.values()) == [
        FixedSet(SetType("inet_proto . inet_service"), ("tcp . 80", "tcp . 443", "udp . 53")),
        FixedSet(SetType("ipv4_addr", interval=True), ("10.0.0.0/16", "10.2.0.0-10.255.255.255")),
    ]


def test_a_named_port_asks_pods_of_this_node_for_ingress_and_all_for_egress() -> None:
    found = compiled("[{ports: [{port: http, protocol: UDP}]}]", "Ingress, Egress")
    assert list(found.uses.named.values()) == [
        (NamedKey(True, "http", "UDP"), IPV4),
        (NamedKey(True, "http", "UDP"), IPV6),
        (NamedKey(False, "http", "UDP"), IPV4),
        (NamedKey(False, "http", "UDP"), IPV6),
    ]


# -- chains ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("types", "directions"),
    [
        ("[Ingress]", ["ingress"]),
        ("[Egress]", ["egress"]),
        ("[Egress, Ingress]", ["egress", "ingress"]),
        ("[ingress]", ["ingress", "egress"]),
        ("[Ingress, Both]", ["ingress", "egress"]),
        ("[Ingress, Ingress]", ["ingress"]),
    ],
)
def test_a_policy_has_a_chain_for_each_direction_it_is_for(types: str, directions: list[Direction]) -> None:
    found = compiled_for(policy(f"policyTypes: {types}"), FAMILIES)
    assert list(found.names) == directions
    assert [name[:3] for name in found.chains] == [f"p{direction[0]}_" for direction in directions]


def test_a_chain_has_its_name_from_its_policy_and_its_rules() -> None:
    def name(spec: str, key: str = "shop/p") -> str:
        return compiled_for(policy(spec, key), FAMILIES).names["ingress"]

    assert name("{ingress: [{}]}") == name("{podSelector: {matchLabels: {app: web}}, ingress: [{}]}")
    assert len({name("{ingress: [{}]}"), name("{ingress: []}"), name("{ingress: [{}]}", "shop/q")}) == 3


def test_a_policy_with_a_fault_has_chains_without_rules_and_uses_no_sets() -> None:
    spec = "{policyTypes: [Ingress, Egress], ingress: [{from: [{podSelector: {}}]}], egress: [{ports: [{port: 0}]}]}"
    found = compiled_for(policy(spec), FAMILIES)
    assert [chain.rules for chain in found.chains.values()] == [(), ()]
    assert found.uses == Uses()


@pytest.mark.parametrize(
    ("name", "comment"),
    [
        ("web-1.b", "shop/web-1.b"),
        ('a" } flush ruleset', "shop/a????flush?ruleset"),
        ("größe\n", "shop/gr??e?"),
        ("x" * 253, "shop/" + "x" * (COMMENT_LENGTH_MAX - 5)),
    ],
)
def test_a_comment_names_the_policy_in_letters_that_cannot_end_it(name: str, comment: str) -> None:
    (chain,) = compiled_for(NetworkPolicy(namespace="shop", name=name), FAMILIES).chains.values()
    assert chain.comment == comment
