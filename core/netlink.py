"""Write to the kernel in batches, and dump from it, over raw netlink sockets.

The kernel handles every message of one ``send`` in order, goes on after one that fails, and reports each failure with
the message's sequence number even where no acknowledgement was asked for. So a batch asks for one on its last message
only: two system calls for a thousand changes, and nothing is lost (tests/unit/core/test_netlink.py holds the kernel to
it).

A socket belongs to the network namespace in which it was opened. Every receive has a deadline, so that a kernel that
does not answer costs its caller ``timeout_s``, and not for ever. Blocking: for worker threads. Messages are packed with
``core/nlmsg.py``; links, rules and other rare things are pyroute2's.
"""

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import NamedTuple

from kube_router.core import nlmsg
from kube_router.events.errors import KernelError

NETLINK_ROUTE, NETLINK_NETFILTER, NETLINK_GENERIC = 0, 12, 16  # the socket module of Python 3.11 lacks the last

SOL_NETLINK = 270
NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK = 10, 11, 12
SO_RCVBUFFORCE = 33

BATCH_MAX = 1000  # messages; their errors fit the receive buffer
BATCH_BYTES_MAX = 64 << 10  # fits the send buffer that every socket has
RECEIVE_BUFFER = 4 << 20
DATAGRAM_MAX = 256 << 10
DUMP_TRIES = 5  # for one that was interrupted by somebody's change
TIMEOUT_S = 10.0

GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_ID, CTRL_ATTR_FAMILY_NAME = 16, 3, 1, 2
NLMSGERR_ATTR_MSG = 1


class Failure(NamedTuple):
    """What the kernel refused: which message (its index), the errno, and its own words where it had some."""

    at: int
    errno: int
    words: str = ""

    def __str__(self) -> str:
        name = errno.errorcode.get(self.errno, str(self.errno))
        return f"{name}, {self.words or os.strerror(self.errno)}"


class _Interrupted(Exception):
    """A dump that does not show one moment."""


class Netlink:
    """A netlink socket in the calling thread's network namespace."""

    def __init__(self, protocol: int, *, timeout_s: float = TIMEOUT_S) -> None:
        self._seq = 0
        self._timeout_s = timeout_s
        # One buffer for all receives: allocating one each time made acknowledgements six times slower.
        self._buffer = memoryview(bytearray(DATAGRAM_MAX))
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
            self._socket.bind((0, 0))
        except OSError as e:
            raise KernelError(f"cannot open netlink protocol {protocol}: {e.strerror}", e.errno or 0) from e
        self._set_options(protocol)

    def _set_options(self, protocol: int) -> None:
        timeval = struct.pack("@ll", int(self._timeout_s), int(self._timeout_s % 1 * 1e6))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)
        with contextlib.suppress(PermissionError):  # without CAP_NET_ADMIN the default size has to do
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
        options = [NETLINK_CAP_ACK, NETLINK_EXT_ACK]
        if protocol == NETLINK_ROUTE:
            options.append(NETLINK_GET_STRICT_CHK)
        for option in options:
            with contextlib.suppress(OSError):  # a kernel before 4.20 lacks the last: its dumps are filtered by us too
                self._socket.setsockopt(SOL_NETLINK, option, 1)

    def __enter__(self) -> "Netlink":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def write(self, messages: Sequence[bytes], *, fenced: Callable[[], bool] = lambda: False) -> list[Failure]:
        """Send all messages in order, in batches; return those the kernel refused.

        Asks ``fenced`` before each batch; from then on nothing more is sent, and the rest is refused with ECANCELED.
        """
        failures: list[Failure] = []
        start = 0
        while start < len(messages):
            if fenced():
                failures += [Failure(i, errno.ECANCELED) for i in range(start, len(messages))]
                break
            batch = messages[start : start + BATCH_MAX]
            if sum(map(len, batch)) > BATCH_BYTES_MAX:
                batch = batch[: max(1, BATCH_BYTES_MAX // max(map(len, batch)))]
            failures += [f._replace(at=start + f.at) for f in self._write_batch(batch)]
            start += len(batch)
        return failures

    def _write_batch(self, batch: Sequence[bytes]) -> list[Failure]:
        first = self._seq + 1
        self._seq += len(batch)
        data = bytearray(b"".join(batch))
        offset = 0
        for seq, message in enumerate(batch, first):
            nlmsg.U32.pack_into(data, offset + 8, seq)
            last, offset = offset, offset + len(message)
        data[last + 6] |= nlmsg.NLM_F_ACK
        self._send(data)
        failures: list[Failure] = []
        while True:
            for kind, flags, seq, body in self._receive():
                if kind != nlmsg.NLMSG_ERROR or not first <= seq <= self._seq:
                    continue  # an answer to a batch that was given up, or an echo
                if failure := _failure(seq - first, flags, body):
                    failures.append(failure)
                if seq == self._seq:
                    return failures

    def request(self, message: bytes) -> list[memoryview]:
        """Send one message and return the payloads of what it is answered with, an acknowledgement not being one.

        Raises ``KernelError`` where the kernel refuses.
        """
        return self._ask(message, nlmsg.NLM_F_ACK)

    def dump(self, message: bytes) -> list[memoryview]:
        """Return the payloads of all that the request lists, as they were at one moment.

        Raises ``KernelError`` where the kernel refuses, or changes faster than it can be read (EINTR).
        """
        for _ in range(DUMP_TRIES):
            try:
                return self._ask(message, nlmsg.NLM_F_DUMP)
            except _Interrupted:
                continue
        raise KernelError(f"a netlink dump was interrupted by changes {DUMP_TRIES} times", errno.EINTR)

    def dump_known(self, message: bytes) -> list[memoryview]:
        """Return a dump, nothing of a family or a table that the kernel does not have."""
        try:
            return self.dump(message)
        except KernelError as e:
            if e.errno not in (errno.ENOENT, errno.EAFNOSUPPORT, errno.EOPNOTSUPP):
                raise
            return []

    def _ask(self, message: bytes, flags: int) -> list[memoryview]:
        self._seq += 1
        data = bytearray(message)
        nlmsg.U16.pack_into(data, 6, nlmsg.U16.unpack_from(data, 6)[0] | flags)
        nlmsg.U32.pack_into(data, 8, self._seq)
        self._send(data)
        found: list[memoryview] = []
        interrupted = False
        while True:
            for kind, got, seq, body in self._receive(copy=True):
                if seq != self._seq:
                    continue
                interrupted |= bool(got & nlmsg.NLM_F_DUMP_INTR)
                if kind in (nlmsg.NLMSG_ERROR, nlmsg.NLMSG_DONE):
                    if failure := _failure(0, got if kind == nlmsg.NLMSG_ERROR else 0, body):
                        raise KernelError(f"netlink request refused: {failure}", failure.errno)
                    if interrupted:
                        raise _Interrupted
                    return found
                found.append(body)

    def family(self, name: str) -> int:
        """Return the number of a generic netlink family; the kernel loads its module if it has one.

        Raises ``KernelError`` ENOENT where there is none.
        """
        attribute = nlmsg.text(CTRL_ATTR_FAMILY_NAME, name)
        for body in self.request(nlmsg.message(GENL_ID_CTRL, 0, nlmsg.GENL.pack(CTRL_CMD_GETFAMILY, 1, 0), attribute)):
            return nlmsg.number(nlmsg.attributes(body, nlmsg.GENL.size)[CTRL_ATTR_FAMILY_ID])
        raise KernelError(f"generic netlink family {name}: no answer", errno.ENOENT)

    def _send(self, data: bytearray) -> None:
        try:
            self._socket.send(data)
        except OSError as e:
            raise KernelError(f"netlink send failed: {e.strerror}", e.errno or 0) from e

    def _receive(self, *, copy: bool = False) -> list[tuple[int, int, int, memoryview]]:
        try:
            size = self._socket.recv_into(self._buffer)
        except BlockingIOError as e:
            raise KernelError(f"the kernel did not answer within {self._timeout_s:g} s", errno.ETIMEDOUT) from e
        except OSError as e:
            raise KernelError(f"netlink receive failed: {e.strerror}", e.errno or 0) from e
        return nlmsg.split(memoryview(bytes(self._buffer[:size])) if copy else self._buffer[:size])


def _failure(at: int, flags: int, body: memoryview) -> Failure | None:
    """Return the failure that an NLMSG_ERROR or NLMSG_DONE tells of, or ``None``."""
    code = -struct.unpack_from("=i", body)[0] if len(body) >= 4 else 0
    if not code:
        return None
    words = ""
    if flags & nlmsg.NLM_F_ACK_TLVS:
        echoed = nlmsg.HEADER.size
        if not flags & nlmsg.NLM_F_CAPPED:
            echoed = nlmsg.HEADER.unpack_from(body, 4)[0] + 3 & ~3
        message = nlmsg.attributes(body, 4 + echoed).get(NLMSGERR_ATTR_MSG)
        words = nlmsg.string(message) if message else ""
    return Failure(at, code, words)
