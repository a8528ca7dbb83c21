"""Speakers that restart, over real TCP on virtual time: what is kept, for how long, and when a speaker has settled."""

from typing import Any

import anyio
import pytest
from harness.loopback import Node, World, address, config, connection, peer, pods, until, world
from virtual_time import BACKEND

from kube_router.plugins.routing.bgp.model import (
    Attributes,
    Family,
    GracefulRestart,
    Kind,
    Negotiated,
    NextHop,
    prefix_of,
)
from kube_router.plugins.routing.bgp.update import encode_reach

THEIRS = {pods(2): ["10.0.0.2"]}
SOON_S = 0.5
AGREED = Negotiated(asn=64512, router_id=99, internal=True, hold_time_s=90)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return BACKEND


async def pair(w: World, **changes: Any) -> tuple[Node, Node]:
    """Return a node and one that will restart; ``changes`` are of how they speak with each other."""
    one = w.node(config(1, peer(1, 2, **changes)), preserved=Family)
    two = w.node(config(2, peer(2, 1, **changes)), preserved=Family)
    await until(lambda: one.routes == THEIRS and two.routes, "what each has")
    return one, two


async def test_routes_of_a_neighbour_that_restarts_stay_until_it_has_said_all_and_what_it_left_out_goes() -> None:
    async with world() as w:
        one, two = await pair(w)
        two.become(originated={prefix_of(pods(2)): Kind.POD, prefix_of("10.244.9.0/24"): Kind.POD})
        await until(lambda: len(one.routes) == 2, "both prefixes")
        two.stop()
        await until(lambda: not one.is_up(2), "the end")
        assert set(one.routes) == {pods(2), "10.244.9.0/24"}
        assert one.speaker.rib.stale(address(2)) == 2
        two.become(originated={prefix_of(pods(2)): Kind.POD})
        two.start()
        await until(lambda: one.routes == THEIRS, "what it said this time")
        assert one.speaker.rib.stale(address(2)) == 0
        assert one.is_up(2)


async def test_a_neighbour_whose_forwarding_state_is_lost_loses_its_routes_when_it_is_back() -> None:
    async with world() as w:
        one, two = await pair(w)
        two.stop()
        await until(lambda: not one.is_up(2), "the end")
        assert one.routes == THEIRS
        two.speaker.set_preserved(())
        two.become(originated={})
        two.start()
        await until(lambda: one.is_up(2), "a session")
        assert one.routes == {}


async def test_a_neighbour_that_does_not_come_back_loses_its_routes_after_its_restart_time() -> None:
    async with world() as w:
        one, two = await pair(w)
        two.stop()
        await until(lambda: not one.is_up(2), "the end")
        gone = anyio.current_time()
        await until(lambda: one.routes == {}, "the end of its routes", wait_s=70)
        assert anyio.current_time() - gone == pytest.approx(60, abs=SOON_S)


async def test_without_graceful_restart_routes_go_with_the_session() -> None:
    async with world() as w:
        one, two = await pair(w, graceful_restart_s=None)
        two.stop()
        await until(lambda: not one.is_up(2), "the end")
        await until(lambda: one.routes == {}, "the end of its routes", wait_s=SOON_S)
        assert one.last_words(2) == 'it ended the session: cease: administrative shutdown: "the agent stops"'


async def test_a_neighbour_that_is_removed_for_good_takes_its_routes_with_it_though_it_could_restart() -> None:
    async with world() as w:
        one, two = await pair(w)
        two.become(peers={})
        await until(lambda: not one.is_up(2), "the end")
        await until(lambda: one.routes == {}, "the end of its routes", wait_s=SOON_S)


async def test_a_speaker_that_restarts_says_so_until_it_has_settled() -> None:
    async with world() as w:
        one, two = await pair(w)
        restarting = one.of(2).peer.their_open
        assert restarting is not None
        assert restarting.capabilities.graceful_restart is not None
        assert restarting.capabilities.graceful_restart.restarting
        await until(lambda: two.speaker.settled, "a neighbour that has heard all")
        one.change(2, hold_time_s=30)
        await until(lambda: one.ups_and_downs(2) == [True, False, True], "a new session")
        settled = one.of(2).peer.their_open
        assert settled is not None
        assert settled.capabilities.graceful_restart is not None
        assert not settled.capabilities.graceful_restart.restarting


async def test_a_speaker_without_neighbours_has_settled_at_once() -> None:
    async with world() as w:
        one = w.node(config(1))
        await until(lambda: one.speaker.settled, "nobody to hear", wait_s=SOON_S)


async def test_a_neighbour_that_is_never_there_is_waited_for_until_the_deferral_time_is_over() -> None:
    async with world() as w:
        one, two = w.node(config(1, 2, 3)), w.node(config(2, 1))
        await until(lambda: one.routes and two.speaker.settled, "the one that is there")
        assert one.speaker.awaited == {address(3): frozenset()}
        assert not one.speaker.settled
        await until(lambda: one.speaker.settled, "the end of the deferral", wait_s=31)
        assert one.settled_at is not None
        assert one.settled_at == pytest.approx(30, abs=SOON_S)
        assert one.routes == THEIRS


async def test_who_has_been_heard_can_be_asked_of_some_neighbours() -> None:
    async with world() as w:
        one, two = w.node(config(1, 2, 3)), w.node(config(2, 1))
        assert not one.speaker.has_heard({address(2)})
        await until(lambda: one.speaker.has_heard({address(2)}), "the one that is there", wait_s=SOON_S)
        assert one.routes == THEIRS
        assert not one.speaker.has_heard({address(2), address(3)})
        assert not one.speaker.has_heard(None)
        assert one.speaker.has_heard({address(4)}), "it is no neighbour"
        await until(lambda: two.speaker.has_heard(None), "its only neighbour")


async def test_a_neighbour_that_is_removed_is_waited_for_no_more() -> None:
    async with world() as w:
        one, _ = w.node(config(1, 2, 3)), w.node(config(2, 1))
        await until(lambda: one.routes, "the one that is there")
        one.become(peers={address(2): one.config.peers[address(2)]})
        assert one.speaker.settled


async def test_a_neighbour_without_graceful_restart_that_says_end_of_rib_has_said_all() -> None:
    async with world() as w:
        one = w.node(config(1, peer(1, 2, graceful_restart_s=None)))
        w.node(config(2, peer(2, 1, graceful_restart_s=None)))
        await until(lambda: one.routes == THEIRS and one.speaker.settled, "what it has", wait_s=SOON_S)


async def test_of_one_that_does_not_say_so_ten_seconds_are_all_it_says() -> None:
    async with world() as w:
        one = w.node(config(1, peer(1, 2, graceful_restart_s=None)))
        async with connection(2, 1) as raw:
            await raw.establish()
            await until(lambda: one.is_up(2), "a session")
            up = anyio.current_time()
            assert one.speaker.awaited == {address(2): {Family.IPV4}}
            await until(lambda: one.speaker.settled, "settled", wait_s=11)
            assert anyio.current_time() - up == pytest.approx(10, abs=SOON_S)


async def test_where_it_cannot_listen_it_says_so_and_tries_again() -> None:
    async with world() as w:
        one = w.node(config(1, 2, listen=("192.0.2.1", address(1))))
        await until(lambda: one.speaker.trouble, "trouble")
        assert one.speaker.trouble.startswith("cannot listen on 192.0.2.1 port ")
        assert one.speaker.trouble.endswith(": Cannot assign requested address")
        two = w.node(config(2, peer(2, 1)))
        await until(lambda: one.routes and two.routes, "a session on the address that could be had")
        one.become(listen=(address(1),))
        await until(lambda: one.speaker.trouble == "", "no trouble", wait_s=SOON_S)
        assert one.ups_and_downs(2) == [True]


async def test_an_address_that_comes_later_is_listened_on_from_then_on() -> None:
    async with world() as w:
        blocking, one = w.node(config(1)), Node(config(1, peer(1, 2, passive=True)), w.tasks)
        await until(lambda: blocking.speaker.settled and not blocking.speaker.trouble, "another program that listens")
        one.start()
        await until(lambda: one.speaker.trouble, "trouble")
        assert one.speaker.trouble.endswith(": Address already in use")
        blocking.stop()
        two = w.node(config(2, 1))
        await until(lambda: one.routes and two.routes, "a session", wait_s=10)
        assert one.speaker.trouble == ""


async def test_a_neighbour_that_is_removed_while_it_restarts_takes_its_stale_routes_with_it() -> None:
    async with world() as w:
        one, two = await pair(w)
        two.stop()
        await until(lambda: not one.is_up(2), "the end")
        assert one.routes == THEIRS
        one.become(peers={})
        await until(lambda: one.routes == {}, "the end of its routes", wait_s=SOON_S)
        await anyio.sleep(70)  # its restart time runs out, and nothing comes of it
        assert one.withdrawn.count(pods(2)) == 1


async def test_a_second_loss_before_it_has_said_all_ends_what_was_stale() -> None:
    async with world() as w:
        one = w.node(config(1, 2))
        restart = GracefulRestart(notification=True, time_s=60, families={Family.IPV4: True})
        reach = encode_reach(Attributes(), NextHop(b"\x0a\x00\x00\x02"), [prefix_of(pods(2))], AGREED)
        async with connection(2, 1) as raw:
            await raw.establish(graceful_restart=restart)
            raw.say(*reach)
            await until(lambda: one.routes == THEIRS, "its route")
        await until(lambda: not one.is_up(2), "the first loss")
        async with connection(2, 1) as raw:
            await raw.establish(graceful_restart=restart)
            await until(lambda: one.is_up(2), "the session again")
            assert one.routes == THEIRS
        await until(lambda: not one.is_up(2), "the second loss")
        await until(lambda: one.routes == {}, "the end of its routes", wait_s=SOON_S)


async def test_a_neighbour_that_comes_back_and_does_not_say_all_is_waited_for_six_minutes() -> None:
    async with world() as w:
        one = w.node(config(1, peer(1, 2, hold_time_s=0)))
        restart = GracefulRestart(notification=True, time_s=60, families={Family.IPV4: True})
        reach = encode_reach(Attributes(), NextHop(b"\x0a\x00\x00\x02"), [prefix_of(pods(2))], AGREED)
        async with connection(2, 1) as raw:
            await raw.establish(graceful_restart=restart, hold_time_s=0)
            raw.say(*reach)
            await until(lambda: one.routes == THEIRS, "its route")
        await until(lambda: not one.is_up(2), "the loss")
        async with connection(2, 1) as raw:
            await raw.establish(graceful_restart=restart, hold_time_s=0)
            await until(lambda: one.is_up(2), "the session again")
            back = anyio.current_time()
            await until(lambda: one.routes == {}, "the end of its routes", wait_s=370)
            assert anyio.current_time() - back == pytest.approx(360, abs=SOON_S)
            assert one.is_up(2)


async def test_a_session_is_ended_when_nothing_is_heard_for_its_hold_time_and_its_routes_are_kept() -> None:
    async with world() as w:
        one = w.node(config(1, peer(1, 2, hold_time_s=9)))
        restart = GracefulRestart(notification=True, time_s=60, families={Family.IPV4: True})
        async with connection(2, 1) as raw:
            await raw.establish(graceful_restart=restart)
            raw.say(*encode_reach(Attributes(), NextHop(b"\x0a\x00\x00\x02"), [prefix_of(pods(2))], AGREED))
            await until(lambda: one.routes == THEIRS, "its route")
            heard = anyio.current_time()
            await until(lambda: not one.is_up(2), "the end")
            assert anyio.current_time() - heard == pytest.approx(9, abs=SOON_S)
            assert one.last_words(2) == "nothing was heard from it for the whole hold time"
            assert one.routes == THEIRS  # RFC 8538: both have the N bit
