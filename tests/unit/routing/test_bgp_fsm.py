"""The finite state machine of RFC 4271 section 8: every event in every state, and the timers that go with them."""

from dataclasses import replace

import pytest

from kube_router.plugins.routing.bgp.fsm import Fsm, backoff, incoming, step
from kube_router.plugins.routing.bgp.fsm_words import (
    Action,
    CollisionLost,
    Connect,
    Connected,
    Drop,
    Ended,
    Established,
    Event,
    Expired,
    Failed,
    Faulted,
    KeepaliveReceived,
    NotificationReceived,
    OpenReceived,
    Penalty,
    SendKeepalive,
    SendNotification,
    SendOpen,
    Start,
    StartTimer,
    State,
    Stop,
    StopTimers,
    Timer,
    UpdateReceived,
)
from kube_router.plugins.routing.bgp.restart import Loss

EVENTS: dict[str, Event] = {
    "start": Start(),
    "stop": Stop(),
    "stop silently": Stop(silent=True),
    "idle hold": Expired(Timer.IDLE_HOLD),
    "connect retry": Expired(Timer.CONNECT_RETRY),
    "hold": Expired(Timer.HOLD),
    "keepalive timer": Expired(Timer.KEEPALIVE),
    "stable": Expired(Timer.STABLE),
    "connected": Connected(),
    "failed": Failed("it broke"),
    "open": OpenReceived(90),
    "bad message": Faulted(2, 2, "wrong AS"),
    "collision": CollisionLost("lost"),
    "gave way": CollisionLost("it restarted", silent=True),
    "notification": NotificationReceived(6, 2, "cease"),
    "rejected": NotificationReceived(6, 5, "cease"),
    "version": NotificationReceived(2, 1, "version"),
    "keepalive": KeepaliveReceived(),
    "update": UpdateReceived(),
    "penalty": Penalty("the other one was wrong"),
}

# The state after an event in a state; a dot where it stays the same. With it the NOTIFICATION that is sent.
TABLE = """
                 IDLE     CONNECT   ACTIVE    OPENSENT     OPENCONFIRM  ESTABLISHED
start            CONNECT  .         .         .            .            .
stop             .        IDLE      IDLE      IDLE:6/2     IDLE:6/2     IDLE:6/2
stop silently    .        IDLE      IDLE      IDLE         IDLE         IDLE
idle hold        CONNECT  IDLE      IDLE      IDLE:5/1     IDLE:5/2     IDLE:5/3
connect retry    .        ACTIVE    CONNECT   IDLE:5/1     IDLE:5/2     IDLE:5/3
hold             .        IDLE      IDLE      IDLE:4/0     IDLE:4/0     IDLE:4/0
keepalive timer  .        IDLE      IDLE      IDLE:5/1     .            .
stable           .        .         .         .            .            .
connected        .        OPENSENT  OPENSENT  .            .            .
failed           .        ACTIVE    IDLE      ACTIVE       IDLE         IDLE
open             .        IDLE      IDLE      OPENCONFIRM  IDLE:5/2     IDLE:5/3
bad message      .        IDLE      IDLE      IDLE:2/2     IDLE:2/2     IDLE:2/2
collision        .        IDLE      IDLE      IDLE:6/7     IDLE:6/7     IDLE:6/7
gave way         .        IDLE      IDLE      IDLE         IDLE         IDLE
notification     .        IDLE      IDLE      IDLE         IDLE         IDLE
rejected         .        IDLE      IDLE      ACTIVE       ACTIVE       IDLE
version          .        IDLE      IDLE      IDLE         IDLE         IDLE
keepalive        .        IDLE      IDLE      IDLE:5/1     ESTABLISHED  .
update           .        IDLE      IDLE      IDLE:5/1     IDLE:5/2     .
penalty          .        IDLE      IDLE      .            .            .
"""


def rows() -> list[tuple[State, str, str]]:
    header, *lines = TABLE.strip("\n").splitlines()
    found = []
    for line in lines:
        name, cells = line[:17].strip(), line[17:].split()
        found += [(State[state], name, cell) for state, cell in zip(header.split(), cells, strict=True)]
    return found


def machine(state: State, *, attempts: int = 0, errors: int = 0) -> Fsm:
    hold_time_s = 90 if state >= State.OPENCONFIRM else 0
    return Fsm(state=state, hold_time_s=hold_time_s, attempts=attempts, errors=errors)


def timers(actions: tuple[Action, ...]) -> dict[Timer, float]:
    """Return the timers that an answer starts, after checking that it stops none that it started."""
    started: dict[Timer, float] = {}
    for action in actions:
        if isinstance(action, StopTimers):
            assert started == {}
        if isinstance(action, StartTimer):
            started[action.timer] = action.seconds
    return started


@pytest.mark.parametrize(("state", "event", "expected"), rows())
def test_each_event_in_each_state_leads_where_the_rfc_says(state: State, event: str, expected: str) -> None:
    after, actions = step(machine(state), EVENTS[event])
    said = [f":{one.code}/{one.subcode}" for one in actions if isinstance(one, SendNotification)]
    assert (after.state.name + "".join(said)).replace(
        state.name, "." if after.state is state else state.name
    ) == expected


def test_the_table_has_every_event_in_every_state() -> None:
    assert {(state, name) for state, name, _ in rows()} == {(state, name) for state in State for name in EVENTS}


@pytest.mark.parametrize("state", [State.OPENSENT, State.OPENCONFIRM, State.ESTABLISHED])
def test_a_notification_is_sent_before_the_connection_is_closed_and_the_end_is_told_after(state: State) -> None:
    _, actions = step(machine(state), Expired(Timer.HOLD))
    loss = Loss.NOTIFICATION if state is State.ESTABLISHED else None
    assert actions == (
        SendNotification(4, 0),
        StopTimers(),
        Drop(),
        StartTimer(Timer.IDLE_HOLD, 1.0),
        Ended("nothing was heard from it for the whole hold time", loss),
    )


def test_a_start_connects_and_gives_it_five_seconds() -> None:
    assert step(Fsm(), Start()) == (
        Fsm(state=State.CONNECT),
        (StopTimers(), StartTimer(Timer.CONNECT_RETRY, 5.0), Connect()),
    )


def test_a_passive_machine_never_connects() -> None:
    waiting, actions = step(Fsm(passive=True), Start())
    assert (waiting.state, actions) == (State.ACTIVE, (StopTimers(),))
    assert step(waiting, Expired(Timer.CONNECT_RETRY)) == (waiting, ())


def test_a_connection_that_is_there_gets_our_open_and_four_minutes_for_its_own() -> None:
    after, actions = step(machine(State.CONNECT), Connected())
    assert after.state is State.OPENSENT
    assert actions == (StopTimers(), SendOpen(), StartTimer(Timer.HOLD, 240.0))


def test_an_open_is_answered_by_a_keepalive_and_its_times_hold_from_then_on() -> None:
    after, actions = step(machine(State.OPENSENT), OpenReceived(30, frozenset({Loss.CONNECTION})), jitter=0.75)
    assert (after.hold_time_s, after.survives) == (30, frozenset({Loss.CONNECTION}))
    assert actions == (
        StopTimers(),
        SendKeepalive(),
        StartTimer(Timer.HOLD, 30.0),
        StartTimer(Timer.KEEPALIVE, 7.5),
    )


def test_without_a_hold_time_no_timer_runs_once_the_session_is_up() -> None:
    agreed, actions = step(machine(State.OPENSENT), OpenReceived(0))
    assert actions == (StopTimers(), SendKeepalive(), StartTimer(Timer.HOLD, 240.0))  # for its first keepalive
    up, actions = step(agreed, KeepaliveReceived())
    assert actions == (StopTimers(), StartTimer(Timer.STABLE, 60.0), Established())
    assert step(up, UpdateReceived()) == (up, ())


@pytest.mark.parametrize("event", [KeepaliveReceived(), UpdateReceived()])
def test_keepalives_and_updates_put_the_hold_timer_off(event: Event) -> None:
    up = machine(State.ESTABLISHED)
    assert step(up, event) == (up, (StartTimer(Timer.HOLD, 90.0),))


def test_a_keepalive_is_sent_every_third_of_the_hold_time_with_jitter() -> None:
    _, actions = step(machine(State.ESTABLISHED), Expired(Timer.KEEPALIVE), jitter=0.9)
    assert actions == (SendKeepalive(), StartTimer(Timer.KEEPALIVE, 27.0))


def test_no_answer_to_a_syn_may_be_the_password() -> None:
    _, actions = step(machine(State.CONNECT), Expired(Timer.CONNECT_RETRY))
    assert Ended("no answer to SYN within 5 s: is the peer up, and do both have the same password?") in actions


def test_each_connect_that_fails_waits_twice_as_long_up_to_two_minutes() -> None:
    waits = []
    fsm, _ = step(Fsm(connect_retry_s=5), Start())
    for _ in range(7):
        fsm, actions = step(fsm, Failed("refused"), jitter=0.8)
        waits.append(timers(actions)[Timer.CONNECT_RETRY])
        fsm, _ = step(fsm, Expired(Timer.CONNECT_RETRY))
    assert waits == pytest.approx([4, 8, 16, 32, 64, 96, 96])


def test_a_session_that_came_up_forgets_the_connects_that_failed() -> None:
    after, _ = step(machine(State.OPENCONFIRM, attempts=5), KeepaliveReceived())
    assert after.attempts == 0


def lose(fsm: Fsm, event: Event) -> tuple[Fsm, float]:
    """Return the machine after an end, and for how long it refuses."""
    after, actions = step(fsm, event)
    assert after.state is State.IDLE
    return after, timers(actions)[Timer.IDLE_HOLD]


def test_each_flap_doubles_the_time_for_which_everything_is_refused_up_to_two_minutes() -> None:
    pauses, errors = [], 0
    for _ in range(9):
        after, pause = lose(machine(State.ESTABLISHED, errors=errors), Faulted(3, 1, "malformed"))
        errors = after.errors
        pauses.append(pause)
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 120, 120]


def test_what_the_neighbours_operator_does_is_a_short_pause_and_no_error() -> None:
    for subcode, errors in ((2, 3), (3, 3), (4, 3), (6, 3), (1, 4), (8, 4)):
        after, pause = lose(machine(State.ESTABLISHED, errors=3), NotificationReceived(6, subcode, "cease"))
        assert (after.errors, pause) == (errors, 1 if errors == 3 else 8)


def test_a_stable_minute_forgets_all_flaps() -> None:
    calm, _ = step(machine(State.ESTABLISHED, errors=7), Expired(Timer.STABLE))
    assert lose(calm, Failed("it broke"))[1] == 1


def test_a_neighbour_that_lost_no_route_is_refused_for_ten_seconds_at_most_and_not_called_for_the_rest() -> None:
    after, refused = lose(machine(State.OPENSENT, errors=6), Faulted(2, 2, "wrong AS"))
    assert (refused, after.pause_s) == (10, 54)
    waiting, actions = step(after, Expired(Timer.IDLE_HOLD))
    assert (waiting.state, timers(actions)) == (State.ACTIVE, {Timer.CONNECT_RETRY: 54})


def test_a_graceful_restart_of_a_stable_neighbour_is_welcome_at_once() -> None:
    survives = frozenset({Loss.CONNECTION})
    up = Fsm(state=State.ESTABLISHED, hold_time_s=90, survives=survives)
    after, actions = step(up, Failed("it closed"))
    assert Ended("it closed", Loss.CONNECTION, graceful=True) in actions
    assert timers(actions) == {Timer.IDLE_HOLD: 0}
    assert after.errors == 1  # a second one within the minute waits


def test_a_neighbour_that_restarts_gracefully_again_and_again_is_refused_for_ten_seconds_at_most() -> None:
    up = replace(machine(State.ESTABLISHED, errors=7), survives=frozenset({Loss.CONNECTION}))
    after, refused = lose(up, Failed("it closed"))
    assert (refused, after.pause_s) == (10, 54)


def test_a_hard_reset_is_not_graceful_though_notifications_are() -> None:
    survives = frozenset({Loss.CONNECTION, Loss.NOTIFICATION})
    up = Fsm(state=State.ESTABLISHED, hold_time_s=90, survives=survives)
    ends = [
        (event, next(one for one in step(up, event)[1] if isinstance(one, Ended)).graceful)
        for event in (NotificationReceived(6, 4, ""), NotificationReceived(6, 9, ""), Expired(Timer.HOLD))
    ]
    assert [graceful for _, graceful in ends] == [True, False, True]


def test_a_stop_is_a_hard_reset_where_a_notification_would_not_end_the_routes() -> None:
    survives = frozenset({Loss.CONNECTION, Loss.NOTIFICATION})
    up = Fsm(state=State.ESTABLISHED, hold_time_s=90, survives=survives)
    _, actions = step(up, Stop(code=6, subcode=3, data=b"x"))
    assert actions[0] == SendNotification(6, 9, b"\x06\x03x")
    assert Ended("stopped by us", Loss.HARD_RESET, graceful=False) in actions


def test_a_silent_stop_keeps_the_routes_where_the_connection_alone_would() -> None:
    up = Fsm(state=State.ESTABLISHED, hold_time_s=90, survives=frozenset({Loss.CONNECTION}))
    assert Ended("stopped by us", Loss.CONNECTION, graceful=True) in step(up, Stop(silent=True))[1]


def test_a_stopped_machine_starts_nothing_by_itself() -> None:
    for state in State:
        _, actions = step(machine(state), Stop())
        assert timers(actions) == {}


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS.keys())
def test_a_connection_beside_the_peerings_own_does_not_begin_again(event: Event) -> None:
    opened, _ = step(incoming(Fsm(state=State.CONNECT, attempts=2, errors=1)), Connected())
    after, actions = step(opened, event)
    if after.state < State.OPENSENT:
        assert after.state is State.IDLE
        assert timers(actions) == {}
        assert Connect() not in actions


def test_a_connection_that_the_neighbour_gave_up_before_its_open_is_no_error() -> None:
    opened, _ = step(incoming(Fsm(state=State.CONNECT, errors=1)), Connected())
    assert step(opened, Failed("it closed"))[0].errors == 1
    assert step(opened, Faulted(2, 2, "wrong AS"))[0].errors == 2


def test_a_backoff_does_not_overflow() -> None:
    assert backoff(1, 10_000, 120) == 120
