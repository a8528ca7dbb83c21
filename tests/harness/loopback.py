"""Speakers that talk to each other over loopback TCP, all on the test's own event loop: no root, no namespaces."""

import os
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address
from typing import Any, Self

import anyio
from anyio.abc import TaskGroup

from kube_router.plugins.routing.bgp.best import Selection
from kube_router.plugins.routing.bgp.caps import Capabilities
from kube_router.plugins.routing.bgp.fault import Fault
from kube_router.plugins.routing.bgp.model import Attributes, Family, Kind, PeerConfig, Prefix, SpeakerConfig, prefix_of
from kube_router.plugins.routing.bgp.neighbour import Neighbour
from kube_router.plugins.routing.bgp.speaker import Hooks, Speaker
from kube_router.plugins.routing.bgp.wire import KEEPALIVE, Framer, MessageType, Open, encode_open

ASN = 64512
WAIT_S = 15.0
POLL_S = 0.005
READ_MAX = 65536
FIRST_PORT, LAST_PORT = 20_000, 32_000  # below the ports that connections get by themselves


def address(node: int) -> str:
    """Return where a node speaks from; test processes side by side have addresses of their own."""
    return f"127.{77 + os.getpid() % 100}.{os.getpid() // 100 % 250}.{node}"


def free_port() -> int:
    """Return a port on which nothing listens."""
    for port in range(FIRST_PORT + os.getpid() % 5000, LAST_PORT):
        with socket.socket() as sock:
            try:
                sock.bind(("0.0.0.0", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


PORT = free_port()


def peer(me: int, other: int, **changes: Any) -> PeerConfig:
    """Return what a node is told of another one: of the mesh, with graceful restart."""
    found = PeerConfig(
        address=address(other),
        asn=ASN,
        internal=True,
        mesh=True,
        port=PORT,
        local_address=address(me),
        connect_retry_s=0.05,
        graceful_restart_s=60,
    )
    return replace(found, **changes)


def outside(me: int, other: int, **changes: Any) -> PeerConfig:
    """Return what a node is told of a neighbour outside the cluster, of an AS of its own."""
    return peer(me, other, **{"asn": ASN + other, "internal": False, "mesh": False, "next_hop_self": True} | changes)


def peers(*configs: PeerConfig) -> dict[str, PeerConfig]:
    return {config.address: config for config in configs}


def pods(node: int) -> str:
    """Return the pod CIDR of a node."""
    return f"10.244.{node}.0/24"


def config(me: int, *neighbours: int | PeerConfig, **changes: Any) -> SpeakerConfig:
    """Return the configuration of a node of the mesh that originates its pods' prefix."""
    found = SpeakerConfig(
        asn=ASN,
        router_id=int(ip_address(f"10.0.0.{me}")),
        listen=(address(me),),
        port=PORT,
        peers=peers(*(peer(me, each) if isinstance(each, int) else each for each in neighbours)),
        originated={prefix_of(pods(me)): Kind.POD},
        next_hops={Family.IPV4: bytes((10, 0, 0, me))},
        deferral_s=30.0,
    )
    return replace(found, **changes)


async def until(condition: Callable[[], object], what: str = "", *, wait_s: float = WAIT_S) -> None:
    """Wait until something is so."""
    end = anyio.current_time() + wait_s
    while not condition():
        assert anyio.current_time() < end, f"not within {wait_s:g} s: {what or condition}"
        await anyio.sleep(POLL_S)


class Node:
    """A speaker and what it told. ``routes`` are the next hops of what it learned, by prefix."""

    def __init__(self, first: SpeakerConfig, tasks: TaskGroup, *, preserved: Iterable[Family] = ()) -> None:
        self.config = first
        self.routes: dict[str, list[str]] = {}
        self.best: dict[str, Attributes] = {}
        self.sessions: list[tuple[str, int, bool, str]] = []
        self.withdrawn: list[str] = []
        self.settled_at: float | None = None
        self.speaker = Speaker(
            Hooks(routes=self._routes, session=self._session, settled=self._settled), preserved=tuple(preserved)
        )
        self._tasks, self._scope = tasks, anyio.CancelScope()
        self.speaker.configure(first)

    def start(self) -> Self:
        self._scope = anyio.CancelScope()
        self._tasks.start_soon(self._run, self._scope)
        return self

    def stop(self) -> None:
        """End it as an agent that is told to stop ends it."""
        self._scope.cancel()

    def become(self, **changes: Any) -> None:
        """Change the configuration."""
        self.config = replace(self.config, **changes)
        self.speaker.configure(self.config)

    def change(self, other: int, **changes: Any) -> None:
        """Change what it is told of a neighbour."""
        known = self.config.peers
        self.become(peers={**known, address(other): replace(known[address(other)], **changes)})

    def of(self, other: int) -> Neighbour:
        return self.speaker.neighbours[address(other)]

    def is_up(self, other: int) -> bool:
        found = self.speaker.neighbours.get(address(other))
        return found is not None and found.peer.established_at is not None

    def ups_and_downs(self, other: int) -> list[bool]:
        """Return how the sessions with a neighbour came and went."""
        return [up for where, _, up, _ in self.sessions if where == address(other)]

    def last_words(self, other: int) -> str:
        """Return why a session with a neighbour ended last."""
        return next(why for where, _, up, why in reversed(self.sessions) if where == address(other) and not up)

    async def _run(self, scope: anyio.CancelScope) -> None:
        with scope:
            await self.speaker.run()

    def _routes(self, changes: Mapping[Prefix, Selection | None]) -> None:
        for prefix, selection in changes.items():
            self.routes.pop(str(prefix), None)
            self.best.pop(str(prefix), None)
            if selection is None:
                self.withdrawn.append(str(prefix))
            else:
                hops = [str(ip_address(path.next_hop.address)) for path in selection.multipath]
                self.routes[str(prefix)], self.best[str(prefix)] = hops, selection.best.attributes

    def _session(self, where: str, asn: int, up: bool, why: str) -> None:
        self.sessions.append((where, asn, up, why))

    def _settled(self) -> None:
        self.settled_at = anyio.current_time()


class World:
    """The nodes of a test."""

    def __init__(self, tasks: TaskGroup) -> None:
        self.tasks = tasks

    def node(self, first: SpeakerConfig, *, preserved: Iterable[Family] = ()) -> Node:
        """Start a node."""
        return Node(first, self.tasks, preserved=preserved).start()


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    """Run what a test starts for as long as the block lasts."""
    async with anyio.create_task_group() as tasks:
        yield World(tasks)
        tasks.cancel_scope.cancel()


class Raw:
    """A neighbour of the test's own hand: a plain socket that says what it is told to, on the test's loop."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock, self._framer = sock, Framer()
        self.heard: list[tuple[MessageType, bytes]] = []
        self.closed = False

    def say(self, *messages: bytes) -> None:
        self._sock.sendall(b"".join(messages))

    def hear(self) -> list[tuple[MessageType, bytes]]:
        """Return all that has come so far, also earlier."""
        while not self.closed:
            try:
                data = self._sock.recv(READ_MAX)
            except BlockingIOError:
                break
            except ConnectionResetError:
                data = b""
            self.closed = not data
            try:
                self.heard += self._framer.feed(data)
            except Fault as fault:
                raise AssertionError(f"the speaker said what is no BGP: {fault}") from fault
        return self.heard

    def bodies(self, kind: MessageType) -> list[bytes]:
        return [body for found, body in self.hear() if found is kind]

    async def establish(self, *, asn: int = ASN, hold_time_s: int = 90, **capabilities: Any) -> None:
        """Say OPEN, and KEEPALIVE when the other has said its OPEN."""
        self.say(encode_open(Open(4, asn, hold_time_s, 99, Capabilities(four_octet_asn=asn, **capabilities))))
        await until(lambda: self.bodies(MessageType.OPEN), "an OPEN")
        self.say(KEEPALIVE)


@asynccontextmanager
async def connection(me: int, other: int, *, receive_buffer: int = 0) -> AsyncIterator[Raw]:
    """Connect to a node from another one's address, as soon as it listens."""
    end = anyio.current_time() + WAIT_S
    while (sock := _connected(me, other, receive_buffer)) is None:
        assert anyio.current_time() < end, f"{address(other)} does not listen"
        await anyio.sleep(POLL_S)
    with sock:
        sock.setblocking(False)
        yield Raw(sock)


def _connected(me: int, other: int, receive_buffer: int) -> socket.socket | None:
    sock = socket.socket()
    try:
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.bind((address(me), 0))
        sock.connect((address(other), PORT))
    except ConnectionRefusedError:
        sock.close()
        return None
    return sock
