"""Path attributes as bytes: where each begins in a message, and how a message is given them (pure).

A run of attributes is read in two passes. The first, here, finds where each begins and takes out what belongs to one
message only: NEXT_HOP, MP_REACH_NLRI, MP_UNREACH_NLRI. What is left is equal for many messages; so the second, in
attrtable.py, which reads values, is remembered: equal bytes give the identical Attributes. That memory is bounded in
entries and in octets of each, so that a peer cannot fill ours.

Both give RFC 7606's verdicts, see attrtable.py. A session's AS numbers have two octets or four and it is internal or
not: both are arguments.
"""

import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from kube_router.plugins.routing.bgp import aspath, attrtable
from kube_router.plugins.routing.bgp.attrtable import EXTENDED, FAULTS_MAX, OPTIONAL, TRANSITIVE, Wrong, name
from kube_router.plugins.routing.bgp.fault import Fault
from kube_router.plugins.routing.bgp.model import Attributes, Negotiated

BLOCKS_MAX = 4096  # remembered runs of attributes
BLOCK_MAX = 512  # octets of a run that is remembered


class Block(NamedTuple):
    """What a run of path attributes holds.

    ``missing`` is whatever an UPDATE that announces something has to have (RFC 4271 section 5) but for its next hop,
    which only one family has as an attribute. ``alone``: there is no other attribute than MP_UNREACH_NLRI.
    """

    attributes: Attributes
    next_hop: bytes | None = None
    reach: bytes | None = None  # MP_REACH_NLRI's value
    unreach: bytes | None = None
    alone: bool = True
    missing: tuple[str, ...] = ()
    wrong: tuple[Wrong, ...] = ()  # one is enough to take the message's prefixes for withdrawn
    discarded: tuple[str, ...] = ()


_OWN = {
    attrtable.NEXT_HOP: TRANSITIVE,
    attrtable.MP_REACH_NLRI: OPTIONAL,
    attrtable.MP_UNREACH_NLRI: OPTIONAL,
}
_BOTH = OPTIONAL | TRANSITIVE
remembering = lru_cache(maxsize=BLOCKS_MAX)(attrtable.read)


def parse_attributes(block: bytes, four_octet_as: bool, internal: bool) -> Block:
    """Return what a run of path attributes says. Fault 3/x where it ends the session."""
    rest: list[bytes] = []
    wrong: list[Wrong] = []
    discarded: list[str] = []
    own: dict[int, bytes] = {}
    at, end = 0, len(block)
    while at < end:
        start, head = at, 4 if block[at] & EXTENDED else 3
        if end - at < head:
            wrong.append(Wrong(1, f"{end - at} octets are left for an attribute"))
            break
        kind = block[at + 1]
        value_at = at + head
        at = value_at + (block[at + 2] if head == 3 else block[at + 2] << 8 | block[at + 3])
        if at > end:
            wrong.append(Wrong(1, f"{name(kind)} ends {at - end} octets behind the attributes"))
            break
        if kind not in _OWN:
            rest.append(block[start:at])
        elif kind in own:
            discarded.append(_second(kind))
        else:
            own[kind] = block[value_at:at]
            if (block[start] ^ _OWN[kind]) & (OPTIONAL | TRANSITIVE):
                wrong.append(_wrong_flags(kind, block[start:at]))
    return _block(rest, own, (wrong, discarded), four_octet_as=four_octet_as, internal=internal)


def _second(kind: int) -> str:
    """Return what is discarded of an attribute that is there twice. Fault for those with prefixes (section 3 g)."""
    if kind != attrtable.NEXT_HOP:
        raise Fault(3, 1, f"a second {name(kind)}")
    return "a second NEXT_HOP"


def _wrong_flags(kind: int, attribute: bytes) -> Wrong:
    """Return what is wrong with flags. Fault for attributes with prefixes, which are then in doubt (section 5.3)."""
    words = f"{name(kind)} has flags 0x{attribute[0]:02x}"
    if kind != attrtable.NEXT_HOP:
        raise Fault(3, 9, words, attribute)
    return Wrong(4, words)


def _block(
    rest: list[bytes],
    own: dict[int, bytes],
    verdicts: tuple[list[Wrong], list[str]],
    *,
    four_octet_as: bool,
    internal: bool,
) -> Block:
    run = b"".join(rest)
    read = remembering if len(run) <= BLOCK_MAX else attrtable.read
    attributes, missing, wrong_values, discarded_values = read(run, four_octet_as, internal)
    wrong, discarded = verdicts
    next_hop = own.get(attrtable.NEXT_HOP)
    if next_hop is not None and len(next_hop) != 4:
        wrong.append(Wrong(5, f"NEXT_HOP: length {len(next_hop)}, not 4"))
    return Block(
        attributes,
        next_hop,
        own.get(attrtable.MP_REACH_NLRI),
        own.get(attrtable.MP_UNREACH_NLRI),
        not rest and next_hop is None and attrtable.MP_REACH_NLRI not in own,
        missing,
        (*wrong, *wrong_values)[:FAULTS_MAX] if wrong else wrong_values,
        (*discarded, *discarded_values)[:FAULTS_MAX] if discarded else discarded_values,
    )


# -- Encoding ----------------------------------------------------------------------------------------------------------


def encode_attributes(attributes: Attributes, next_hop4: bytes | None, negotiated: Negotiated) -> bytes:
    """Return path attributes as an UPDATE holds them, in the order of their types (RFC 4271 section 5).

    ``next_hop4`` is NEXT_HOP's four octets, None where MP_REACH_NLRI has the next hop.
    """
    wide = negotiated.four_octet_as
    parts = [
        encode_attribute(TRANSITIVE, attrtable.ORIGIN, bytes((attributes.origin,))),
        encode_attribute(TRANSITIVE, attrtable.AS_PATH, aspath.encode(attributes.as_path, wide=wide)),
    ]
    if next_hop4 is not None:
        parts.append(encode_attribute(TRANSITIVE, attrtable.NEXT_HOP, next_hop4))
    if attributes.med is not None:
        parts.append(encode_attribute(OPTIONAL, attrtable.MULTI_EXIT_DISC, attributes.med.to_bytes(4)))
    if attributes.local_pref is not None:
        parts.append(encode_attribute(TRANSITIVE, attrtable.LOCAL_PREF, attributes.local_pref.to_bytes(4)))
    if attributes.atomic_aggregate:
        parts.append(encode_attribute(TRANSITIVE, attrtable.ATOMIC_AGGREGATE, b""))
    if attributes.aggregator is not None:
        parts += _aggregators(*attributes.aggregator, wide=wide)
    if not wide and aspath.is_wide(attributes.as_path):
        parts.append(encode_attribute(_BOTH, attrtable.AS4_PATH, aspath.encode_as4(attributes.as_path)))
    if attributes.originator_id is not None:
        parts.append(encode_attribute(OPTIONAL, attrtable.ORIGINATOR_ID, attributes.originator_id.to_bytes(4)))
    if attributes.cluster_list:
        parts.append(encode_attribute(OPTIONAL, attrtable.CLUSTER_LIST, _words(attributes.cluster_list)))
    if attributes.communities:
        parts.append(encode_attribute(_BOTH, attrtable.COMMUNITIES, _words(attributes.communities)))
    if attributes.extended_communities:
        octets = b"".join(attributes.extended_communities)
        parts.append(encode_attribute(_BOTH, attrtable.EXTENDED_COMMUNITIES, octets))
    if attributes.large_communities:
        octets = b"".join([_words(community) for community in attributes.large_communities])
        parts.append(encode_attribute(_BOTH, attrtable.LARGE_COMMUNITIES, octets))
    if attributes.others:
        parts += [encode_attribute(other.flags, other.type, other.value) for other in attributes.others]
    parts.sort(key=_type)
    return b"".join(parts)


def _type(attribute: bytes) -> int:
    return attribute[1]


def _aggregators(asn: int, address: bytes, *, wide: bool) -> Iterator[bytes]:
    octets = asn.to_bytes(4) if wide else aspath.narrow(asn).to_bytes(2)
    yield encode_attribute(_BOTH, attrtable.AGGREGATOR, octets + address)
    if not wide and asn > aspath.NARROW_MAX:
        yield encode_attribute(_BOTH, attrtable.AS4_AGGREGATOR, asn.to_bytes(4) + address)


def _words(values: tuple[int, ...]) -> bytes:
    return struct.pack(f"!{len(values)}I", *values)


def encode_attribute(flags: int, kind: int, value: bytes) -> bytes:
    """Return one attribute, its length in two octets where one does not do."""
    if len(value) > 255:
        return bytes((flags | EXTENDED, kind)) + len(value).to_bytes(2) + value
    return bytes((flags, kind, len(value))) + value
