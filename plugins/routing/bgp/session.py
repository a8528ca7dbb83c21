"""A TCP connection with a neighbour: bytes in, bounded bytes out, and why it ended in words.

It sits on a socket and the event loop's readers and writers, not on a transport: those need a task to be made. Each
turn of the loop reads READ_MAX octets at most, then timers and other connections have their turn: so a flood from one
neighbour does not delay the keepalives of another.

What is to be sent waits in a bounded buffer once the kernel takes no more. A neighbour that does not read is given up
by the kernel after ``expect`` (TCP_USER_TIMEOUT), or by whoever watches ``stalled_s``.
"""

import asyncio
import contextlib
import errno
import os
import socket
from collections import deque
from itertools import islice
from typing import Protocol

from kube_router.plugins.routing.bgp import sockopt

READ_MAX = 8192
BUFFER_HIGH = 512 * 1024
BUFFER_LOW = BUFFER_HIGH // 4
GATHER_MAX = 64  # chunks per sendmsg
DISCARD_MAX = 1 << 20  # octets read and thrown away before a close, so that it is no reset


class SessionOwner(Protocol):
    """Whom a session tells. ``lost`` is the last that it tells."""

    def received(self, data: bytes) -> None: ...

    def lost(self, words: str) -> None: ...

    def drained(self) -> None: ...


class Channel(Protocol):
    """What a connection needs of its session."""

    def attach(self, owner: SessionOwner) -> None: ...

    def expect(self, seconds: float) -> None: ...

    def write(self, data: bytes) -> None: ...

    def close(self, last: bytes = b"") -> None: ...

    def is_full(self) -> bool: ...

    def has_input(self) -> bool: ...

    def stalled_s(self) -> float: ...


class Session:
    """A connected socket, whose owner this becomes. Nothing is read before ``attach``."""

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        self._sock = sock
        self._loop = loop
        self._owner: SessionOwner | None = None
        self._chunks: deque[bytes] = deque()
        self._buffered = 0
        self._was_full = False
        self._progress = loop.time()
        self._expected_s = 0.0
        self._failure = ""

    def attach(self, owner: SessionOwner) -> None:
        """Begin to read, and tell this owner."""
        self._owner = owner
        self._loop.add_reader(self._sock, self._readable)

    def expect(self, seconds: float) -> None:
        """Give the neighbour up when it does not take or acknowledge what we sent for so long."""
        self._expected_s = seconds
        sockopt.set_user_timeout(self._sock, seconds)

    # -- In ----------------------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        if self._owner is None:
            return
        try:
            data = self._sock.recv(READ_MAX)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lose(self._words(error))
            return
        if data:
            self._owner.received(data)
        else:
            self._lose(self._failure or "it closed the connection without a NOTIFICATION")

    def has_input(self) -> bool:
        """Return whether something waits to be read: it came in time, only we are late."""
        try:
            self._sock.recv(1, socket.MSG_PEEK)
        except OSError as error:
            return error.errno not in (errno.EAGAIN, errno.EBADF)
        return True

    # -- Out ---------------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send, or keep for sending: always all of it. ``is_full`` says when to stop."""
        if self._owner is None:
            return
        if not self._chunks:
            self._progress = self._loop.time()
        self._chunks.append(data)
        self._buffered += len(data)
        if len(self._chunks) == 1:
            self._flush()
            if self._chunks:
                self._loop.add_writer(self._sock, self._writable)
        self._was_full = self._was_full or self.is_full()

    def is_full(self) -> bool:
        """Return whether so much waits to be sent that more is to wait with whoever has it."""
        return self._buffered >= BUFFER_HIGH

    def stalled_s(self) -> float:
        """Return for how long nothing was taken of what waits to be sent."""
        return self._loop.time() - self._progress if self._chunks else 0.0

    def _writable(self) -> None:
        self._flush()
        if not self._chunks:
            self._loop.remove_writer(self._sock)
        if self._was_full and self._buffered <= BUFFER_LOW and self._owner is not None:
            self._was_full = False
            self._owner.drained()

    def _flush(self) -> None:
        """Give the kernel what it takes. After an error the reader comes to the end, once all received is read."""
        try:
            sent = self._sock.sendmsg(list(islice(self._chunks, GATHER_MAX)))
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._chunks.clear()
            self._buffered = 0
            if error.errno != errno.EPIPE:  # that says no more than the end which the reader comes to
                self._failure = self._words(error)
            return
        self._progress = self._loop.time()
        self._buffered -= sent
        while sent:
            chunk = self._chunks.popleft()
            if len(chunk) > sent:
                self._chunks.appendleft(chunk[sent:])
            sent -= min(sent, len(chunk))

    # -- The end -----------------------------------------------------------------------------------------------------

    def close(self, last: bytes = b"") -> None:
        """Close; ``last`` is sent before, unless the neighbour has not even taken what came before it.

        What it sent meanwhile is read and thrown away: a close with unread input is a reset, which may overtake
        ``last``. The owner is told nothing more.
        """
        if self._sock.fileno() < 0:
            return
        self._owner = None
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        with contextlib.suppress(OSError):  # it is closed in any case, and whoever closes it knows why
            if self._chunks:
                self._flush()
            if last and not self._chunks:
                self._sock.send(last)
            for _ in range(DISCARD_MAX // READ_MAX):
                if not self._sock.recv(READ_MAX):
                    break
        self._sock.close()

    def _lose(self, words: str) -> None:
        owner = self._owner
        if owner is not None:
            self.close()
            owner.lost(words)

    def _words(self, error: OSError) -> str:
        if error.errno == errno.ETIMEDOUT:
            return (
                f"it did not acknowledge what we sent for {self._expected_s:g} s: "
                "the way to it is cut, or it does not read"
            )
        if error.errno == errno.ECONNRESET:
            return "it reset the connection"
        return f"the connection broke: {os.strerror(error.errno or 0)}"
