"""Speakers that talk to each other over real TCP: what a change of the configuration does, and what it does not."""

from dataclasses import replace

from harness.loopback import ASN, Node, World, address, config, free_port, outside, peer, peers, pods, until, world

from kube_router.plugins.routing.bgp.model import Family, Kind, Segment, SegmentType, prefix_of

VIP = "10.96.0.10/32"
OWN = {prefix_of(pods(1)): Kind.POD, prefix_of(VIP): Kind.SERVICE}
MINE = {prefix_of(pods(2)): Kind.POD}


async def two(world: World) -> tuple[Node, Node]:
    """Return two nodes of a mesh that have told each other all."""
    one, two = world.node(config(1, 2)), world.node(config(2, 1))
    await until(lambda: one.routes and two.routes and one.settled_at and two.settled_at, "a mesh of two")
    return one, two


async def node_and_router(world: World, **changes: object) -> tuple[Node, Node]:
    """Return a node with a service, and a router outside the cluster that has heard of it."""
    node = world.node(config(1, outside(1, 2, **changes), originated=OWN))
    router = world.node(config(2, outside(2, 1, asn=ASN), asn=ASN + 2))
    await until(lambda: len(router.routes) == 2 and node.routes, "a router that knows the node")
    return node, router


async def test_two_nodes_learn_each_others_pods_and_settle() -> None:
    async with world() as w:
        one, two_ = await two(w)
        assert one.routes == {"10.244.2.0/24": ["10.0.0.2"]}
        assert two_.routes == {"10.244.1.0/24": ["10.0.0.1"]}
        assert one.sessions == [(address(2), ASN, True, "")]
        assert one.speaker.settled
        assert one.speaker.awaited == {}
        assert one.of(2).told == 1


async def test_what_a_node_originates_anew_is_told_and_what_no_more_is_withdrawn() -> None:
    async with world() as w:
        one, two_ = await two(w)
        more = prefix_of("10.244.9.0/24")
        one.become(originated={prefix_of(pods(1)): Kind.POD, more: Kind.POD})
        await until(lambda: set(two_.routes) == {"10.244.1.0/24", "10.244.9.0/24"}, "the second prefix")
        one.become(originated={more: Kind.POD})
        await until(lambda: set(two_.routes) == {"10.244.9.0/24"}, "a withdrawal")
        assert one.ups_and_downs(2) == [True]


async def test_a_new_next_hop_is_told_in_the_session_there_is() -> None:
    async with world() as w:
        one, two_ = await two(w)
        one.become(next_hops=dict.fromkeys(one.config.next_hops, b"\n\x00\x00c"))
        await until(lambda: two_.routes == {"10.244.1.0/24": ["10.0.0.99"]}, "the new next hop")
        assert one.ups_and_downs(2) == [True]


async def test_an_equal_configuration_changes_nothing() -> None:
    async with world() as w:
        one, two_ = await two(w)
        sent = one.of(2).peer.counters.updates_sent
        one.become(originated=dict(one.config.originated), peers=dict(one.config.peers))
        one.become(peers=peers(peer(1, 2)), deferral_s=31.0)
        two_.become(originated={**two_.config.originated, prefix_of("10.244.9.0/24"): Kind.POD})
        await until(lambda: len(one.routes) == 2, "what the other says later")
        assert one.of(2).peer.counters.updates_sent == sent
        assert one.ups_and_downs(2) == [True]


async def test_a_neighbour_that_is_removed_is_told_so_and_its_routes_go_while_others_stay() -> None:
    async with world() as w:
        one, two_, three = (w.node(config(i, *{1, 2, 3} - {i})) for i in (1, 2, 3))
        await until(lambda: len(one.routes) == len(two_.routes) == len(three.routes) == 2, "a mesh of three")
        one.become(peers=peers(peer(1, 3)))
        await until(lambda: one.routes == {"10.244.3.0/24": ["10.0.0.3"]} and not two_.is_up(1), "the removal")
        assert two_.last_words(1) == "it ended the session: cease: hard reset: cease: peer de-configured"
        assert address(2) not in one.speaker.neighbours
        assert one.ups_and_downs(3) == [True]
        one.become(peers=peers(peer(1, 3), peer(1, 2)))
        await until(lambda: len(one.routes) == 2 and len(two_.routes) == 2, "the neighbour again")
        assert one.ups_and_downs(3) == [True]


async def test_a_neighbour_whose_session_must_be_another_is_reset_and_no_other() -> None:
    async with world() as w:
        one, two_, three = (w.node(config(i, *{1, 2, 3} - {i})) for i in (1, 2, 3))
        await until(lambda: len(one.routes) == len(two_.routes) == len(three.routes) == 2, "a mesh of three")
        one.change(2, hold_time_s=30)
        await until(lambda: one.ups_and_downs(2) == [True, False, True] and len(one.routes) == 2, "a new session")
        await until(lambda: len(two_.routes) == 2, "the other's routes")
        negotiated = one.of(2).peer.negotiated
        assert negotiated is not None
        assert negotiated.hold_time_s == 30
        assert one.ups_and_downs(3) == [True]


async def test_another_router_id_resets_every_session() -> None:
    async with world() as w:
        one, two_ = await two(w)
        one.become(router_id=0x0A000063)
        await until(lambda: one.ups_and_downs(2) == [True, False, True] and two_.routes, "a new session")
        negotiated = two_.of(1).peer.negotiated
        assert negotiated is not None
        assert negotiated.router_id == 0x0A000063


async def test_a_router_outside_is_told_of_services_and_pods_with_the_nodes_as() -> None:
    async with world() as w:
        node, router = await node_and_router(w)
        assert router.routes == {"10.244.1.0/24": ["10.0.0.1"], VIP: ["10.0.0.1"]}
        assert router.best[VIP].as_path == (Segment(SegmentType.AS_SEQUENCE, (ASN,)),)
        assert node.routes == {"10.244.2.0/24": ["10.0.0.2"]}


async def test_new_communities_and_a_longer_path_are_told_without_a_new_session() -> None:
    async with world() as w:
        node, router = await node_and_router(w)
        node.change(2, communities=(0xFC000064,), prepend_asn=ASN, prepend_count=2)
        await until(lambda: router.best[VIP].communities == (0xFC000064,), "the community")
        assert router.best[VIP].as_path == (Segment(SegmentType.AS_SEQUENCE, (ASN, ASN, ASN)),)
        node.change(2, communities=(), prepend_asn=0, prepend_count=0)
        await until(lambda: router.best[VIP].communities == (), "no community")
        assert router.best[VIP].as_path == (Segment(SegmentType.AS_SEQUENCE, (ASN,)),)
        assert set(router.routes) == {"10.244.1.0/24", VIP}
        assert router.ups_and_downs(1) == [True]


async def test_pods_are_withdrawn_from_outside_and_told_again_as_the_option_goes() -> None:
    async with world() as w:
        node, router = await node_and_router(w)
        node.become(advertise_pods_externally=False)
        await until(lambda: set(router.routes) == {VIP}, "a withdrawal")
        node.become(advertise_pods_externally=True)
        await until(lambda: set(router.routes) == {"10.244.1.0/24", VIP}, "the pods again")
        assert router.ups_and_downs(1) == [True]


async def test_pods_that_are_no_longer_told_outside_go_even_as_the_communities_change() -> None:
    async with world() as w:
        node, router = await node_and_router(w)
        node.become(
            advertise_pods_externally=False,
            peers=peers(replace(node.config.peers[address(2)], communities=(0xFC000064,))),
        )
        await until(lambda: set(router.routes) == {VIP}, "a withdrawal")
        await until(lambda: router.best[VIP].communities == (0xFC000064,), "the community")
        assert router.ups_and_downs(1) == [True]


async def test_what_is_refused_goes_at_once_and_comes_back_without_being_asked_for() -> None:
    async with world() as w:
        one, _ = await two(w)
        one.become(rejected=(prefix_of("10.244.0.0/16"),))
        assert one.routes == {}
        one.become(rejected=())
        assert one.routes == {"10.244.2.0/24": ["10.0.0.2"]}
        assert one.ups_and_downs(2) == [True]


async def test_an_end_withdraws_nothing_and_what_is_learned_again_after_it_was_never_gone() -> None:
    async with world() as w:
        one, two_ = await two(w)
        one.stop()
        await until(lambda: not two_.is_up(1), "the end")
        assert not one.speaker.settled
        assert one.speaker.neighbours == {}
        one.start()
        await until(lambda: one.speaker.settled and len(one.speaker.rib) == 2, "the routes again")
        assert one.routes == {"10.244.2.0/24": ["10.0.0.2"]}
        assert pods(2) not in one.withdrawn


async def test_another_port_is_listened_on_at_once_and_sessions_stay() -> None:
    async with world() as w:
        one, two_ = await two(w)
        port = free_port()
        one.become(port=port)
        three = w.node(config(3, peer(3, 1, port=port)))
        one.become(peers={**one.config.peers, **peers(peer(1, 3, passive=True))})
        await until(lambda: len(one.routes) == 2 and three.routes, "a session on the other port")
        assert one.ups_and_downs(2) == [True]
        assert two_.ups_and_downs(1) == [True]


async def test_both_families_are_told_over_one_session_each_with_its_own_next_hop() -> None:
    async with world() as w:
        nodes = [
            w.node(
                config(
                    i,
                    peer(i, 3 - i, families=tuple(Family)),
                    originated={prefix_of(pods(i)): Kind.POD, prefix_of(f"fd00:{i}::/64"): Kind.POD},
                    next_hops={
                        Family.IPV4: bytes((10, 0, 0, i)),
                        Family.IPV6: bytes.fromhex("fd00") + bytes(13) + bytes((i,)),
                    },
                )
            )
            for i in (1, 2)
        ]
        await until(lambda: all(len(node.routes) == 2 for node in nodes), "both families")
        assert nodes[0].routes == {"10.244.2.0/24": ["10.0.0.2"], "fd00:2::/64": ["fd00::2"]}
        await until(lambda: all(node.speaker.settled for node in nodes), "both End-of-RIBs")


async def test_a_node_without_an_ipv4_address_has_ipv4_pods_reached_over_ipv6() -> None:
    async with world() as w:
        six = {Family.IPV6: bytes.fromhex("fd00") + bytes(14)}
        nodes = [w.node(config(i, peer(i, 3 - i, families=tuple(Family)), next_hops=six)) for i in (1, 2)]
        nodes[0].become(next_hops={Family.IPV6: bytes.fromhex("fd00") + bytes(13) + b"\x01"})
        await until(lambda: nodes[1].routes == {"10.244.1.0/24": ["fd00::1"]}, "RFC 8950's next hop")


async def test_another_as_of_this_node_makes_it_another_speaker() -> None:
    async with world() as w:
        node, router = await node_and_router(w)
        node.become(asn=64999)
        router.change(1, asn=64999)
        await until(lambda: len(router.routes) == 2 and node.routes, "the routes of another AS")
        assert router.best[VIP].as_path == (Segment(SegmentType.AS_SEQUENCE, (64999,)),)


async def test_our_next_hop_stands_in_what_we_tell_where_it_is_asked_for() -> None:
    async with world() as w:
        node, router = await node_and_router(w, next_hop_self=False)
        assert router.routes[VIP] == ["10.0.0.1"]
        node.change(2, next_hop_self=True)
        node.become(next_hops=dict.fromkeys(node.config.next_hops, b"\x0a\x00\x00\x63"))
        await until(lambda: router.routes[VIP] == ["10.0.0.99"], "the next hop of now")
        assert router.ups_and_downs(1) == [True]
