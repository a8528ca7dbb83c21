"""Graceful restart's bookkeeping (RFC 4724, RFC 8538): what happened, and what is to be done about it (pure)."""

from collections.abc import Collection, Mapping
from enum import IntEnum
from typing import NamedTuple

from kube_router.plugins.routing.bgp.model import Family, GracefulRestart

STALE_S = 360.0  # how long stale paths wait for End-of-RIB once the session is back
QUIET_S = 10.0  # how long after its session came up a peer without graceful restart is waited for


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

    CONNECTION = 1  # closed or reset without a NOTIFICATION, BFD down
    NOTIFICATION = 2  # sent or received, also that of an expired hold timer
    HARD_RESET = 3  # NOTIFICATION Cease/Hard Reset (6/9), sent or received
    DECONFIGURED = 4  # the peer is none any more


def is_graceful(loss: Loss, theirs: GracefulRestart | None, *, ours: bool, our_notification: bool = True) -> bool:
    """Return whether a peer's paths outlive its session. ``ours``: we sent the capability; ``…_notification``: N bit."""
    raise NotImplementedError


class Helper:
    """The receiving speaker's side for one peer: it keeps the paths of a peer that restarts."""

    def established(self, theirs: GracefulRestart | None, families: Collection[Family]) -> list[Action]:
        """The session is up: ``theirs`` is the capability of its new OPEN, ``families`` those negotiated."""
        raise NotImplementedError

    def lost(self, graceful: bool) -> list[Action]:
        """The session is gone; ``graceful`` is ``is_graceful``'s answer."""
        raise NotImplementedError

    def end_of_rib(self, family: Family) -> list[Action]:
        raise NotImplementedError

    def expired(self, timer: str) -> list[Action]:
        raise NotImplementedError


class Deferral:
    """The restarting speaker's side: whom it still waits for.

    Until ``selected`` nothing learned is told to others (RFC 4724 section 4.1); until ``complete`` nothing is deleted
    from the kernel. Both are final.
    """

    selected: bool  # every peer that is not itself restarting has sent End-of-RIB of all families
    complete: bool  # also those that restart themselves

    def __init__(self, peers: Collection[str], seconds: float) -> None:
        raise NotImplementedError

    def start(self) -> list[Action]:
        """Return the start of the timer "deferral"."""
        raise NotImplementedError

    def configure(self, peers: Collection[str]) -> list[Action]:
        """Say who the peers are now."""
        raise NotImplementedError

    def established(self, peer: str, theirs: GracefulRestart | None, families: Collection[Family]) -> list[Action]:
        raise NotImplementedError

    def lost(self, peer: str) -> list[Action]:
        raise NotImplementedError

    def end_of_rib(self, peer: str, family: Family) -> list[Action]:
        raise NotImplementedError

    def expired(self, timer: str) -> list[Action]:
        """Timers are "deferral" and "quiet PEER"."""
        raise NotImplementedError

    def awaited(self) -> Mapping[str, frozenset[Family]]:
        """Return who has not sent End-of-RIB, and of which families (none known: its session has not come up)."""
        raise NotImplementedError
