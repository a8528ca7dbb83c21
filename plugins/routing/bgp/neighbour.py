"""One neighbour of the speaker: its session, what outlives it, and the update group it is in."""

import asyncio
import logging
from collections.abc import Callable, Sequence

from kube_router.plugins.routing.bgp import adjout, restart
from kube_router.plugins.routing.bgp.model import PeerConfig
from kube_router.plugins.routing.bgp.peer import Peer

logger = logging.getLogger(__name__)

BACKLOG_BYTES_MAX = 64 << 20  # of a neighbour that reads more slowly than routes change
CEASE, OUT_OF_RESOURCES = 6, 8


class Timers:
    """Timers by name on the event loop."""

    def __init__(self, expired: Callable[[str], None]) -> None:
        self._expired = expired
        self._running: dict[str, asyncio.TimerHandle] = {}

    def start(self, name: str, seconds: float) -> None:
        """Start a timer, anew where it runs."""
        self.stop(name)
        self._running[name] = asyncio.get_running_loop().call_later(seconds, self._fire, name)

    def stop(self, name: str) -> None:
        if (handle := self._running.pop(name, None)) is not None:
            handle.cancel()

    def stop_all(self) -> None:
        for name in list(self._running):
            self.stop(name)

    def _fire(self, name: str) -> None:
        del self._running[name]
        self._expired(name)


class Neighbour:
    """What the speaker keeps of a peer."""

    def __init__(self, config: PeerConfig, expired: Callable[["Neighbour", str], None]) -> None:
        self.config = config
        self.peer: Peer
        self.helper = restart.Helper()
        self.timers = Timers(lambda name: expired(self, name))
        self.group: adjout.Group | None = None
        self.faults = 0  # UPDATEs that RFC 7606 made withdrawals of
        self.last_fault = ""
        self._backlog: list[bytes] = []
        self._backlog_bytes = 0

    @property
    def told(self) -> int:
        """How many prefixes it is told."""
        group = self.group
        return group.count(self.config.address) if group is not None else 0

    @property
    def has_backlog(self) -> bool:
        """Whether some of what it is told has not reached its socket yet."""
        return bool(self._backlog)

    def note_faults(self, faults: Sequence[str]) -> None:
        """Count an UPDATE with faults; the log gets the first, the second, the fourth and so on of them."""
        self.faults += 1
        self.last_fault = faults[-1]
        if self.faults & (self.faults - 1) == 0:
            logger.warning(
                "bgp_update_faulty peer=%s number=%d faults=%r", self.config.address, self.faults, list(faults)
            )

    def send(self, messages: Sequence[bytes]) -> None:
        """Send in order; what the socket does not take now waits here."""
        if not messages:
            return
        if not self._backlog and self.peer.send(messages):
            return
        self._backlog += messages
        self._backlog_bytes += sum(map(len, messages))
        if self._backlog_bytes > BACKLOG_BYTES_MAX:
            size = self._backlog_bytes >> 10
            self.forget_backlog()
            words = f"it reads too slowly: {size} KiB of routes wait for it"
            # Not now: who is telling the neighbours goes through them, and the end of a session changes who they are.
            asyncio.get_running_loop().call_soon(self._give_up, self.peer.established_at, words)

    def _give_up(self, session: float | None, words: str) -> None:
        if self.peer.established_at == session:
            self.peer.reset(CEASE, OUT_OF_RESOURCES, words)

    def writable(self) -> None:
        """Send what waits, as far as the socket takes it."""
        while self._backlog and self.peer.send(self._backlog[:100]):
            self._backlog_bytes -= sum(map(len, self._backlog[:100]))
            del self._backlog[:100]

    def forget_backlog(self) -> None:
        self._backlog, self._backlog_bytes = [], 0
