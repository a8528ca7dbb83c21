"""The finite state machine of one BGP connection: (state, event) → (state, actions) (pure).

RFC 4271 section 8 without its optional DelayOpen. A peering has a machine of its own, which connects; a connection that
the neighbour opened has one beside it (``pending``) until it is known which of them stays (collision.py). Every event
is answered in every state. Randomness comes in as ``jitter``, a factor between 0.75 and 1.

Where we do not do what the RFC's text says:
- A connect that fails leads to Active, as with DelayOpen, also when it was not answered for five seconds: the neighbour
  may connect meanwhile, and each try waits twice as long as the one before. Idle refuses.
- A NOTIFICATION is never answered by one (section 6.4); the text of OpenSent would. One that says that the connection
  was superfluous or came too early is no error but a connect that failed: two that refuse each other would never meet.
- Without a hold time the first KEEPALIVE still has to come within four minutes.
- Errors in a header or an OPEN are told by their own code in every state, not as an error of the machine.
- Damping (section 8.1.1): each error doubles the pause up to two minutes, a stable minute forgets them all. What the
  neighbour's operator did is no error. An established session that fails is paused for all of it. Where no route was
  lost by it (not established, or graceful restart keeps them) the neighbour is refused for ten seconds at most: it may
  be repaired by now.
"""

from dataclasses import dataclass, replace

from kube_router.plugins.routing.bgp.fault import HARD_RESET, error_name
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

CONNECT_TIMEOUT_S = 5.0
LARGE_HOLD_S = 240.0  # until the OPENs agreed on a hold time
RETRY_MAX_S = 120.0
PAUSE_MIN_S = 1.0
PAUSE_MAX_S = 120.0
REFUSED_MAX_S = 10.0  # how long a neighbour that lost no route is refused
STABLE_S = 60.0
KEEPALIVES_PER_HOLD = 3
DOUBLINGS_MAX = 20  # beyond every maximum: the exponent needs not grow
HOLD_EXPIRED, FSM_ERROR, CEASE = 4, 5, 6
NO_ANSWER = "no answer to SYN within 5 s: is the peer up, and do both have the same password?"
DELIBERATE = frozenset({2, 3, 4, 6})  # Ceases that an operator's act causes: shutdown, removal, reset, other change
COLLISION = 7  # subcode of Cease (RFC 4486); 5 is: connection rejected


@dataclass(frozen=True, slots=True, kw_only=True)
class Fsm:
    """A machine between two events.

    ``attempts`` is the RFC's ConnectRetryCounter, ``errors`` those that damping has not forgotten. ``pause_s`` is what
    is left of the pause once Idle is over. ``survives`` are the losses that graceful restart covers.
    """

    state: State = State.IDLE
    passive: bool = False
    pending: bool = False
    connect_retry_s: float = 10.0
    hold_time_s: int = 0  # negotiated
    attempts: int = 0
    errors: int = 0
    pause_s: float = 0.0
    survives: frozenset[Loss] = frozenset()


Step = tuple[Fsm, tuple[Action, ...]]


# -- The machine -----------------------------------------------------------------------------------------------------


def step(fsm: Fsm, event: Event, jitter: float = 1.0) -> Step:
    """Return the machine after an event, and what is to be done, in this order."""
    if isinstance(event, Stop):
        return _stop(fsm, event)
    match fsm.state:
        case State.IDLE:
            return _idle(fsm, event)
        case State.CONNECT | State.ACTIVE:
            return _connecting(fsm, event, jitter)
        case State.OPENSENT:
            return _opensent(fsm, event, jitter)
        case State.OPENCONFIRM:
            return _openconfirm(fsm, event, jitter)
        case State.ESTABLISHED:
            return _established(fsm, event, jitter)


def incoming(fsm: Fsm) -> Fsm:
    """Return the machine for a connection that the neighbour opened while its peering's machine is ``fsm``."""
    return replace(fsm, state=State.ACTIVE, pending=True, hold_time_s=0, pause_s=0.0, survives=frozenset())


def backoff(first_s: float, doublings: int, max_s: float) -> float:
    """Return a wait that doubles each time."""
    return float(min(first_s * 2 ** min(doublings, DOUBLINGS_MAX), max_s))


def _stop(fsm: Fsm, event: Stop) -> Step:
    """Stop for good. Where a NOTIFICATION alone would not make the neighbour drop our routes, it is a Hard Reset."""
    said: tuple[Action, ...] = ()
    loss = Loss.CONNECTION
    if fsm.state >= State.OPENSENT and not event.silent:
        loss = Loss.HARD_RESET
        if Loss.NOTIFICATION in fsm.survives:
            said = (SendNotification(CEASE, HARD_RESET, bytes((event.code, event.subcode)) + event.data),)
        else:
            said = (SendNotification(event.code, event.subcode, event.data),)
    stopped = replace(fsm, state=State.IDLE, attempts=0, errors=0, pause_s=0.0, hold_time_s=0, survives=frozenset())
    return stopped, (*said, StopTimers(), Drop(), _ended(fsm, event.words, loss))


def _idle(fsm: Fsm, event: Event) -> Step:
    if isinstance(event, Start):
        begun, actions = _begin(replace(fsm, attempts=0, pause_s=0.0))
        return begun, (StopTimers(), *actions)
    if event == Expired(Timer.IDLE_HOLD):
        return _begin(fsm)
    return fsm, ()


def _begin(fsm: Fsm) -> Step:
    """Connect, or wait for the neighbour to: where we are passive, and while what is left of the pause goes by."""
    if fsm.passive:
        return replace(fsm, state=State.ACTIVE, pause_s=0.0), ()
    if fsm.pause_s > 0:
        return replace(fsm, state=State.ACTIVE, pause_s=0.0), (StartTimer(Timer.CONNECT_RETRY, fsm.pause_s),)
    return _connect(fsm)


def _connect(fsm: Fsm) -> Step:
    return replace(fsm, state=State.CONNECT), (StartTimer(Timer.CONNECT_RETRY, CONNECT_TIMEOUT_S), Connect())


def _retry_s(fsm: Fsm, jitter: float) -> float:
    return backoff(fsm.connect_retry_s, fsm.attempts, RETRY_MAX_S) * jitter


def _connecting(fsm: Fsm, event: Event, jitter: float) -> Step:
    """Connect and Active: a TCP connection is being made, or waited for."""
    match event:
        case Start() | Expired(timer=Timer.STABLE):
            return fsm, ()
        case Expired(timer=Timer.CONNECT_RETRY) if fsm.state is State.CONNECT:
            return _try_later(fsm, NO_ANSWER, jitter)
        case Expired(timer=Timer.CONNECT_RETRY):
            return (fsm, ()) if fsm.passive else _connect(fsm)
        case Connected():
            opened = replace(fsm, state=State.OPENSENT)
            return opened, (StopTimers(), SendOpen(), StartTimer(Timer.HOLD, LARGE_HOLD_S))
        case Failed() if fsm.state is State.CONNECT:
            return _try_later(fsm, event.words, jitter)
        case CollisionLost():
            return _end(fsm, event.words, jitter, counts=False)
        case _:
            return _end(fsm, _words(event), jitter)


def _try_later(fsm: Fsm, words: str, jitter: float) -> Step:
    """Wait in Active for the next try, or for the neighbour."""
    if fsm.pending:
        return _end(fsm, words, jitter, counts=False)
    waiting = replace(fsm, state=State.ACTIVE, attempts=fsm.attempts + 1, hold_time_s=0, survives=frozenset())
    later: tuple[Action, ...] = () if fsm.passive else (StartTimer(Timer.CONNECT_RETRY, _retry_s(fsm, jitter)),)
    return waiting, (StopTimers(), Drop(), *later, Ended(words))


def _opensent(fsm: Fsm, event: Event, jitter: float) -> Step:
    match event:
        case Start() | Connected() | Penalty() | Expired(timer=Timer.STABLE):
            return fsm, ()
        case Failed() | NotificationReceived(code=6, subcode=5 | 7):
            return _try_later(fsm, _words(event), jitter)
        case OpenReceived():
            agreed = replace(fsm, state=State.OPENCONFIRM, hold_time_s=event.hold_time_s, survives=event.survives)
            hold = StartTimer(Timer.HOLD, agreed.hold_time_s or LARGE_HOLD_S)
            return agreed, (StopTimers(), SendKeepalive(), hold, *_keepalive(agreed, jitter))
        case _:
            return _fail(fsm, event, jitter)


def _openconfirm(fsm: Fsm, event: Event, jitter: float) -> Step:
    match event:
        case Start() | Connected() | Penalty() | Expired(timer=Timer.STABLE):
            return fsm, ()
        case Expired(timer=Timer.KEEPALIVE):
            return fsm, (SendKeepalive(), *_keepalive(fsm, jitter))
        case KeepaliveReceived():
            up = replace(fsm, state=State.ESTABLISHED, attempts=0, pause_s=0.0)
            hold = _hold(up) or (StopTimers(),)
            return up, (*hold, StartTimer(Timer.STABLE, STABLE_S), Established())
        case NotificationReceived(code=6, subcode=5 | 7):
            return _try_later(fsm, _words(event), jitter)
        case _:
            return _fail(fsm, event, jitter)


def _established(fsm: Fsm, event: Event, jitter: float) -> Step:
    match event:
        case Start() | Connected() | Penalty():
            return fsm, ()
        case Expired(timer=Timer.STABLE):
            return replace(fsm, errors=0), ()
        case Expired(timer=Timer.KEEPALIVE):
            return fsm, (SendKeepalive(), *_keepalive(fsm, jitter))
        case KeepaliveReceived() | UpdateReceived():
            return fsm, _hold(fsm)
        case _:
            return _fail(fsm, event, jitter)


def _hold(fsm: Fsm) -> tuple[Action, ...]:
    return (StartTimer(Timer.HOLD, float(fsm.hold_time_s)),) if fsm.hold_time_s else ()


def _keepalive(fsm: Fsm, jitter: float) -> tuple[Action, ...]:
    if not fsm.hold_time_s:
        return ()
    return (StartTimer(Timer.KEEPALIVE, fsm.hold_time_s / KEEPALIVES_PER_HOLD * jitter),)


# -- Ends ------------------------------------------------------------------------------------------------------------


def _fail(fsm: Fsm, event: Event, jitter: float) -> Step:
    """End a connection on which an OPEN was sent, with the NOTIFICATION that belongs to the event."""
    words = _words(event)
    match event:
        case Failed():
            return _end(fsm, words, jitter, loss=Loss.CONNECTION)
        case NotificationReceived():
            counts = event.code != CEASE or (event.within or event.subcode) not in DELIBERATE
            return _end(fsm, words, jitter, loss=_loss_by(event.code, event.subcode), counts=counts)
        case CollisionLost(silent=True):
            return _end(fsm, words, jitter, loss=Loss.CONNECTION)
        case CollisionLost():
            said = SendNotification(CEASE, COLLISION)
            return _end(fsm, words, jitter, loss=Loss.NOTIFICATION, said=said, counts=False)
        case Faulted():
            said = SendNotification(event.code, event.subcode, event.data)
            return _end(fsm, words, jitter, loss=_loss_by(event.code, event.subcode), said=said)
        case Expired(timer=Timer.HOLD):
            return _end(fsm, words, jitter, loss=Loss.NOTIFICATION, said=SendNotification(HOLD_EXPIRED, 0))
        case _:
            said = SendNotification(FSM_ERROR, fsm.state - State.OPENSENT + 1)  # RFC 6608
            return _end(fsm, words, jitter, loss=Loss.NOTIFICATION, said=said)


def _end(
    fsm: Fsm,
    words: str,
    jitter: float,
    *,
    loss: Loss | None = None,
    said: SendNotification | None = None,
    counts: bool = True,
) -> Step:
    """Fall back to Idle, for as long as damping says."""
    established = fsm.state is State.ESTABLISHED
    graceful = established and loss in fsm.survives
    errors = fsm.errors + counts
    pause = (pause_s(fsm.errors if graceful else errors) if counts else PAUSE_MIN_S) * jitter
    refused = pause if established and not graceful else min(pause, REFUSED_MAX_S)
    idle = replace(
        fsm,
        state=State.IDLE,
        hold_time_s=0,
        attempts=fsm.attempts + counts,
        errors=errors,
        pause_s=pause - refused,
        survives=frozenset(),
    )
    later = () if fsm.pending else (StartTimer(Timer.IDLE_HOLD, refused),)  # before others are told: they may fail
    return idle, (*((said,) if said else ()), StopTimers(), Drop(), *later, _ended(fsm, words, loss))


def _ended(fsm: Fsm, words: str, loss: Loss | None) -> Ended:
    if fsm.state is not State.ESTABLISHED:
        return Ended(words)
    return Ended(words, loss, loss in fsm.survives)


def pause_s(errors: int) -> float:
    """Return how long damping pauses after so many errors."""
    return backoff(PAUSE_MIN_S, errors - 1, PAUSE_MAX_S) if errors else 0.0


def _loss_by(code: int, subcode: int) -> Loss:
    return Loss.HARD_RESET if (code, subcode) == (CEASE, HARD_RESET) else Loss.NOTIFICATION


def _words(event: Event) -> str:
    match event:
        case Failed() | CollisionLost() | Penalty():
            return event.words
        case Faulted():
            return f"we ended it: {error_name(event.code, event.subcode)}: {event.words}"
        case NotificationReceived():
            return f"it ended the session: {event.words}"
        case Expired(timer=Timer.HOLD):
            return "nothing was heard from it for the whole hold time"
        case Expired():
            return f"our {event.timer.name.lower()} timer ran out where it should not run (our bug)"
        case _:
            return f"{type(event).__name__} came where it must not"
