"""A speaker as route reflector, over real TCP: what its clients hear of each other, and what they hear no more."""

from harness.loopback import Node, World, address, config, outside, peer, peers, until, world

from kube_router.plugins.routing.bgp.model import Family, Kind, prefix_of

CLUSTER = 0x01010101
PODS = {i: f"10.244.{i}.0/24" for i in range(1, 6)}


async def reflected(w: World) -> tuple[Node, Node, Node]:
    """Return a reflector (node 1) and two clients that have heard of each other."""
    server = w.node(config(1, *(peer(1, i, reflector_client=True) for i in (2, 3)), cluster_id=CLUSTER))
    clients = w.node(config(2, 1)), w.node(config(3, 1))
    await until(lambda: all(len(each.routes) == 2 for each in (server, *clients)), "what is reflected")
    return server, *clients


async def test_clients_hear_of_each_other_with_the_next_hop_and_the_originator_unchanged() -> None:
    async with world() as w:
        _, two, three = await reflected(w)
        assert two.routes == {PODS[1]: ["10.0.0.1"], PODS[3]: ["10.0.0.3"]}
        assert three.routes == {PODS[1]: ["10.0.0.1"], PODS[2]: ["10.0.0.2"]}
        best = two.best[PODS[3]]
        assert best.originator_id == 0x0A000003
        assert best.cluster_list == (CLUSTER,)
        assert best.local_pref == 100


async def test_a_client_that_goes_is_withdrawn_from_the_other() -> None:
    async with world() as w:
        server, two, three = await reflected(w)
        server.become(peers=peers(server.config.peers[address(2)]))
        await until(lambda: set(two.routes) == {PODS[1]}, "a withdrawal")
        assert server.ups_and_downs(2) == [True]
        assert not three.is_up(1)


async def test_a_server_that_is_none_any_more_withdraws_what_it_reflected_and_reflects_again_later() -> None:
    async with world() as w:
        server, two, three = await reflected(w)
        server.become(cluster_id=0)
        await until(lambda: set(two.routes) == set(three.routes) == {PODS[1]}, "withdrawals")
        server.become(cluster_id=CLUSTER)
        await until(lambda: set(two.routes) == {PODS[1], PODS[3]}, "what is reflected again")
        await until(lambda: set(three.routes) == {PODS[1], PODS[2]}, "what is reflected again")
        assert (server.ups_and_downs(2), server.ups_and_downs(3)) == ([True], [True])


async def test_all_of_the_role_can_go_in_one_configuration() -> None:
    async with world() as w:
        server, two, three = await reflected(w)
        server.become(cluster_id=0, peers=peers(peer(1, 2), peer(1, 3)))
        await until(lambda: set(two.routes) == set(three.routes) == {PODS[1]}, "withdrawals")
        server.become(cluster_id=CLUSTER, peers=peers(*(peer(1, i, reflector_client=True) for i in (2, 3))))
        await until(lambda: set(two.routes) == {PODS[1], PODS[3]}, "what is reflected again")
        await until(lambda: set(three.routes) == {PODS[1], PODS[2]}, "what is reflected again")
        assert (server.ups_and_downs(2), server.ups_and_downs(3)) == ([True], [True])


async def test_another_cluster_id_is_told_and_what_went_through_that_cluster_is_refused_from_then_on() -> None:
    async with world() as w:
        servers = [
            w.node(config(i, peer(i, client, reflector_client=True), 3 - i, cluster_id=CLUSTER + i))
            for i, client in ((1, 3), (2, 4))
        ]
        clients = w.node(config(3, 1)), w.node(config(4, 2))
        everybody = (*servers, *clients)
        await until(lambda: all(len(each.routes) == 3 for each in everybody), "what two reflectors pass on")
        assert clients[0].best[PODS[4]].cluster_list == (CLUSTER + 1, CLUSTER + 2)
        servers[0].become(cluster_id=CLUSTER + 2)
        await until(lambda: PODS[4] not in servers[0].routes and PODS[4] not in clients[0].routes, "no loops")
        servers[0].become(cluster_id=CLUSTER + 9)
        await until(lambda: PODS[4] in clients[0].routes, "the route again")
        assert clients[0].best[PODS[4]].cluster_list == (CLUSTER + 9, CLUSTER + 2)
        assert servers[0].ups_and_downs(2) == [True]


async def test_a_neighbour_that_becomes_a_client_hears_of_the_others_without_a_new_session() -> None:
    async with world() as w:
        server = w.node(config(1, 2, 3, cluster_id=CLUSTER))
        two, three = w.node(config(2, 1)), w.node(config(3, 1))
        await until(lambda: len(server.routes) == 2 and two.routes and three.routes, "the server's own")
        assert set(two.routes) == set(three.routes) == {PODS[1]}
        server.change(2, reflector_client=True)
        await until(lambda: set(two.routes) == {PODS[1], PODS[3]}, "what the client hears")
        await until(lambda: set(three.routes) == {PODS[1], PODS[2]}, "what is told of the client")
        server.change(2, reflector_client=False)
        await until(lambda: set(two.routes) == set(three.routes) == {PODS[1]}, "withdrawals")
        assert (server.ups_and_downs(2), server.ups_and_downs(3)) == ([True], [True])


async def test_nothing_of_the_clients_is_told_outside() -> None:
    async with world() as w:
        server, *_ = await reflected(w)
        server.become(peers={**server.config.peers, **peers(outside(1, 4))})
        router = w.node(config(4, outside(4, 1, asn=64512), asn=64516))
        await until(lambda: router.routes, "the server's pods")
        server.become(originated={prefix_of(PODS[1]): Kind.POD, prefix_of("10.96.0.1/32"): Kind.SERVICE})
        await until(lambda: "10.96.0.1/32" in router.routes, "a service")
        assert set(router.routes) == {PODS[1], "10.96.0.1/32"}


async def test_a_server_that_restarts_tells_nothing_before_it_has_heard_all() -> None:
    async with world() as w:
        server, two, three = await reflected(w)
        server.stop()
        await until(lambda: not two.is_up(1) and not three.is_up(1), "the end")
        assert set(two.routes) == {PODS[1], PODS[3]}
        three.stop()
        await until(lambda: not three.speaker.neighbours, "the end of a client")
        server.speaker.set_preserved({Family.IPV4})
        server.start()
        await until(lambda: two.is_up(1) and server.routes, "a session")
        assert server.of(2).group is None
        assert set(two.routes) == {PODS[1], PODS[3]}
        three.start()
        await until(lambda: server.speaker.settled and server.of(2).group is not None, "all is told")
        # Whoever restarts as well is not waited for (RFC 4724 section 4.1), so it may be told after the End-of-RIB.
        await until(lambda: two.of(1).helper.stale == frozenset() and PODS[3] in two.routes, "the End-of-RIB")
        assert set(two.routes) == {PODS[1], PODS[3]}
        assert two.best[PODS[3]].originator_id == 0x0A000003
