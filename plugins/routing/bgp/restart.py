"""Graceful restart's bookkeeping (RFC 4724, RFC 8538): what happened, and what is to be done about it (pure).

Both sides of it are here. As *helper* a speaker keeps the paths of a peer whose session broke, marked stale, while the
peer's forwarding plane presumably goes on: until the peer is back and has said all it knows (End-of-RIB), or says that
its forwarding state is lost, or stays away too long. As *restarting* speaker it defers: it learned nothing yet, so what
its kernel still holds is neither deleted nor contradicted before its peers have said all they know.

Both are told of events and answer with actions; timers are actions, and their end is an event. The paths themselves are
in rib.py.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from kube_router.plugins.routing.bgp.model import Family, GracefulRestart

STALE_S = 360.0  # how long stale paths wait for End-of-RIB once the session is back
QUIET_S = 10.0  # how long after its session came up a peer without graceful restart is waited for

RESTART, STALE, DEFERRAL, QUIET = "restart", "stale", "deferral", "quiet "  # names of timers
REFRESH = "refresh"
BEGIN, END = 1, 2  # subtypes of ROUTE-REFRESH (RFC 7313)

EVERY = frozenset(Family)
NONE: frozenset[Family] = frozenset()


class Do(IntEnum):
    MARK_STALE = 1  # rib.mark_stale(peer, families)
    SWEEP = 2  # rib.sweep(peer, families)
    DROP = 3  # rib.drop(peer, families)
    START_TIMER = 4  # (again: with the new time)
    STOP_TIMER = 5


class Action(NamedTuple):
    """What to do to a peer's paths, or with a timer: ``timer`` is its name, unique per peer."""

    do: Do
    families: frozenset[Family] = frozenset()
    timer: str = ""
    seconds: float = 0.0


class Loss(IntEnum):
    """How a session ended."""

    CONNECTION = 1  # closed or reset without a NOTIFICATION
    NOTIFICATION = 2  # sent or received, also that of an expired hold timer
    HARD_RESET = 3  # NOTIFICATION Cease/Hard Reset (6/9), sent or received
    DECONFIGURED = 4  # the peer is none any more


def is_graceful(loss: Loss, theirs: GracefulRestart | None, *, ours: bool, our_notification: bool = True) -> bool:
    """Return whether a peer's paths outlive its session.

    ``ours``: we sent the capability, ``our_notification``: with the N bit. A NOTIFICATION is graceful if both sent that
    bit (RFC 8538 section 4), and else says that the session is over for good (RFC 4724 section 4).
    """
    if theirs is None or not ours:
        return False
    if loss is Loss.NOTIFICATION:
        return theirs.notification and our_notification
    return loss is Loss.CONNECTION


def _start(timer: str, seconds: float) -> Action:
    return Action(Do.START_TIMER, timer=timer, seconds=seconds)


def _stop(timer: str) -> Action:
    return Action(Do.STOP_TIMER, timer=timer)


class Helper:
    """The receiving speaker's side for one peer: it keeps the paths of a peer that restarts (RFC 4724 section 4.2)."""

    def __init__(self) -> None:
        self._up = False
        self._theirs: GracefulRestart | None = None
        self._families = NONE  # negotiated in the last session
        self._stale = NONE  # families that may hold stale paths
        self._refreshed = NONE  # families of which the peer is saying all it knows anew

    @property
    def stale(self) -> frozenset[Family]:
        """The families in which paths of an earlier session are kept."""
        return self._stale

    @property
    def is_keeping(self) -> bool:
        """Whether any path may be stale, of an earlier session or in a refresh."""
        return bool(self._stale or self._refreshed)

    def established(self, theirs: GracefulRestart | None, families: Collection[Family]) -> list[Action]:
        """The session is up: ``theirs`` is the capability of its new OPEN, ``families`` those negotiated."""
        self._up, self._theirs, self._families = True, theirs, frozenset(families)
        if not self._stale:
            return []
        preserved = NONE if theirs is None else frozenset(family for family, kept in theirs.families.items() if kept)
        kept = self._stale & self._families & preserved
        actions, lost = [_stop(RESTART)], self._stale - kept
        self._stale = kept
        if lost:
            actions.append(Action(Do.SWEEP, lost))
        if kept:
            actions.append(_start(STALE, STALE_S))
        return actions

    def lost(self, graceful: bool) -> list[Action]:
        """The session is gone; ``graceful`` is ``is_graceful``'s answer."""
        kept = NONE
        if graceful and self._up and self._theirs is not None and self._theirs.time_s > 0:
            kept = self._families & frozenset(self._theirs.families)
        # What is stale since an earlier loss and has not been said again goes: it does not outlive a second one.
        twice = self._stale & kept
        actions = [Action(Do.SWEEP, twice)] if twice else []
        if kept != EVERY:
            actions.append(Action(Do.DROP, EVERY - kept))
        if self._stale:
            actions.append(_stop(STALE if self._up else RESTART))
        if kept:
            assert self._theirs is not None
            actions += [Action(Do.MARK_STALE, kept), _start(RESTART, self._theirs.time_s)]
        if self._refreshed:
            actions.append(_stop(REFRESH))
        self._up, self._stale, self._refreshed = False, kept, NONE
        return actions

    def end_of_rib(self, family: Family) -> list[Action]:
        """The peer has said all it knows of a family."""
        if family not in self._stale:
            return []
        self._stale -= {family}
        sweep = Action(Do.SWEEP, frozenset({family}))
        return [sweep] if self._stale else [sweep, _stop(STALE)]

    def refreshed(self, family: Family, subtype: int) -> list[Action]:
        """The peer begins or ends to say anew all it knows of a family: what it leaves out is gone (RFC 7313).

        A beginning before End-of-RIB means nothing (section 4): what is stale then is of an earlier session.
        """
        if subtype == BEGIN and family in self._families and family not in self._stale:
            self._refreshed |= {family}
            return [Action(Do.MARK_STALE, frozenset({family})), _start(REFRESH, STALE_S)]
        if subtype == END and family in self._refreshed:
            self._refreshed -= {family}
            sweep = Action(Do.SWEEP, frozenset({family}))
            return [sweep] if self._refreshed else [sweep, _stop(REFRESH)]
        return []

    def expired(self, timer: str) -> list[Action]:
        """A timer has run out; one that was stopped meanwhile changes nothing."""
        if timer == REFRESH:
            gone, self._refreshed = self._refreshed, NONE
            return [Action(Do.SWEEP, gone)] if gone else []
        if not self._stale or timer != (STALE if self._up else RESTART):
            return []
        gone, self._stale = self._stale, NONE
        return [Action(Do.SWEEP, gone)]


@dataclass(slots=True)
class _Awaited:
    """A peer that has not said all it knows. ``families`` are those it owes, ``None`` before its session is up."""

    families: frozenset[Family] | None = None
    restarting: bool = False


class Deferral:
    """The restarting speaker's side: whom it still waits for.

    Until ``selected`` nothing learned is told to others (RFC 4724 section 4.1): a peer that itself restarts is not
    waited for, as it may wait for us. Until ``complete`` nothing is deleted from the kernel: here such a peer counts
    too, for it will say what it knows once it has selected. A peer without graceful restart need not send End-of-RIB:
    it has said all after a while. Both are final: what happens to peers later is no matter of a restart.

    Where nothing is ``preserved`` in the kernel, peers keep nothing of us that could be contradicted (no F bit): there
    waiting would only leave them without routes, for as long as any single peer is away.
    """

    def __init__(self, peers: Collection[str], seconds: float, *, preserved: bool = True) -> None:
        self.selected = not preserved
        self.complete = False
        self._seconds = seconds
        self._peers = frozenset(peers)
        self._awaited = {peer: _Awaited() for peer in peers}

    def start(self) -> list[Action]:
        """Start to wait: the timer of the whole."""
        return [_start(DEFERRAL, self._seconds), *self._judge()]

    def configure(self, peers: Collection[str]) -> list[Action]:
        """Say who the peers are now."""
        new = frozenset(peers) - self._peers
        self._awaited = {peer: entry for peer, entry in self._awaited.items() if peer in peers}
        if not self.complete:
            self._awaited |= {peer: _Awaited() for peer in sorted(new)}
        self._peers = frozenset(peers)
        return self._judge()

    def established(self, peer: str, theirs: GracefulRestart | None, families: Collection[Family]) -> list[Action]:
        """A session is up; ``theirs`` is the peer's capability."""
        entry = self._awaited.get(peer)
        if entry is None:
            return []
        entry.families = frozenset(families)
        entry.restarting = theirs is not None and theirs.restarting
        actions = [_start(QUIET + peer, QUIET_S)] if theirs is None else []
        return [*actions, *self._judge()]

    def lost(self, peer: str) -> list[Action]:
        """A session is gone: a peer that had not said all is waited for anew."""
        if peer not in self._awaited:
            return []
        self._awaited[peer] = _Awaited()
        return [_stop(QUIET + peer)]

    def end_of_rib(self, peer: str, family: Family) -> list[Action]:
        """A peer has said all it knows of a family."""
        entry = self._awaited.get(peer)
        if entry is None or entry.families is None:
            return []
        entry.families -= {family}
        return [] if entry.families else self._done(peer)

    def expired(self, timer: str) -> list[Action]:
        """A timer has run out: "deferral", or "quiet PEER"."""
        if timer == DEFERRAL:
            self._awaited.clear()
            return self._judge()
        peer = timer.removeprefix(QUIET)
        return self._done(peer) if peer in self._awaited else []

    def awaited(self) -> Mapping[str, frozenset[Family]]:
        """Return who has not said all it knows, and of which families (none known: its session has not come up)."""
        return {peer: entry.families or NONE for peer, entry in self._awaited.items()}

    def _done(self, peer: str) -> list[Action]:
        del self._awaited[peer]
        return [_stop(QUIET + peer), *self._judge()]

    def _judge(self) -> list[Action]:
        if self.complete:
            return []
        self.selected = self.selected or all(entry.restarting for entry in self._awaited.values())
        self.complete = not self._awaited
        return [_stop(DEFERRAL)] if self.complete else []
