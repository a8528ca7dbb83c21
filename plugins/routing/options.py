"""The routing plugin's own options, by kube-router's names where it has them (pure)."""

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from kube_router.core.options import Option, Options
from kube_router.plugins.routing.bgp.model import BGP_PORT, BfdConfig

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalPeer:
    """A neighbour outside the mesh, as written. ``password`` is plaintext (``repr`` hides it).

    ``waiting`` says in words why its password is not known; such a peer is left out.
    """

    address: str
    asn: int
    port: int = BGP_PORT
    local_address: str = ""
    password: str = field(default="", repr=False)
    waiting: str = ""
    bfd: BfdConfig | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingOptions:
    """All options of routing, checked. ``doubts`` are lines about what was taken otherwise than written."""

    advertise_cluster_ip: bool = False
    advertise_external_ip: bool = False
    advertise_loadbalancer_ip: bool = False
    advertise_pod_cidr: bool = True
    advertise_service_cluster_ip_range: bool = False
    auto_mtu: bool = True
    bfd: BfdConfig | None = None  # None: --enable-bfd is not set
    bgp_graceful_restart: bool = False
    bgp_graceful_restart_time_s: int = 90
    bgp_graceful_restart_deferral_s: float = 360.0
    bgp_holdtime_s: int = 90
    bgp_port: int = BGP_PORT
    cluster_asn: int = 64512
    enable_cni: bool = True
    enable_ibgp: bool = True
    enable_overlay: bool = True
    enable_pod_egress: bool = True
    injected_routes_sync_period_s: float = 60.0
    nodes_full_mesh: bool = True
    overlay_encap: str = "ipip"  # ipip | fou | vxlan
    overlay_encap_port: int = 5555
    overlay_type: str = "subnet"  # subnet | full
    override_nexthop: bool = False
    peer_router_multihop_ttl: int = 0
    peer_router_passwords_file: str = ""  # the file still to be read; "" where the flag list has them
    peers: tuple[ExternalPeer, ...] = ()
    router_id: str = ""  # "" | "generate" | IPv4
    routes_sync_period_s: float = 300.0
    service_cluster_ip_ranges: tuple[Network, ...] = (IPv4Network("10.96.0.0/12"),)
    service_external_ip_ranges: tuple[Network, ...] = ()
    loadbalancer_ip_ranges: tuple[Network, ...] = ()
    strict_external_ip_validation: bool = True
    doubts: tuple[str, ...] = ()


OPTIONS: tuple[Option, ...] = ()


def read(options: Options) -> RoutingOptions:
    """Return the options. ConfigError for what kube-router refuses at start.

    Where the passwords are in a file every peer waits for them until ``with_passwords``.
    """
    raise NotImplementedError


def with_passwords(options: RoutingOptions, text: str | None, error: str = "") -> RoutingOptions:
    """Return the options with the passwords of the file's text; ``None`` and words where it cannot be read."""
    raise NotImplementedError
