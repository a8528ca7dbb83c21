"""The routing plugin's options as the plans use them: typed, whole, without the flags they came from (pure).

Passwords in a file are not read here: the plugin hands over the text, and until then, or while the file cannot be read,
the peers it is for are waiting.
"""

from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network

from kube_router.plugins.routing import values
from kube_router.plugins.routing.bgp.model import BGP_PORT, BfdConfig

Network = IPv4Network | IPv6Network

DEFAULT_ASN = 64512


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalPeer:
    """A neighbour outside the mesh, as written. ``password`` is plaintext: ``repr`` hides it.

    ``waiting``: it has a password, and that is not known. ``where`` names the flag or annotation item it is from.
    """

    address: str
    asn: int
    port: int = BGP_PORT
    local_address: str = ""
    password: str = field(default="", repr=False)
    waiting: bool = False
    bfd: BfdConfig | None = None
    where: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingOptions:
    """All options of routing, checked. ``doubts`` are lines about what is taken otherwise than written."""

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
    cluster_asn: int = DEFAULT_ASN
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
    peer_router_passwords_file: str = ""  # the file still to be read; "" where the list of the flag has them
    peers: tuple[ExternalPeer, ...] = ()
    router_id: str = ""  # "" | "generate" | an IPv4 address
    routes_sync_period_s: float = 300.0
    service_cluster_ip_ranges: tuple[Network, ...] = (IPv4Network("10.96.0.0/12"),)
    service_external_ip_ranges: tuple[Network, ...] = ()
    loadbalancer_ip_ranges: tuple[Network, ...] = ()
    strict_external_ip_validation: bool = True
    doubts: tuple[str, ...] = ()


def with_passwords(
    options: RoutingOptions, text: str | None, error: str = "", *, before: RoutingOptions | None = None
) -> RoutingOptions:
    """Return the options with the passwords of the file's text; ``None`` and words where it cannot be read.

    The peers whose password is not found go on waiting, and a doubt says why: a file may come later. Where ``before``
    knew it they go on with that one: a file that is just being written must not end their sessions.
    """
    where = f"--peer-router-passwords-file {options.peer_router_passwords_file}"
    known = {peer.address: peer for peer in before.peers if not peer.waiting} if before is not None else {}
    lasts = "the peers of --peer-router-ips are left out until it is right"
    if known:
        lasts = "the passwords it held before are used until it is right"
    as_before = tuple(known.get(peer.address, peer) for peer in options.peers)
    if text is None or not text.strip():  # an empty one is being written, and does not say "no password"
        words = f"{where}: {error or ('cannot be read' if text is None else 'is empty')}; {lasts}"
        return replace(options, peers=as_before, doubts=(*options.doubts, words))
    passwords = text.strip().split(",")
    if len(passwords) != len(options.peers):
        words = f"{where}: has {len(passwords)} items, but --peer-router-ips has {len(options.peers)}; {lasts}"
        return replace(options, peers=as_before, doubts=(*options.doubts, words))
    peers, doubts = list(as_before), list(options.doubts)
    for i, (peer, encoded) in enumerate(zip(options.peers, passwords, strict=True)):
        try:
            peers[i] = replace(peer, password=values.password(encoded), waiting=False)
        except ValueError as wrong:
            lasts = "goes on with the one before" if peer.address in known else "is left out until it is right"
            doubts.append(f"{where}: item {i + 1}: {wrong}; peer {peer.address} {lasts}")
    return replace(options, peers=tuple(peers), doubts=tuple(doubts))
