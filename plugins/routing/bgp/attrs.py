"""Path attributes as bytes, and RFC 7606's verdicts on those that are wrong (pure)."""

from typing import NamedTuple

from kube_router.plugins.routing.bgp.model import Attributes, Negotiated


class Block(NamedTuple):
    """What a run of path attributes holds."""

    attributes: Attributes | None  # None: treat as withdraw
    next_hop: bytes | None
    faults: tuple[str, ...]


def parse_attributes(block: bytes, *, four_octet_as: bool, internal: bool) -> Block:
    """Return what path attributes say."""
    raise NotImplementedError


def encode_attributes(attributes: Attributes, next_hop4: bytes | None, negotiated: Negotiated) -> bytes:
    """Return path attributes as an UPDATE holds them."""
    raise NotImplementedError
