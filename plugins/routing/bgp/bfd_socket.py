"""UDP sockets for BFD as RFC 5881 (one hop) and RFC 5883 (several) ask for.

Packets go out with a TTL of 255 and from a source port in 49152-65535; each that comes tells the TTL it arrived with,
which shows over one hop that nobody further away made it up. None of the sockets is connected: an ICMP error about one
peer is no error for another.
"""

import errno
import logging
import os
import random
import select
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

from kube_router.core.netlink import SO_RCVBUFFORCE
from kube_router.events.errors import KernelError

logger = logging.getLogger(__name__)

SOURCE_PORTS = range(49152, 65536)
SOURCE_PORT_TRIES = 64
TTL = 255
DSCP_CS6 = 0xC0  # network control, in the octet of TOS and traffic class
RECEIVE_BUFFER = 4 << 20  # a thousand peers at 300 ms send 3,300 packets while this process is stopped for a second
DATAGRAM_MAX = 512  # more than any Control packet's Length can say
DATAGRAMS_AT_ONCE = 1024
IP_RECVTTL = 12  # linux/in.h; the socket module of Python 3.11 lacks it
_INT = struct.Struct("@i")
_ANCILLARY = socket.CMSG_SPACE(_INT.size)


class Datagram(NamedTuple):
    data: bytes
    source: str
    ttl: int  # 0 where the kernel did not say


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def listener(family: socket.AddressFamily, port: int) -> socket.socket:
    """Return a socket that hears the port on all addresses of one family. Raises KernelError."""
    made = _socket(family)
    try:
        with suppress(PermissionError):  # without CAP_NET_ADMIN the default size has to do
            made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
        else:
            made.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
        made.bind(("", port))
    except OSError as error:
        made.close()
        advice = "; does another BFD daemon run on this node?" if error.errno == errno.EADDRINUSE else ""
        name = "IPv6" if family == socket.AF_INET6 else "IPv4"
        raise KernelError(
            f"cannot listen on UDP port {port}, {name}: {error.strerror}{advice}", error.errno or 0
        ) from error
    return made


def sender(family: socket.AddressFamily, local_address: str) -> socket.socket:
    """Return a socket to send from, bound to an address ("" for the kernel's choice). Raises KernelError."""
    made = _socket(family)
    try:
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, TTL)
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, DSCP_CS6)
        else:
            made.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, TTL)
            made.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, DSCP_CS6)
        _bind_source(made, local_address)
    except OSError as error:
        made.close()
        where = local_address or "any address"
        raise KernelError(f"cannot send from {where}: {error.strerror or error}", error.errno or 0) from error
    return made


def receive(listening: socket.socket) -> Iterator[Datagram]:
    """Yield what has come, a bounded number at a time. OSError as from recvmsg, but for an empty queue."""
    for _ in range(DATAGRAMS_AT_ONCE):
        try:
            data, ancillary, _flags, source = listening.recvmsg(DATAGRAM_MAX, _ANCILLARY)
        except BlockingIOError:
            return
        yield Datagram(data, source[0], _ttl(ancillary))


def _ttl(ancillary: list[tuple[int, int, bytes]]) -> int:
    for level, kind, value in ancillary:
        if (level, kind) in ((socket.IPPROTO_IP, socket.IP_TTL), (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT)):
            return int(_INT.unpack_from(value)[0])
    return 0


def _socket(family: socket.AddressFamily) -> socket.socket:
    try:
        made = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    except OSError as error:
        raise KernelError(f"no UDP socket: {error.strerror}", error.errno or 0) from error
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return made


def _bind_source(made: socket.socket, local_address: str) -> None:
    """Bind to a free port of RFC 5881 section 4's range."""
    for port in random.sample(SOURCE_PORTS, SOURCE_PORT_TRIES):
        try:
            made.bind((local_address, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return
    raise OSError(errno.EADDRINUSE, f"no free port found in {SOURCE_PORTS.start}-{SOURCE_PORTS.stop - 1}")


class Sockets:
    """The sockets that sessions need, opened and closed by ``need``; what cannot be opened is in ``errors``.

    ``wake`` is an eventfd that ends a wait.
    """

    def __init__(self, wake: int) -> None:
        self._poll, self._wake = select.poll(), wake
        self._poll.register(wake, select.POLLIN)
        self._listeners: dict[tuple[socket.AddressFamily, int], socket.socket] = {}
        self._senders: dict[tuple[socket.AddressFamily, str], socket.socket] = {}
        self.errors: dict[tuple[socket.AddressFamily, int | str], str] = {}

    def need(
        self,
        listeners: set[tuple[socket.AddressFamily, int]],
        senders: set[tuple[socket.AddressFamily, str]],
    ) -> None:
        """Have a listener for each family and port, a sender for each family and local address, and no others."""
        for listening in [key for key in self._listeners if key not in listeners]:
            closing = self._listeners.pop(listening)
            self._poll.unregister(closing)
            closing.close()
        for sending in [key for key in self._senders if key not in senders]:
            self._senders.pop(sending).close()
        before, self.errors = self.errors, {}
        for family, port in sorted(listeners - self._listeners.keys()):
            if opened := self._opened(family, port, before):
                self._listeners[family, port] = opened
                self._poll.register(opened, select.POLLIN)
        for family, address in sorted(senders - self._senders.keys()):
            if opened := self._opened(family, address, before):
                self._senders[family, address] = opened

    def _opened(
        self,
        family: socket.AddressFamily,
        what: int | str,
        before: Mapping[tuple[socket.AddressFamily, int | str], str],
    ) -> socket.socket | None:
        try:
            return listener(family, what) if isinstance(what, int) else sender(family, what)
        except KernelError as error:
            self.errors[family, what] = str(error)
            if before.get((family, what)) != str(error):
                logger.warning(f"bfd_socket_not_opened error={str(error)!r}")
            return None

    def wait(self, timeout_s: float) -> list[socket.socket]:
        """Return the listeners that something came to, after at most this long or a wake-up."""
        ready = {fd for fd, _ in self._poll.poll(timeout_s * 1000)}
        if self._wake in ready:
            with suppress(BlockingIOError):
                os.eventfd_read(self._wake)
        return [listening for listening in self._listeners.values() if listening.fileno() in ready]

    def send(self, data: bytes, *, local_address: str, peer: str, port: int) -> None:
        """Send a datagram. Raises OSError, also where there is no socket for this address."""
        family = family_of(peer)
        sending = self._senders.get((family, local_address))
        if sending is None:
            raise OSError(errno.EADDRNOTAVAIL, self.errors.get((family, local_address), "no socket to send from"))
        sending.sendto(data, (peer, port))

    def close(self) -> None:
        self.need(set(), set())
