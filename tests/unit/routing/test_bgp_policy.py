"""Import and export policy, a sentence per case."""

from dataclasses import replace

import pytest

from kube_router.plugins.routing.bgp.best import PeerInfo
from kube_router.plugins.routing.bgp.model import (
    Attributes,
    Family,
    Kind,
    NextHop,
    Path,
    PeerConfig,
    Segment,
    SegmentType,
    SpeakerConfig,
    Unknown,
    prefix_of,
)
from kube_router.plugins.routing.bgp.policy import (
    NO_ADVERTISE,
    NO_EXPORT,
    NO_EXPORT_SUBCONFED,
    Exported,
    PrefixFilter,
    accept,
    export,
    judge,
    prepend,
)

HERE = bytes([10, 0, 0, 9])
HERE6 = bytes.fromhex("fd66" + "00" * 13 + "09")
NODE = PeerConfig(address="10.0.0.1", asn=64512, internal=True, mesh=True)
CLIENT = PeerConfig(address="10.0.0.2", asn=64512, internal=True, mesh=True, reflector_client=True)
CLIENT_TOO = replace(CLIENT, address="10.0.0.3")
TOR = PeerConfig(address="192.0.2.1", asn=65001, internal=False)
CONFIG = SpeakerConfig(
    asn=64512,
    router_id=0x0A000009,
    peers={peer.address: peer for peer in (NODE, CLIENT, CLIENT_TOO, TOR)},
    originated={prefix_of("10.244.9.0/24"): Kind.POD},
    next_hops={Family.IPV4: HERE, Family.IPV6: HERE6},
    rejected=(prefix_of("10.96.0.0/12"), prefix_of("fd00:96::/108")),
    rejected_exactly=frozenset({prefix_of("10.64.0.0/24")}),
)
REFLECTOR = replace(CONFIG, cluster_id=42)
THERE = NextHop(bytes([10, 0, 0, 1]))
FROM_NODE = PeerInfo(64512, 0x0A000001, bytes([10, 0, 0, 1]), internal=True)
FROM_CLIENT = PeerInfo(64512, 0x0A000002, bytes([10, 0, 0, 2]), internal=True)
FROM_TOR = PeerInfo(65001, 0xC0000201, bytes([192, 0, 2, 1]), internal=False)
PLAIN = Attributes(local_pref=100)


def sequence(*asns: int) -> tuple[Segment, ...]:
    return (Segment(SegmentType.AS_SEQUENCE, asns),)


# -- What is taken -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("10.244.1.0/24", ""),
        ("10.64.0.0/25", ""),
        ("10.64.0.0/16", ""),
        ("10.64.0.0/10", ""),
        ("0.0.0.0/0", "a default route is taken from nobody"),
        ("::/0", "a default route is taken from nobody"),
        ("0.0.0.0/8", "this host"),
        ("127.1.0.0/16", "loopback"),
        ("126.0.0.0/7", ""),
        ("169.254.20.10/32", "link-local"),
        ("224.0.0.0/4", "multicast"),
        ("239.1.0.0/16", "multicast"),
        ("240.0.0.0/8", ""),
        ("255.255.255.255/32", "broadcast"),
        ("255.255.255.254/32", ""),
        ("::1/128", "loopback"),
        ("::/128", "unspecified"),
        ("::2/128", ""),
        ("::ffff:10.0.0.0/104", "IPv4-mapped"),
        ("fe80::/64", "link-local"),
        ("fec0::/16", ""),
        ("ff02::/16", "multicast"),
        ("fd00:1::/64", ""),
        ("10.96.0.0/12", "inside the refused 10.96.0.0/12"),
        ("10.100.0.10/32", "inside the refused 10.96.0.0/12"),
        ("10.112.0.0/12", ""),
        ("10.96.0.0/11", ""),
        ("fd00:96::a/128", "inside the refused fd00:96::/108"),
        ("10.64.0.0/24", "refused by this node's configuration"),
    ],
)
def test_a_prefix_is_taken_or_refused(text: str, why: str) -> None:
    assert PrefixFilter(CONFIG)(prefix_of(text)) == why
    assert accept(CONFIG, NODE, prefix_of(text), PLAIN, THERE) == why


def test_refusing_all_of_a_family_is_possible() -> None:
    everything = PrefixFilter(replace(CONFIG, rejected=(prefix_of("0.0.0.0/0"),)))
    assert everything(prefix_of("203.0.113.0/24")) == "inside the refused 0.0.0.0/0"
    assert everything(prefix_of("fd00:1::/64")) == ""


def test_filters_of_equal_configurations_are_equal() -> None:
    assert PrefixFilter(CONFIG) == PrefixFilter(replace(CONFIG, asn=1, rejected=CONFIG.rejected[::-1]))
    assert hash(PrefixFilter(CONFIG)) == hash(PrefixFilter(REFLECTOR))
    assert PrefixFilter(CONFIG) != PrefixFilter(replace(CONFIG, rejected=()))
    assert PrefixFilter(CONFIG) != PrefixFilter(replace(CONFIG, rejected_exactly=frozenset()))
    assert PrefixFilter(CONFIG) != object()


@pytest.mark.parametrize(
    ("peer", "attributes", "next_hop", "why"),
    [
        pytest.param(NODE, PLAIN, THERE, "", id="a node's pods"),
        pytest.param(TOR, Attributes(as_path=sequence(65001, 65002)), THERE, "", id="an external path"),
        pytest.param(
            TOR,
            Attributes(as_path=sequence(65001, 64512)),
            THERE,
            "loop: AS 64512 of this node is in its AS path",
            id="own AS",
        ),
        pytest.param(
            TOR,
            Attributes(as_path=(*sequence(65001), Segment(SegmentType.AS_SET, (64512,)))),
            THERE,
            "loop: AS 64512 of this node is in its AS path",
            id="own AS in a set",
        ),
        pytest.param(
            NODE, Attributes(originator_id=0x0A000009), THERE, "loop: this node is its originator", id="own originator"
        ),
        pytest.param(NODE, PLAIN, NextHop(HERE), "its next hop is this node", id="own address"),
        pytest.param(NODE, PLAIN, NextHop(HERE6), "its next hop is this node", id="own IPv6 address"),
        pytest.param(
            TOR,
            Attributes(as_path=sequence(65002, 65001)),
            THERE,
            "its AS path does not begin with AS 65001, which sent it",
            id="first AS",
        ),
        pytest.param(
            TOR, Attributes(), THERE, "its AS path does not begin with AS 65001, which sent it", id="no AS at all"
        ),
        pytest.param(
            TOR,
            Attributes(as_path=(Segment(SegmentType.AS_SET, (65001,)),)),
            THERE,
            "its AS path does not begin with AS 65001, which sent it",
            id="a set has no first AS",
        ),
        pytest.param(NODE, Attributes(as_path=sequence(65009)), THERE, "", id="any first AS from an internal peer"),
    ],
)
def test_attributes_are_taken_or_refused(peer: PeerConfig, attributes: Attributes, next_hop: NextHop, why: str) -> None:
    assert judge(CONFIG, peer, attributes, next_hop) == why
    assert accept(CONFIG, peer, prefix_of("10.244.1.0/24"), attributes, next_hop) == why


def test_a_reflector_refuses_what_has_been_in_its_cluster() -> None:
    been = Attributes(cluster_list=(7, 42))
    assert judge(REFLECTOR, NODE, been, THERE) == "loop: the cluster of this node is in its cluster list"
    assert judge(CONFIG, NODE, been, THERE) == ""
    assert judge(CONFIG, NODE, Attributes(cluster_list=(0,)), THERE) == ""


def test_what_this_node_originates_is_taken_from_nobody() -> None:
    assert accept(CONFIG, NODE, prefix_of("10.244.9.0/24"), PLAIN, THERE) == "this node originates it"


# -- What is told of our own -------------------------------------------------------------------------------------------


def own(kind: Kind, **given: object) -> Path:
    return Path("", Attributes(**given), NextHop(HERE), weight=32768, kind=kind)  # type: ignore[arg-type]  # real fields


def test_pods_are_told_to_internal_neighbours_with_a_local_preference() -> None:
    assert export(CONFIG, NODE, own(Kind.POD), None) == Exported(Attributes(local_pref=100), NextHop(HERE))


def test_services_are_not_told_to_internal_neighbours() -> None:
    assert export(CONFIG, NODE, own(Kind.SERVICE), None) is None
    assert export(REFLECTOR, CLIENT, own(Kind.SERVICE), None) is None


@pytest.mark.parametrize("kind", [Kind.POD, Kind.SERVICE])
def test_pods_and_services_are_told_to_external_neighbours_with_our_as(kind: Kind) -> None:
    expected = Exported(Attributes(as_path=sequence(64512)), NextHop(HERE))
    assert export(CONFIG, TOR, own(kind), None) == expected


def test_pods_are_told_to_external_neighbours_only_if_so_wished() -> None:
    quiet = replace(CONFIG, advertise_pods_externally=False)
    assert export(quiet, TOR, own(Kind.POD), None) is None
    assert export(quiet, TOR, own(Kind.SERVICE), None) is not None
    assert export(quiet, NODE, own(Kind.POD), None) is not None


def test_an_external_neighbour_gets_communities_and_the_prepended_as_before_ours() -> None:
    peer = replace(TOR, prepend_asn=65100, prepend_count=2, communities=(5, 6, 5), large_communities=((1, 2, 3),))
    assert export(CONFIG, peer, own(Kind.POD, communities=(6, 7), local_pref=300, med=4), None) == Exported(
        Attributes(
            as_path=sequence(65100, 65100, 64512),
            med=4,
            communities=(6, 7, 5),
            large_communities=((1, 2, 3),),
        ),
        NextHop(HERE),
    )


def test_another_node_gets_neither_communities_nor_prepended_ases() -> None:
    peer = replace(NODE, prepend_asn=65100, prepend_count=2, communities=(5,))
    assert export(CONFIG, peer, own(Kind.POD), None) == Exported(Attributes(local_pref=100), NextHop(HERE))


def test_a_neighbour_of_our_as_outside_the_mesh_is_told_what_external_ones_are() -> None:
    peer = replace(NODE, mesh=False, prepend_asn=65100, prepend_count=2, communities=(5,))
    for kind in Kind:
        assert export(CONFIG, peer, own(kind), None) == Exported(
            Attributes(local_pref=100, communities=(5,)), NextHop(HERE)
        )
    assert export(replace(CONFIG, advertise_pods_externally=False), peer, own(Kind.POD), None) is None


def test_next_hop_self_is_this_nodes_address_of_the_next_hops_family() -> None:
    peer = replace(TOR, next_hop_self=True)
    elsewhere = own(Kind.POD)._replace(next_hop=THERE)
    exported = export(CONFIG, peer, elsewhere, None)
    assert exported is not None
    assert exported.next_hop == NextHop(HERE)
    exported = export(CONFIG, peer, elsewhere._replace(next_hop=NextHop(bytes(15) + b"\7")), None)
    assert exported is not None
    assert exported.next_hop == NextHop(HERE6)
    without = export(replace(CONFIG, next_hops={}), peer, elsewhere, None)
    assert without is not None
    assert without.next_hop == THERE


@pytest.mark.parametrize(
    ("community", "internal", "external"),
    [(NO_EXPORT, True, False), (NO_EXPORT_SUBCONFED, True, False), (NO_ADVERTISE, False, False), (1, True, True)],
)
def test_well_known_communities_keep_a_path_in(community: int, internal: bool, external: bool) -> None:
    path = own(Kind.POD, communities=(1, community))
    assert (export(CONFIG, NODE, path, None) is not None) == internal
    assert (export(CONFIG, TOR, path, None) is not None) == external


def test_communities_that_are_added_are_for_the_neighbour_to_obey() -> None:
    exported = export(CONFIG, replace(TOR, communities=(NO_EXPORT,)), own(Kind.POD), None)
    assert exported is not None
    assert exported.attributes.communities == (NO_EXPORT,)


# -- What is told of what was learned ----------------------------------------------------------------------------------

LEARNED = Attributes(
    local_pref=150,
    med=3,
    communities=(8,),
    others=(Unknown(0xE0, 99, b"x"),),
)


@pytest.mark.parametrize("peer", [NODE, CLIENT, TOR])
@pytest.mark.parametrize(("sender", "source"), [(CLIENT_TOO, FROM_CLIENT), (NODE, FROM_NODE), (TOR, FROM_TOR)])
def test_who_is_no_reflector_tells_nobody_what_it_learned(
    peer: PeerConfig, sender: PeerConfig, source: PeerInfo
) -> None:
    assert export(CONFIG, peer, Path(sender.address, LEARNED, THERE), source) is None


@pytest.mark.parametrize(
    ("sender", "source", "to_node", "to_client"),
    [
        pytest.param(CLIENT_TOO, FROM_CLIENT, True, True, id="a client's paths are for all"),
        pytest.param(NODE, FROM_NODE, False, True, id="another's are for clients"),
        pytest.param(TOR, FROM_TOR, False, False, id="an external neighbour's are for nobody"),
    ],
)
def test_a_reflector_tells_internal_neighbours(
    sender: PeerConfig, source: PeerInfo, to_node: bool, to_client: bool
) -> None:
    path = Path(sender.address, LEARNED, THERE)
    assert (export(REFLECTOR, NODE, path, source) is not None) == to_node
    assert (export(REFLECTOR, CLIENT, path, source) is not None) == to_client
    assert export(REFLECTOR, TOR, path, source) is None


def test_a_reflected_path_says_where_it_began_and_which_clusters_it_crossed() -> None:
    path = Path(CLIENT_TOO.address, LEARNED, NextHop(THERE.address))
    expected = replace(LEARNED, originator_id=0x0A000002, cluster_list=(42,))
    assert export(REFLECTOR, NODE, path, FROM_CLIENT) == Exported(expected, THERE)
    again = Path(CLIENT_TOO.address, replace(LEARNED, originator_id=5, cluster_list=(7,)), THERE)
    expected = replace(LEARNED, originator_id=5, cluster_list=(42, 7))
    assert export(REFLECTOR, NODE, again, FROM_CLIENT) == Exported(expected, THERE)


def test_a_reflected_next_hop_stays_and_loses_what_is_of_its_link_only() -> None:
    peer = replace(CLIENT, next_hop_self=True)
    next_hop = NextHop(HERE6[:-1] + b"\1", bytes.fromhex("fe80" + "00" * 13 + "01"))
    exported = export(REFLECTOR, peer, Path(NODE.address, LEARNED, next_hop), FROM_NODE)
    assert exported is not None
    assert exported.next_hop == NextHop(HERE6[:-1] + b"\1")


def test_a_reflected_path_without_local_preference_gets_the_usual_one() -> None:
    exported = export(REFLECTOR, CLIENT, Path(NODE.address, Attributes(), THERE), FROM_NODE)
    assert exported is not None
    assert exported.attributes.local_pref == 100


def test_a_peer_that_is_configured_no_more_counts_as_no_client() -> None:
    assert export(REFLECTOR, NODE, Path("10.0.0.77", LEARNED, THERE), FROM_CLIENT) is None
    assert export(REFLECTOR, CLIENT, Path("10.0.0.77", LEARNED, THERE), FROM_CLIENT) is not None


def test_no_advertise_keeps_a_learned_path_from_clients_too() -> None:
    path = Path(NODE.address, replace(LEARNED, communities=(NO_ADVERTISE,)), THERE)
    assert export(REFLECTOR, CLIENT, path, FROM_NODE) is None
    path = Path(NODE.address, replace(LEARNED, communities=(NO_EXPORT,)), THERE)
    assert export(REFLECTOR, CLIENT, path, FROM_NODE) is not None


# -- AS paths ----------------------------------------------------------------------------------------------------------


def test_an_as_is_prepended_to_the_sequence_in_front() -> None:
    assert prepend(sequence(2, 3), 1, 1) == sequence(1, 2, 3)
    assert prepend((), 1, 3) == sequence(1, 1, 1)
    assert prepend(sequence(2), 1, 0) == sequence(2)


def test_an_as_is_not_prepended_into_a_set() -> None:
    union = Segment(SegmentType.AS_SET, (2, 3))
    assert prepend((union,), 1, 1) == (*sequence(1), union)


def test_a_full_segment_gets_another_in_front() -> None:
    full = tuple(range(1, 256))
    assert prepend(sequence(*full), 9, 1) == (*sequence(9), *sequence(*full))
    assert prepend(sequence(*full[:254]), 9, 1) == sequence(9, *full[:254])


def test_an_as_prepended_255_times_fits_before_ours() -> None:
    found = prepend(prepend((), 64512, 1), 65100, 255)
    assert found == (*sequence(65100), *sequence(*[65100] * 254, 64512))
    assert sum(len(segment.asns) for segment in prepend(found, 7, 600)) == 856
    assert [len(segment.asns) for segment in prepend(found, 7, 600)] == [91, 255, 255, 255]
