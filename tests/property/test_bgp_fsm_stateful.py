"""Whatever happens to a BGP connection in whatever order, its machine takes no forbidden way and its timers are right.

Time is virtual: a rule lets the next timer run out. Events come in any state, also such as cannot happen there.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kube_router.plugins.routing.bgp.fsm import Fsm, incoming, step
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

IDLE, CONNECT, ACTIVE, OPENSENT, OPENCONFIRM, ESTABLISHED = State

# RFC 4271 section 8.2.2: the ways there are. Each state may also stay.
WAYS = {
    IDLE: {CONNECT, ACTIVE},
    CONNECT: {IDLE, ACTIVE, OPENSENT},
    ACTIVE: {IDLE, CONNECT, OPENSENT},
    OPENSENT: {IDLE, ACTIVE, OPENCONFIRM},
    OPENCONFIRM: {IDLE, ACTIVE, ESTABLISHED},
    ESTABLISHED: {IDLE},
}
RUNNING = {
    IDLE: {Timer.IDLE_HOLD},
    CONNECT: {Timer.CONNECT_RETRY},
    ACTIVE: {Timer.CONNECT_RETRY},
    OPENSENT: {Timer.HOLD},
    OPENCONFIRM: {Timer.HOLD, Timer.KEEPALIVE},
    ESTABLISHED: {Timer.HOLD, Timer.KEEPALIVE, Timer.STABLE},
}
HOLD_TIMES = st.sampled_from([0, 3, 9, 90, 180, 65535])
LOSSES = st.frozensets(st.sampled_from([Loss.CONNECTION, Loss.NOTIFICATION]))
JITTER = st.sampled_from([0.75, 0.9, 1.0])


class Connection(RuleBasedStateMachine):
    """A machine, the timers that it has running, and what has to be true of it."""

    def __init__(self) -> None:
        super().__init__()
        self.fsm = Fsm()
        self.now_s = 0.0
        self.timers: dict[Timer, float] = {}  # when each runs out
        self.is_open = False  # a TCP connection is there or being made
        self.started = False
        self.heard_s = 0.0
        self.hold_s = 0.0
        self.sent_s = 0.0
        self.jitter = 1.0

    @initialize(passive=st.booleans(), pending=st.booleans(), retry_s=st.sampled_from([0.5, 10.0, 300.0]))
    def begin(self, passive: bool, pending: bool, retry_s: float) -> None:
        self.fsm = Fsm(passive=passive, connect_retry_s=retry_s)
        if pending:
            self.fsm = incoming(self.fsm)
            self.started = True

    # -- What may happen ---------------------------------------------------------------------------------------------

    @rule(event=st.sampled_from([Start(), Stop(), Stop(silent=True), Connected(), Failed("broke")]), jitter=JITTER)
    def from_outside(self, event: Event, jitter: float) -> None:
        self.answer(event, jitter)

    @rule(hold_time_s=HOLD_TIMES, survives=LOSSES, jitter=JITTER)
    def open_comes(self, hold_time_s: int, survives: frozenset[Loss], jitter: float) -> None:
        self.answer(OpenReceived(hold_time_s, survives), jitter)

    @rule(event=st.sampled_from([KeepaliveReceived(), UpdateReceived()]))
    def message_comes(self, event: Event) -> None:
        self.answer(event, 1.0)

    @rule(code=st.integers(1, 8), subcode=st.integers(0, 10), ours=st.booleans(), jitter=JITTER)
    def error(self, code: int, subcode: int, ours: bool, jitter: float) -> None:
        event = Faulted(code, subcode, "bad") if ours else NotificationReceived(code, subcode, "bad")
        self.answer(event, jitter)

    @rule(event=st.sampled_from([CollisionLost("lost"), CollisionLost("gone", silent=True), Penalty("bad")]))
    def collision(self, event: Event) -> None:
        self.answer(event, 1.0)

    @rule(timer=st.sampled_from(list(Timer)), jitter=JITTER)
    def stray_timer(self, timer: Timer, jitter: float) -> None:
        """A timer is reported that was just stopped."""
        if timer not in self.timers:
            self.answer(Expired(timer), jitter)

    @rule(jitter=JITTER)
    def time_passes(self, jitter: float) -> None:
        """The next timer runs out."""
        if self.timers:
            timer = min(self.timers, key=lambda one: self.timers[one])
            self.now_s = self.timers.pop(timer)
            if timer is Timer.HOLD:
                assert abs(self.now_s - self.heard_s - self.hold_s) < 1e-6
            if timer is Timer.KEEPALIVE:
                thirds = (self.now_s - self.sent_s) / (self.fsm.hold_time_s / 3)
                assert 0.75 - 1e-6 <= thirds <= 1 + 1e-6
            self.answer(Expired(timer), jitter)

    @rule()
    def goes_well(self) -> None:
        """What leads on comes, so that the later states are met often."""
        leads_on: dict[State, Event] = {
            IDLE: Expired(Timer.IDLE_HOLD) if Timer.IDLE_HOLD in self.timers else Start(),
            CONNECT: Connected(),
            ACTIVE: Connected(),
            OPENSENT: OpenReceived(90, frozenset({Loss.CONNECTION})),
            OPENCONFIRM: KeepaliveReceived(),
            ESTABLISHED: UpdateReceived(),
        }
        event = leads_on[self.fsm.state]
        if isinstance(event, Expired):
            self.now_s = self.timers.pop(event.timer)
        self.answer(event, 1.0)

    # -- What has to be true of each answer --------------------------------------------------------------------------

    def answer(self, event: Event, jitter: float) -> None:
        before, self.jitter = self.fsm, jitter
        self.fsm, actions = step(before, event, jitter)
        starts = isinstance(event, Start) or event == Expired(Timer.IDLE_HOLD)
        self.started = not isinstance(event, Stop) and (self.started or starts)
        assert step(before, event, jitter) == (self.fsm, actions)  # pure
        assert self.fsm.state is before.state or self.fsm.state in WAYS[before.state], event
        self._check_words(before, actions)
        if self.fsm.state >= OPENSENT and isinstance(
            event, KeepaliveReceived | UpdateReceived | OpenReceived | Connected
        ):
            self.heard_s = self.now_s
        for action in actions:
            self._perform(action)
        if self.fsm.state is not before.state and self.fsm.state <= ACTIVE and before.state >= OPENSENT:
            assert not self.is_open

    def _perform(self, action: Action) -> None:
        match action:
            case StartTimer():
                assert action.seconds >= 0
                self.timers[action.timer] = self.now_s + action.seconds
                if action.timer is Timer.HOLD:
                    self.hold_s, self.heard_s = action.seconds, self.now_s
            case StopTimers():
                self.timers.clear()
            case Connect():
                assert not self.is_open
                self.is_open = True
            case SendOpen():
                self.is_open = True
            case SendKeepalive():
                assert self.is_open
                self.sent_s = self.now_s
            case SendNotification():
                assert self.is_open
            case Drop():
                self.is_open = False
            case _:
                pass

    def _check_words(self, before: Fsm, actions: tuple[Action, ...]) -> None:
        kinds = [type(action) for action in actions]
        assert (Established in kinds) == (before.state is OPENCONFIRM and self.fsm.state is ESTABLISHED)
        assert (SendOpen in kinds) == (before.state < OPENSENT and self.fsm.state is OPENSENT)
        if SendNotification in kinds:
            assert before.state >= OPENSENT
            assert kinds.index(SendNotification) < kinds.index(Drop)
        ends = [action for action in actions if isinstance(action, Ended)]
        assert [end.loss is not None for end in ends] in ([], [before.state is ESTABLISHED])
        if before.state is ESTABLISHED and self.fsm.state is not ESTABLISHED:
            assert len(ends) == 1
            assert ends[0].graceful == (ends[0].loss in before.survives)

    # -- What has to be true always ----------------------------------------------------------------------------------

    @invariant()
    def only_timers_of_the_state_run(self) -> None:
        assert set(self.timers) <= RUNNING[self.fsm.state]

    @invariant()
    def no_timer_is_longer_than_its_bound(self) -> None:
        bounds = {
            Timer.IDLE_HOLD: 120,
            Timer.CONNECT_RETRY: 5 if self.fsm.state is CONNECT else 120,
            Timer.HOLD: max(240, self.fsm.hold_time_s),
            Timer.KEEPALIVE: self.fsm.hold_time_s / 3,
            Timer.STABLE: 60,
        }
        for timer, when in self.timers.items():
            assert when - self.now_s <= bounds[timer] + 1e-6

    @invariant()
    def a_session_is_watched_as_agreed(self) -> None:
        if self.fsm.state >= OPENCONFIRM:
            assert (Timer.KEEPALIVE in self.timers) == (self.fsm.hold_time_s > 0)
        if self.fsm.state is ESTABLISHED:
            assert (Timer.HOLD in self.timers) == (self.fsm.hold_time_s > 0)
        if self.fsm.state in (OPENSENT, OPENCONFIRM):
            assert Timer.HOLD in self.timers

    @invariant()
    def a_started_peering_always_goes_on_by_itself(self) -> None:
        """Only a timer or the neighbour is waited for, nothing else."""
        calls = self.fsm.state in (IDLE, CONNECT) or (self.fsm.state is ACTIVE and not self.fsm.passive)
        if calls and self.started and not self.fsm.pending:
            assert self.timers
        if not self.started and self.fsm.state is IDLE:
            assert not self.timers

    @invariant()
    def damping_is_bounded(self) -> None:
        assert 0 <= self.fsm.pause_s <= 120


TestConnection = Connection.TestCase
TestConnection.settings = settings(stateful_step_count=40)  # as many examples as the profile says
