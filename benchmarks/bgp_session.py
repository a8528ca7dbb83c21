"""A BGP session that replays messages made beforehand: whoever is measured at its other end is all that takes time.

One TCP connection with a blocking socket, and a thread that reads what comes and sends keepalives. It takes part in
nothing: what it is told it counts.
"""

import socket
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from harness.netns import run_in

from kube_router.plugins.routing.bgp.caps import Capabilities
from kube_router.plugins.routing.bgp.fault import notification
from kube_router.plugins.routing.bgp.model import (
    BGP_PORT,
    Attributes,
    Family,
    Negotiated,
    NextHop,
    Prefix,
    Segment,
    SegmentType,
)
from kube_router.plugins.routing.bgp.pack import encode_reach, encode_withdraw
from kube_router.plugins.routing.bgp.wire import KEEPALIVE, Framer, MessageType, Open, encode_open

ESTABLISHED_S_MAX = 60.0
CEASE, ADMINISTRATIVE_SHUTDOWN = 6, 2
RETRY_S = 0.2
KEEPALIVE_S = 20.0
READ_BYTES = 1 << 16
PER_UPDATE = 1000
QUIET_S = 0.3


def open_message(asn: int, router_id: int, hold_time_s: int = 90) -> bytes:
    """Return the OPEN of a speaker of IPv4 routes that can be asked for them again."""
    capabilities = Capabilities(families=frozenset({Family.IPV4}), four_octet_asn=asn, route_refresh=True)
    return encode_open(Open(4, asn, hold_time_s, router_id, capabilities))


def prefixes(count: int) -> list[Prefix]:
    """Return that many /24, from 20.0.0.0 on."""
    return [Prefix(bytes((20 + (n >> 16), n >> 8 & 255, n & 255, 0)), 24) for n in range(count)]


def announcements(count: int, asn: int, next_hop: str) -> list[bytes]:
    """Return the UPDATEs of that many routes, a thousand each at most, each with an AS path of its own."""
    messages, all_of_them = [], prefixes(count)
    negotiated = Negotiated(asn=asn, router_id=0, internal=False, hold_time_s=90)
    for start in range(0, count, PER_UPDATE):
        path = Segment(SegmentType.AS_SEQUENCE, (asn, 65100 + start // PER_UPDATE % 100))
        attributes = Attributes(as_path=(path,))
        some = all_of_them[start : start + PER_UPDATE]
        messages += encode_reach(attributes, NextHop(socket.inet_aton(next_hop)), some, negotiated)
    return messages


def withdrawals(count: int) -> list[bytes]:
    """Return the UPDATEs that withdraw them."""
    return encode_withdraw(prefixes(count), Negotiated(asn=0, router_id=0, internal=False, hold_time_s=90))


class Session:
    """A session from an address in a namespace; established when ``with`` begins."""

    def __init__(self, namespace: str, address: str, receiver: str, *, asn: int, hold_time_s: int = 90) -> None:
        self._namespace, self._ends = namespace, (address, receiver)
        self._open = open_message(asn, int.from_bytes(socket.inet_aton(address)), hold_time_s)
        self.established_at = 0.0
        self.updates, self._last = 0, 0.0
        self._changed = threading.Condition()
        self._over = threading.Event()
        self._socket: socket.socket

    def __enter__(self) -> Self:
        deadline, error = time.monotonic() + ESTABLISHED_S_MAX, ""
        while time.monotonic() < deadline:
            try:
                self._socket = run_in(self._namespace, self._establish)
            except (OSError, EOFError) as refused:
                error = str(refused)
                time.sleep(RETRY_S)
                continue
            self._reader = threading.Thread(target=self._read, daemon=True)
            self._reader.start()
            return self
        raise TimeoutError(f"no session with {self._ends[1]} after {ESTABLISHED_S_MAX:g} s: {error}")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._socket.sendall(notification(CEASE, ADMINISTRATIVE_SHUTDOWN))  # else it would be damped, as one that flaps
        self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._socket.close()

    def send(self, messages: Sequence[bytes]) -> float:
        """Send messages; return when that began."""
        data, began = b"".join(messages), time.monotonic()
        self._socket.sendall(data)
        return began

    def wait_quiet(self) -> None:
        """Wait until it has told something, and for a moment nothing more."""
        with self._changed:
            told = self._changed.wait_for(lambda: self.updates > 0, ESTABLISHED_S_MAX)
        assert told, f"{self._ends[1]} tells nothing"
        while time.monotonic() - self._last < QUIET_S:
            time.sleep(QUIET_S / 4)

    def wait_update(self, since: int, timeout_s: float) -> float:
        """Wait for an UPDATE beyond the first ``since``; return when the last came."""
        with self._changed:
            told = self._changed.wait_for(lambda: self.updates > since, timeout_s)
        assert told, f"{self._ends[1]} tells nothing within {timeout_s:g} s"
        return self._last

    def _establish(self) -> socket.socket:
        """Return the socket of an established session. Raises OSError, EOFError."""
        address, receiver = self._ends
        sock = socket.create_connection((receiver, BGP_PORT), timeout=ESTABLISHED_S_MAX, source_address=(address, 0))
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.sendall(self._open)
            self._framer = Framer()
            while True:
                if not (data := sock.recv(READ_BYTES)):
                    raise EOFError("closed before the session was established")
                kinds = [kind for kind, _ in self._framer.feed(data)]
                if MessageType.NOTIFICATION in kinds:
                    raise EOFError("NOTIFICATION before the session was established")
                if MessageType.OPEN in kinds:
                    sock.sendall(KEEPALIVE)
                if MessageType.KEEPALIVE in kinds:
                    self.established_at = self._last = time.monotonic()
                    self.updates = kinds.count(MessageType.UPDATE)  # it may have begun already
                    return sock
        except BaseException:
            sock.close()
            raise

    def _read(self) -> None:
        self._socket.settimeout(1.0)
        keepalive_at = time.monotonic() + KEEPALIVE_S
        while not self._over.is_set():
            try:
                data = self._socket.recv(READ_BYTES)
            except TimeoutError:
                data = b""
            except OSError:
                return
            else:
                if not data:
                    return
            count = sum(kind is MessageType.UPDATE for kind, _ in self._framer.feed(data))
            if count:
                with self._changed:
                    self.updates += count
                    self._last = time.monotonic()
                    self._changed.notify_all()
            if time.monotonic() > keepalive_at:
                self._socket.sendall(KEEPALIVE)
                keepalive_at = time.monotonic() + KEEPALIVE_S
