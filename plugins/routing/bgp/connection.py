"""One connection with a neighbour: its finite state machine, performed on a session and the event loop's timers.

fsm.py decides, this file does. Events are worked off one after another, also those that come while an action is
performed. In Established an UPDATE or KEEPALIVE does what the machine's row for it says without asking the machine:
it puts the hold timer off. That timer is a deadline; the loop's timer is only moved when it finds the deadline later.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from kube_router.plugins.routing.bgp import fsm_words as words
from kube_router.plugins.routing.bgp.caps import Capabilities, Open, negotiate
from kube_router.plugins.routing.bgp.collision import Line
from kube_router.plugins.routing.bgp.dial import Attempt, Dialer
from kube_router.plugins.routing.bgp.fault import Fault, notification, parse_notification
from kube_router.plugins.routing.bgp.fsm import CEASE, LARGE_HOLD_S, Fsm, incoming, step
from kube_router.plugins.routing.bgp.fsm_words import Action, Event, State, Timer
from kube_router.plugins.routing.bgp.model import Negotiated, PeerConfig
from kube_router.plugins.routing.bgp.restart import Loss, is_graceful
from kube_router.plugins.routing.bgp.session import Channel
from kube_router.plugins.routing.bgp.update import Update, UpdateParser
from kube_router.plugins.routing.bgp.wire import (
    KEEPALIVE,
    Framer,
    MessageType,
    RouteRefresh,
    encode_open,
    parse_open,
    parse_route_refresh,
)

SEND_HOLD_S = 480.0  # RFC 9687: how long a neighbour without hold time may not read
LATE_S = 1.0  # what we grant a neighbour whose message waits in the socket when its hold time is over
SEND_HOLD_EXPIRED = 8
OUT_OF_RESOURCES = 8  # subcode of Cease


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalConfig:
    """Who we are to a neighbour. ``capabilities`` is asked anew for every OPEN: graceful restart's bits change."""

    asn: int
    router_id: int
    capabilities: Callable[[PeerConfig], Capabilities]


@dataclass(slots=True)
class Counters:
    """Messages of a neighbour since it was configured."""

    received: int = 0
    sent: int = 0
    updates_received: int = 0
    updates_sent: int = 0
    refused: int = 0  # connections
    collisions: int = 0


class ConnectionOwner(Protocol):
    """Whom a connection tells: the Peer."""

    def opened(self, connection: "Connection", theirs: Open) -> bool:
        """Return whether the connection may stay beside or instead of the other one."""

    def up(self, connection: "Connection") -> None: ...

    def ended(self, connection: "Connection", ended: words.Ended) -> None: ...

    def updated(self, update: Update) -> None: ...

    def asked(self, refresh: RouteRefresh) -> None: ...

    def drained(self) -> None: ...


class Connection:
    """A machine with what it acts on. ``ours``: we open its TCP connection, not the neighbour."""

    def __init__(
        self,
        fsm: Fsm,
        *,
        config: PeerConfig,
        local: LocalConfig,
        owner: ConnectionOwner,
        counters: Counters,
        loop: asyncio.AbstractEventLoop,
        dial: Dialer,
        jitter: Callable[[], float],
    ) -> None:
        self.fsm = fsm
        self.ours = True
        self.negotiated: Negotiated | None = None
        self.their_open: Open | None = None
        self.channel: Channel | None = None
        self._config, self._local, self._owner, self._counters = config, local, owner, counters
        self._loop, self._dial, self._jitter = loop, dial, jitter
        self._attempt: Attempt | None = None
        self._our_open: Open | None = None
        self._framer = Framer()
        self._parser: UpdateParser | None = None
        self._events: deque[Event] = deque()
        self._busy = False
        self._over = False
        self._timers: dict[Timer, asyncio.TimerHandle] = {}
        self._hold_s = 0.0
        self._hold_until = 0.0

    def beside(self) -> "Connection":
        """Return a connection for what the neighbour opens while this is its peering's."""
        return Connection(
            incoming(self.fsm),
            config=self._config,
            local=self._local,
            owner=self._owner,
            counters=self._counters,
            loop=self._loop,
            dial=self._dial,
            jitter=self._jitter,
        )

    @property
    def line(self) -> Line:
        """What collision detection compares."""
        return Line(self.fsm.state, self.ours, graceful=Loss.CONNECTION in self.fsm.survives)

    def promote(self, instead: "Connection") -> None:
        """Make this the peering's own connection, and the other one such that does not begin again once it ended."""
        self.fsm = replace(self.fsm, pending=False, errors=max(self.fsm.errors, instead.fsm.errors))
        instead.fsm = replace(instead.fsm, pending=True)

    def discard(self) -> None:
        """Give up a connection on which nothing was said, for good; nobody is told."""
        self._over = True
        self._stop_timers()
        self._drop(b"")
        self._events.clear()

    def send(self, message: bytes) -> None:
        if self.channel is not None:
            self.channel.write(message)

    # -- Events ------------------------------------------------------------------------------------------------------

    def handle(self, event: Event) -> None:
        """Let the machine answer an event, after those that came before it."""
        self._events.append(event)
        if self._busy:
            return
        self._busy = True
        try:
            while self._events:
                self.fsm, actions = step(self.fsm, self._events.popleft(), self._jitter())
                self._perform(actions)
        finally:
            self._busy = False

    def take(self, channel: Channel, *, ours: bool) -> None:
        """Use a TCP connection that is there; ``ours``: we opened it."""
        self._attempt = None
        self.ours = ours
        self.channel = channel
        self._framer = Framer()
        channel.attach(self)
        channel.expect(LARGE_HOLD_S)
        self.handle(words.Connected())

    def _dialled(self, result: Channel | str) -> None:
        if isinstance(result, str):
            self._attempt = None
            self.handle(words.Failed(result))
        else:
            self.take(result, ours=True)

    def lost(self, why: str) -> None:
        """The session ended."""
        self.channel = None
        self.handle(words.Failed(why))

    def drained(self) -> None:
        """The session has room again."""
        if self.fsm.state is State.ESTABLISHED:
            self._owner.drained()

    def _expired(self, timer: Timer) -> None:
        self._timers.pop(timer, None)
        if timer is Timer.HOLD:
            self._hold_expired()
        else:
            self.handle(words.Expired(timer))

    def _hold_expired(self) -> None:
        """See whether the hold time is really over: it was put off, or we did not come to read what is there."""
        left = self._hold_until - self._loop.time()
        if left <= 0 and self.channel is not None and self.channel.has_input():
            left = LATE_S
        if left > 0:
            self._timers[Timer.HOLD] = self._loop.call_later(left, self._expired, Timer.HOLD)
        else:
            self.handle(words.Expired(Timer.HOLD))

    # -- Messages ----------------------------------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """Handle the messages that are complete; what is wrong with one ends the connection."""
        channel = self.channel
        try:
            messages = self._framer.feed(data)
            while messages and self.channel is channel:
                self._hold_until = self._loop.time() + self._hold_s
                self._counters.received += len(messages)
                for kind, body in messages:
                    self._message(kind, body)
                    if self.channel is not channel:
                        return
                messages = self._framer.feed(b"")
        except Fault as fault:
            self.handle(words.Faulted(fault.code, fault.subcode, fault.words, fault.data))
        except Exception:
            # The routes it told us are not what we hold any more: they are to be told anew.
            self.handle(words.Faulted(CEASE, OUT_OF_RESOURCES, "handling its message failed (our bug)"))
            raise

    def _message(self, kind: MessageType, body: bytes) -> None:
        established = self.fsm.state is State.ESTABLISHED
        if kind is MessageType.UPDATE and established and self._parser is not None:
            self._counters.updates_received += 1
            self._owner.updated(self._parser.parse(body))
        elif kind is MessageType.ROUTE_REFRESH and established:
            enhanced = self.negotiated is not None and self.negotiated.enhanced_refresh
            self._owner.asked(parse_route_refresh(body, enhanced=enhanced))
        elif kind is MessageType.KEEPALIVE:
            if not established:
                self.handle(words.KeepaliveReceived())
        elif kind is MessageType.OPEN:
            self._open(body)
        elif kind is MessageType.NOTIFICATION:
            said = parse_notification(body)
            self.handle(words.NotificationReceived(said.code, said.subcode, said.words, said.within))
        else:
            self.handle(words.UpdateReceived())

    def _open(self, body: bytes) -> None:
        if self.fsm.state is not State.OPENSENT or self._our_open is None:
            self.handle(words.OpenReceived(0))
            return
        theirs = parse_open(body)
        agreed = negotiate(self._our_open, theirs, self._config, self._local.asn)
        if not self._owner.opened(self, theirs):
            self.handle(words.CollisionLost("another connection with it stays"))
            return
        self.their_open, self.negotiated = theirs, agreed
        self._framer.message_max = agreed.message_max
        self._parser = UpdateParser(agreed)
        if self.channel is not None:
            self.channel.expect(agreed.hold_time_s or SEND_HOLD_S)
        self.handle(words.OpenReceived(agreed.hold_time_s, self._survives(self._our_open, theirs)))

    def _survives(self, ours: Open, theirs: Open) -> frozenset[Loss]:
        mine, its = ours.capabilities.graceful_restart, theirs.capabilities.graceful_restart
        if mine is None:
            return frozenset()
        told = mine.notification
        return frozenset(loss for loss in Loss if is_graceful(loss, its, ours=True, our_notification=told))

    # -- Actions -----------------------------------------------------------------------------------------------------

    def _perform(self, actions: tuple[Action, ...]) -> None:
        """Do what the machine says. A NOTIFICATION goes with the close that follows it."""
        last = b""
        for action in actions:
            match action:
                case words.StartTimer():
                    self._start_timer(action.timer, action.seconds)
                case words.StopTimers():
                    self._stop_timers()
                case words.Connect():
                    self._drop(b"")
                    self.ours = True
                    self._attempt = self._dial(self._config, self._dialled)
                case words.SendOpen():
                    self._send_open()
                case words.SendKeepalive():
                    self._send_keepalive()
                case words.SendNotification():
                    last = notification(action.code, action.subcode, action.data)
                    self._counters.sent += 1
                case words.Drop():
                    self._drop(last)
                case words.Established():
                    self._owner.up(self)
                case words.Ended():
                    self._owner.ended(self, action)

    def _send_open(self) -> None:
        capabilities = self._local.capabilities(self._config)
        hold = self._config.hold_time_s
        self._our_open = Open(4, self._local.asn, hold, self._local.router_id, capabilities)
        self._counters.sent += 1
        self.send(encode_open(self._our_open))

    def _send_keepalive(self) -> None:
        hold = self.fsm.hold_time_s
        stalled_s = self.channel.stalled_s() if self.channel is not None else 0.0
        if hold and stalled_s >= hold:
            why = f"it has read nothing of what we sent for {stalled_s:.0f} s"
            self.handle(words.Faulted(SEND_HOLD_EXPIRED, 0, why))
            return
        self._counters.sent += 1
        self.send(KEEPALIVE)

    def _drop(self, last: bytes) -> None:
        attempt, self._attempt = self._attempt, None
        channel, self.channel = self.channel, None
        if attempt is not None:
            attempt.cancel()
        if channel is not None:
            channel.close(last)

    def _start_timer(self, timer: Timer, seconds: float) -> None:
        if self._over:
            return
        running = self._timers.pop(timer, None)
        if running is not None:
            running.cancel()
        if timer is Timer.HOLD:
            self._hold_s = seconds
            self._hold_until = self._loop.time() + seconds
        if seconds > 0:
            self._timers[timer] = self._loop.call_later(seconds, self._expired, timer)
        else:  # now, before a connection comes that would be refused
            self.handle(words.Expired(timer))

    def _stop_timers(self) -> None:
        for running in self._timers.values():
            running.cancel()
        self._timers.clear()
