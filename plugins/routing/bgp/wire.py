"""BGP messages as bytes: framing, OPEN, NOTIFICATION, KEEPALIVE, ROUTE-REFRESH (pure)."""

from enum import IntEnum
from typing import NamedTuple

from kube_router.plugins.routing.bgp.caps import Open as Open
from kube_router.plugins.routing.bgp.fault import HEADER_LENGTH as HEADER_LENGTH
from kube_router.plugins.routing.bgp.fault import MARKER
from kube_router.plugins.routing.bgp.fault import Fault as Fault
from kube_router.plugins.routing.bgp.fault import Notification as Notification
from kube_router.plugins.routing.bgp.fault import notification as notification
from kube_router.plugins.routing.bgp.fault import parse_notification as parse_notification
from kube_router.plugins.routing.bgp.model import Family

MESSAGE_MAX = 4096
EXTENDED_MAX = 65535


class MessageType(IntEnum):
    OPEN = 1
    UPDATE = 2
    NOTIFICATION = 3
    KEEPALIVE = 4
    ROUTE_REFRESH = 5


KEEPALIVE = MARKER + b"\x00\x13\x04"


class RouteRefresh(NamedTuple):
    """A ROUTE-REFRESH: subtype 0 asks for the table, 1 begins one (BoRR), 2 ends it (EoRR) (RFC 7313)."""

    afi: int
    safi: int
    subtype: int

    @property
    def family(self) -> Family | None:
        """The family it is about, None where that is none of ours."""
        return Family(self.afi) if self.safi == 1 and self.afi in (1, 2) else None


class Framer:
    """A stream of bytes cut into messages.

    A header that is wrong raises its Fault at once where it comes first, else by the next ``feed``: what came before it
    is to be handled. So feed ``b""`` after a list that was not empty.
    """

    def __init__(self, message_max: int = MESSAGE_MAX) -> None:
        self.message_max = message_max

    def feed(self, data: bytes) -> list[tuple[MessageType, bytes]]:
        """Return the messages that are complete now, without their headers. Fault 1/x."""
        raise NotImplementedError


def encode_open(ours: Open) -> bytes:
    """Return an OPEN message, in RFC 9072's form where its capabilities need more than 255 octets."""
    raise NotImplementedError


def parse_open(body: bytes) -> Open:
    """Return what an OPEN says. Fault 2/x."""
    raise NotImplementedError


def route_refresh(family: Family, subtype: int = 0) -> bytes:
    """Return a ROUTE-REFRESH message."""
    raise NotImplementedError


def parse_route_refresh(body: bytes) -> RouteRefresh:
    """Return what a ROUTE-REFRESH says. Fault 7/1."""
    raise NotImplementedError
