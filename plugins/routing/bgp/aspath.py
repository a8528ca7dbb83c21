"""AS paths as bytes, with AS numbers of two octets or of four (pure).

A path is a run of segments: a type, a count, and as many AS numbers. Between a speaker that knows only two octets and
one of four, a wide number is told as AS_TRANS and the true path goes along in AS4_PATH, which narrow speakers pass on
without looking at it: so AS4_PATH lacks what they put in front of AS_PATH since (RFC 6793).

This file does not look for loops and chooses nothing.
"""

import struct
from collections.abc import Iterator

from kube_router.plugins.routing.bgp.model import AS_TRANS, Segment, SegmentType

NARROW_MAX = 0xFFFF
SEGMENT_MAX = 255  # AS numbers: their count is one octet (RFC 4271 section 4.3)

_SEQUENCE, _SET = SegmentType.AS_SEQUENCE, SegmentType.AS_SET
_TYPES = {1: _SET, 2: _SEQUENCE}
_CONFEDERATION = frozenset({3, 4})
_WIDE = tuple(struct.Struct(f"!{count}I") for count in range(SEGMENT_MAX + 1))
_NARROW = tuple(struct.Struct(f"!{count}H") for count in range(SEGMENT_MAX + 1))


class MalformedPath(ValueError):
    """Bytes that are no AS path; its text says why."""


class ZeroAs(MalformedPath):
    """An AS path through AS number 0, which is nobody's (RFC 7607)."""


def parse(value: bytes, *, wide: bool) -> tuple[Segment, ...]:
    """Return an AS path. MalformedPath where RFC 7606 section 7.2, RFC 5065 or RFC 7607 says that it is none."""
    return _parse(value, _WIDE if wide else _NARROW, drop_confederation=False)


def parse_as4(value: bytes) -> tuple[Segment, ...]:
    """Return what an AS4_PATH says; segments of confederations do not belong there (RFC 6793 section 6)."""
    return _parse(value, _WIDE, drop_confederation=True)


def _parse(value: bytes, layouts: tuple[struct.Struct, ...], *, drop_confederation: bool) -> tuple[Segment, ...]:
    segments: list[Segment] = []
    at, end = 0, len(value)
    while at < end:
        if at + 2 > end:
            raise MalformedPath("one octet is left for a segment")
        kind, count = value[at], value[at + 1]
        numbers_at = at + 2
        at = numbers_at + layouts[count].size
        if not count:
            raise MalformedPath("a segment is empty")
        if at > end:
            raise MalformedPath(f"a segment of {count} AS numbers lacks {at - end} octets")
        if kind in _CONFEDERATION and drop_confederation:
            continue
        if kind not in _TYPES:
            # This speaker is in no confederation, so a neighbour may not tell of one (RFC 5065 section 4).
            raise MalformedPath(f"a segment is of type {kind}")
        asns = layouts[count].unpack_from(value, numbers_at)
        if 0 in asns:
            raise ZeroAs("AS number 0")
        segments.append(Segment(_TYPES[kind], asns))
    return tuple(segments)


def length(path: tuple[Segment, ...]) -> int:
    """Return how many ASes a path counts: a set counts as one, a confederation as none (RFC 4271, RFC 5065)."""
    return sum(_counts(segment) for segment in path)


def _counts(segment: Segment) -> int:
    if segment.type is _SEQUENCE:
        return len(segment.asns)
    return 1 if segment.type is _SET else 0


def merge(path: tuple[Segment, ...], path4: tuple[Segment, ...]) -> tuple[Segment, ...]:
    """Return the true path behind AS_PATH and AS4_PATH: the former's start, then the latter (RFC 6793 4.2.3)."""
    ahead = length(path) - length(path4)
    if ahead < 0:
        return path
    return _joined((*_first(path, ahead), *path4))


def _first(path: tuple[Segment, ...], count: int) -> Iterator[Segment]:
    """Yield the start of a path that counts this many ASes."""
    for segment in path:
        if not count:
            return
        if segment.type is _SEQUENCE and len(segment.asns) > count:
            yield Segment(_SEQUENCE, segment.asns[:count])
            return
        count -= _counts(segment)
        yield segment


def _joined(path: tuple[Segment, ...]) -> tuple[Segment, ...]:
    """Return a path whose neighbouring sequences are one, where one can hold them."""
    joined: list[Segment] = []
    for segment in path:
        last = joined[-1] if joined else None
        both_sequences = last is not None and last.type is segment.type is _SEQUENCE
        if last is not None and both_sequences and len(last.asns) + len(segment.asns) <= SEGMENT_MAX:
            joined[-1] = Segment(_SEQUENCE, last.asns + segment.asns)
        else:
            joined.append(segment)
    return tuple(joined)


def is_wide(path: tuple[Segment, ...]) -> bool:
    """Say whether any AS number needs four octets."""
    return any(asn > NARROW_MAX for segment in path for asn in segment.asns)


def encode(path: tuple[Segment, ...], *, wide: bool) -> bytes:
    """Return a path's octets; AS_TRANS stands for what two octets cannot hold."""
    if wide:
        return b"".join([_encode(kind, asns, _WIDE) for kind, asns in path])
    return b"".join([_encode(kind, tuple(map(narrow, asns)), _NARROW) for kind, asns in path])


def encode_as4(path: tuple[Segment, ...]) -> bytes:
    """Return AS4_PATH's octets for a path; confederations stay out of it (RFC 6793 section 3)."""
    return encode(tuple(segment for segment in path if segment.type not in _CONFEDERATION), wide=True)


def narrow(asn: int) -> int:
    """Return an AS number as a speaker of two octets is told it."""
    return asn if asn <= NARROW_MAX else AS_TRANS


def _encode(kind: int, asns: tuple[int, ...], layouts: tuple[struct.Struct, ...]) -> bytes:
    """Return a segment, as several where it holds more AS numbers than one octet counts."""
    if len(asns) <= SEGMENT_MAX:
        return bytes((kind, len(asns))) + layouts[len(asns)].pack(*asns)
    return _encode(kind, asns[:SEGMENT_MAX], layouts) + _encode(kind, asns[SEGMENT_MAX:], layouts)
