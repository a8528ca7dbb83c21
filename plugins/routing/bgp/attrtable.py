"""The path attributes this speaker knows: what each holds, and RFC 7606's verdict where it does not (pure).

The verdicts, from worst to mildest (section 3): a Fault ends the session; ``Malformed`` takes all prefixes of the
message for withdrawn; ``Discarded`` takes one attribute for absent. Each attribute of a message is looked at, the worst
verdict counts. An unknown attribute is passed on, dropped or a Fault, as its flags say (RFC 4271 section 5, 6.3).

NEXT_HOP and the two attributes of other families belong to one message, not to a block of attributes: attrs.py.
"""

import struct
from collections.abc import Callable
from typing import NamedTuple

from kube_router.plugins.routing.bgp import aspath
from kube_router.plugins.routing.bgp.fault import Fault
from kube_router.plugins.routing.bgp.model import AS_TRANS, Attributes, Origin, Segment, Unknown

OPTIONAL, TRANSITIVE, PARTIAL, EXTENDED = 0x80, 0x40, 0x20, 0x10

ORIGIN, AS_PATH, NEXT_HOP, MULTI_EXIT_DISC, LOCAL_PREF, ATOMIC_AGGREGATE, AGGREGATOR = range(1, 8)
COMMUNITIES, ORIGINATOR_ID, CLUSTER_LIST = 8, 9, 10
MP_REACH_NLRI, MP_UNREACH_NLRI, EXTENDED_COMMUNITIES, AS4_PATH, AS4_AGGREGATOR = 14, 15, 16, 17, 18
LARGE_COMMUNITIES = 32

FAULTS_MAX = 8  # told per message

_WITHDRAW_LENGTH, _WITHDRAW_FLAGS, _WITHDRAW_ORIGIN, _WITHDRAW_OPTIONAL, _WITHDRAW_PATH = 5, 4, 6, 9, 11


class Wrong(NamedTuple):
    """Why a message's prefixes are taken for withdrawn; the subcode is for a message that has none."""

    subcode: int
    words: str


class Malformed(Exception):
    """An attribute for which the message's prefixes are taken for withdrawn."""

    def __init__(self, subcode: int, words: str) -> None:
        super().__init__(subcode, words)
        self.wrong = Wrong(subcode, words)


class Discarded(Exception):
    """An attribute that is taken for absent."""


class Values(NamedTuple):
    """What attributes say. ``missing`` is what an UPDATE that announces something has to have (RFC 4271 section 5)."""

    attributes: Attributes
    missing: tuple[str, ...]
    wrong: tuple[Wrong, ...]
    discarded: tuple[str, ...]


def name(kind: int) -> str:
    """Return an attribute's name."""
    return _NAMES.get(kind) or (_KNOWN[kind].name if kind in _KNOWN else f"attribute {kind}")


def read(block: bytes, four_octet_as: bool, internal: bool) -> Values:
    """Return what a run of whole attributes says. Fault 3/2."""
    reading = _Reading(four_octet_as, internal)
    wrong: list[Wrong] = []
    discarded: list[str] = []
    seen: set[int] = set()
    at, end = 0, len(block)
    while at < end:
        flags, kind = block[at], block[at + 1]
        value_at = at + (4 if flags & EXTENDED else 3)
        start, at = at, value_at + int.from_bytes(block[at + 2 : value_at])
        if kind in seen:
            discarded.append(f"a second {name(kind)}")
            continue
        seen.add(kind)
        try:
            _read_one(reading, flags, kind, block[value_at:at])
        except Malformed as error:
            wrong.append(error.wrong)
        except Discarded as error:
            discarded.append(str(error))
        except Fault as fault:
            raise Fault(fault.code, fault.subcode, fault.words, block[start:at]) from None
    missing = tuple(name(kind) for kind in (ORIGIN, AS_PATH) if kind not in seen)
    return Values(reading.attributes(), missing, tuple(wrong[:FAULTS_MAX]), tuple(discarded[:FAULTS_MAX]))


class _Reading:
    """The attributes read so far."""

    __slots__ = (
        "aggregator", "as4_aggregator", "as4_path", "as_path", "atomic_aggregate", "cluster_list", "communities",
        "extended_communities", "four_octet_as", "internal", "large_communities", "local_pref", "med", "origin",
        "originator_id", "others",
    )  # fmt: skip

    def __init__(self, four_octet_as: bool, internal: bool) -> None:
        self.four_octet_as = four_octet_as
        self.internal = internal
        self.origin = Origin.IGP
        self.as_path: tuple[Segment, ...] = ()
        self.as4_path: tuple[Segment, ...] = ()
        self.med: int | None = None
        self.local_pref: int | None = None
        self.atomic_aggregate = False
        self.aggregator: tuple[int, bytes] | None = None
        self.as4_aggregator: tuple[int, bytes] | None = None
        self.communities: tuple[int, ...] = ()
        self.extended_communities: tuple[bytes, ...] = ()
        self.large_communities: tuple[tuple[int, int, int], ...] = ()
        self.originator_id: int | None = None
        self.cluster_list: tuple[int, ...] = ()
        self.others: tuple[Unknown, ...] = ()

    def attributes(self) -> Attributes:
        """Return them as a value, AS numbers of two and of four octets merged."""
        if not self.four_octet_as:
            self._merge()
        return Attributes(
            origin=self.origin,
            as_path=self.as_path,
            med=self.med,
            local_pref=self.local_pref,
            atomic_aggregate=self.atomic_aggregate,
            aggregator=self.aggregator,
            communities=self.communities,
            extended_communities=self.extended_communities,
            large_communities=self.large_communities,
            originator_id=self.originator_id,
            cluster_list=self.cluster_list,
            others=self.others,
        )

    def _merge(self) -> None:
        """Take the wide AS numbers that came around a speaker of narrow ones (RFC 6793 section 4.2.3)."""
        if self.aggregator is not None and self.as4_aggregator is not None:
            if self.aggregator[0] != AS_TRANS:
                return  # a narrow speaker has aggregated anew: what it passed on is of the routes before that
            self.aggregator = self.as4_aggregator
        if self.as4_path:
            self.as_path = aspath.merge(self.as_path, self.as4_path)


# -- One attribute -----------------------------------------------------------------------------------------------------


def _read_one(reading: _Reading, flags: int, kind: int, value: bytes) -> None:
    known = _KNOWN.get(kind)
    if known is None:
        _read_unknown(reading, flags, kind, value)
        return
    if known.internal_only and not reading.internal:
        raise Discarded(f"{known.name} from an external neighbour")
    if known.narrow_only and reading.four_octet_as:
        raise Discarded(f"{known.name} from a neighbour that knows AS numbers of four octets")
    if (flags ^ known.flags) & (OPTIONAL | TRANSITIVE):
        raise Malformed(_WITHDRAW_FLAGS, f"{known.name} has flags 0x{flags:02x}")
    known.read(reading, value)


def _read_unknown(reading: _Reading, flags: int, kind: int, value: bytes) -> None:
    """Keep a transitive attribute for others, forget one that is not; Fault for one that everybody has to know."""
    if not flags & OPTIONAL:
        raise Fault(3, 2, f"well-known attribute {kind} is unknown here")
    if flags & TRANSITIVE:
        reading.others += (Unknown(OPTIONAL | TRANSITIVE | PARTIAL, kind, value),)


def _exactly(what: str, value: bytes, size: int) -> None:
    if len(value) != size:
        raise Malformed(_WITHDRAW_LENGTH, f"{what}: length {len(value)}, not {size}")


def _some(what: str, value: bytes, size: int) -> int:
    """Return how many items of a size a value holds: one at least."""
    count, rest = divmod(len(value), size)
    if rest or not count:
        raise Malformed(_WITHDRAW_OPTIONAL, f"{what}: length {len(value)}, no multiple of {size}")
    return count


def _origin(reading: _Reading, value: bytes) -> None:
    _exactly("ORIGIN", value, 1)
    if value[0] > Origin.INCOMPLETE:
        raise Malformed(_WITHDRAW_ORIGIN, f"ORIGIN is {value[0]}")
    reading.origin = _ORIGINS[value[0]]


def _as_path(reading: _Reading, value: bytes) -> None:
    try:
        reading.as_path = aspath.parse(value, wide=reading.four_octet_as)
    except aspath.MalformedPath as error:
        raise Malformed(_WITHDRAW_PATH, f"AS_PATH: {error}") from None


def _as4_path(reading: _Reading, value: bytes) -> None:
    """Read AS4_PATH; what is wrong with it harms nothing but itself (RFC 6793 section 6), except AS 0 (RFC 7607)."""
    if not value:
        raise Discarded("AS4_PATH is empty")
    try:
        reading.as4_path = aspath.parse_as4(value)
    except aspath.ZeroAs as error:
        raise Malformed(_WITHDRAW_PATH, f"AS4_PATH: {error}") from None
    except aspath.MalformedPath as error:
        raise Discarded(f"AS4_PATH: {error}") from None


def _med(reading: _Reading, value: bytes) -> None:
    _exactly("MULTI_EXIT_DISC", value, 4)
    reading.med = int.from_bytes(value)


def _local_pref(reading: _Reading, value: bytes) -> None:
    _exactly("LOCAL_PREF", value, 4)
    reading.local_pref = int.from_bytes(value)


def _atomic_aggregate(reading: _Reading, value: bytes) -> None:
    if value:
        raise Discarded(f"ATOMIC_AGGREGATE: length {len(value)}, not 0")
    reading.atomic_aggregate = True


def _aggregator(reading: _Reading, value: bytes) -> None:
    reading.aggregator = _aggregator_of("AGGREGATOR", value, 8 if reading.four_octet_as else 6)


def _as4_aggregator(reading: _Reading, value: bytes) -> None:
    reading.as4_aggregator = _aggregator_of("AS4_AGGREGATOR", value, 8)


def _aggregator_of(what: str, value: bytes, size: int) -> tuple[int, bytes]:
    if len(value) != size:
        raise Discarded(f"{what}: length {len(value)}, not {size}")
    asn = int.from_bytes(value[:-4])
    if not asn:
        raise Malformed(_WITHDRAW_OPTIONAL, f"{what} is of AS number 0")  # RFC 7607 section 2
    return asn, value[-4:]


def _communities(reading: _Reading, value: bytes) -> None:
    reading.communities = struct.unpack(f"!{_some('COMMUNITIES', value, 4)}I", value)


def _extended_communities(reading: _Reading, value: bytes) -> None:
    count = _some("EXTENDED_COMMUNITIES", value, 8)
    reading.extended_communities = tuple(value[at * 8 : at * 8 + 8] for at in range(count))


def _large_communities(reading: _Reading, value: bytes) -> None:
    """Read LARGE_COMMUNITY; one that is there twice counts once (RFC 8092 section 3)."""
    _some("LARGE_COMMUNITY", value, 12)
    reading.large_communities = tuple(dict.fromkeys(struct.iter_unpack("!III", value)))


def _originator_id(reading: _Reading, value: bytes) -> None:
    _exactly("ORIGINATOR_ID", value, 4)
    reading.originator_id = int.from_bytes(value)


def _cluster_list(reading: _Reading, value: bytes) -> None:
    reading.cluster_list = struct.unpack(f"!{_some('CLUSTER_LIST', value, 4)}I", value)


class _Known(NamedTuple):
    name: str
    flags: int
    read: Callable[[_Reading, bytes], None]
    internal_only: bool = False  # from others it is discarded unread (RFC 7606 sections 7.5, 7.9, 7.10)
    narrow_only: bool = False  # from others it is discarded unread (RFC 6793 sections 3, 6)


_ORIGINS = tuple(Origin)
_BOTH = OPTIONAL | TRANSITIVE
_NAMES = {NEXT_HOP: "NEXT_HOP", MP_REACH_NLRI: "MP_REACH_NLRI", MP_UNREACH_NLRI: "MP_UNREACH_NLRI"}
_KNOWN = {
    ORIGIN: _Known("ORIGIN", TRANSITIVE, _origin),
    AS_PATH: _Known("AS_PATH", TRANSITIVE, _as_path),
    MULTI_EXIT_DISC: _Known("MULTI_EXIT_DISC", OPTIONAL, _med),
    LOCAL_PREF: _Known("LOCAL_PREF", TRANSITIVE, _local_pref, internal_only=True),
    ATOMIC_AGGREGATE: _Known("ATOMIC_AGGREGATE", TRANSITIVE, _atomic_aggregate),
    AGGREGATOR: _Known("AGGREGATOR", _BOTH, _aggregator),
    COMMUNITIES: _Known("COMMUNITIES", _BOTH, _communities),
    ORIGINATOR_ID: _Known("ORIGINATOR_ID", OPTIONAL, _originator_id, internal_only=True),
    CLUSTER_LIST: _Known("CLUSTER_LIST", OPTIONAL, _cluster_list, internal_only=True),
    EXTENDED_COMMUNITIES: _Known("EXTENDED_COMMUNITIES", _BOTH, _extended_communities),
    AS4_PATH: _Known("AS4_PATH", _BOTH, _as4_path, narrow_only=True),
    AS4_AGGREGATOR: _Known("AS4_AGGREGATOR", _BOTH, _as4_aggregator, narrow_only=True),
    LARGE_COMMUNITIES: _Known("LARGE_COMMUNITY", _BOTH, _large_communities),
}
