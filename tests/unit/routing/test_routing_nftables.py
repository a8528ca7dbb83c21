"""The egress table's text says what it should, edits lead from one set of elements to another, listings are read."""

from collections.abc import Mapping
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube_router.plugins.routing import nftables
from kube_router.plugins.routing.nftables import Members

WANTED = nftables.members(
    pods4=["10.244.1.0/24", "10.244.2.0/24"], pods6=["fd00:244:1::/64"], nodes4=["192.0.2.1"], nodes6=["fd00:2::1"]
)


def test_the_table_as_a_whole() -> None:
    stamp = nftables.STAMP
    assert (
        nftables.write_table(WANTED)
        == f"""\
add table inet kube-router-routing
delete table inet kube-router-routing
table inet kube-router-routing {{
    set pods4 {{ type ipv4_addr; flags interval; }}
    set pods6 {{ type ipv6_addr; flags interval; }}
    set nodes4 {{ type ipv4_addr; }}
    set nodes6 {{ type ipv6_addr; }}
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr @pods4 ip daddr != @pods4 ip daddr != @nodes4 masquerade fully-random comment "{stamp} 1/2"
        ip6 saddr @pods6 ip6 daddr != @pods6 ip6 daddr != @nodes6 masquerade fully-random comment "{stamp} 2/2"
    }}
}}
add element inet kube-router-routing pods4 {{ 10.244.1.0/24, 10.244.2.0/24 }}
add element inet kube-router-routing pods6 {{ fd00:244:1::/64 }}
add element inet kube-router-routing nodes4 {{ 192.0.2.1 }}
add element inet kube-router-routing nodes6 {{ fd00:2::1 }}
"""
    )


def test_an_edit_cuts_before_it_adds() -> None:
    other = WANTED._replace(pods4=frozenset({"10.244.2.0/24", "10.244.3.0/24"}), nodes6=frozenset())
    assert nftables.write_edit(other, WANTED).splitlines() == [
        "delete element inet kube-router-routing pods4 { 10.244.1.0/24 }",
        "delete element inet kube-router-routing nodes6 { fd00:2::1 }",
        "add element inet kube-router-routing pods4 { 10.244.3.0/24 }",
    ]
    assert nftables.write_edit(WANTED, WANTED) == ""
    assert (nftables.added(other, WANTED), nftables.added(WANTED, other), WANTED.total) == (1, 2, 5)


def test_what_another_covers_is_left_out_and_neighbours_stay_apart() -> None:
    cidrs = ["10.1.0.0/16", "10.1.2.0/24", "10.1.0.0/24", "10.2.0.0/24", "10.2.1.0/24", "10.3.0.7/32", "10.4.0.9/24"]
    assert nftables.members(pods4=cidrs).pods4 == {
        "10.1.0.0/16", "10.2.0.0/24", "10.2.1.0/24", "10.3.0.7", "10.4.0.0/24"
    }  # fmt: skip
    assert nftables.members(nodes6=["FD00::0001", "fd00::1"]).nodes6 == {"fd00::1"}


def test_both_is_what_is_in_either() -> None:
    one, other = nftables.members(pods4=["10.1.0.0/24"]), nftables.members(pods4=["10.0.0.0/8"], nodes4=["192.0.2.1"])
    assert nftables.both(one, other) == other
    assert nftables.both(other, one) == other


def test_what_is_no_cidr_is_refused() -> None:
    with pytest.raises(ValueError, match="does not appear to be an IPv4 or IPv6 network"):
        nftables.members(pods4=["10.244.1.0/33"])


def test_lines_tell_each_element_apart() -> None:
    lines = list(nftables.lines(WANTED))
    assert lines[-4:-1] == [
        "add element inet kube-router-routing pods4 { 10.244.2.0/24 }",
        "add element inet kube-router-routing pods6 { fd00:244:1::/64 }",
        "add element inet kube-router-routing nodes4 { 192.0.2.1 }",
    ]
    assert lines[2] == "table inet kube-router-routing {"


# -- read --------------------------------------------------------------------------------------------------------------


def listing() -> list[dict[str, Any]]:
    """Return what nft lists of a table with two elements in one of the sets."""
    here = {"family": "inet", "table": "kube-router-routing"}
    elements = {"elem": [{"prefix": {"addr": "10.244.1.0", "len": 24}}, "10.9.9.9"]}
    return [
        {"table": {"family": "inet", "name": "kube-router-routing", "handle": 1}},
        {"set": {**here, "name": "pods4", "type": "ipv4_addr", "flags": ["interval"], **elements}},
        {"set": {**here, "name": "pods6", "type": "ipv6_addr", "flags": ["interval"]}},
        {"set": {**here, "name": "nodes4", "type": "ipv4_addr"}},
        {"set": {**here, "name": "nodes6", "type": "ipv6_addr"}},
        {
            "chain": {
                **here,
                "name": "postrouting",
                "type": "nat",
                "hook": "postrouting",
                "prio": 100,
                "policy": "accept",
            }
        },
        {"rule": {**here, "chain": "postrouting", "comment": nftables.COMMENTS[0], "expr": []}},
        {"rule": {**here, "chain": "postrouting", "comment": nftables.COMMENTS[1], "expr": []}},
    ]


MEMBERS = Members(pods4=frozenset({"10.244.1.0/24", "10.9.9.9"}))


def test_a_listing_of_ours_is_whole() -> None:
    assert nftables.read_table(listing()) == nftables.Listed(MEMBERS, is_whole=True)


@pytest.mark.parametrize("gone", range(8))
def test_a_listing_that_lacks_anything_is_not_whole(gone: int) -> None:
    rest = listing()
    del rest[gone]
    assert not nftables.read_table(rest).is_whole


@pytest.mark.parametrize(
    ("at", "fields"),
    [
        (1, {"elem": [{"range": ["10.0.0.1", "10.0.0.9"]}]}),
        (1, {"elem": [{"elem": {"val": "10.0.0.1", "comment": "x"}}]}),
        (1, {"elem": [{"prefix": {"addr": "10.0.0.1"}}]}),
        (1, {"elem": [7]}),
        (1, {"flags": ["interval", "timeout"]}),
        (3, {"type": "ipv6_addr"}),
        (5, {"prio": 101}),
        (5, {"hook": "output"}),
        (5, {"policy": "drop"}),
        (6, {"comment": "0123456789abcdef 1/2"}),
        (7, {"comment": nftables.COMMENTS[0]}),
    ],
)
def test_a_listing_in_which_anything_is_another_is_not_whole(at: int, fields: Mapping[str, Any]) -> None:
    changed = listing()
    next(iter(changed[at].values())).update(fields)
    assert not nftables.read_table(changed).is_whole


@pytest.mark.parametrize(
    "more",
    [
        {"rule": {"chain": "postrouting", "expr": []}},
        {"chain": {"name": "other"}},
        {"map": {"name": "pods4"}},
        {"counter": {"name": "c"}},
    ],
)
def test_a_listing_with_something_more_is_not_whole(more: dict[str, Any]) -> None:
    assert not nftables.read_table([*listing(), more]).is_whole
    assert nftables.read_table([*listing(), more]).members == MEMBERS


CIDRS = st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)).map(lambda pair: str(ip_network(pair, strict=False)))


@given(st.lists(CIDRS, max_size=30), st.lists(CIDRS, max_size=30))
def test_elements_cover_what_they_were_made_of_and_never_overlap(one: list[str], other: list[str]) -> None:
    for found, cidrs in (
        (nftables.members(pods4=one), one),
        (nftables.both(nftables.members(pods4=one), nftables.members(pods4=other)), [*one, *other]),
    ):
        networks = [ip_network(text) for text in sorted(found.pods4)]
        assert not any(a.overlaps(b) for i, a in enumerate(networks) for b in networks[:i])
        covered = [ip_network(cidr) for cidr in cidrs]
        assert all(any(cidr.subnet_of(each) for each in networks) for cidr in covered)  # type: ignore[arg-type]
        assert set(networks) <= set(covered)


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["prefix", "addr", "len"]), inner),
)


@given(st.lists(JSON, max_size=5))
def test_no_element_is_a_crash(elements: list[Any]) -> None:
    odd = listing()
    odd[1]["set"]["elem"] = elements
    for text in nftables.read_table(odd).members.pods4:
        ip_network(text)
