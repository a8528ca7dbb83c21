"""Listen to what the kernel tells about changes: netlink multicast, on the event loop.

A notification that does not fit into the socket's buffer is lost (ENOBUFS); then ``OVERRUN`` is returned in its place,
which means: look at everything. Groups are those of linux/rtnetlink.h (RTNLGRP_*) and linux/netfilter/nfnetlink.h.
"""

import contextlib
import ctypes
import errno
import socket
import struct
import sys
from collections.abc import Iterable
from typing import NamedTuple

import anyio

from kube_router.core import nlmsg
from kube_router.core.netlink import RECEIVE_BUFFER, SO_RCVBUFFORCE, SOL_NETLINK
from kube_router.events.errors import KernelError

NETLINK_ADD_MEMBERSHIP = 1
DATAGRAM_MAX = 64 << 10
DATAGRAMS_AT_ONCE = 256  # then the loop gets its turn
SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27


class Notification(NamedTuple):
    """One message: ``kind`` is its nlmsg_type."""

    kind: int
    body: memoryview


OVERRUN = Notification(0, memoryview(b""))


class Monitor:
    """A socket that is a member of some multicast groups, in the network namespace of the thread that makes it."""

    def __init__(self, protocol: int, groups: Iterable[int]) -> None:
        try:
            self._socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol
            )
            self._socket.bind((0, 0))
            for group in groups:
                self._socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
        except OSError as error:
            raise KernelError(
                f"cannot listen to netlink protocol {protocol}: {error.strerror}", error.errno or 0
            ) from error
        with contextlib.suppress(PermissionError):  # without CAP_NET_ADMIN the default size has to do
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)

    def __enter__(self) -> "Monitor":
        return self

    def __exit__(self, *exception: object) -> None:
        self._socket.close()

    def ignore(self, kind: int) -> None:
        """Have the kernel drop messages of this type from now on, until ``ignore(0)``; what has come stays.

        For a type of which one's own writes would bring ten thousand.
        """
        if not kind:
            with contextlib.suppress(FileNotFoundError):  # nothing was ignored
                self._socket.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
            return
        swapped = int.from_bytes(kind.to_bytes(2, sys.byteorder), "big")  # BPF loads in network order
        load, equal, accept = 0x28, 0x15, 0x06  # ldh [nlmsg_type]; jeq; ret
        code = [(load, 0, 0, 4), (equal, 0, 1, swapped), (accept, 0, 0, 0), (accept, 0, 0, 0xFFFFFFFF)]
        program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in code))
        header = struct.pack("@HP", len(code), ctypes.addressof(program))
        self._socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, header)

    async def wait(self) -> list[Notification]:
        """Return what has come, at least one notification."""
        while not (found := self.pending()):
            await anyio.wait_readable(self._socket)
        return found

    def pending(self) -> list[Notification]:
        """Return what has come and was not returned yet, without waiting."""
        found: list[Notification] = []
        for _ in range(DATAGRAMS_AT_ONCE):
            try:
                data = self._socket.recv(DATAGRAM_MAX)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise KernelError(f"netlink notifications: {error.strerror}", error.errno or 0) from error
                found.append(OVERRUN)
                continue
            found += [Notification(kind, body) for kind, _, _, body in nlmsg.split(memoryview(data))]
        return found
