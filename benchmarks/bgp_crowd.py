"""Hundreds of BGP neighbours in one thread: each with an address and a route of its own, and a watch on keepalives.

They open their sessions themselves, and again when one ends. How late a keepalive is: by how much longer than the
agreed keepalive time, a third of the hold time, the receiver was silent before it.
"""

import asyncio
import socket
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future
from functools import partial
from itertools import pairwise
from types import TracebackType
from typing import Self

from harness.machine import until
from harness.netns import run_in

from benchmarks.bgp_session import open_message
from kube_router.plugins.routing.bgp.model import BGP_PORT, Attributes, Family, Negotiated, NextHop, prefix_of
from kube_router.plugins.routing.bgp.pack import encode_reach, end_of_rib
from kube_router.plugins.routing.bgp.wire import KEEPALIVE, Framer, MessageType

UP_S_MAX = 120.0
RETRY_S = 0.05


def address(number: int) -> str:
    """Return the address of neighbour ``number``, from 1 on, in 10.66.0.0/16."""
    return f"10.66.{1 + number // 250}.{1 + number % 250}"


def pod_cidr(number: int) -> str:
    """Return what it announces."""
    return f"10.{100 + number // 250}.{number % 250}.0/24"


class _Neighbour(asyncio.Protocol):
    """One session."""

    def __init__(self, crowd: "Crowd", number: int) -> None:
        self._crowd, self._number = crowd, number
        self._framer = Framer()
        self.transport: asyncio.Transport
        self.heard: list[float] = []  # when messages came

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        own = socket.inet_aton(address(self._number))
        transport.write(open_message(self._crowd.asn, int.from_bytes(own), self._crowd.hold_time_s))

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        for kind, _ in self._framer.feed(data):
            if kind is MessageType.OPEN:
                self.transport.write(KEEPALIVE)
            elif kind is MessageType.KEEPALIVE and self._number not in self._crowd.up:
                self._crowd.up[self._number] = self
                self.transport.write(self._routes())
                self._keep_alive()
            elif kind is MessageType.NOTIFICATION:
                self.transport.close()
            self.heard.append(now)

    def connection_lost(self, exc: Exception | None) -> None:
        self._crowd.lost(self._number, self)

    def _routes(self) -> bytes:
        negotiated = Negotiated(asn=self._crowd.asn, router_id=0, internal=True, hold_time_s=90)
        next_hop = NextHop(socket.inet_aton(address(self._number)))
        own = [prefix_of(pod_cidr(self._number))]
        return b"".join(encode_reach(Attributes(local_pref=100), next_hop, own, negotiated)) + end_of_rib(Family.IPV4)

    def _keep_alive(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(KEEPALIVE)
            asyncio.get_running_loop().call_later(self._crowd.hold_time_s / 3, self._keep_alive)


class Crowd:
    """Neighbours of one receiver, in a namespace with all their addresses."""

    def __init__(self, namespace: str, receiver: str, *, asn: int, hold_time_s: int) -> None:
        self.asn, self.hold_time_s = asn, hold_time_s
        self.up: dict[int, _Neighbour] = {}
        self.ended = 0  # sessions that were up and are no more
        self._namespace, self._receiver = namespace, receiver
        self._wanted: set[int] = set()
        self._opening: set[Future[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._wanted.clear()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        for neighbour in self.up.values():
            neighbour.transport.abort()
        self._loop.run_until_complete(asyncio.sleep(0.1))
        self._loop.close()

    def join(self, numbers: Iterable[int]) -> None:
        """Have these sessions too; returns when all of them are up."""
        for number in numbers:
            self._wanted.add(number)
            self._loop.call_soon_threadsafe(self._connect, number)
        until(lambda: self.up.keys() >= self._wanted, what=f"{len(self._wanted)} sessions", timeout_s=UP_S_MAX)

    def forget(self) -> None:
        """Watch keepalives from now on."""
        for neighbour in self.up.values():
            del neighbour.heard[:-1]

    def lateness_s(self) -> list[float]:
        """Return how late each keepalive was, 0 for one in time."""
        agreed = self.hold_time_s / 3
        heard = [list(neighbour.heard) for neighbour in self.up.values()]
        return [max(0.0, later - earlier - agreed) for times in heard for earlier, later in pairwise(times)]

    def lost(self, number: int, neighbour: _Neighbour) -> None:
        """A session has ended, or one that never began."""
        if self.up.get(number) is neighbour:
            del self.up[number]
            self.ended += 1
        if number in self._wanted:
            self._loop.call_later(RETRY_S, self._connect, number)

    def _run(self) -> None:
        run_in(self._namespace, self._loop.run_forever, timeout_s=3600)

    def _connect(self, number: int) -> None:
        opening = asyncio.run_coroutine_threadsafe(self._open(number), self._loop)
        self._opening.add(opening)
        opening.add_done_callback(self._opening.discard)

    async def _open(self, number: int) -> None:
        try:
            await self._loop.create_connection(
                partial(_Neighbour, self, number), self._receiver, BGP_PORT, local_addr=(address(number), 0)
            )
        except OSError:
            self._loop.call_later(RETRY_S, self._connect, number)
