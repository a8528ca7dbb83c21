"""Two BGP neighbours in a world without sockets, in which a test chooses what happens next.

The Peers are the real ones. A connect, an accept, each message and each close is an occurrence that waits until it is
chosen; so every order can be tried. Time moves only when a test moves it.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from kube_router.plugins.routing.bgp.caps import Capabilities
from kube_router.plugins.routing.bgp.dial import Done
from kube_router.plugins.routing.bgp.fsm_words import State
from kube_router.plugins.routing.bgp.model import Family, GracefulRestart, PeerConfig
from kube_router.plugins.routing.bgp.peer import LocalConfig, Peer
from kube_router.plugins.routing.bgp.session import SessionOwner
from kube_router.plugins.routing.bgp.update import Update
from kube_router.plugins.routing.bgp.wire import RouteRefresh

RESTART = GracefulRestart(notification=True, time_s=90, families={Family.IPV4: True})


class Clock:
    """A loop's clock and timers, nothing else of a loop."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.timers: list[asyncio.TimerHandle] = []

    def time(self) -> float:
        return self.now_s

    def get_debug(self) -> bool:
        return False

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(self.now_s + delay, callback, args, cast(asyncio.AbstractEventLoop, self), context)
        self.timers.append(handle)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Nothing: ``due`` leaves cancelled ones out."""

    def due(self) -> list[asyncio.TimerHandle]:
        """Return the timers that run, the next first."""
        self.timers = sorted((one for one in self.timers if not one.cancelled()), key=lambda one: one.when())
        return self.timers

    def fire(self, handle: asyncio.TimerHandle) -> None:
        """Move to a timer's time and run it."""
        self.timers.remove(handle)
        self.now_s = max(self.now_s, handle.when())
        handle._run()

    def advance(self, seconds: float) -> None:
        """Let time pass, with all that is due in it."""
        until = self.now_s + seconds
        while (due := self.due()) and due[0].when() <= until:
            self.fire(due[0])
        self.now_s = until


@dataclass(eq=False)
class End:
    """One end of a connection. ``inbox`` is on its way here; None is the close."""

    name: str
    owner: SessionOwner | None = None
    other: "End | None" = None
    inbox: deque[bytes | None] = field(default_factory=deque)
    closed: bool = False
    last: bytes = b""
    full: bool = False
    stalled: float = 0.0

    def attach(self, owner: SessionOwner) -> None:
        self.owner = owner

    def expect(self, seconds: float) -> None:
        pass

    def write(self, data: bytes) -> None:
        if not self.closed and self.other is not None and not self.other.closed:
            self.other.inbox.append(data)

    def close(self, last: bytes = b"") -> None:
        if last:
            self.write(last)
        self.last = last
        if not self.closed and self.other is not None and not self.other.closed:
            self.other.inbox.append(None)
        self.closed = True
        self.inbox.clear()

    def is_full(self) -> bool:
        return self.full

    def has_input(self) -> bool:
        return bool(self.inbox)

    def stalled_s(self) -> float:
        return self.stalled

    def deliver(self) -> None:
        item = self.inbox.popleft()
        assert self.owner is not None
        if item is None:
            self.closed = True
            self.owner.lost("it closed the connection")
        else:
            self.owner.received(item)


def pipe(name: str) -> tuple[End, End]:
    """Return both ends of a connection."""
    here, there = End(name), End(name)
    here.other, there.other = there, here
    return here, there


class Attempt:
    """A connect: first nothing is there, then both kernels know, then each end is told."""

    def __init__(self, name: str, done: Done) -> None:
        self.name, self.done = name, done
        self.cancelled = False
        self.end: End | None = None

    def cancel(self) -> None:
        self.cancelled = True
        if self.end is not None:
            self.end.close()


class Side:
    """A neighbour: the Peer, what it told, and what waits to be told to it."""

    def __init__(self, name: str, world: "World", config: PeerConfig, local: LocalConfig) -> None:
        self.name, self.world = name, world
        self.told: list[str] = []
        self.attempts: list[Attempt] = []
        self.backlog: deque[End] = deque()
        self.ends: list[End] = []
        self.dialled = 0
        self.peer = Peer(
            config,
            local=local,
            owner=self,
            loop=cast(asyncio.AbstractEventLoop, world.clock),
            dial=self.dial,
            jitter=lambda: 1.0,
        )

    def dial(self, config: PeerConfig, done: Done) -> Attempt:
        self.dialled += 1
        attempt = Attempt(f"{self.name}{self.dialled}", done)
        self.attempts.append(attempt)
        return attempt

    def established(self, peer: Peer) -> None:
        self.told.append("established")

    def down(self, peer: Peer, why: str, graceful: bool) -> None:
        self.told.append("down gracefully" if graceful else "down")

    def update(self, peer: Peer, update: Update) -> None:
        self.told.append("update")

    def refresh(self, peer: Peer, refresh: RouteRefresh) -> None:
        self.told.append("refresh")

    def writable(self, peer: Peer) -> None:
        self.told.append("writable")

    @property
    def wire(self) -> str:
        """The name of the established connection, "" without one."""
        primary = self.peer._primary
        return (
            primary.channel.name if primary.fsm.state is State.ESTABLISHED and isinstance(primary.channel, End) else ""
        )


class World:
    """Two sides, and what can happen next."""

    def __init__(self, *, ids: tuple[int, int] = (1, 2), asns: tuple[int, int] = (65001, 65001), **fields: Any) -> None:
        self.clock = Clock()
        self.restart: GracefulRestart | None = fields.pop("restart", None)
        self.extended: bool = fields.pop("extended", False)
        self.fields = fields
        self.ids, self.asns = ids, asns
        self.a = self.side("a", 0)
        self.b = self.side("b", 1)

    def side(self, name: str, index: int) -> Side:
        """Return a side anew, as if its process had begun just now."""
        asn, other = self.asns[index], self.asns[1 - index]
        config = PeerConfig(address=f"10.0.0.{2 - index}", asn=other, internal=asn == other, **self.fields)
        capabilities = Capabilities(four_octet_asn=asn, graceful_restart=self.restart, extended_message=self.extended)
        local = LocalConfig(asn=asn, router_id=self.ids[index], capabilities=lambda config: capabilities)
        return Side(name, self, config, local)

    def occurrences(self) -> list[tuple[str, Callable[[], None]]]:
        """Return all that can happen now, in an order that is always the same. Timers only if they are due."""
        found: list[tuple[str, Callable[[], None]]] = []
        for side, far in ((self.a, self.b), (self.b, self.a)):
            for attempt in side.attempts:
                if attempt.end is None and not attempt.cancelled:
                    found.append((f"handshake {attempt.name}", lambda at=attempt, to=far: handshake(at, to)))  # type: ignore[misc]
                elif not attempt.cancelled:
                    found.append((f"connected {attempt.name}", lambda at=attempt, by=side: connected(at, by)))  # type: ignore[misc]
            if side.backlog:
                found.append((f"{side.name} accepts {side.backlog[0].name}", lambda to=side: accept(to)))  # type: ignore[misc]
            found += [
                (f"{side.name} reads {end.name}", end.deliver) for end in side.ends if end.inbox and not end.closed
            ]
        found += [
            (f"timer {number}", lambda it=timer: self.clock.fire(it))  # type: ignore[misc]
            for number, timer in enumerate(self.clock.due())
            if timer.when() <= self.clock.now_s
        ]
        return found

    def settle(self, limit: int = 200) -> None:
        """Let everything happen, the first thing first, until nothing does."""
        for _ in range(limit):
            waiting = self.occurrences()
            if not waiting:
                return
            waiting[0][1]()
        raise AssertionError(f"it does not come to rest: {[name for name, _ in self.occurrences()]}")

    def picture(self) -> str:
        """Return all that can matter for what comes, to tell whether two orders led to the same."""
        parts = []
        for side in (self.a, self.b):
            for connection in (side.peer._primary, side.peer._pending):
                if connection is not None:
                    channel = connection.channel.name if isinstance(connection.channel, End) else ""
                    parts.append(f"{connection.fsm} {connection.ours} {channel}")
            parts.append(str([(at.name, at.cancelled, at.end is not None) for at in side.attempts]))
            parts.append(str([end.name for end in side.backlog]))
            parts.append(str([(end.name, list(end.inbox)) for end in side.ends if not end.closed]))
            parts.append(str(side.told))
        return "\n".join((*parts, str([timer.when() for timer in self.clock.due()])))


def handshake(attempt: Attempt, far: Side) -> None:
    """Both kernels know of the connection now."""
    attempt.end, there = pipe(attempt.name)
    far.backlog.append(there)


def connected(attempt: Attempt, side: Side) -> None:
    """The end that connected learns of it."""
    side.attempts.remove(attempt)
    assert attempt.end is not None
    side.ends.append(attempt.end)
    attempt.done(attempt.end)


def accept(side: Side) -> None:
    """The end that listens learns of it."""
    end = side.backlog.popleft()
    side.ends.append(end)
    side.peer.take(end)


def every_order(make: Callable[[], World], check: Callable[[World, list[str]], None]) -> int:
    """Run ``check`` wherever nothing more happens, for every order of occurrences; return how many pictures there were.

    An order is tried anew from the beginning. Orders that lead to the same picture are followed once.
    """
    seen: set[str] = set()
    todo: list[list[int]] = [[]]
    while todo:
        choices = todo.pop()
        world, names = make(), []
        for choice in choices:
            name, happen = world.occurrences()[choice]
            names.append(name)
            happen()
        picture = world.picture()
        if picture in seen:
            continue
        seen.add(picture)
        waiting = len(world.occurrences())
        if not waiting:
            check(world, names)
        todo += [[*choices, number] for number in range(waiting)]
    return len(seen)
