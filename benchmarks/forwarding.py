"""What it costs to forward a packet: three network namespaces in a row, and a sender that takes the time.

    sender ── veth ── router, with the rules ── veth ── receiver

Everything a packet goes through, up to the far end's receiving side, happens within the sending system call, so the
time of that call is the packet's cost. Up to a hundred go with one ``sendmmsg``. The router sends them to a MAC address
that is nobody's, so that the receiver's kernel drops what arrives at once and unanswered.

A machine with other work shows times that are too long, never too short: what counts is the time that a tenth of the
calls stay below.
"""

import ctypes
import os
import socket
import struct
import time
from collections.abc import Callable
from itertools import count, islice, repeat
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

from harness.netns import run_in, sh

from kube_router.core import nlmsg
from kube_router.core.ctnetlink import CT_DELETE
from kube_router.core.netlink import NETLINK_NETFILTER, Netlink
from kube_router.core.nfnl import header

T = TypeVar("T")
AF_UNSPEC = 0
CHUNK = 100
SHARE = 0.1
PROBES, CALLS_MIN = 20, 50
CALL_NS, COST_NS = 0.5e6, 0.5e9  # a call, and one measurement
FIRST_PORT, PORTS = 2048, 60_000
_GATEWAY = "169.254.1.1"
_ROUTER_MAC, _NOBODYS_MAC = "02:00:00:00:00:01", "02:00:00:00:00:99"
_LENGTH = 40
SYN, ACK = 0x02, 0x10
_libc = ctypes.CDLL(None, use_errno=True)


class Segment(NamedTuple):
    """A TCP segment without data."""

    source_port: int
    destination_port: int
    flags: int = SYN
    seq: int = 1000
    ack: int = 0

    def packet(self, source: bytes, destination: bytes) -> bytes:
        """Return it with its IPv4 header, of which the kernel fills in the checksum."""
        tcp = struct.pack(">HHIIBBHHH", *self[:2], self.seq, self.ack, 5 << 4, self.flags, 65_000, 0, 0)
        total = sum(struct.unpack(">16H", source + destination + struct.pack(">HH", 6, len(tcp)) + tcp))
        total = (total & 0xFFFF) + (total >> 16)
        checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
        ip = struct.pack(">BBHHHBBH", 0x45, 0, _LENGTH, 0, 0, 64, 6, 0)
        return b"".join((ip, source, destination, tcp[:16], checksum.to_bytes(2, "big"), tcp[18:]))


class _Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class _Header(ctypes.Structure):
    """struct msghdr."""

    _fields_ = [
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vectors", ctypes.POINTER(_Iovec)),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    ]


class _Message(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = [("header", _Header), ("sent", ctypes.c_uint)]


class Sender:
    """Sends TCP segments of its own making, a hundred at a time, from the namespace in which it is made."""

    def __init__(self, source: str, destination: str) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self._ends = socket.inet_aton(source), socket.inet_aton(destination)
        self._packets = [ctypes.create_string_buffer(_LENGTH) for _ in range(CHUNK)]
        address = struct.pack("=HH4s8x", socket.AF_INET, 0, self._ends[1])
        self._address = ctypes.create_string_buffer(address, len(address))
        self._vectors = (_Iovec * CHUNK)()
        self._messages = (_Message * CHUNK)()
        for packet, vector, message in zip(self._packets, self._vectors, self._messages, strict=True):
            vector.base, vector.length = ctypes.addressof(packet), _LENGTH
            message.header.name, message.header.name_length = ctypes.addressof(self._address), len(address)
            message.header.vectors, message.header.vector_count = ctypes.pointer(vector), 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()

    def send(self, *segments: Segment) -> float:
        """Send at most a hundred segments; return the nanoseconds that each took."""
        for packet, segment in zip(self._packets, segments, strict=False):
            packet.raw = segment.packet(*self._ends)
        began = time.perf_counter_ns()
        sent = _libc.sendmmsg(self._socket.fileno(), self._messages, len(segments), 0)
        took = time.perf_counter_ns() - began
        if sent != len(segments):
            raise OSError(ctypes.get_errno(), f"sendmmsg: {os.strerror(ctypes.get_errno())} after {sent} packets")
        return took / len(segments)


class Line:
    """The three namespaces, whose ends have the addresses of two pods."""

    def __init__(self, name: str, source: str, destination: str) -> None:
        self._names = {role: f"kr-{name}-{os.getpid()}-{role}" for role in ("sender", "router", "receiver")}
        self._source, self._destination = source, destination

    def __enter__(self) -> Self:
        for netns in self._names.values():
            sh(f"ip netns add {netns}")
        try:
            self._connect()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._remove()

    def run(self, role: str, body: Callable[[], T]) -> T:
        """Return what ``body`` returns, run in a namespace."""
        return run_in(self._names[role], body)

    def passes(self, port: int) -> bool:
        """Whether the router lets packets to a port through; RuntimeError where it lets some."""
        before = self.received()
        with self.sender() as sender:
            sender.send(*(Segment(FIRST_PORT + number, port) for number in range(CHUNK)))
        passed = self.received() - before
        if passed not in (0, CHUNK):
            raise RuntimeError(f"{passed} of {CHUNK} packets to port {port} passed")
        return bool(passed)

    def cost(self, port: int, *, new: bool, packets: int) -> float:
        """Return the nanoseconds that a segment costs which begins a connection, or which is one more of another.

        At most that many are sent; fewer where they cost much, and fewer at a time, so that the scheduler has no reason
        to let others run during a call.
        """
        self.run("router", forget_flows)
        with self.sender() as sender:
            if not new:
                sender.send(Segment(FIRST_PORT, port))
                self.run("receiver", lambda: self._answer(port))
            begins = (Segment(FIRST_PORT + 1 + number % PORTS, port) for number in count())
            segments = begins if new else repeat(Segment(FIRST_PORT, port, ACK, seq=1001, ack=2001))
            each = min(sender.send(*islice(segments, 1)) for _ in range(PROBES))
            at_once = max(1, min(CHUNK, int(CALL_NS / each)))
            calls = max(CALLS_MIN, min(packets // at_once, int(COST_NS / each / at_once)))
            times = sorted(sender.send(*islice(segments, at_once)) for _ in range(calls))
        return times[int(calls * SHARE)]

    def netns(self, role: str) -> str:
        """Return a namespace's name."""
        return self._names[role]

    def sender(self) -> Sender:
        """Return what sends as the first pod to the second."""
        return self.run("sender", lambda: Sender(self._source, self._destination))

    def _answer(self, port: int) -> None:
        with Sender(self._destination, self._source) as sender:
            sender.send(Segment(port, FIRST_PORT, SYN | ACK, seq=2000, ack=1001))

    def received(self) -> int:
        """Return how many packets have arrived at the receiver's interface."""
        text = self.run("receiver", lambda: Path("/proc/thread-self/net/dev").read_text())
        return next(int(line.split()[2]) for line in text.splitlines() if line.split()[0] == "eth0:")

    def _connect(self) -> None:
        self._sh("router", "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.disable_ipv6=1")
        for role, address in (("sender", self._source), ("receiver", self._destination)):
            commands = f"""
                sysctl -qw net.ipv6.conf.all.disable_ipv6=1
                ip link add eth0 type veth peer name {role} address {_ROUTER_MAC} netns {self._names["router"]}
                ip addr add {address}/32 dev eth0
                ip link set eth0 up
                ip neigh add {_GATEWAY} lladdr {_ROUTER_MAC} dev eth0
                ip route add default via {_GATEWAY} dev eth0 onlink
            """
            self._sh(role, commands)
            commands = f"""
                ip link set {role} up
                ip route add {address}/32 dev {role}
                ip neigh add {address} lladdr {_NOBODYS_MAC} dev {role}
            """
            self._sh("router", commands)

    def _sh(self, role: str, commands: str) -> str:
        return self.run(role, lambda: sh(commands))

    def _remove(self) -> None:
        for netns in self._names.values():
            sh(f"ip netns del {netns}")


def forget_flows() -> None:
    """Empty the connection tracking table of the calling thread's namespace."""
    with Netlink(NETLINK_NETFILTER) as link:
        failures = link.write([nlmsg.message(CT_DELETE, 0, header(AF_UNSPEC))])
        assert not failures, failures
