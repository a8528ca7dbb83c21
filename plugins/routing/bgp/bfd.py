"""BFD for all peers in one thread of its own: it finds a dead path in a second where BGP takes a minute and a half.

The thread does nothing but wait for packets and deadlines, in poll(2). The event loop may be busy for seconds
meanwhile: a thread gets the interpreter every few milliseconds all the same. Only a single call that holds it for
longer (the collection of a heap of millions of objects) can delay packets; what had come by then is read before any
deadline is judged, so that the delay is not blamed on a peer.

``on_state(peer, up, words)`` is called on the event loop. ``up`` False means that the path to the peer failed. It is
not called for a session that one end shut on purpose (AdminDown): RFC 5882 section 3.2 has nothing follow from that.
So before a planned restart ``stop()`` says AdminDown: then BFD down does not undo what graceful restart is for.

BFD and graceful restart (RFC 5882 section 4.3). This BFD lives and dies with the BGP speaker, hence its C bit is 0 and
section 4.3.2 holds whatever the peer's bit is:
- BFD fails while the BGP session is up, and still is a moment later: the path failed, for a peer that restarts would
  have closed its TCP connection long before the detection time was over. The session ends, and the peer's routes go at
  once, gracefully restarting or not (section 4.3.2.2): where a NOTIFICATION would let them stay (RFC 8538), it is a
  Hard Reset around "BFD Down" (RFC 9384 section 4).
- BFD fails while the BGP session is down already: the peer restarts, and its BFD with it. Nothing follows; the stale
  routes stay for as long as graceful restart has it.
- We restart on purpose: AdminDown, from which nothing follows at the peer (at BIRD only if told ``bfd graceful``).
  We crash: the kernel closes our TCP connection first, so a peer that does as we do keeps our routes.

Not here: BFD below 100 ms (Python threads cannot promise it), authentication, Echo, link-local addresses.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from kube_router.plugins.routing.bgp.bfd_session import Status, Wanted
from kube_router.plugins.routing.bgp.bfd_sessions import Sessions
from kube_router.plugins.routing.bgp.bfd_socket import Sockets, receive

logger = logging.getLogger(__name__)

STOP_S = 1.5  # for the peers to answer our AdminDown; it is said again within a second
WAIT_S_MAX = 60.0
TURN_S = 0.002  # what comes or is due within it is done in one turn: half the work with a thousand sessions
PAUSE_S_MIN, PAUSE_S_MAX = 0.01, 1.0  # after turns that failed, doubled with each in a row
NICE = -10  # above the event loop's thread, where the machine is short of CPUs
OnState = Callable[[str, bool, str], None]

__all__ = ["Bfd", "Status", "Wanted"]


class Bfd:
    """All BFD sessions. Methods are for the event loop's thread; none but ``stop`` blocks.

    The sockets are of the network namespace of the thread that first wants a session.
    """

    def __init__(self, on_state: OnState, loop: asyncio.AbstractEventLoop) -> None:
        self._on_state, self._loop = on_state, loop
        self._lock = threading.Lock()  # held for each turn of the thread: short
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._sockets = Sockets(self._wake)
        self._sessions = Sessions(self._sockets, self._tell)
        self._wanted: Mapping[str, Wanted] | None = None  # not yet taken up by the thread
        self._stop_at: float | None = None
        self._thread: threading.Thread | None = None

    def set_sessions(self, sessions: Mapping[str, Wanted]) -> None:
        """Have these sessions, by peer address, and no others; those that are as before go on."""
        with self._lock:
            assert self._stop_at is None, "stopped"
            self._wanted = dict(sessions)
        if self._thread is None and sessions:
            self._thread = threading.Thread(target=self._run, name="bfd", daemon=True)
            self._thread.start()
        os.eventfd_write(self._wake, 1)

    def status(self) -> dict[str, Status]:
        """Return the state of each session by peer address."""
        with self._lock:
            return self._sessions.status(time.monotonic())

    def dropped(self) -> dict[str, int]:
        """Return how many packets were dropped: malformed, of no session, or with a TTL below 255."""
        with self._lock:
            return dict(self._sessions.dropped)

    def stop(self, admin_down: bool = True) -> None:
        """End all sessions; blocks for ``STOP_S`` at most, until the peers know that this is on purpose."""
        with self._lock:
            if self._stop_at is not None:
                return
            self._stop_at = time.monotonic() + (STOP_S if admin_down else 0)
            self._wanted = {} if admin_down else None
        if self._thread is not None:
            os.eventfd_write(self._wake, 1)
            self._thread.join(2 * STOP_S)
            if self._thread.is_alive():
                logger.error("bfd_thread_does_not_end now='left behind'")
                return
        self._sockets.close()
        os.close(self._wake)

    def _tell(self, peer: str, up: bool, words: str) -> None:
        with suppress(RuntimeError):  # a loop that is closed wants to know nothing
            self._loop.call_soon_threadsafe(self._on_state, peer, up, words)

    # -- The thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        with suppress(OSError):  # without CAP_SYS_NICE it is one thread among others
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        pause_s = PAUSE_S_MIN
        while True:
            try:
                if self._turn():
                    return
                pause_s = PAUSE_S_MIN
                time.sleep(TURN_S)
            except Exception:
                logger.exception("bfd_turn_failed now='goes on'")
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, PAUSE_S_MAX)

    def _turn(self) -> bool:
        """Wait for something to do, and do it. Return whether that was the last."""
        wake_at = min(self._sessions.deadline(), self._stop_at or float("inf"))
        ready = self._sockets.wait(min(max(0.0, wake_at - time.monotonic()), WAIT_S_MAX))
        with self._lock:
            now = time.monotonic()
            for listening in ready:
                for datagram in receive(listening):
                    self._sessions.hear(datagram, now)
            if self._wanted is not None:
                self._sessions.want(self._wanted, now)
                self._wanted = None
            self._sessions.run_due(now)
            return self._stop_at is not None and (now >= self._stop_at or not self._sessions)
