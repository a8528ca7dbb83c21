"""The states, timers, events and actions of a BGP connection's finite state machine (pure).

The numbers in brackets are those of the events in RFC 4271 section 8.1. Timers are actions too: whoever performs the
actions starts and stops them, and reports the one that ran out.
"""

from dataclasses import dataclass
from enum import IntEnum

from kube_router.plugins.routing.bgp.restart import Loss


class State(IntEnum):
    IDLE = 1
    CONNECT = 2
    ACTIVE = 3
    OPENSENT = 4
    OPENCONFIRM = 5
    ESTABLISHED = 6


class Timer(IntEnum):
    IDLE_HOLD = 1
    CONNECT_RETRY = 2
    HOLD = 3
    KEEPALIVE = 4
    STABLE = 5


@dataclass(frozen=True, slots=True)
class Start:
    """[1, 3-7] ManualStart, AutomaticStart; passive or not is the machine's."""


@dataclass(frozen=True, slots=True)
class Stop:
    """[2] ManualStop. ``silent``: without a NOTIFICATION, so that the neighbour keeps our routes (RFC 4724)."""

    code: int = 6  # Cease: administrative shutdown
    subcode: int = 2
    data: bytes = b""
    words: str = "stopped by us"
    silent: bool = False


@dataclass(frozen=True, slots=True)
class Expired:
    """[9-11, 13] A timer."""

    timer: Timer


@dataclass(frozen=True, slots=True)
class Connected:
    """[16, 17] The TCP connection is there: ours was acknowledged, or the neighbour's was accepted."""


@dataclass(frozen=True, slots=True)
class Failed:
    """[18] The TCP connection ended or did not come about."""

    words: str


@dataclass(frozen=True, slots=True)
class OpenReceived:
    """[19] A valid OPEN."""

    hold_time_s: int
    survives: frozenset[Loss] = frozenset()


@dataclass(frozen=True, slots=True)
class Faulted:
    """[8, 21, 22, 28] AutomaticStop, or something wrong in a message: what NOTIFICATION says it, and why in words."""

    code: int
    subcode: int
    words: str
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class CollisionLost:
    """[23] OpenCollisionDump. ``silent``: the neighbour itself has given the connection up (RFC 4724 section 5)."""

    words: str
    silent: bool = False


@dataclass(frozen=True, slots=True)
class NotificationReceived:
    """[24, 25] ``words`` are what it says; ``within`` is the subcode of the Cease that a Hard Reset carries."""

    code: int
    subcode: int
    words: str
    within: int = 0


@dataclass(frozen=True, slots=True)
class Penalty:
    """A connection that the neighbour opened beside this machine's ended with an error: damping is for both."""

    words: str


@dataclass(frozen=True, slots=True)
class KeepaliveReceived:
    """[26]"""


@dataclass(frozen=True, slots=True)
class UpdateReceived:
    """[27] UPDATE, also ROUTE-REFRESH (RFC 2918), which is as welcome in the same state."""


Event = (
    Start
    | Stop
    | Expired
    | Connected
    | Failed
    | OpenReceived
    | Faulted
    | CollisionLost
    | NotificationReceived
    | KeepaliveReceived
    | Penalty
    | UpdateReceived
)


# -- Actions ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Connect:
    """Begin a TCP connection; one that was begun before is given up."""


@dataclass(frozen=True, slots=True)
class SendOpen:
    """Send OPEN."""


@dataclass(frozen=True, slots=True)
class SendKeepalive:
    """Send KEEPALIVE."""


@dataclass(frozen=True, slots=True)
class SendNotification:
    """Send NOTIFICATION, as far as it goes without waiting."""

    code: int
    subcode: int
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Drop:
    """Close the TCP connection, or give up making one."""


@dataclass(frozen=True, slots=True)
class StartTimer:
    """Start a timer, anew if it runs."""

    timer: Timer
    seconds: float


@dataclass(frozen=True, slots=True)
class StopTimers:
    """Stop all timers of this machine."""


@dataclass(frozen=True, slots=True)
class Established:
    """The session is up."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A connection, or the try of one, is over. ``loss`` is None unless a session was established."""

    words: str
    loss: Loss | None = None
    graceful: bool = False


Action = Connect | SendOpen | SendKeepalive | SendNotification | Drop | StartTimer | StopTimers | Established | Ended
