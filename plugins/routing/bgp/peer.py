"""One neighbour: its connections, what became of them, and what its owner is told.

A peering has one connection of its own (``primary``), which connects again when it ended, and at most one beside it
that the neighbour opened (``pending``). On the neighbour's OPEN it is decided which of the two stays (collision.py); a
pending one that stays becomes the primary. All is done in call-backs of the event loop, no task is started.
"""

import asyncio
import logging
import random
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from kube_router.plugins.routing.bgp import sockopt
from kube_router.plugins.routing.bgp.collision import Verdict, ours_prevails, resolve
from kube_router.plugins.routing.bgp.connection import Connection, Counters
from kube_router.plugins.routing.bgp.connection import LocalConfig as LocalConfig
from kube_router.plugins.routing.bgp.dial import Dialer, TcpDialer
from kube_router.plugins.routing.bgp.fault import HARD_RESET, communication, error_name, notification
from kube_router.plugins.routing.bgp.fsm import CEASE, REFUSED_MAX_S, Fsm, pause_s
from kube_router.plugins.routing.bgp.fsm_words import (
    CollisionLost,
    Ended,
    Faulted,
    Penalty,
    Start,
    Stop,
)
from kube_router.plugins.routing.bgp.fsm_words import State as State
from kube_router.plugins.routing.bgp.model import Negotiated, PeerConfig
from kube_router.plugins.routing.bgp.restart import Loss
from kube_router.plugins.routing.bgp.session import Channel, Session
from kube_router.plugins.routing.bgp.update import Update
from kube_router.plugins.routing.bgp.wire import Open, RouteRefresh

logger = logging.getLogger(__name__)

JITTER_MIN = 0.75  # RFC 4271 section 10
WITH_WORDS = frozenset({2, 4})  # Cease subcodes that carry a Shutdown Communication (RFC 9003)
REJECTED = notification(6, 5)  # connection rejected


class PeerOwner(Protocol):
    """Whom a Peer tells. All calls come from the event loop, never from inside a call of the owner's but ``stop``.

    ``established`` is told once per session, ``down`` once for each ``established``.
    """

    def established(self, peer: "Peer") -> None: ...

    def down(self, peer: "Peer", why: str, graceful: bool) -> None:
        """The session is over; ``peer.negotiated`` is still what it was. ``graceful``: its routes stay as stale."""

    def update(self, peer: "Peer", update: Update) -> None: ...

    def refresh(self, peer: "Peer", refresh: RouteRefresh) -> None: ...

    def writable(self, peer: "Peer") -> None: ...


class Peer:
    """A neighbour from ``start`` to ``stop``; another configuration needs another Peer.

    ``dial`` and ``jitter`` are for tests: how connections are opened, and the factor of every wait.
    """

    def __init__(
        self,
        config: PeerConfig,
        *,
        local: LocalConfig,
        owner: PeerOwner,
        loop: asyncio.AbstractEventLoop | None = None,
        dial: Dialer | None = None,
        jitter: Callable[[], float] | None = None,
    ) -> None:
        self.config = config
        self.negotiated: Negotiated | None = None
        self.their_open: Open | None = None
        self.established_at: float | None = None  # by the loop's clock
        self.flaps = 0
        self.last_error = ""
        self.counters = Counters()
        self._local, self._owner = local, owner
        self._loop = loop or asyncio.get_running_loop()
        self._pending: Connection | None = None
        self._rival: Connection | None = None  # what was pending when the session came up
        self._primary = Connection(
            Fsm(passive=config.passive, connect_retry_s=config.connect_retry_s),
            config=config,
            local=local,
            owner=self,
            counters=self.counters,
            loop=self._loop,
            dial=dial or TcpDialer(self._loop),
            jitter=jitter or (lambda: random.uniform(JITTER_MIN, 1)),
        )

    @property
    def state(self) -> State:
        """The state of its connection that is furthest."""
        beside = self._pending.fsm.state if self._pending is not None else State.IDLE
        return max(self._primary.fsm.state, beside)

    def start(self) -> None:
        """Begin to connect, or to wait for its connection."""
        self._primary.handle(Start())

    def stop(self, code: int = 6, subcode: int = 2, words: str = "", *, silent: bool = False) -> None:
        """End for good; with a NOTIFICATION unless ``silent`` (graceful restart: it keeps our routes)."""
        data = communication(words) if words and code == 6 and subcode in WITH_WORDS else b""
        ours = f"we ended it: {words or error_name(code, subcode)}"
        event = Stop(code=code, subcode=subcode, data=data, words=ours, silent=silent)
        if self._pending is not None:
            self._pending.handle(event)
        self._primary.handle(event)

    def reset(self, code: int, subcode: int, words: str, *, hard: bool = False) -> None:
        """End the session with a NOTIFICATION and, after a pause, begin again (RFC 4271: AutomaticStop; BFD: 6/10).

        ``hard``: nobody's routes outlive it, even where a NOTIFICATION is graceful (RFC 8538 section 3.1: Hard Reset).
        """
        fsm = self._primary.fsm
        if fsm.state < State.OPENSENT:
            return
        if hard and Loss.NOTIFICATION in fsm.survives:
            self._primary.handle(Faulted(CEASE, HARD_RESET, words, bytes((code, subcode))))
        else:
            self._primary.handle(Faulted(code, subcode, words))

    def accepted(self, sock: socket.socket) -> None:
        """Take a connection that it opened (the listener calls this).

        TTL security holds from here on; what came before is judged by the SYN, which came the same way.
        """
        config = self.config
        try:
            ttl = sockopt.syn_ttl(sock) if config.ttl_security else None
            if ttl is not None and ttl < sockopt.minimum_ttl(config.ttl):
                self.counters.refused += 1
                logger.warning("bgp_accept peer=%s ttl=%d why='from further away' now='closed'", config.address, ttl)
                sock.close()
                return
            sockopt.set_common(sock)
            sockopt.set_hops(sock, internal=config.internal, ttl=config.ttl, ttl_security=config.ttl_security)
        except OSError as error:
            logger.warning("bgp_accept peer=%s error=%r now='closed'", config.address, error.strerror)
            sock.close()
            return
        self.take(Session(sock, self._loop))

    def take(self, channel: Channel) -> None:
        """Use a TCP connection that it opened, unless damping refuses it.

        One that it opened before and has not finished is superseded.
        """
        if self._primary.fsm.state is State.IDLE or self._is_damped():
            self.counters.refused += 1
            channel.close(REJECTED)
            return
        if self._pending is not None:
            self._pending.handle(CollisionLost("it opened another connection"))
        self._pending = self._primary.beside()
        self._pending.take(channel, ours=False)

    def _is_damped(self) -> bool:
        """Return whether a neighbour that replaced its session lately replaces it too soon again."""
        pause = min(pause_s(self._primary.fsm.errors), REFUSED_MAX_S)
        return self.established_at is not None and self._loop.time() - self.established_at < pause

    def send(self, messages: Sequence[bytes]) -> bool:
        """Take whole messages for sending; False: none was taken, ``writable`` will be told when there is room."""
        channel = self._primary.channel
        if self._primary.fsm.state is not State.ESTABLISHED or channel is None:
            return True  # they are of a session that is over
        if channel.is_full():
            return False
        self.counters.sent += len(messages)
        self.counters.updates_sent += len(messages)
        channel.write(b"".join(messages))
        return True

    # -- What its connections tell ------------------------------------------------------------------------------------

    def opened(self, connection: Connection, theirs: Open) -> bool:
        """Return whether the connection may stay; the one that may not stay instead is ended."""
        other = self._pending if connection is self._primary else self._primary
        if other is None:
            return True
        local = self._local
        prevails = ours_prevails(local.router_id, theirs.router_id, local.asn, theirs.asn)
        restarted = connection is not self._rival
        verdict = resolve(connection.line, other.line, prevails=prevails, restarted=restarted)
        if verdict is Verdict.NEW:
            self._supersede(connection, CollisionLost("another connection with it stays"))
        elif verdict is Verdict.OLD:
            self.counters.collisions += 1
        return verdict is not Verdict.OLD

    def _supersede(self, connection: Connection, end: CollisionLost) -> None:
        """Make a connection the primary, and the only one."""
        other = self._pending if connection is self._primary else self._primary
        self._primary, self._pending = connection, None
        if other is None:
            return
        connection.promote(other)
        if other.fsm.state >= State.OPENSENT:
            self.counters.collisions += 1
            other.handle(end)
            connection.promote(other)  # with its errors, should this one be counted
        else:
            other.discard()

    def up(self, connection: Connection) -> None:
        """The connection is established."""
        if connection is self._pending:
            self._supersede(connection, CollisionLost("it began a new session", silent=True))
        self._rival = self._pending
        self.negotiated, self.their_open = connection.negotiated, connection.their_open
        self.established_at = self._loop.time()
        logger.info("bgp_up peer=%s asn=%d", self.config.address, self.config.asn)
        self._owner.established(self)

    def ended(self, connection: Connection, ended: Ended) -> None:
        """A connection is over, or the try of one."""
        if connection is self._pending:
            self._pending = None
            if connection.fsm.errors > self._primary.fsm.errors:
                self._primary.handle(Penalty(ended.words))
            return
        pending = self._pending
        if connection is self._primary and pending is not None and pending.fsm.state >= State.OPENCONFIRM:
            self._primary, self._pending = pending, None
            pending.promote(connection)
            connection.discard()
        if connection is self._primary or ended.loss is not None:
            self._note(ended)

    def _note(self, ended: Ended) -> None:
        news = ended.words != self.last_error
        self.last_error = ended.words
        if ended.loss is None:
            if news:
                logger.info("bgp_no_session peer=%s why=%r", self.config.address, ended.words)
            return
        logger.warning(
            "bgp_down peer=%s why=%r routes=%s", self.config.address, ended.words, "kept" if ended.graceful else "lost"
        )
        self.flaps += 1
        self.established_at = None
        self._owner.down(self, ended.words, ended.graceful)
        if self.established_at is None:
            self.negotiated = self.their_open = None

    def updated(self, update: Update) -> None:
        self._owner.update(self, update)

    def asked(self, refresh: RouteRefresh) -> None:
        self._owner.refresh(self, refresh)

    def drained(self) -> None:
        self._owner.writable(self)

    # -- Seeing it ---------------------------------------------------------------------------------------------------

    def describe(self) -> Mapping[str, object]:
        """Return what ``kr bgp`` shows of it."""
        up_s = 0.0 if self.established_at is None else self._loop.time() - self.established_at
        return {
            "address": self.config.address,
            "asn": self.config.asn,
            "state": self.state.name.lower(),
            "uptime_s": round(up_s, 1),
            "flaps": self.flaps,
            "last_error": self.last_error,
            "messages_received": self.counters.received,
            "messages_sent": self.counters.sent,
            "updates_received": self.counters.updates_received,
            "updates_sent": self.counters.updates_sent,
            "connections_refused": self.counters.refused,
            "collisions": self.counters.collisions,
            **_agreed(self.negotiated),
        }


def _agreed(negotiated: Negotiated | None) -> Mapping[str, object]:
    if negotiated is None:
        return {}
    has = {
        "four-octet-as": negotiated.four_octet_as,
        "add-path": bool(negotiated.add_path_receive),
        "extended-next-hop": bool(negotiated.extended_next_hop),
        "extended-message": negotiated.message_max > 4096,
        "route-refresh": negotiated.route_refresh,
        "enhanced-refresh": negotiated.enhanced_refresh,
        "graceful-restart": negotiated.graceful_restart is not None,
    }
    return {
        "hold_time_s": negotiated.hold_time_s,
        "families": sorted(family.name.lower() for family in negotiated.families),
        "capabilities": [name for name, there in has.items() if there],
    }
