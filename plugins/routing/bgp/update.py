"""UPDATE messages as bytes (pure)."""

from collections.abc import Iterable
from typing import NamedTuple

from kube_router.plugins.routing.bgp.model import Attributes, Family, Negotiated, NextHop, Prefix


class Reach(NamedTuple):
    """Prefixes that are reachable through a next hop; path identifiers where ADD-PATH is negotiated."""

    next_hop: NextHop
    prefixes: list[Prefix]
    path_ids: list[int] | None = None


class Withdrawn(NamedTuple):
    """Prefixes that are not reachable any more."""

    prefixes: list[Prefix]
    path_ids: list[int] | None = None


class Update(NamedTuple):
    """An UPDATE. What is withdrawn goes before what is reached (RFC 4271 section 4.3): a prefix in both is reachable.

    ``attributes`` are there wherever something is reached. Treat-as-withdraw (RFC 7606) has turned what was reached
    into ``withdrawn``; ``faults`` say why, and which attributes were discarded.
    """

    attributes: Attributes | None = None
    reaches: tuple[Reach, ...] = ()
    withdrawn: tuple[Withdrawn, ...] = ()
    end_of_rib: Family | None = None
    faults: tuple[str, ...] = ()


class UpdateParser:
    """The parser of one session's UPDATEs."""

    def __init__(self, negotiated: Negotiated, our_asn: int) -> None:
        self._negotiated = negotiated
        self._our_asn = our_asn

    def parse(self, body: bytes) -> Update:
        """Return what an UPDATE says. Fault 3/x where it ends the session."""
        raise NotImplementedError


def encode_reach(
    attributes: Attributes, next_hop: NextHop, prefixes: Iterable[Prefix], negotiated: Negotiated
) -> list[bytes]:
    """Return UPDATE messages that announce prefixes of one family, each within ``negotiated.message_max``."""
    raise NotImplementedError


def encode_withdraw(prefixes: Iterable[Prefix], negotiated: Negotiated) -> list[bytes]:
    """Return UPDATE messages that withdraw prefixes, each within ``negotiated.message_max``."""
    raise NotImplementedError


def end_of_rib(family: Family) -> bytes:
    """Return the End-of-RIB marker of a family (RFC 4724 section 2)."""
    raise NotImplementedError
