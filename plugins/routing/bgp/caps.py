"""Capabilities of an OPEN (RFC 5492), and what two OPENs together agree on (pure)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from kube_router.plugins.routing.bgp.model import Family, GracefulRestart, Negotiated, PeerConfig


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


def negotiate(ours: Open, theirs: Open, peer: PeerConfig, our_asn: int) -> Negotiated:
    """Return what a session means. Fault 2/x where there can be none."""
    raise NotImplementedError
