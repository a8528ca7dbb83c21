"""Update groups: what each member is told, in how many messages, and what it is spared."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from bgp_neighbours import Hearer

from kube_router.plugins.routing.bgp.adjout import Group, key
from kube_router.plugins.routing.bgp.best import PeerInfo, Selection
from kube_router.plugins.routing.bgp.model import (
    Attributes,
    Family,
    Kind,
    Negotiated,
    NextHop,
    Path,
    PeerConfig,
    Prefix,
    SpeakerConfig,
    prefix_of,
)
from kube_router.plugins.routing.bgp.policy import Exported

BOTH = frozenset(Family)
HERE = NextHop(bytes([10, 0, 0, 9]))
HERE6 = NextHop(bytes.fromhex("fd66" + "00" * 13 + "09"))
INTERNAL = Negotiated(asn=64512, router_id=1, internal=True, hold_time_s=90, families=BOTH)
EXTERNAL = Negotiated(asn=65001, router_id=2, internal=False, hold_time_s=90, families=BOTH)
NODE = PeerConfig(address="10.0.0.1", asn=64512, internal=True, mesh=True)
A = PeerConfig(address="10.0.0.2", asn=64512, internal=True, mesh=True, reflector_client=True)
B = PeerConfig(address="10.0.0.3", asn=64512, internal=True, mesh=True, reflector_client=True)
TOR = PeerConfig(address="192.0.2.1", asn=65001, internal=False)
CONFIG = SpeakerConfig(asn=64512, router_id=9, peers={peer.address: peer for peer in (NODE, A, B, TOR)})
REFLECTOR = replace(CONFIG, cluster_id=42)
INFOS = {
    A.address: PeerInfo(64512, 2, bytes([10, 0, 0, 2]), internal=True),
    B.address: PeerInfo(64512, 3, bytes([10, 0, 0, 3]), internal=True),
}
PODS, MORE_PODS, PODS6 = prefix_of("10.244.1.0/24"), prefix_of("10.244.2.0/24"), prefix_of("fd00:1::/64")


def own(next_hop: NextHop = HERE, kind: Kind = Kind.POD, **given: int) -> Selection:
    path = Path("", Attributes(med=given.get("med")), next_hop, weight=32768, kind=kind)
    return Selection(path, (path,), "originated here")


def learned(peer: PeerConfig, **given: int) -> Selection:
    info = INFOS[peer.address]
    path = Path(peer.address, Attributes(local_pref=100, med=given.get("med")), NextHop(info.address))
    return Selection(path, (path,), "only path", info)


def group(config: SpeakerConfig = CONFIG, peer: PeerConfig = NODE, negotiated: Negotiated = INTERNAL) -> Group:
    found = Group(config, peer, negotiated)
    found.members.add(peer.address)
    return found


def test_what_changes_is_told_and_what_ends_is_withdrawn() -> None:
    told, hearer = group(), Hearer(INTERNAL)
    assert hearer.hear(told.changed({PODS: own(), MORE_PODS: own()}).of(NODE.address)) == 1
    assert hearer.routes == {prefix: (Attributes(local_pref=100), HERE) for prefix in (PODS, MORE_PODS)}
    assert hearer.hear(told.changed({PODS: None}).of(NODE.address)) == 1
    assert hearer.routes == {MORE_PODS: (Attributes(local_pref=100), HERE)}


def test_nothing_is_said_twice() -> None:
    told = group()
    told.changed({PODS: own()})
    assert told.changed({PODS: own()}).of(NODE.address) == []
    assert told.changed({MORE_PODS: None}).of(NODE.address) == []
    told.changed({PODS: None})
    assert told.changed({PODS: None}).of(NODE.address) == []


def test_what_was_never_announced_is_not_withdrawn() -> None:
    told = group()
    assert told.changed({PODS: own(kind=Kind.SERVICE)}).of(NODE.address) == []
    assert told.changed({PODS: None}).of(NODE.address) == []


def test_a_path_that_is_told_no_more_is_withdrawn() -> None:
    told, hearer = group(), Hearer(INTERNAL)
    hearer.hear(told.changed({PODS: own()}).of(NODE.address))
    hearer.hear(told.changed({PODS: own(kind=Kind.SERVICE)}).of(NODE.address))
    assert hearer.routes == {}


def test_prefixes_with_the_same_attributes_share_a_message() -> None:
    told, hearer = group(), Hearer(INTERNAL)
    prefixes = [Prefix(bytes([10, 1, number, 0]), 24) for number in range(250)]
    changes: dict[Prefix, Selection | None] = {prefix: own(med=number % 2) for number, prefix in enumerate(prefixes)}
    assert hearer.hear(told.changed(changes).of(NODE.address)) == 2
    assert len(hearer.routes) == 250
    assert hearer.hear(told.changed(dict.fromkeys(prefixes)).of(NODE.address)) == 1
    assert hearer.routes == {}


def test_both_families_travel_apart() -> None:
    told, hearer = group(), Hearer(INTERNAL)
    assert hearer.hear(told.changed({PODS: own(), PODS6: own(HERE6)}).of(NODE.address)) == 2
    assert hearer.routes == {PODS: (Attributes(local_pref=100), HERE), PODS6: (Attributes(local_pref=100), HERE6)}
    hearer.hear(told.changed({PODS: None, PODS6: None}).of(NODE.address))
    assert hearer.routes == {}


def test_a_family_nobody_agreed_on_is_not_told() -> None:
    only6 = replace(INTERNAL, families=frozenset({Family.IPV6}))
    told = group(negotiated=only6)
    assert told.changed({PODS: own()}).of(NODE.address) == []
    assert [prefix for prefix, _ in told.announced(NODE.address)] == []


def test_a_next_hop_the_session_cannot_carry_is_not_told() -> None:
    told = group()
    assert told.changed({PODS: own(HERE6)}).of(NODE.address) == []
    assert told.changed({PODS6: own(HERE)}).of(NODE.address) == []
    agreed = replace(INTERNAL, extended_next_hop=frozenset({Family.IPV4}))
    told, hearer = group(negotiated=agreed), Hearer(agreed)
    hearer.hear(told.changed({PODS: own(HERE6), PODS6: own(HERE)}).of(NODE.address))
    assert hearer.routes == {PODS: (Attributes(local_pref=100), HERE6)}
    hearer.hear(told.changed({PODS: None}).of(NODE.address))
    assert hearer.routes == {}


def test_who_joins_late_gets_the_table_and_its_end() -> None:
    told, early, late = group(), Hearer(INTERNAL), Hearer(INTERNAL)
    early.hear(told.table(NODE.address))
    assert (early.routes, early.ends) == ({}, [Family.IPV4, Family.IPV6])
    early.hear(told.changed({PODS: own(), PODS6: own(HERE6)}).of(NODE.address))
    late.hear(told.table("10.0.0.7"))
    assert late.routes == early.routes
    assert late.ends == [Family.IPV4, Family.IPV6]


def test_a_table_is_encoded_once_for_all_that_join() -> None:
    told = group()
    told.changed({PODS: own(), MORE_PODS: own()})
    one, two = told.table("10.0.0.7"), told.table("10.0.0.8")
    assert one[0] is two[0]
    told.changed({MORE_PODS: None})
    hearer = Hearer(INTERNAL)
    hearer.hear(told.table("10.0.0.7"))
    assert list(hearer.routes) == [PODS]
    told.changed({MORE_PODS: own()})
    hearer = Hearer(INTERNAL)
    hearer.hear(told.table("10.0.0.7"))
    assert list(hearer.routes) == [PODS, MORE_PODS]


def test_a_group_whose_prefixes_are_all_withdrawn_remembers_nothing() -> None:
    told = group()
    told.changed({PODS: own(), MORE_PODS: own(med=1)})
    told.changed({PODS: None, MORE_PODS: None})
    assert (told._told, told._batches) == ({}, {})


def test_members_share_what_is_the_same_for_all() -> None:
    told = group()
    outgoing = told.changed({PODS: own()})
    assert outgoing.of("10.0.0.7") is outgoing.of("10.0.0.8")


def test_an_external_group_gets_its_own_attributes() -> None:
    told, hearer = group(peer=TOR, negotiated=EXTERNAL), Hearer(EXTERNAL)
    hearer.hear(told.changed({PODS: own(kind=Kind.SERVICE)}).of(TOR.address))
    [(attributes, next_hop)] = hearer.routes.values()
    assert [segment.asns for segment in attributes.as_path] == [(64512,)]
    assert (attributes.local_pref, next_hop) == (None, HERE)


# -- Reflection --------------------------------------------------------------------------------------------------------


def reflector() -> tuple[Group, Hearer, Hearer]:
    told = group(REFLECTOR, A)
    told.members.add(B.address)
    return told, Hearer(INTERNAL), Hearer(INTERNAL)


def tell(told: Group, a: Hearer, b: Hearer, changes: Mapping[Prefix, Selection | None]) -> None:
    outgoing = told.changed(changes)
    a.hear(outgoing.of(A.address))
    b.hear(outgoing.of(B.address))


def test_a_client_does_not_get_its_own_path_back() -> None:
    told, a, b = reflector()
    tell(told, a, b, {PODS: learned(A)})
    assert a.routes == {}
    assert b.routes == {
        PODS: (Attributes(local_pref=100, originator_id=2, cluster_list=(42,)), NextHop(bytes([10, 0, 0, 2])))
    }
    tell(told, a, b, {PODS: None})
    assert b.routes == {}


def test_a_client_gets_none_of_its_paths_back_however_they_differ() -> None:
    told, a, b = reflector()
    more = [Prefix(bytes([10, 1, number, 0]), 24) for number in range(4)]
    tell(told, a, b, {more[0]: learned(A, med=1), more[1]: learned(B), more[2]: own(), more[3]: learned(A, med=2)})
    assert sorted(a.routes) == [more[1], more[2]]
    assert sorted(b.routes) == [more[0], more[2], more[3]]
    tell(told, a, b, dict.fromkeys(more))
    assert (a.routes, b.routes) == ({}, {})


def test_a_prefix_whose_best_path_moves_is_withdrawn_from_whom_it_moves_to() -> None:
    told, a, b = reflector()
    tell(told, a, b, {PODS: learned(A), MORE_PODS: own()})
    tell(told, a, b, {PODS: learned(B)})
    assert list(a.routes) == [MORE_PODS, PODS]
    assert list(b.routes) == [MORE_PODS]
    tell(told, a, b, {PODS: own()})
    assert sorted(a.routes) == sorted(b.routes) == [PODS, MORE_PODS]
    tell(told, a, b, {PODS: learned(B)})
    assert sorted(a.routes) == [PODS, MORE_PODS]
    assert sorted(b.routes) == [MORE_PODS]


def test_a_client_that_joins_late_or_asks_again_does_not_get_its_own_paths_either() -> None:
    told, _, _ = reflector()
    told.changed({PODS: learned(A), MORE_PODS: learned(B)})
    for messages in (told.table(A.address), told.refresh(A.address, Family.IPV4, enhanced=False)):
        hearer = Hearer(INTERNAL)
        hearer.hear(messages)
        assert list(hearer.routes) == [MORE_PODS]
    assert [prefix for prefix, _ in told.announced(A.address)] == [MORE_PODS]
    assert [prefix for prefix, _ in told.announced(B.address)] == [PODS]
    assert [prefix for prefix, _ in told.announced(NODE.address)] == [PODS, MORE_PODS]


# -- Refresh, configuration, keys --------------------------------------------------------------------------------------


def test_a_refresh_repeats_the_table_of_one_family() -> None:
    told, hearer = group(), Hearer(INTERNAL)
    told.changed({PODS: own(), PODS6: own(HERE6)})
    hearer.hear(told.refresh(NODE.address, Family.IPV6, enhanced=False))
    assert list(hearer.routes) == [PODS6]
    assert (hearer.ends, hearer.marks) == ([], [])


def test_an_enhanced_refresh_has_a_beginning_and_an_end() -> None:
    told, hearer = group(), Hearer(INTERNAL)
    told.changed({PODS: own()})
    messages = told.refresh(NODE.address, Family.IPV4, enhanced=True)
    hearer.hear(messages)
    assert hearer.marks == [(1, 1), (1, 2)]
    assert list(hearer.routes) == [PODS]
    assert [message[18] for message in messages] == [5, 2, 5]


def test_a_new_configuration_is_told_where_it_makes_a_difference() -> None:
    told, hearer = group(peer=TOR, negotiated=EXTERNAL), Hearer(EXTERNAL)
    selections: dict[Prefix, Selection | None] = {PODS: own(), MORE_PODS: own(kind=Kind.SERVICE)}
    hearer.hear(told.changed(selections).of(TOR.address))
    told.configure(replace(CONFIG, advertise_pods_externally=False))
    assert hearer.hear(told.changed(selections).of(TOR.address)) == 1
    assert list(hearer.routes) == [MORE_PODS]


@pytest.mark.parametrize(
    ("peer", "negotiated", "same"),
    [
        (replace(NODE, address="10.0.0.8", password="x", hold_time_s=9), replace(INTERNAL, router_id=8), True),
        (replace(NODE, reflector_client=True), INTERNAL, False),
        (replace(NODE, next_hop_self=True), INTERNAL, False),
        (replace(NODE, prepend_asn=1), INTERNAL, False),
        (replace(NODE, prepend_count=1), INTERNAL, False),
        (replace(NODE, communities=(1,)), INTERNAL, False),
        (replace(NODE, large_communities=((1, 2, 3),)), INTERNAL, False),
        (replace(NODE, internal=False), INTERNAL, False),
        (NODE, replace(INTERNAL, families=frozenset({Family.IPV4})), False),
        (NODE, replace(INTERNAL, four_octet_as=False), False),
        (NODE, replace(INTERNAL, message_max=65535), False),
        (NODE, replace(INTERNAL, extended_next_hop=frozenset({Family.IPV4})), False),
        (NODE, replace(INTERNAL, enhanced_refresh=True, add_path_receive=BOTH, hold_time_s=3), True),
    ],
)
def test_neighbours_are_of_one_group_if_they_are_told_the_same_bytes(
    peer: PeerConfig, negotiated: Negotiated, same: bool
) -> None:
    assert (key(peer, negotiated) == key(NODE, INTERNAL)) == same


def test_what_is_announced_can_be_shown() -> None:
    told = group()
    told.changed({MORE_PODS: own(), PODS: own()})
    exported = Exported(Attributes(local_pref=100), HERE)
    assert told.announced(NODE.address) == [(PODS, exported), (MORE_PODS, exported)]
