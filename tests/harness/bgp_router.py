"""Real BGP neighbours in network namespaces, and a scripted one that says on a plain socket what a test wants.

A Router runs an event loop in a thread of its namespace; whatever is asked of its Peers is asked in that thread. A
Scripted neighbour blocks, with a time-out for every wait.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from kube_router.lab import netns
from kube_router.plugins.routing.bgp import sockopt
from kube_router.plugins.routing.bgp.caps import Capabilities, Open
from kube_router.plugins.routing.bgp.listener import Listener
from kube_router.plugins.routing.bgp.model import Family, GracefulRestart, PeerConfig
from kube_router.plugins.routing.bgp.peer import LocalConfig, Peer, State
from kube_router.plugins.routing.bgp.update import Update
from kube_router.plugins.routing.bgp.wire import KEEPALIVE, RouteRefresh, encode_open

T = TypeVar("T")
WAIT_S = 10.0
PORT = 179
OPEN, UPDATE, NOTIFICATION, KEEPALIVE_TYPE = 1, 2, 3, 4


class Watched:
    """A Peer and what it told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.updates = 0
        self.peer: Peer

    def established(self, peer: Peer) -> None:
        self.told.append("established")

    def down(self, peer: Peer, why: str, graceful: bool) -> None:
        self.told.append(f"down{' gracefully' if graceful else ''}: {why}")

    def update(self, peer: Peer, update: Update) -> None:
        self.updates += 1

    def refresh(self, peer: Peer, refresh: RouteRefresh) -> None:
        self.told.append("refresh")

    def writable(self, peer: Peer) -> None:
        self.told.append("writable")


class Router:
    """Peers and a listener in a namespace."""

    def __init__(self, namespace: str, *, asn: int = 65001, router_id: int = 1, restart: bool = False) -> None:
        self.namespace, self.asn, self.router_id, self.restart = namespace, asn, router_id, restart
        self.peers: dict[str, Watched] = {}
        self.errors: list[str] = []
        self.listener: Listener | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(WAIT_S)

    def _run(self) -> None:
        netns.enter(self.namespace)
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(lambda _, context: self.errors.append(repr(context)))
        self.loop.call_soon(self._ready.set)
        self.loop.run_forever()
        self.loop.close()

    def call(self, body: Callable[[], T]) -> T:
        """Return what ``body`` returns, called in the loop."""

        async def inside() -> T:
            return body()

        return asyncio.run_coroutine_threadsafe(inside(), self.loop).result(WAIT_S)

    def listen(self, *addresses: str, keys: Mapping[str, str] | None = None) -> None:
        def body() -> None:
            self.listener = Listener(addresses, PORT, find=self._find, loop=self.loop)
            self.listener.set_keys(keys or {})
            self.listener.open()

        self.call(body)

    def _find(self, address: str) -> Peer | None:
        return self.peers[address].peer if address in self.peers else None

    def peer(self, config: PeerConfig, *, jitter: float | None = None) -> Watched:
        """Start a Peer, with all its waits as long as ``jitter`` says."""
        watched = Watched()
        restart = GracefulRestart(notification=True, time_s=90, families={Family.IPV4: True}) if self.restart else None
        capabilities = Capabilities(four_octet_asn=self.asn, graceful_restart=restart)
        local = LocalConfig(asn=self.asn, router_id=self.router_id, capabilities=lambda _: capabilities)

        factor = None if jitter is None else (lambda: jitter)

        def body() -> None:
            watched.peer = Peer(config, local=local, owner=watched, loop=self.loop, jitter=factor)
            self.peers[config.address] = watched
            watched.peer.start()

        self.call(body)
        return watched

    def close(self) -> None:
        """Stop everything, and show what went wrong in call-backs."""

        def body() -> None:
            for watched in self.peers.values():
                watched.peer.stop()
            if self.listener is not None:
                self.listener.close()

        self.call(body)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(WAIT_S)
        assert self.errors == []


@contextlib.contextmanager
def router(namespace: str, *, asn: int = 65001, router_id: int = 1, restart: bool = False) -> Iterator[Router]:
    """Give a Router for the time of a block."""
    made = Router(namespace, asn=asn, router_id=router_id, restart=restart)
    try:
        yield made
    finally:
        made.close()


def config(address: str, *, asn: int = 65001, internal: bool = True, **fields: object) -> PeerConfig:
    return PeerConfig(address=address, asn=asn, internal=internal, **fields)  # type: ignore[arg-type]  # as given


class Scripted:
    """A neighbour that does what it is told."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(WAIT_S)
        self.sock = sock
        self._data = b""

    @classmethod
    def connect(
        cls, namespace: str, address: str, *, source: str = "", password: str = "", ttl: int = 0, port: int = PORT
    ) -> "Scripted":
        """Return one that connected to an address. OSError."""

        def body() -> socket.socket:
            sock = socket.socket(sockopt.family_of(address))
            try:
                sock.settimeout(WAIT_S)
                if password:
                    sockopt.set_key(sock, address, password)
                if ttl:
                    sockopt.set_ttl(sock, ttl)
                if source:
                    sock.bind((source, 0))
                sock.connect((address, port))
            except OSError:
                sock.close()
                raise
            return sock

        return cls(netns.run_in(namespace, body))

    def __enter__(self) -> "Scripted":
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def read(self) -> tuple[int, bytes]:
        """Return the type and body of the next message, (0, b"") at the end."""
        while len(self._data) < 19 or len(self._data) < struct.unpack_from("!H", self._data, 16)[0]:
            try:
                more = self.sock.recv(65536)
            except ConnectionResetError:
                more = b""
            if not more:
                return 0, b""
            self._data += more
        length = struct.unpack_from("!H", self._data, 16)[0]
        message, self._data = self._data[:length], self._data[length:]
        return message[18], message[19:]

    def open(
        self, *, asn: int = 65001, router_id: int = 9, hold: int = 90, version: int = 4, restart: bool = False
    ) -> None:
        """Send an OPEN."""
        graceful = GracefulRestart(notification=True, time_s=90, families={Family.IPV4: True}) if restart else None
        capabilities = Capabilities(four_octet_asn=asn, graceful_restart=graceful)
        message = bytearray(encode_open(Open(4, asn, hold, router_id, capabilities)))
        message[19] = version
        self.send(bytes(message))

    def establish(self, *, asn: int = 65001, router_id: int = 9, hold: int = 90, restart: bool = False) -> None:
        """Go through OPEN and KEEPALIVE, both ways."""
        self.open(asn=asn, router_id=router_id, hold=hold, restart=restart)
        assert self.read()[0] == OPEN
        assert self.read()[0] == KEEPALIVE_TYPE
        self.send(KEEPALIVE)

    def last_words(self) -> tuple[int, int, bytes]:
        """Return code, subcode and data of the NOTIFICATION that comes, (0, 0, b"") if the end comes without one."""
        while True:
            kind, body = self.read()
            if kind == NOTIFICATION:
                return body[0], body[1], body[2:]
            if not kind:
                return 0, 0, b""


def established(watched: Sequence[Watched]) -> bool:
    """Return whether all these sessions are up."""
    return all(one.peer.state is State.ESTABLISHED for one in watched)
