"""One neighbour: its connections, what became of them, and what its owner is told."""

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from kube_router.plugins.routing.bgp.caps import Capabilities
from kube_router.plugins.routing.bgp.fsm import State
from kube_router.plugins.routing.bgp.model import Negotiated, PeerConfig
from kube_router.plugins.routing.bgp.update import Update
from kube_router.plugins.routing.bgp.wire import Open, RouteRefresh


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalConfig:
    """Who we are to a neighbour. ``capabilities`` is asked anew for every OPEN: graceful restart's bits change."""

    asn: int
    router_id: int
    capabilities: Callable[[PeerConfig], Capabilities]


class PeerOwner(Protocol):
    """Whom a Peer tells. All calls come from the event loop, never from inside a call of the owner's but ``stop``."""

    def established(self, peer: "Peer") -> None: ...

    def down(self, peer: "Peer", why: str, graceful: bool) -> None: ...

    def update(self, peer: "Peer", update: Update) -> None: ...

    def refresh(self, peer: "Peer", refresh: RouteRefresh) -> None: ...

    def writable(self, peer: "Peer") -> None: ...


class Peer:
    """A neighbour from ``start`` to ``stop``; another configuration needs another Peer. No tasks, only call-backs.

    ``established`` is told once per session, ``down`` once for each ``established``.
    """

    config: PeerConfig
    state: State
    negotiated: Negotiated | None
    their_open: Open | None
    established_at: float | None  # by the loop's clock
    flaps: int
    last_error: str

    def __init__(
        self,
        config: PeerConfig,
        *,
        local: LocalConfig,
        owner: PeerOwner,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None: ...

    def start(self) -> None:
        """Begin to connect, or to wait for its connection."""

    def stop(self, code: int = 6, subcode: int = 2, words: str = "", *, silent: bool = False) -> None:
        """End for good; with a NOTIFICATION unless ``silent`` (graceful restart: it keeps our routes)."""

    def reset(self, code: int, subcode: int, words: str) -> None:
        """End the session with a NOTIFICATION and, after a pause, begin again (RFC 4271: AutomaticStop; BFD: 6/10)."""

    def accepted(self, sock: socket.socket) -> None:
        """Take a connection that it opened (the listener calls this)."""

    def send(self, messages: Sequence[bytes]) -> bool:
        """Take whole messages for sending; False: none was taken, ``writable`` will be told when there is room."""
        raise NotImplementedError

    def describe(self) -> Mapping[str, object]:
        """Return what ``kr bgp`` shows of it."""
        raise NotImplementedError
