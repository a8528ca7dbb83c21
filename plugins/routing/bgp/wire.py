"""BGP messages as bytes: framing, OPEN, KEEPALIVE, ROUTE-REFRESH (pure).

Each message is sixteen octets of ones, a length, a type and a body (RFC 4271 section 4). NOTIFICATION is in fault.py,
UPDATE in update.py; their names that sessions need are here too.
"""

from enum import IntEnum
from typing import NamedTuple

from kube_router.plugins.routing.bgp import caps
from kube_router.plugins.routing.bgp.caps import EXTENDED_MAX as EXTENDED_MAX
from kube_router.plugins.routing.bgp.caps import MESSAGE_MAX as MESSAGE_MAX
from kube_router.plugins.routing.bgp.caps import Open as Open
from kube_router.plugins.routing.bgp.fault import HEADER_LENGTH as HEADER_LENGTH
from kube_router.plugins.routing.bgp.fault import MARKER
from kube_router.plugins.routing.bgp.fault import Fault as Fault
from kube_router.plugins.routing.bgp.fault import Notification as Notification
from kube_router.plugins.routing.bgp.fault import notification as notification
from kube_router.plugins.routing.bgp.fault import parse_notification as parse_notification
from kube_router.plugins.routing.bgp.model import Family


class MessageType(IntEnum):
    OPEN = 1
    UPDATE = 2
    NOTIFICATION = 3
    KEEPALIVE = 4
    ROUTE_REFRESH = 5


KEEPALIVE = MARKER + b"\x00\x13\x04"

_TYPES: tuple[MessageType | None, ...] = (None, *MessageType)
# A body is at least this long. OPEN and KEEPALIVE stay within 4096 octets whatever is agreed on (RFC 8654 section 4).
_LENGTH_MIN = {
    MessageType.OPEN: 29,
    MessageType.UPDATE: 23,
    MessageType.NOTIFICATION: 21,
    MessageType.KEEPALIVE: 19,
    MessageType.ROUTE_REFRESH: 23,
}
_LENGTH_MAX = {MessageType.OPEN: MESSAGE_MAX, MessageType.KEEPALIVE: HEADER_LENGTH}


class Framer:
    """A stream of bytes cut into messages.

    A header that is wrong raises its Fault at once where it comes first, else at the next ``feed``: what came before it
    is to be handled. So feed ``b""`` after a list that was not empty. It holds what is left of one ``feed`` at most.
    """

    def __init__(self, message_max: int = MESSAGE_MAX) -> None:
        self.message_max = message_max
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[MessageType, bytes]]:
        """Return the messages that are complete now, without their headers. Fault 1/x."""
        stream = self._rest + data if self._rest else data
        messages: list[tuple[MessageType, bytes]] = []
        at, end = 0, len(stream)
        while end - at >= HEADER_LENGTH:
            length = stream[at + 16] << 8 | stream[at + 17]
            try:
                kind = self._check(stream[at : at + 16], length, stream[at + 18])
            except Fault:
                self._rest = stream[at:]  # whole, since an OPEN before it may lead to longer messages
                if messages:
                    return messages
                raise
            if at + length > end:
                break
            messages.append((kind, stream[at + HEADER_LENGTH : at + length]))
            at += length
        self._rest = stream[at:]
        return messages

    def _check(self, marker: bytes, length: int, kind_number: int) -> MessageType:
        """Return the type a header tells. Fault 1/x."""
        if marker != MARKER:
            raise Fault(1, 1, f"a header starts with {marker.hex()}, not with ones")
        kind = _TYPES[kind_number] if kind_number < len(_TYPES) else None
        if kind is None:
            raise Fault(1, 3, f"a message of type {kind_number}", bytes((kind_number,)))
        if not _LENGTH_MIN[kind] <= length <= _LENGTH_MAX.get(kind, self.message_max):
            raise Fault(1, 2, f"{_article(kind)} of {length} octets", length.to_bytes(2))
        return kind


def _article(kind: MessageType) -> str:
    name = kind.name.replace("_", "-")
    return f"an {name}" if name[0] in "OU" else f"a {name}"


def _message(kind: MessageType, body: bytes) -> bytes:
    return MARKER + (HEADER_LENGTH + len(body)).to_bytes(2) + bytes((kind,)) + body


# -- OPEN --------------------------------------------------------------------------------------------------------------

_CAPABILITIES = 2  # the optional parameter that holds them
_EXTENDED = 255  # as length and as type: what follows has lengths of two octets (RFC 9072)


def encode_open(ours: Open) -> bytes:
    """Return an OPEN message, in RFC 9072's form where its capabilities need more than 255 octets."""
    capabilities = b"".join(caps.encode_capabilities(ours.capabilities))
    head = b"".join(
        (
            bytes((ours.version,)),
            caps.two_octet_asn(ours.asn).to_bytes(2),
            ours.hold_time_s.to_bytes(2),
            ours.router_id.to_bytes(4),
        )
    )
    size = len(capabilities)
    if not size:
        parameters = b"\x00"
    elif size + 2 < _EXTENDED:
        parameters = bytes((size + 2, _CAPABILITIES, size)) + capabilities
    else:
        long = bytes((_CAPABILITIES,)) + size.to_bytes(2) + capabilities
        parameters = bytes((_EXTENDED, _EXTENDED)) + len(long).to_bytes(2) + long
    return _message(MessageType.OPEN, head + parameters)


def parse_open(body: bytes) -> Open:
    """Return what an OPEN says. Fault 2/x."""
    if len(body) < 10:
        length = HEADER_LENGTH + len(body)
        raise Fault(1, 2, f"an OPEN of {length} octets, below 29", length.to_bytes(2))
    if body[0] != caps.VERSION:
        raise Fault(2, 1, f"BGP version {body[0]}, not 4", caps.VERSION.to_bytes(2))
    capabilities = caps.parse_capabilities(_capability_values(body[9:]))
    asn = int.from_bytes(body[1:3])
    if asn and capabilities.four_octet_asn is not None:
        asn = capabilities.four_octet_asn
    theirs = Open(body[0], asn, int.from_bytes(body[3:5]), int.from_bytes(body[5:9]), capabilities)
    caps.check(theirs)
    return theirs


def _capability_values(parameters: bytes) -> list[tuple[int, bytes]]:
    """Return code and value of each capability in an OPEN's optional parameters and their length. Fault 2/0, 2/4."""
    width, at, size = 1, 1, parameters[0]
    if size and parameters[1:2] == bytes((_EXTENDED,)):
        width, at, size = 2, 4, int.from_bytes(parameters[2:4])
    if at + size != len(parameters):
        raise Fault(2, 0, f"optional parameters of {size} octets in a message with {len(parameters) - at}")
    values: list[tuple[int, bytes]] = []
    for kind, value in _items(parameters[at:], width, "optional parameter"):
        if kind != _CAPABILITIES:
            raise Fault(2, 4, f"optional parameter {kind}")
        values += _items(value, 1, "capability")
    return values


def _items(data: bytes, width: int, what: str) -> list[tuple[int, bytes]]:
    """Return type and value of each item whose length has this width. Fault 2/0."""
    items: list[tuple[int, bytes]] = []
    at, end = 0, len(data)
    while at < end:
        kind, value_at = data[at], at + 1 + width
        at = value_at + int.from_bytes(data[at + 1 : value_at])
        if at > end or value_at > end:
            raise Fault(2, 0, f"{what} {kind} ends behind its place")
        items.append((kind, data[value_at:at]))
    return items


# -- ROUTE-REFRESH -----------------------------------------------------------------------------------------------------


class RouteRefresh(NamedTuple):
    """A ROUTE-REFRESH: subtype 0 asks for the table, 1 begins one (BoRR), 2 ends it (EoRR) (RFC 7313)."""

    afi: int
    safi: int
    subtype: int

    @property
    def family(self) -> Family | None:
        """The family it is about, None where that is none of ours."""
        return Family(self.afi) if self.safi == 1 and self.afi in (1, 2) else None


def route_refresh(family: Family, subtype: int = 0) -> bytes:
    """Return a ROUTE-REFRESH message."""
    return _message(MessageType.ROUTE_REFRESH, bytes((0, family, subtype, 1)))


def parse_route_refresh(body: bytes, *, enhanced: bool = True) -> RouteRefresh:
    """Return what a ROUTE-REFRESH says; what follows a request is of ORF, which is not agreed on. Fault 7/1.

    Unless both are ``enhanced`` the subtype is a reserved octet that means nothing: all are requests (RFC 2918).
    """
    marks = enhanced and body[2:3] in (b"\x01", b"\x02")
    if len(body) < 4 or (marks and len(body) != 4):
        whole = _message(MessageType.ROUTE_REFRESH, body)
        raise Fault(7, 1, f"a ROUTE-REFRESH of {len(whole)} octets, not 23", whole)
    return RouteRefresh(int.from_bytes(body[:2]), body[3], body[2] if enhanced else 0)
