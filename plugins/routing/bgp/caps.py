"""Capabilities of an OPEN (RFC 5492), and what two OPENs together agree on (pure).

Each capability is a code and a value. One that this speaker does not know, or that is about families it does not have,
is kept as it came and means nothing. One that it knows but cannot read is an error of the OPEN, since the peer believes
to have told us something.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from kube_router.plugins.routing.bgp.fault import Fault
from kube_router.plugins.routing.bgp.model import AS_TRANS, Family, GracefulRestart, Negotiated, PeerConfig

MESSAGE_MAX = 4096
EXTENDED_MAX = 65535
VERSION = 4

MULTIPROTOCOL, ROUTE_REFRESH, EXTENDED_NEXT_HOP, EXTENDED_MESSAGE = 1, 2, 5, 6
GRACEFUL_RESTART, FOUR_OCTET_AS, ADD_PATH, ENHANCED_REFRESH = 64, 65, 69, 70
CAN_RECEIVE, CAN_SEND = 1, 2

_UNICAST = 1
_RESTARTING, _NOTIFICATION, _TIME_MAX = 0x8000, 0x4000, 0x0FFF
_FORWARDING = 0x80
_AFI_IPV6 = 2
_FAMILIES = {(family, _UNICAST): family for family in Family}


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a speaker says it can do. ``families`` is IPv4 alone where an OPEN holds no multiprotocol capability."""

    families: frozenset[Family] = frozenset({Family.IPV4})
    four_octet_asn: int | None = None
    add_path: Mapping[Family, int] = field(default_factory=dict)  # 1 can receive, 2 can send, 3 both
    extended_next_hop: frozenset[Family] = frozenset()  # families whose next hop may be IPv6
    graceful_restart: GracefulRestart | None = None
    route_refresh: bool = False
    enhanced_refresh: bool = False
    extended_message: bool = False
    unknown: tuple[tuple[int, bytes], ...] = ()


class Open(NamedTuple):
    """An OPEN message. ``asn`` has four octets: the capability's where there is one."""

    version: int
    asn: int
    hold_time_s: int
    router_id: int
    capabilities: Capabilities


# -- As bytes ----------------------------------------------------------------------------------------------------------


def encode_capabilities(capabilities: Capabilities) -> list[bytes]:
    """Return each capability: code, length, value."""
    its = capabilities
    values = [(MULTIPROTOCOL, struct.pack("!HBB", family, 0, _UNICAST)) for family in sorted(its.families)]
    if its.route_refresh:
        values.append((ROUTE_REFRESH, b""))
    if its.extended_next_hop:
        families = (struct.pack("!HHH", family, _UNICAST, _AFI_IPV6) for family in sorted(its.extended_next_hop))
        values.append((EXTENDED_NEXT_HOP, b"".join(families)))
    if its.extended_message:
        values.append((EXTENDED_MESSAGE, b""))
    if its.graceful_restart is not None:
        values.append((GRACEFUL_RESTART, _encode_restart(its.graceful_restart)))
    if its.four_octet_asn is not None:
        values.append((FOUR_OCTET_AS, its.four_octet_asn.to_bytes(4)))
    if its.add_path:
        modes = (struct.pack("!HBB", family, _UNICAST, mode) for family, mode in sorted(its.add_path.items()))
        values.append((ADD_PATH, b"".join(modes)))
    if its.enhanced_refresh:
        values.append((ENHANCED_REFRESH, b""))
    return [bytes((code, len(value))) + value for code, value in (*values, *its.unknown)]


def _encode_restart(restart: GracefulRestart) -> bytes:
    word = min(restart.time_s, _TIME_MAX)
    word |= _RESTARTING * restart.restarting | _NOTIFICATION * restart.notification
    families = (
        struct.pack("!HBB", family, _UNICAST, _FORWARDING * kept) for family, kept in sorted(restart.families.items())
    )
    return word.to_bytes(2) + b"".join(families)


def parse_capabilities(values: list[tuple[int, bytes]]) -> Capabilities:
    """Return what capabilities say. Fault 2/0 where one of those known here cannot be read.

    The last of one kind counts, except of those that are given once per family, which add up (RFC 5492 section 4).
    """
    reading = _Reading()
    for code, value in values:
        reading.read(code, value)
    return reading.capabilities()


class _Reading:
    """The capabilities read so far."""

    def __init__(self) -> None:
        self.families: set[Family] | None = None
        self.four_octet_asn: int | None = None
        self.add_path: dict[Family, int] = {}
        self.extended_next_hop: set[Family] = set()
        self.graceful_restart: GracefulRestart | None = None
        self.flags: set[int] = set()
        self.unknown: list[tuple[int, bytes]] = []

    def capabilities(self) -> Capabilities:
        """Return them as a value."""
        return Capabilities(
            families=frozenset({Family.IPV4} if self.families is None else self.families),
            four_octet_asn=self.four_octet_asn,
            add_path=self.add_path,
            extended_next_hop=frozenset(self.extended_next_hop),
            graceful_restart=self.graceful_restart,
            route_refresh=ROUTE_REFRESH in self.flags,
            enhanced_refresh=ENHANCED_REFRESH in self.flags,
            extended_message=EXTENDED_MESSAGE in self.flags,
            unknown=tuple(self.unknown),
        )

    def read(self, code: int, value: bytes) -> None:
        """Read one capability."""
        if code == MULTIPROTOCOL:
            self._multiprotocol(value)
        elif code == FOUR_OCTET_AS:
            self.four_octet_asn = int.from_bytes(_sized(code, value, len(value) == 4))
        elif code == ADD_PATH:
            for afi, safi, mode in struct.iter_unpack("!HBB", _sized(code, value, len(value) % 4 == 0)):
                # RFC 7911 section 4: any other mode is to be ignored.
                if (afi, safi) in _FAMILIES and mode in (1, 2, 3):
                    self.add_path[_FAMILIES[afi, safi]] = mode
        elif code == EXTENDED_NEXT_HOP:
            for afi, safi, next_afi in struct.iter_unpack("!HHH", _sized(code, value, len(value) % 6 == 0)):
                if (afi, safi) in _FAMILIES and next_afi == _AFI_IPV6:
                    self.extended_next_hop.add(_FAMILIES[afi, safi])
        elif code == GRACEFUL_RESTART:
            self.graceful_restart = _parse_restart(_sized(code, value, len(value) % 4 == 2))
        elif code in (ROUTE_REFRESH, ENHANCED_REFRESH, EXTENDED_MESSAGE):
            self.flags.add(code)
        else:
            self.unknown.append((code, value))

    def _multiprotocol(self, value: bytes) -> None:
        afi, _, safi = struct.unpack("!HBB", _sized(MULTIPROTOCOL, value, len(value) == 4))
        self.families = self.families if self.families is not None else set()
        if (afi, safi) in _FAMILIES:
            self.families.add(_FAMILIES[afi, safi])
        else:
            self.unknown.append((MULTIPROTOCOL, value))


def _sized(code: int, value: bytes, fits: bool) -> bytes:
    if not fits:
        raise Fault(2, 0, f"capability {code} has {len(value)} octets")
    return value


def _parse_restart(value: bytes) -> GracefulRestart:
    word = int.from_bytes(value[:2])
    return GracefulRestart(
        restarting=bool(word & _RESTARTING),
        notification=bool(word & _NOTIFICATION),
        time_s=word & _TIME_MAX,
        families={
            _FAMILIES[afi, safi]: bool(flags & _FORWARDING)
            for afi, safi, flags in struct.iter_unpack("!HBB", value[2:])
            if (afi, safi) in _FAMILIES
        },
    )


# -- What two OPENs agree on -------------------------------------------------------------------------------------------


def check(theirs: Open) -> None:
    """Return if an OPEN says nothing that no speaker may say. Fault 2/x."""
    if theirs.version != VERSION:
        raise Fault(2, 1, f"BGP version {theirs.version}, not 4", VERSION.to_bytes(2))
    if not theirs.asn:
        raise Fault(2, 2, "AS number 0")  # RFC 7607 section 2
    if theirs.hold_time_s in (1, 2):
        raise Fault(2, 6, f"a hold time of {theirs.hold_time_s} s, neither 0 nor at least 3")
    if not theirs.router_id:
        raise Fault(2, 3, "router ID 0.0.0.0")


def negotiate(ours: Open, theirs: Open, peer: PeerConfig, our_asn: int) -> Negotiated:
    """Return what a session means. Fault 2/x where there can be none."""
    check(theirs)
    mine, its = ours.capabilities, theirs.capabilities
    if theirs.asn != peer.asn:
        raise Fault(2, 2, f"the peer is of AS {theirs.asn}, configured is {peer.asn}")
    internal = theirs.asn == our_asn
    if internal and theirs.router_id == ours.router_id:
        raise Fault(2, 3, f"the peer has our router ID {_dotted(theirs.router_id)}")  # RFC 6286 section 2.2
    families = mine.families & its.families
    if not families:
        wanted = b"".join(_multiprotocol_of(mine))
        raise Fault(2, 7, f"no common family: ours {_names(mine)}, theirs {_names(its)}", wanted)
    return Negotiated(
        asn=theirs.asn,
        router_id=theirs.router_id,
        internal=internal,
        hold_time_s=min(ours.hold_time_s, theirs.hold_time_s),
        families=families,
        four_octet_as=mine.four_octet_asn is not None and its.four_octet_asn is not None,
        add_path_receive=frozenset(
            family
            for family in families
            if mine.add_path.get(family, 0) & CAN_RECEIVE and its.add_path.get(family, 0) & CAN_SEND
        ),
        extended_next_hop=mine.extended_next_hop & its.extended_next_hop & families,
        message_max=EXTENDED_MAX if mine.extended_message and its.extended_message else MESSAGE_MAX,
        route_refresh=mine.route_refresh and its.route_refresh,
        enhanced_refresh=mine.enhanced_refresh and its.enhanced_refresh,
        graceful_restart=its.graceful_restart if mine.graceful_restart is not None else None,
    )


def two_octet_asn(asn: int) -> int:
    """Return what an OPEN's field of two octets says of an AS number."""
    return asn if asn <= 0xFFFF else AS_TRANS


def _multiprotocol_of(capabilities: Capabilities) -> Iterator[bytes]:
    return (one for one in encode_capabilities(capabilities) if one[0] == MULTIPROTOCOL)


def _names(capabilities: Capabilities) -> str:
    return ", ".join(family.name for family in sorted(capabilities.families)) or "none"


def _dotted(router_id: int) -> str:
    return ".".join(str(octet) for octet in router_id.to_bytes(4))
