"""Decide what a reflector does next: sync, resume, watch or wait, and for how long (pure: no clock, I/O or chance).

A reflector mirrors one resource of an API server. It holds a resourceVersion and is at any moment in one of three
steps:

``SYNC``    ask for the full list and hand it over (``why``: initial, resume, expired, rewind, periodic);
``RESUME``  go on from a journaled resourceVersion without a list, and prove that it was enough (below);
``WATCH``   follow the stream from the resourceVersion reached.

**Proving a resume.** Watching from the journaled resourceVersion R brings every change since R, but nothing in a watch
says "this was the last of them": bookmarks come once a minute. So a consistent ``LIST limit=1`` first asks for the
server's present revision G. G < R: the server's history was rewound (an etcd restore, kubernetes#107457): sync. G = R:
nothing has changed anywhere, what is known is current. G > R: watch from R, with a short ``timeoutSeconds``; the server
sends a bookmark two seconds before a watch's end, and the consistent LIST has just made its cache of this resource
catch up with G, so the bookmark names at least G although no object of this kind may have changed. When the stream has
reached G everything up to G is applied: what is known is confirmed. A watch that ends below G (older servers answer
the LIST past their cache) proves nothing: sync. The proof costs two small requests and about a second (kube-apiserver
1.36), instead of 9 KB per pod. Quiet alone ("200 and no error for a second") is no proof: a server may be slow.

A resume relies on R and G belonging to one history. An etcd restored to below R that has since grown past R is not
seen; the safety-net sync twice a day at most mends it.

**Waiting.** Failures back off exponentially with jitter and never below what Retry-After asks. The first ``Expired``
after a healthy time is followed at once, the next ones wait: a server that answers 410 to everything is not hammered.
A stream shorter than a second counts as a failure, whatever it brought.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from kube_router.events.errors import KubeRouterError, PeerError

Chance = Callable[[], float]  # uniform in [0, 1), such as random.random


@dataclass(frozen=True, slots=True)
class Timing:
    """Every interval and bound of the source."""

    connect_s: float = 10
    connect_next_s: float = 3  # the same where there is another server to ask
    response_s: float = 30  # until the head of an answer
    stall_s: float = 150  # silence in a watch: more than two bookmark periods
    list_stall_s: float = 30  # silence in a list, or before the end of a streamed one
    short_s: float = 1  # a watch shorter than this has failed
    backoff_min_s: float = 0.8
    backoff_max_s: float = 30
    retry_after_max_s: float = 300
    healthy_s: float = 120  # a stream that lasted this long forgives earlier failures
    watch_min_s: float = 300
    watch_max_s: float = 600
    probe_s: float = 3  # timeoutSeconds of the watch that proves a resume
    prove_s: float = 6  # after that it has not proved it, whatever the server is waiting for
    guard_s: float = 600
    full_min_s: float = 12 * 3600
    full_max_s: float = 24 * 3600
    renew_s: float = 5  # the client is built anew at most this often after refusals
    page_objects: int = 500
    list_pages_max: int = 10_000
    list_objects_max: int = 2_000_000
    line_bytes_max: int = 64 << 20
    page_bytes_max: int = 256 << 20


class Broken(PeerError):
    """The connection failed, fell silent, or carried what is no answer to the question."""


class Refused(PeerError):
    """An answer other than the wished one. ``status`` is HTTP's, or the code of a Status in the stream."""

    def __init__(self, status: int, what: str, retry_after_s: float = 0) -> None:
        super().__init__(what, retry_after_s)
        self.status = status


class Expired(PeerError):
    """410: the server no longer has the history since our resourceVersion (or for a list's continue token)."""


class Step(Enum):
    SYNC = "sync"
    RESUME = "resume"
    WATCH = "watch"


@dataclass(frozen=True, slots=True)
class Next:
    """``guard``: compare with the server's present revision first. ``why`` is the Sync record's."""

    step: Step
    why: str = ""
    guard: bool = False


def is_older(rv: str, than: str) -> bool | None:
    """Tell whether a resourceVersion is older than another; None where they cannot be compared."""
    if not (rv.isascii() and rv.isdigit() and than.isascii() and than.isdigit()):
        return None
    return int(rv) < int(than)


def newest(rv: str, other: str) -> str:
    """Return the newer resourceVersion; the second where they cannot be compared."""
    return rv if is_older(other, rv) else other


class Course:
    """Where one reflector stands. Times are of one monotonic clock, in seconds."""

    def __init__(self, *, rv: str, timing: Timing, chance: Chance, now: float) -> None:
        self.rv = rv
        self.failures = 0
        self.watch_list_served = True
        self.use_selectors = True
        self._list_next = False
        self._timing, self._chance = timing, chance
        self.is_confirmed = False
        self._sync_why = "" if rv else "initial"
        self._guard_due = False
        self._opened_at: float | None = None
        self._guard_at = now + self._spread(timing.guard_s)
        self._full_at = now + self._between(timing.full_min_s, timing.full_max_s)

    def next(self, now: float) -> Next:
        """Return what to do now."""
        self._opened_at = None
        if self._sync_why:
            return Next(Step.SYNC, self._sync_why)
        if not self.is_confirmed:
            return Next(Step.RESUME)
        if now >= self._full_at:
            # Should it fail, the watch goes on and the sync is tried again later: it is only a safety net.
            self._full_at = now + self._spread(self._timing.guard_s)
            self.watch_list_served = True
            return Next(Step.SYNC, "periodic")
        return Next(Step.WATCH, guard=self._guard_due or now >= self._guard_at)

    @property
    def use_watch_list(self) -> bool:
        """Whether the next full list is to be streamed."""
        return self.watch_list_served and not self._list_next

    def streamed_list_broke(self) -> None:
        """A streamed list did not come to its end: some servers ignore the wish for one. The next list is paged."""
        self._list_next = True

    def watch_timeout_s(self) -> int:
        """Return a ``timeoutSeconds`` for the next watch, spread so that nodes do not reconnect together."""
        return max(1, int(self._between(self._timing.watch_min_s, self._timing.watch_max_s)))

    def opened(self, now: float) -> None:
        """The server has accepted a watch."""
        self._opened_at = now

    def need_sync(self, why: str) -> None:
        """Nothing but a full list will do."""
        self._sync_why = why

    def synced(self, rv: str, now: float) -> None:
        """The full list has been handed over."""
        self.rv, self._sync_why, self.is_confirmed, self._guard_due = rv, "", True, False
        self._list_next = False
        self._guard_at = now + self._spread(self._timing.guard_s)
        self._full_at = now + self._between(self._timing.full_min_s, self._timing.full_max_s)

    def confirmed(self) -> None:
        """The resumed stream has reached the server's present."""
        self.is_confirmed = True

    def guarded(self, present_rv: str, now: float) -> bool:
        """Compare with the server's present revision; return False, and ask for a sync, if history was rewound."""
        self._guard_due = False
        self._guard_at = now + self._spread(self._timing.guard_s)
        if is_older(present_rv, self.rv):
            self._sync_why = "rewind"
            return False
        return True

    def closed(self, now: float) -> None:
        """A stream has ended as agreed. Raises Broken if it was too short to be true."""
        lasted = self._lasted(now)
        if lasted < self._timing.short_s:
            raise Broken(f"the API server closed a watch after {lasted:.1f} s")
        if lasted >= self._timing.healthy_s:
            self.failures = 0

    def failed(self, error: KubeRouterError, now: float) -> float:
        """Take note of a failure; return how long to wait, in seconds."""
        if self._lasted(now) >= self._timing.healthy_s:
            self.failures = 0
        wait_s = self._backoff_s()
        self.failures += 1
        if isinstance(error, Expired):
            self._sync_why = self._sync_why or "expired"
            return 0 if self.failures == 1 else wait_s
        if not isinstance(error, Refused) or error.status >= 500:
            self._guard_due = True
        asked_s = error.retry_after_s if isinstance(error, PeerError) else 0
        return max(min(asked_s, self._timing.retry_after_max_s) * (1 + self._chance() / 10), wait_s)

    def give_up_selectors(self, error: Refused, selectors: bool) -> bool:
        """Return True, once, if a request refused as malformed is worth repeating without selectors."""
        if not (selectors and self.use_selectors and is_malformed(error)):
            return False
        self.use_selectors, self.watch_list_served = False, True
        # What was mirrored with selectors is another set: a resourceVersion reached with them says nothing now.
        self._sync_why = self._sync_why or "initial"
        return True

    def _lasted(self, now: float) -> float:
        return 0 if self._opened_at is None else now - self._opened_at

    def _backoff_s(self) -> float:
        doubled = self._timing.backoff_min_s * 2.0 ** min(self.failures, 16)
        return min(doubled, self._timing.backoff_max_s) * (0.5 + self._chance() / 2)

    def _between(self, low: float, high: float) -> float:
        return low + (high - low) * self._chance()

    def _spread(self, interval_s: float) -> float:
        return self._between(interval_s * 0.8, interval_s * 1.2)


def is_malformed(error: Refused) -> bool:
    """Tell whether the server did not understand the request: 400 BadRequest, 422 Invalid."""
    return error.status in (400, 422)
