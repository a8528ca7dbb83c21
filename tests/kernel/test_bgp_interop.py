"""Our BGP speaker with BIRD, FRR and GoBGP: what is told both ways, and packets along the routes that come of it."""

from ipaddress import ip_address

import pytest
from harness.bgpd import Announcement, Bgpd, Neighbour
from harness.bird import Bird
from harness.frr import Frr
from harness.gobgp import Gobgp
from harness.interop import BOTH, OURS, V4, V6, config_of, link_address, pair, place, prefix, settings_of
from harness.plugin import need
from harness.speaking import peer, router_id

from kube_router.plugins.routing.bgp.model import AS_TRANS, BfdConfig, Family, Kind, prefix_of
from kube_router.plugins.routing.bgp.wire import route_refresh

pytestmark = [pytest.mark.root, pytest.mark.slow]

KINDS: dict[str, type[Bgpd]] = {"bird": Bird, "frr": Frr, "gobgp": Gobgp}
NAMES = tuple(KINDS)


@pytest.fixture
def kind(name: str) -> type[Bgpd]:
    found = KINDS[name]
    need(found.why_none())
    return found


every = pytest.mark.parametrize("name", NAMES)


@every
@pytest.mark.parametrize("families", [(V4,), (V6,), BOTH], ids=["ipv4", "ipv6", "dual"])
@pytest.mark.parametrize("their_asn", [64512, 65002], ids=["internal", "external"])
def test_routes_go_both_ways_and_packets_follow(kind: type[Bgpd], families: tuple[Family, ...], their_asn: int) -> None:
    transport = V6 if families == (V6,) else V4
    with pair(kind, families=families, their_asn=their_asn, transport=transport) as here:
        ours, theirs = here.ours[1], here.theirs[2]
        for family in families:
            path = ours.wait_route(prefix(2, family))
            assert ip_address(path.next_hop.address) == ip_address(link_address(2, family))
            seen = theirs.wait_route(prefix(1, family))
            assert (seen.next_hop, seen.as_path) == (
                link_address(1, family),
                () if their_asn == 64512 else (64512,),
            )
        here.wait_talk(1, 2, families)
        gone = prefix(2, families[0])
        theirs.withdraw(gone)
        ours.wait_no_route(gone)


@every
def test_a_password_is_asked_for_and_given(kind: type[Bgpd]) -> None:
    with pair(kind, ours={"password": "secret"}, theirs={"password": "secret"}) as here:
        here.wait_talk(1, 2)


@every
def test_without_the_right_password_there_is_no_session(kind: type[Bgpd]) -> None:
    with pair(kind, ours={"password": "secret"}, theirs={"password": "other"}) as here:
        ours = here.ours[1]
        ours.wait(lambda: ours.neighbour(link_address(2)).peer.last_error, "words on why there is no session")
        assert not ours.is_established(link_address(2))
        assert not ours.sessions


@every
def test_a_neighbour_of_another_as_is_refused_and_both_are_named(kind: type[Bgpd]) -> None:
    with pair(kind, settings={"asn": 65003}) as here:
        ours = here.ours[1]
        ours.wait(lambda: ours.neighbour(link_address(2)).peer.last_error, "words on why there is no session")
        ours.wait(lambda: "AS" in ours.neighbour(link_address(2)).peer.last_error, "words on its AS")
        assert not ours.sessions
        assert not ours.paths(prefix(2))


@every
def test_a_neighbour_that_falls_silent_is_given_up_after_the_smaller_hold_time(kind: type[Bgpd]) -> None:
    with pair(kind, theirs={"hold_time_s": 3, "graceful_restart": False}) as here:
        ours, theirs = here.ours[1], here.theirs[2]
        ours.wait_route(prefix(2))
        negotiated = ours.neighbour(link_address(2)).peer.negotiated
        assert negotiated is not None
        assert negotiated.hold_time_s == 3
        theirs.freeze()
        try:
            ours.wait_no_route(prefix(2), timeout_s=6)
        finally:
            theirs.freeze(thaw=True)
        assert ours.sessions[-1] == (link_address(2), False, "nothing was heard from it for the whole hold time")


@every
def test_a_neighbour_some_hops_away_is_reached_by_multihop(kind: type[Bgpd]) -> None:
    theirs = {"multihop": 5}
    if kind is Bird:
        theirs["local_address"] = link_address(2, link=1)  # type: ignore[assignment]
    with pair(kind, ours={"ttl": 5}, theirs=theirs, far=True) as here:
        here.network.route_back(prefix(1), link_address(1))
        here.network.route_back(prefix(2), link_address(2, link=1))
        here.ours[1].wait_route(prefix(2))
        here.theirs[2].wait_route(prefix(1))
        here.wait_talk(1, 2, (V4,))


@every
def test_ttl_security_lets_in_only_what_comes_from_the_link(kind: type[Bgpd]) -> None:
    with pair(kind, ours={"ttl_security": True}, theirs={"ttl_security": True}) as here:
        here.wait_talk(1, 2)


@every
def test_we_keep_the_routes_of_a_neighbour_that_restarts_gracefully(kind: type[Bgpd]) -> None:
    with pair(kind, ours={"graceful_restart_s": 20}) as here:
        ours, theirs = here.ours[1], here.theirs[2]
        here.wait_talk(1, 2)
        # zebra removes an IPv6 route for a moment when bgpd tells it again.
        with here.probed(1, 2, (V4,) if kind is Frr else BOTH):
            theirs.stop_gracefully()
            ours.wait_lost(link_address(2))
            assert ours.next_hops(prefix(2)) == (link_address(2),)
            assert all(path.stale for path in ours.paths(prefix(2)))
            theirs.up(restarted=True)
            ours.wait_established()
            ours.wait(lambda: not any(path.stale for path in ours.paths(prefix(2))), "the routes told again")
        here.wait_talk(1, 2)


@every
def test_the_routes_of_a_neighbour_that_does_not_come_back_go_after_its_restart_time(kind: type[Bgpd]) -> None:
    with pair(kind, ours={"graceful_restart_s": 20}, settings={"restart_time_s": 3}) as here:
        ours, theirs = here.ours[1], here.theirs[2]
        ours.wait_route(prefix(2))
        theirs.kill()
        ours.wait_lost(link_address(2))
        assert ours.next_hops(prefix(2)) == (link_address(2),)
        ours.wait_no_route(prefix(2))


@every
def test_our_routes_are_kept_while_we_restart_gracefully(kind: type[Bgpd]) -> None:
    with pair(kind, ours={"graceful_restart_s": 20}) as here:
        ours, theirs = here.ours[1], here.theirs[2]
        here.wait_talk(1, 2)
        with here.probed(1, 2):
            ours.stop()
            theirs.wait_lost(link_address(1))
            assert theirs.wait_route(prefix(1)).next_hop == link_address(1)
            ours.start()
            ours.wait_established()
            ours.wait(lambda: ours.settled, "the end of our restart")
            theirs.wait_established()
        here.wait_talk(1, 2)
        assert not any(seen.stale for seen in theirs.routes(prefix(1)))


@every
def test_without_graceful_restart_the_routes_of_a_killed_neighbour_go_at_once(kind: type[Bgpd]) -> None:
    with pair(kind, theirs={"graceful_restart": False}) as here:
        ours, theirs = here.ours[1], here.theirs[2]
        ours.wait_route(prefix(2))
        theirs.kill()
        ours.wait_no_route(prefix(2))


@every
def test_communities_and_prepended_paths_arrive_there(kind: type[Bgpd]) -> None:
    ours = {
        "communities": (65000 << 16 | 1, 65000 << 16 | 2),
        "large_communities": ((65000, 1, 2),),
        "prepend_asn": 64999,
        "prepend_count": 2,
    }
    with pair(kind, ours=ours) as here:
        for family in BOTH:
            seen = here.theirs[2].wait_route(prefix(1, family))
            assert set(seen.communities) == {"65000:1", "65000:2"}
            assert seen.large_communities == ("65000:1:2",)
            assert sorted(seen.as_path) == [64512, 64999, 64999]
        here.wait_talk(1, 2)


@every
def test_communities_med_and_prepended_paths_arrive_here(kind: type[Bgpd]) -> None:
    told = Announcement(
        prefix=prefix(2), communities=("65000:1", "65000:2"), large_communities=("65000:1:2",), med=7, prepend=2
    )
    with pair(kind, settings={"announcements": (told, Announcement(prefix=prefix(2, V6)))}) as here:
        path = here.ours[1].wait_route(prefix(2))
        assert path.attributes.communities == (65000 << 16 | 1, 65000 << 16 | 2)
        assert path.attributes.large_communities == ((65000, 1, 2),)
        assert path.attributes.med == 7
        assert [asn for segment in path.attributes.as_path for asn in segment.asns] == [65002, 65002, 65002]
        here.wait_talk(1, 2)


@every
def test_as_numbers_of_four_octets_are_told_and_taken(kind: type[Bgpd]) -> None:
    with pair(kind, our_asn=4_200_000_001, their_asn=4_200_000_002) as here:
        path = here.ours[1].wait_route(prefix(2))
        assert [segment.asns for segment in path.attributes.as_path] == [(4_200_000_002,)]
        assert here.theirs[2].wait_route(prefix(1)).as_path == (4_200_000_001,)
        here.wait_talk(1, 2)


@pytest.mark.parametrize("name", ["bird", "frr"])
def test_a_session_of_two_octets_has_larger_as_numbers_in_as4_path(kind: type[Bgpd]) -> None:
    ours = {"prepend_asn": 4_200_000_001, "prepend_count": 2}
    with pair(kind, families=(V4,), ours=ours, theirs={"four_octet_as": False}) as here:
        path = here.ours[1].wait_route(prefix(2))
        assert [segment.asns for segment in path.attributes.as_path] == [(65002,)]
        # BIRD puts both paths together again, FRR shows what it was told in two octets.
        beyond = AS_TRANS if kind is Frr else 4_200_000_001
        assert sorted(here.theirs[2].wait_route(prefix(1)).as_path) == sorted([beyond, beyond, 64512])
        here.wait_talk(1, 2, (V4,))


@every
def test_thousands_of_routes_go_both_ways_in_messages_as_large_as_agreed(kind: type[Bgpd]) -> None:
    theirs_too = tuple(f"10.{180 + number // 250}.{number % 250}.0/24" for number in range(1500))
    ours_too = {prefix_of(f"10.{200 + number // 250}.{number % 250}.0/24"): Kind.POD for number in range(1500)}
    if kind is Gobgp:
        theirs_too = theirs_too[:20]  # it is told of each by a program of its own
    config = {"originated": {**ours_too, prefix_of(prefix(1)): Kind.POD}}
    settings = {"announcements": tuple(Announcement(prefix=each) for each in (prefix(2), *theirs_too))}
    with pair(kind, config=config, settings=settings) as here:
        ours, theirs = here.ours[1], here.theirs[2]
        ours.wait_established()
        negotiated = ours.neighbour(link_address(2)).peer.negotiated
        assert negotiated is not None
        assert negotiated.message_max == (4096 if kind is Gobgp else 65535)
        ours.wait_route(theirs_too[-1])
        ours.wait(lambda: len(ours.taken_from(link_address(2))) == 1 + len(theirs_too), "all of its routes")
        sent = ours.neighbour(link_address(2)).peer.counters.updates_sent
        assert sent < 20  # 1501 prefixes in few messages, of whatever size
        theirs.wait_route("10.205.249.0/24")
        assert len(theirs.prefixes(link_address(1))) == 1501
        here.wait_talk(1, 2, (V4,))


@every
def test_both_ask_each_other_for_all_routes_again_without_a_new_session(kind: type[Bgpd]) -> None:
    with pair(kind) as here:
        ours, theirs = here.ours[1], here.theirs[2]
        here.wait_talk(1, 2)
        counters = ours.neighbour(link_address(2)).peer.counters
        negotiated = ours.neighbour(link_address(2)).peer.negotiated
        assert negotiated is not None
        assert negotiated.route_refresh
        assert negotiated.enhanced_refresh == (kind is not Gobgp)
        sent, received = counters.updates_sent, counters.updates_received
        if kind is not Gobgp:
            theirs.refresh(link_address(1))
            ours.wait(lambda: counters.updates_sent > sent, "routes that are sent again")
        ours.ask(lambda speaker: speaker.neighbours[link_address(2)].send([route_refresh(V4)]))
        ours.wait(lambda: counters.updates_received > received, "routes that are told again")
        here.wait_talk(1, 2)
        assert [up for _, up, _ in ours.sessions] == [True]


@pytest.mark.parametrize("name", ["bird", "frr", "gobgp"])
def test_ipv4_goes_over_ipv6_next_hops_where_a_node_has_nothing_else(kind: type[Bgpd]) -> None:
    next_hops = {V6: ip_address(link_address(1, V6)).packed}
    theirs = {"extended_next_hop": True}
    with pair(kind, transport=V6, theirs=theirs, config={"next_hops": next_hops}) as here:
        path = here.ours[1].wait_route(prefix(2))
        assert len(path.next_hop.address) == 16
        assert here.ours[1].next_hops(prefix(2)) == (link_address(2, V6),)
        assert here.theirs[2].wait_route(prefix(1)).next_hop == link_address(1, V6)
        here.wait_talk(1, 2)


@pytest.mark.parametrize("name", ["bird", "frr"])
def test_bfd_notices_a_neighbour_that_is_silent_long_before_the_hold_time(kind: type[Bgpd]) -> None:
    bfd = BfdConfig(desired_min_tx_ms=300, required_min_rx_ms=300)
    with pair(kind, ours={"bfd": bfd}, theirs={"bfd_ms": 300}) as here:
        ours, theirs = here.ours[1], here.theirs[2]
        ours.wait_route(prefix(2))
        ours.wait(lambda: ours.bfd_is_up(link_address(2)), "BFD with it")
        theirs.freeze()
        try:
            ours.wait_no_route(prefix(2), timeout_s=5)
        finally:
            theirs.freeze(thaw=True)
        assert "BFD" in ours.neighbour(link_address(2)).peer.last_error
        ours.wait_established()
        here.wait_talk(1, 2)


@every
def test_several_paths_to_a_prefix_are_taken_and_shared_among(kind: type[Bgpd]) -> None:
    """The daemon reflects what two of our speakers announce; it tells a third all paths that it has."""
    shared = prefix(9)
    sources = {
        number: config_of(number, peer(link_address(2), OURS, OURS), originated={prefix_of(shared): Kind.POD})
        for number in (3, 4)
    }
    clients = [
        Neighbour(address=link_address(number), asn=OURS, families=BOTH, reflector_client=True, add_path=number == 1)
        for number in (1, 3, 4)
    ]
    taker = config_of(1, peer(link_address(2), OURS, OURS, families=BOTH))
    reflector = settings_of(2, *clients, asn=OURS)
    with place({1: taker, 2: (kind, reflector), **sources}) as here:
        ours = here.ours[1]
        ours.wait(lambda: len(ours.paths(shared)) == 2, f"two paths to {shared}")
        assert len({path.path_id for path in ours.paths(shared)}) == 2
        ours.wait(lambda: ours.next_hops(shared) == (link_address(3), link_address(4)), "both next hops")
        here.ours[4].stop()
        ours.wait(lambda: ours.next_hops(shared) == (link_address(3),), "one next hop less")


@every
def test_it_reflects_what_our_nodes_tell_it(kind: type[Bgpd]) -> None:
    nodes = {number: config_of(number, peer(link_address(2), OURS, OURS, families=BOTH)) for number in (1, 3)}
    clients = [
        Neighbour(address=link_address(number), asn=OURS, families=BOTH, reflector_client=True) for number in (1, 3)
    ]
    reflector = settings_of(2, *clients, asn=OURS, cluster_id="10.66.0.99")
    with place({**nodes, 2: (kind, reflector)}) as here:
        for family in BOTH:
            path = here.ours[1].wait_route(prefix(3, family))
            assert ip_address(path.next_hop.address) == ip_address(link_address(3, family))
            assert path.attributes.originator_id == router_id(link_address(3))
            assert path.attributes.cluster_list == (router_id("10.66.0.99"),)
        here.wait_talk(1, 3)
        here.ours[3].stop()
        here.ours[1].wait_no_route(prefix(3))


@every
def test_we_reflect_what_it_tells_us_to_others_of_its_kind(kind: type[Bgpd]) -> None:
    clients = [peer(link_address(n), OURS, OURS, families=BOTH, reflector_client=True) for n in (2, 3)]
    reflector = config_of(1, *clients, cluster_id=router_id("10.66.0.99"))
    server = Neighbour(address=link_address(1), asn=OURS, families=BOTH)
    others = {number: (kind, settings_of(number, server, asn=OURS)) for number in (2, 3)}
    with place({1: reflector, **others}) as here:
        for family in BOTH:
            seen = here.theirs[2].wait_route(prefix(3, family))
            assert seen.next_hop == link_address(3, family)
            assert seen.originator_id == "10.66.0.3"
            assert seen.cluster_list == ("10.66.0.99",)
        here.wait_talk(2, 3)
        here.theirs[3].withdraw(prefix(3))
        here.theirs[2].wait_no_route(prefix(3))
