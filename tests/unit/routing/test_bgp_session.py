"""A TCP connection with a neighbour: fair reading, bounded writing, and last words that arrive."""

import asyncio
import errno
import os
import resource
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from kube_router.events.errors import KernelError
from kube_router.plugins.routing.bgp.dial import TcpDialer, why_not
from kube_router.plugins.routing.bgp.listener import Listener
from kube_router.plugins.routing.bgp.model import PeerConfig
from kube_router.plugins.routing.bgp.session import BUFFER_HIGH, BUFFER_LOW, READ_MAX, Channel, Session

WAIT_S = 10.0


class Owner:
    """What a session told."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.losses: list[str] = []
        self.drains = 0

    def received(self, data: bytes) -> None:
        self.chunks.append(data)

    def lost(self, words: str) -> None:
        self.losses.append(words)

    def drained(self) -> None:
        self.drains += 1


def connected() -> tuple[socket.socket, socket.socket]:
    """Return both ends of a TCP connection over loopback; the first does not block."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        there = socket.create_connection(server.getsockname())
        here, _ = server.accept()
    here.setblocking(False)
    there.settimeout(WAIT_S)
    return here, there


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0)


@pytest.fixture(name="anyio_backend")
def _backend() -> str:
    return "asyncio"


async def test_a_turn_of_the_loop_reads_a_bounded_piece_and_lets_others_have_their_turn() -> None:
    loop = asyncio.get_running_loop()
    here, there = connected()
    owner, session = Owner(), Session(here, loop)
    there.sendall(bytes(10 * READ_MAX))
    await until(lambda: len(here.recv(20 * READ_MAX, socket.MSG_PEEK)) == 10 * READ_MAX)
    turns: list[int] = []
    session.attach(owner)
    while len(owner.chunks) < 10:
        loop.call_soon(turns.append, len(owner.chunks))
        await asyncio.sleep(0)
    assert [len(chunk) for chunk in owner.chunks] == [READ_MAX] * 10
    assert len(set(turns)) >= 9  # others had their turn between any two pieces
    session.close()
    there.close()


async def test_what_the_kernel_does_not_take_waits_in_order_and_room_is_told_once() -> None:
    here, there = connected()
    owner, session = Owner(), Session(here, asyncio.get_running_loop())
    session.attach(owner)
    pieces = 0
    while not session.is_full():
        session.write(struct.pack("!I", pieces) * 1024)
        pieces += 1
    assert owner.drains == 0
    assert BUFFER_LOW < BUFFER_HIGH
    got = bytearray()
    there.setblocking(False)

    def read() -> bool:
        try:
            got.extend(there.recv(1 << 20))
        except BlockingIOError:
            return False
        return len(got) == pieces * 4096

    await until(read)
    assert list(struct.unpack(f"!{pieces * 1024}I", got)) == [piece for piece in range(pieces) for _ in range(1024)]
    assert owner.drains == 1
    assert not session.is_full()
    assert session.stalled_s() == 0
    session.close()
    there.close()


async def test_a_neighbour_that_does_not_read_is_seen_to_stall() -> None:
    here, there = connected()
    session = Session(here, asyncio.get_running_loop())
    session.attach(Owner())
    while not session.is_full():
        session.write(bytes(4096))
    await asyncio.sleep(0.05)
    assert session.stalled_s() >= 0.04
    session.close()
    there.close()


async def test_last_words_arrive_though_what_the_neighbour_sent_was_not_read() -> None:
    here, there = connected()
    session = Session(here, asyncio.get_running_loop())
    session.attach(Owner())
    there.sendall(bytes(100_000))
    await until(lambda: session.has_input())
    session.close(b"last words")
    assert there.recv(100) == b"last words"
    assert there.recv(100) == b""  # and no reset
    session.close(b"twice")
    there.close()


async def test_an_end_is_told_once_in_words() -> None:
    loop = asyncio.get_running_loop()
    here, there = connected()
    owner, session = Owner(), Session(here, loop)
    session.attach(owner)
    there.close()
    await until(lambda: owner.losses)
    session.write(b"too late")
    assert owner.losses == ["it closed the connection without a NOTIFICATION"]

    here, there = connected()
    owner, session = Owner(), Session(here, loop)
    session.attach(owner)
    there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a close is a reset
    there.close()
    await until(lambda: owner.losses)
    assert owner.losses == ["it reset the connection"]


async def test_what_came_before_a_failed_write_is_read_first() -> None:
    here, there = connected()
    owner, session = Owner(), Session(here, asyncio.get_running_loop())
    there.sendall(b"why")
    there.close()
    session.attach(owner)
    for _ in range(3):
        session.write(b"x")
        await asyncio.sleep(0.01)
    await until(lambda: owner.losses)
    assert owner.chunks == [b"why"]
    assert len(owner.losses) == 1


async def test_a_neighbour_that_acknowledges_nothing_is_not_said_to_have_closed() -> None:
    class TimedOut(socket.socket):
        """The kernel tells ETIMEDOUT once; afterwards the connection looks closed."""

        def sendmsg(self, *_: object) -> int:
            self.shutdown(socket.SHUT_RDWR)
            raise TimeoutError(errno.ETIMEDOUT, "timed out")

    here, there = connected()
    failing = TimedOut(fileno=here.detach())
    owner, session = Owner(), Session(failing, asyncio.get_running_loop())
    session.attach(owner)
    session.expect(90)
    session.write(b"x")
    await until(lambda: owner.losses)
    assert owner.losses == ["it did not acknowledge what we sent for 90 s: the way to it is cut, or it does not read"]
    there.close()


async def test_a_connect_that_is_refused_is_told_later_and_one_that_is_cancelled_never() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    results: list[Channel | str] = []
    dial = TcpDialer(asyncio.get_running_loop())
    config = PeerConfig(address="127.0.0.1", asn=1, internal=True, port=free)
    dial(config, results.append)
    dial(config, results.append).cancel()
    assert results == []
    await until(lambda: results)
    await asyncio.sleep(0.05)
    assert results == [f"it refuses connections to port {free}: does a BGP speaker listen there, and does it know us?"]


@contextmanager
def no_file_left() -> Iterator[None]:
    """Let this process open no file more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open(os.devnull) as lowest:
        used = lowest.fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (used, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_a_connect_for_which_no_socket_is_left_fails_as_others_do() -> None:
    results: list[Channel | str] = []
    with no_file_left():
        attempt = TcpDialer(asyncio.get_running_loop())(
            PeerConfig(address="127.0.0.1", asn=1, internal=True), results.append
        )
        await until(lambda: results)
    attempt.cancel()
    assert results == ["no connection to port 179: Too many open files"]


async def test_an_address_for_which_no_socket_is_left_is_named_and_tried_again() -> None:
    listener = Listener(("127.0.0.1",), 0, find=lambda address: None, loop=asyncio.get_running_loop())
    with no_file_left(), pytest.raises(KernelError, match=r"cannot listen on 127\.0\.0\.1 port 0: Too many open files"):
        listener.open()
    listener.open()
    listener.close()


async def test_a_connect_that_succeeds_gives_a_session() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        config = PeerConfig(address="127.0.0.1", asn=1, internal=True, port=server.getsockname()[1])
        results: list[Channel | str] = []
        TcpDialer(asyncio.get_running_loop())(config, results.append)
        await until(lambda: results)
        there, _ = server.accept()
    assert isinstance(results[0], Session)
    results[0].attach(Owner())
    results[0].write(b"hello")
    assert there.recv(10) == b"hello"
    results[0].close()
    there.close()


@pytest.mark.parametrize(
    ("code", "fields", "words"),
    [
        (
            "EHOSTUNREACH",
            {"internal": False},
            "this node has no way to it (or it is more than one hop away: multihop TTL)",
        ),
        ("ENETUNREACH", {"internal": True}, "this node has no way to it"),
        ("EADDRNOTAVAIL", {"internal": True, "local_address": "10.0.0.9"}, "this node has no address 10.0.0.9"),
        ("EPERM", {"internal": True}, "no connection to port 179: Operation not permitted"),
    ],
)
def test_why_there_is_no_connection_is_said_in_words(code: str, fields: dict[str, object], words: str) -> None:
    config = PeerConfig(address="10.0.0.1", asn=1, **fields)  # type: ignore[arg-type]  # as given
    assert why_not(config, getattr(errno, code)) == words
