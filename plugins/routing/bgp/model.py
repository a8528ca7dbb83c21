"""The words of BGP as all its rooms use them: families, prefixes, attributes, paths, configuration (pure).

Addresses are packed bytes in network order, 4 octets for IPv4 and 16 for IPv6; a prefix's host bits are zero. AS
numbers are four octets wide everywhere; AS_TRANS appears on the wire only (RFC 6793). A next hop is no attribute here,
whichever of NEXT_HOP and MP_REACH_NLRI carried it: so one block of attributes serves both families.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from ipaddress import ip_address, ip_network
from typing import NamedTuple

AS_TRANS = 23456
BGP_PORT = 179


class Family(IntEnum):
    """The address family (AFI) of unicast routes; the only SAFI here is unicast."""

    IPV4 = 1
    IPV6 = 2


class Prefix(NamedTuple):
    """A destination. The family is told by the length of ``network``."""

    network: bytes
    length: int

    @property
    def family(self) -> Family:
        return Family.IPV4 if len(self.network) == 4 else Family.IPV6

    def __str__(self) -> str:
        if len(self.network) == 4:
            return "%d.%d.%d.%d/%d" % (*self.network, self.length)  # noqa: UP031 - a fifth of the time of ip_address
        return f"{ip_address(self.network)}/{self.length}"


def prefix_of(text: str) -> Prefix:
    """Return the prefix of a CIDR in text. ValueError where it is none or has host bits."""
    network = ip_network(text)
    return Prefix(network.network_address.packed, network.prefixlen)


class SegmentType(IntEnum):
    AS_SET = 1
    AS_SEQUENCE = 2
    AS_CONFED_SEQUENCE = 3
    AS_CONFED_SET = 4


class Segment(NamedTuple):
    """A segment of an AS_PATH."""

    type: SegmentType
    asns: tuple[int, ...]


class Origin(IntEnum):
    IGP = 0
    EGP = 1
    INCOMPLETE = 2


class Unknown(NamedTuple):
    """A transitive optional attribute that is passed on without being understood; the Partial bit is set already."""

    flags: int
    type: int
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """Path attributes without the next hop. Absent is ``None`` or empty; communities are in the order received."""

    origin: Origin = Origin.IGP
    as_path: tuple[Segment, ...] = ()
    med: int | None = None
    local_pref: int | None = None
    atomic_aggregate: bool = False
    aggregator: tuple[int, bytes] | None = None  # AS number, IPv4 address
    communities: tuple[int, ...] = ()
    extended_communities: tuple[bytes, ...] = ()  # eight octets each
    large_communities: tuple[tuple[int, int, int], ...] = ()
    originator_id: int | None = None
    cluster_list: tuple[int, ...] = ()
    others: tuple[Unknown, ...] = ()


class NextHop(NamedTuple):
    """A next hop: a global address of either family, and a link-local one (16 octets) or ``b""``."""

    address: bytes
    link_local: bytes = b""


class Kind(IntEnum):
    """What an announced prefix stands for; export policy is by this."""

    POD = 1
    SERVICE = 2


class Path(NamedTuple):
    """One way to a prefix, as a peer (or this node: ``peer`` "") told it.

    ``weight`` and ``cost`` are local: a higher weight and a lower cost of reaching the next hop are better. A path that
    import policy refused is kept (to be shown, and to be judged anew) and never used: ``refused`` says why, in words.
    """

    peer: str
    attributes: Attributes
    next_hop: NextHop
    path_id: int = 0
    stale: bool = False  # of a session that restarts gracefully
    weight: int = 0
    cost: int = 0
    kind: Kind | None = None  # of this node's own paths
    refused: str = ""


# -- What a speaker is told to be ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class BfdConfig:
    """RFC 5880's timers in milliseconds. ``port`` is where the peer listens (RFC 5881: 3784)."""

    port: int = 3784
    detect_mult: int = 3
    desired_min_tx_ms: int = 1000
    required_min_rx_ms: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerConfig:
    """One neighbour. Two configurations that are equal need no new session.

    ``address`` and ``local_address`` are text; ``local_address`` "" leaves it to the kernel. ``asn`` is what its OPEN
    must say. ``password`` is plaintext: ``repr`` hides it.
    """

    address: str
    asn: int
    internal: bool  # iBGP: asn equals ours
    mesh: bool = False  # another node of this cluster
    port: int = BGP_PORT
    local_address: str = ""
    password: str = field(default="", repr=False)
    families: tuple[Family, ...] = (Family.IPV4,)
    hold_time_s: int = 90
    connect_retry_s: float = 1.0  # the first pause; each further one is twice as long, up to two minutes
    ttl: int = 0  # 0: 1 towards eBGP neighbours, the system's else; 255 with ttl_security
    ttl_security: bool = False  # GTSM (RFC 5082): what comes with a TTL below 255 - hops + 1 is dropped
    passive: bool = False
    graceful_restart_s: int | None = None  # restart time to announce, None: the capability is not sent
    add_path_receive: bool = True
    extended_message: bool = True
    reflector_client: bool = False
    bfd: BfdConfig | None = None
    # -- export
    next_hop_self: bool = False
    prepend_asn: int = 0
    prepend_count: int = 0
    communities: tuple[int, ...] = ()
    large_communities: tuple[tuple[int, int, int], ...] = ()

    @property
    def session(self) -> "PeerConfig":
        """What of it the session depends on: the rest can change under it."""
        return replace(
            self,
            reflector_client=False,
            bfd=None,
            next_hop_self=False,
            prepend_asn=0,
            prepend_count=0,
            communities=(),
            large_communities=(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeakerConfig:
    """All that a speaker is and does; the whole of it each time (pure function of the cluster's state).

    ``originated`` maps each prefix to what it is; ``next_hops`` is this node's own address by family. ``rejected`` are
    prefixes that are not taken from anybody, nor anything more specific; ``rejected_exactly`` only themselves.
    """

    asn: int
    router_id: int
    listen: tuple[str, ...] = ()
    port: int = BGP_PORT
    peers: Mapping[str, PeerConfig] = field(default_factory=dict)  # by address
    originated: Mapping[Prefix, Kind] = field(default_factory=dict)
    next_hops: Mapping[Family, bytes] = field(default_factory=dict)
    advertise_pods_externally: bool = True
    cluster_id: int = 0  # 0: no route reflector
    rejected: tuple[Prefix, ...] = ()
    rejected_exactly: frozenset[Prefix] = frozenset()
    ecmp_max: int = 16
    deferral_s: float = 360.0  # how long a restarting speaker waits for its peers' End-of-RIB


# -- What a session agreed on ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class GracefulRestart:
    """RFC 4724's capability as a peer sent it; ``notification`` is RFC 8538's N bit."""

    restarting: bool = False
    notification: bool = False
    time_s: int = 0
    families: Mapping[Family, bool] = field(default_factory=dict)  # forwarding state preserved (F)


@dataclass(frozen=True, slots=True, kw_only=True)
class Negotiated:
    """What both OPENs together mean for encoding and timers of one session."""

    asn: int  # the peer's
    router_id: int  # the peer's
    internal: bool
    hold_time_s: int  # 0: no keepalives
    families: frozenset[Family] = frozenset({Family.IPV4})
    four_octet_as: bool = True
    add_path_receive: frozenset[Family] = frozenset()
    extended_next_hop: frozenset[Family] = frozenset()  # families whose next hop may be IPv6 (RFC 8950: IPv4)
    message_max: int = 4096
    route_refresh: bool = False
    enhanced_refresh: bool = False
    graceful_restart: GracefulRestart | None = None
