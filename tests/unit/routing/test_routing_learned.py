"""The best paths as objects of the journal: what they say, and how attributes are written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube_router.plugins.routing.bgp.best import PeerInfo
from kube_router.plugins.routing.bgp.model import (
    Attributes,
    Kind,
    NextHop,
    Segment,
    SegmentType,
    prefix_of,
)
from kube_router.plugins.routing.bgp.rib import Own, Rib
from kube_router.plugins.routing.facts import Route
from kube_router.plugins.routing.learned import as_path, communities, digest, routes_of

P4, P6 = prefix_of("10.244.2.0/24"), prefix_of("fd00:244:2::/64")
A, B, OUT = "10.0.0.2", "10.0.0.3", "192.0.2.254"


def info(address: str, *, internal: bool = True) -> PeerInfo:
    octets = bytes(map(int, address.split(".")))
    return PeerInfo(
        asn=64512 if internal else 65000, router_id=int.from_bytes(octets), address=octets, internal=internal
    )


def rib() -> Rib:
    found = Rib()
    found.set_peer(A, info(A))
    found.set_peer(B, info(B))
    found.set_peer(OUT, info(OUT, internal=False))
    return found


def made(table: Rib, prefix: object = P4) -> Route:
    changes = table.take_changes()
    [(changed, selection)] = changes.items()
    assert changed == prefix
    assert selection is not None
    [route] = routes_of([(changed, selection)])
    return route


def test_one_path_says_whom_it_is_from_and_all_of_its_attributes() -> None:
    table = rib()
    attributes = Attributes(
        as_path=(Segment(SegmentType.AS_SEQUENCE, (65000, 65010)),),
        local_pref=200,
        med=7,
        communities=(64512 << 16 | 100,),
        large_communities=((64512, 1, 2),),
    )
    table.announce(A, [P4], None, attributes, NextHop(b"\x0a\x00\x00\x02"))
    assert made(table) == Route(
        name="10.244.2.0/24",
        next_hops=("10.0.0.2",),
        peers=(A,),
        internal=True,
        as_path="65000 65010",
        local_pref=200,
        med=7,
        communities=("64512:100", "64512:1:2"),
        why="only path",
    )


def test_equal_paths_give_several_next_hops_the_best_first() -> None:
    table = rib()
    for peer, last in ((B, 3), (A, 2)):
        table.announce(peer, [P4], None, Attributes(local_pref=100), NextHop(bytes((10, 0, 0, last))))
    route = made(table)
    assert (route.next_hops, route.peers) == (("10.0.0.2", "10.0.0.3"), (A, B))


def test_of_two_peers_that_name_one_next_hop_the_better_one_stands_for_it() -> None:
    table = rib()
    for peer in (A, B):
        table.announce(peer, [P4], None, Attributes(local_pref=100), NextHop(b"\x0a\x00\x00\x09"))
    route = made(table)
    assert (route.next_hops, route.peers) == (("10.0.0.9",), (A,))


def test_what_is_from_outside_is_not_internal_and_ipv6_is_written_as_usual() -> None:
    table = rib()
    attributes = Attributes(as_path=(Segment(SegmentType.AS_SEQUENCE, (65000,)),))
    table.announce(OUT, [P6], None, attributes, NextHop(bytes.fromhex("fd00" + "00" * 13 + "09")))
    route = made(table, P6)
    assert (route.name, route.next_hops, route.internal) == ("fd00:244:2::/64", ("fd00::9",), False)


def test_what_this_node_originates_itself_is_no_route_to_learn() -> None:
    table = rib()
    table.originate({P4: Own(Attributes(), NextHop(b"\x0a\x00\x00\x01"), Kind.POD)})
    [selection] = table.take_changes().values()
    assert selection is not None
    assert selection.best.peer == ""


@pytest.mark.parametrize(
    ("segments", "text"),
    [
        ((), ""),
        (((SegmentType.AS_SEQUENCE, (64513, 4200000000)),), "64513 4200000000"),
        (((SegmentType.AS_SEQUENCE, (64513,)), (SegmentType.AS_SET, (64514, 64515))), "64513 {64514,64515}"),
        (((SegmentType.AS_CONFED_SEQUENCE, (1, 2)), (SegmentType.AS_CONFED_SET, (3, 4))), "(1 2) [3,4]"),
    ],
)
def test_an_as_path_is_written_as_usual(segments: tuple[tuple[SegmentType, tuple[int, ...]], ...], text: str) -> None:
    assert as_path(Attributes(as_path=tuple(Segment(*each) for each in segments))) == text


def test_communities_are_written_as_usual() -> None:
    attributes = Attributes(communities=(0xFFFFFF01, 65000 << 16), large_communities=((4200000000, 0, 7),))
    assert communities(attributes) == ("65535:65281", "65000:0", "4200000000:0:7")


ROUTES = st.lists(
    st.builds(
        Route,
        name=st.sampled_from(("10.0.0.0/24", "10.0.1.0/24", "fd00::/64")),
        next_hops=st.lists(st.sampled_from(("10.0.0.2", "10.0.0.3")), min_size=1, unique=True).map(tuple),
        peers=st.just((A,)),
    ),
    unique_by=lambda route: route.name,
)


@given(routes=ROUTES, others=ROUTES)
def test_a_digest_is_that_of_the_same_prefixes_and_next_hops_in_any_order(
    routes: list[Route], others: list[Route]
) -> None:
    shuffled = sorted(routes, key=lambda route: route.name, reverse=True)
    assert digest(shuffled) == digest(routes)
    alike = {(each.name, each.next_hops) for each in routes} == {(each.name, each.next_hops) for each in others}
    assert (digest(routes) == digest(others)) == alike
