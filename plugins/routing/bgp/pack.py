"""UPDATE messages to be sent (pure).

Prefixes that share attributes and a next hop go together, as many as a message holds. IPv4 prefixes with an IPv4 next
hop go into the fields of their own, all others into MP_REACH_NLRI, the first of all attributes (RFC 7606 section 5.1),
and MP_UNREACH_NLRI. What is encoded is for sessions that agreed on the same: the width of AS numbers and of messages.
"""

from collections.abc import Iterable, Sequence

from kube_router.plugins.routing.bgp.attrs import encode_attribute, encode_attributes
from kube_router.plugins.routing.bgp.attrtable import EXTENDED, MP_REACH_NLRI, MP_UNREACH_NLRI, OPTIONAL
from kube_router.plugins.routing.bgp.fault import HEADER_LENGTH, MARKER
from kube_router.plugins.routing.bgp.model import Attributes, Family, Negotiated, NextHop, Prefix
from kube_router.plugins.routing.bgp.nlri import pack_prefixes

UNICAST = 1

_UPDATE = b"\x02"
_NOTHING = b"\x00\x00"  # a length field of an UPDATE
_LENGTHS = 4  # both length fields
_HEAD = 4  # of an attribute in its long form


def encode_reach(
    attributes: Attributes, next_hop: NextHop, prefixes: Iterable[Prefix], negotiated: Negotiated
) -> list[bytes]:
    """Return UPDATE messages that announce prefixes of one family, each within ``negotiated.message_max``.

    Attributes that leave no room for a prefix cannot be told: the prefixes are withdrawn then (RFC 8654 section 4).
    """
    wanted = list(prefixes)
    if not wanted:
        return []
    own_fields = len(wanted[0].network) == 4 == len(next_hop.address)
    try:
        run = encode_attributes(attributes, next_hop.address if own_fields else None, negotiated)
    except OverflowError:  # an attribute of more than 65535 octets
        return encode_withdraw(wanted, negotiated)
    if own_fields:
        chunks = _chunks(wanted, _room(negotiated) - len(run))
        messages = [_message(_NOTHING, len(run).to_bytes(2), run, chunk) for chunk in chunks]
    else:
        octets = next_hop.address + next_hop.link_local
        head = bytes((0, wanted[0].family, UNICAST, len(octets))) + octets + b"\x00"
        chunks = _chunks(wanted, _room(negotiated) - _HEAD - len(head) - len(run))
        messages = [_attributes_only(_long(MP_REACH_NLRI, head + chunk), run) for chunk in chunks]
    return messages or encode_withdraw(wanted, negotiated)


def encode_withdraw(prefixes: Iterable[Prefix], negotiated: Negotiated) -> list[bytes]:
    """Return UPDATE messages that withdraw prefixes, each within ``negotiated.message_max``."""
    wanted = list(prefixes)
    ipv4 = [prefix for prefix in wanted if len(prefix.network) == 4]
    ipv6 = [prefix for prefix in wanted if len(prefix.network) == 16]
    messages = [_message(len(chunk).to_bytes(2), chunk, _NOTHING) for chunk in _chunks(ipv4, _room(negotiated))]
    head = bytes((0, Family.IPV6, UNICAST))
    chunks = _chunks(ipv6, _room(negotiated) - _HEAD - len(head))
    return messages + [_attributes_only(_long(MP_UNREACH_NLRI, head + chunk)) for chunk in chunks]


def end_of_rib(family: Family) -> bytes:
    """Return the End-of-RIB marker of a family (RFC 4724 section 2)."""
    if family is Family.IPV4:
        return _message(_NOTHING, _NOTHING)
    return _attributes_only(encode_attribute(OPTIONAL, MP_UNREACH_NLRI, bytes((0, family, UNICAST))))


def _room(negotiated: Negotiated) -> int:
    """Return how many octets of prefixes and attributes a message holds."""
    return negotiated.message_max - HEADER_LENGTH - _LENGTHS


def _chunks(prefixes: Sequence[Prefix], room: int) -> list[bytes]:
    """Return prefixes as octets, in runs that fit into a room; none if not a single one would."""
    packed = pack_prefixes(prefixes)
    longest = max(map(len, packed), default=1)
    count = room // longest
    if count < 1:
        return []
    return [b"".join(packed[at : at + count]) for at in range(0, len(packed), count)]


def _long(kind: int, value: bytes) -> bytes:
    """Return an optional attribute in the long form, so that its size is known before its value is."""
    return bytes((OPTIONAL | EXTENDED, kind)) + len(value).to_bytes(2) + value


def _attributes_only(*attributes: bytes) -> bytes:
    run = b"".join(attributes)
    return _message(_NOTHING, len(run).to_bytes(2), run)


def _message(*parts: bytes) -> bytes:
    body = b"".join(parts)
    return MARKER + (HEADER_LENGTH + len(body)).to_bytes(2) + _UPDATE + body
