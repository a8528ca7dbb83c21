"""Two connections between the same neighbours: one stays, at both ends the same, in whatever order things happen."""

from typing import Any

import pytest
from harness.bgp_world import RESTART, World, every_order

from kube_router.plugins.routing.bgp.collision import Line, Verdict, ours_prevails, resolve
from kube_router.plugins.routing.bgp.fsm_words import State

OURS, THEIRS = True, False


@pytest.mark.parametrize(
    ("ours", "theirs", "prevails"),
    [
        pytest.param((2, 65001), (1, 65001), True, id="higher identifier"),
        pytest.param((1, 65002), (2, 65001), False, id="identifier before AS"),
        pytest.param((1, 65002), (1, 65001), True, id="equal identifiers: higher AS"),
        pytest.param((0xC0000201, 1), (0x0A000001, 1), True, id="identifiers are unsigned"),
    ],
)
def test_the_connection_of_the_higher_identifier_prevails(
    ours: tuple[int, int], theirs: tuple[int, int], prevails: bool
) -> None:
    assert ours_prevails(ours[0], theirs[0], ours[1], theirs[1]) is prevails
    assert ours_prevails(theirs[0], ours[0], theirs[1], ours[1]) is not prevails


@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        (State.IDLE, Verdict.NEW),
        (State.CONNECT, Verdict.NEW),
        (State.ACTIVE, Verdict.NEW),
        (State.OPENSENT, Verdict.OLD),
        (State.OPENCONFIRM, Verdict.OLD),
        (State.ESTABLISHED, Verdict.OLD),
    ],
)
def test_what_the_neighbour_opened_loses_to_ours_if_ours_prevails_and_has_sent_an_open(
    state: State, verdict: Verdict
) -> None:
    new = Line(State.OPENSENT, THEIRS)
    assert resolve(new, Line(state, OURS), prevails=True) is verdict


def test_an_established_session_waits_for_the_keepalive_of_a_new_one_with_graceful_restart() -> None:
    new = Line(State.OPENSENT, THEIRS)
    for ours in (OURS, THEIRS):
        for prevails in (True, False):
            old = Line(State.ESTABLISHED, ours, graceful=True)
            assert resolve(new, old, prevails=prevails) is Verdict.LATER
            assert resolve(new, old, prevails=prevails, restarted=False) is Verdict.OLD
            assert resolve(new, old._replace(graceful=False), prevails=prevails) is Verdict.OLD


def test_what_the_neighbour_opened_and_may_have_given_up_does_not_end_ours() -> None:
    mute = Line(State.OPENSENT, THEIRS)
    assert resolve(Line(State.OPENSENT, OURS), mute, prevails=False) is Verdict.LATER
    assert resolve(Line(State.OPENSENT, OURS), mute, prevails=True) is Verdict.NEW
    assert resolve(Line(State.OPENSENT, OURS), mute._replace(state=State.OPENCONFIRM), prevails=False) is Verdict.OLD


def test_of_two_that_the_neighbour_opened_the_newer_stays() -> None:
    assert resolve(Line(State.OPENSENT, THEIRS), Line(State.OPENCONFIRM, THEIRS), prevails=True) is Verdict.NEW


@pytest.mark.parametrize("restart", [None, RESTART], ids=["plain", "graceful restart"])
@pytest.mark.parametrize(
    ("ids", "asns"),
    [
        pytest.param((1, 2), (65001, 65001), id="b is higher"),
        pytest.param((2, 1), (65001, 65001), id="a is higher"),
        pytest.param((7, 7), (65001, 65002), id="equal identifiers"),
    ],
)
def test_two_that_connect_at_the_same_time_keep_one_connection_the_same_at_both_ends(
    ids: tuple[int, int], asns: tuple[int, int], restart: object
) -> None:
    def make() -> World:
        world = World(ids=ids, asns=asns, restart=restart)
        world.a.peer.start()
        world.b.peer.start()
        return world

    wires = set()

    def check(world: World, names: list[str]) -> None:
        assert world.a.wire == world.b.wire != "", names
        assert (world.a.told, world.b.told) == (["established"], ["established"]), names
        assert world.a.peer._pending is world.b.peer._pending is None, names
        wires.add(world.a.wire)
        comes_up_again(world, names)

    assert every_order(make, check) > 100
    assert wires == {"a1", "b1"}  # either may stay, it depends on the order


def comes_up_again(world: World, names: list[str]) -> None:
    """Check that the connection that stayed is its peering's own: it begins again once it ended."""
    world.a.peer.reset(6, 4, "tried")
    world.settle()
    for _ in range(4):  # the pause, and a connect that may have been refused in it
        world.clock.advance(5)
        world.settle()
    assert world.a.wire == world.b.wire != "", names


def both_up(**fields: Any) -> World:
    world = World(**fields)
    world.a.peer.start()
    world.b.peer.start()
    world.settle()
    assert world.a.wire == world.b.wire != ""
    world.a.told.clear()
    return world


@pytest.mark.parametrize("ids", [(1, 2), (2, 1)])
@pytest.mark.parametrize("noticed", [False, True], ids=["half-open", "reset"])
def test_a_neighbour_that_restarts_gracefully_replaces_its_old_session_in_every_order(
    ids: tuple[int, int], noticed: bool
) -> None:
    """``noticed``: at some moment the dead connection's end is seen, too."""

    def make() -> World:
        world = both_up(ids=ids, restart=RESTART)
        old = next(end for end in world.a.ends if not end.closed)
        world.b = world.side("B", 1)
        old.other = None
        if noticed:
            old.inbox.append(None)
        world.b.peer.start()
        return world

    def check(world: World, names: list[str]) -> None:
        assert world.a.wire == world.b.wire != "", names
        assert world.a.told == ["down gracefully", "established"], names
        assert world.b.told == ["established"], names
        comes_up_again(world, names)

    assert every_order(make, check) >= 1


def test_without_graceful_restart_the_old_session_stays_until_its_end_is_seen() -> None:
    def make() -> World:
        world = both_up()
        old = next(end for end in world.a.ends if not end.closed)
        world.b = world.side("B", 1)
        old.other = None
        world.b.peer.start()
        return world

    def check(world: World, names: list[str]) -> None:
        assert (world.a.told, world.b.told) == ([], []), names
        assert world.b.peer.state is State.ACTIVE
        assert world.b.peer.last_error == "it ended the session: cease: connection collision resolution"
        world.clock.advance(400)  # the hold time runs out, and all the pauses
        world.settle()
        for _ in range(20):
            world.clock.advance(10)
            world.settle()
        assert world.a.wire == world.b.wire != ""

    assert every_order(make, check) >= 1


def test_a_superfluous_connection_is_closed_with_the_cease_that_says_so() -> None:
    world = World(ids=(2, 1))
    world.a.peer.start()
    world.b.peer.start()
    for _ in range(2):  # both handshakes before either end is told
        next(happen for name, happen in world.occurrences() if name.startswith("handshake"))()
    world.settle()
    ends = {end.last.hex() for end in (*world.a.ends, *world.b.ends) if end.last}
    assert ends <= {"ff" * 16 + "0015" + "03" + "0607"}
    assert world.a.peer.counters.collisions + world.b.peer.counters.collisions >= 1


def test_a_neighbour_that_replaces_its_session_again_and_again_is_refused_for_longer_each_time() -> None:
    world = both_up(restart=RESTART)
    refused = []
    for _ in range(3):
        waited = 0.0
        while True:
            world.b = world.side("B", 1)
            for end in world.a.ends:
                end.other = None
            world.b.peer.start()
            world.settle()
            if world.b.wire:
                break
            world.clock.advance(0.5)
            waited += 0.5
        refused.append(waited)
    assert refused == [0, 1, 2]
