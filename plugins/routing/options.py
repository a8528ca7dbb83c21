"""What the routing plugin's flags mean together: typed and checked (pure).

The flags themselves are in flags.py, what comes of them in settings.py.
"""

import math
from ipaddress import ip_network

from kube_router.core.options import Options
from kube_router.events.errors import ConfigError
from kube_router.plugins.routing import values
from kube_router.plugins.routing.bgp.model import BGP_PORT, BfdConfig
from kube_router.plugins.routing.flags import OPTIONS
from kube_router.plugins.routing.settings import DEFAULT_ASN, ExternalPeer, Network, RoutingOptions

__all__ = ["OPTIONS", "read"]

HOLD_TIME_MIN_S, HOLD_TIME_MAX_S = 3, 65535  # RFC 4271 §4.2; kube-router takes one second more
RESTART_TIME_MAX_S = 4095  # RFC 4724 §3: twelve bits
DEFERRAL_MAX_S = 18 * 3600


def read(options: Options) -> RoutingOptions:
    """Return the options. ConfigError for what kube-router refuses at start.

    Where the passwords are in a file, every peer waits for its own until ``with_passwords``.
    """
    graceful = options.flag("bgp-graceful-restart")
    bfd = _bfd(options)
    hold_time_s, doubts = _hold_time(options.seconds("bgp-holdtime"))
    if graceful and bfd:
        doubts += ("--enable-bfd, --bgp-graceful-restart: a peer that BFD finds down is not waited for",)
    return RoutingOptions(
        advertise_cluster_ip=options.flag("advertise-cluster-ip"),
        advertise_external_ip=options.flag("advertise-external-ip"),
        advertise_loadbalancer_ip=options.flag("advertise-loadbalancer-ip"),
        advertise_pod_cidr=options.flag("advertise-pod-cidr"),
        advertise_service_cluster_ip_range=options.flag("advertise-service-cluster-ip-range"),
        auto_mtu=options.flag("auto-mtu"),
        bfd=bfd,
        bgp_graceful_restart=graceful,
        bgp_graceful_restart_time_s=_restart_time(options.seconds("bgp-graceful-restart-time"), graceful=graceful),
        bgp_graceful_restart_deferral_s=_deferral(
            options.seconds("bgp-graceful-restart-deferral-time"), graceful=graceful
        ),
        bgp_holdtime_s=hold_time_s,
        bgp_port=options.number("bgp-port"),
        cluster_asn=options.number("cluster-asn") or DEFAULT_ASN,
        enable_cni=options.flag("enable-cni"),
        enable_ibgp=options.flag("enable-ibgp"),
        enable_overlay=options.flag("enable-overlay"),
        enable_pod_egress=options.flag("enable-pod-egress"),
        injected_routes_sync_period_s=options.seconds("injected-routes-sync-period"),
        nodes_full_mesh=options.flag("nodes-full-mesh"),
        overlay_encap=options.text("overlay-encap"),
        overlay_encap_port=options.number("overlay-encap-port"),
        overlay_type=options.text("overlay-type"),
        override_nexthop=options.flag("override-nexthop"),
        peer_router_multihop_ttl=options.number("peer-router-multihop-ttl"),
        peer_router_passwords_file=_passwords_file(options),
        peers=_peers(options, bfd),
        router_id=options.text("router-id"),
        routes_sync_period_s=options.seconds("routes-sync-period"),
        service_cluster_ip_ranges=_networks(options, "service-cluster-ip-range"),
        service_external_ip_ranges=_networks(options, "service-external-ip-range"),
        loadbalancer_ip_ranges=_networks(options, "loadbalancer-ip-range"),
        strict_external_ip_validation=options.flag("strict-external-ip-validation"),
        doubts=doubts,
    )


def _hold_time(seconds: float) -> tuple[int, tuple[str, ...]]:
    if not HOLD_TIME_MIN_S <= seconds <= HOLD_TIME_MAX_S + 1:
        raise ConfigError(f"--bgp-holdtime: {seconds:g}s is not within {HOLD_TIME_MIN_S}s-{HOLD_TIME_MAX_S}s")
    if seconds > HOLD_TIME_MAX_S:
        doubt = f"--bgp-holdtime: {seconds:g}s does not fit into BGP's 16 bits; {HOLD_TIME_MAX_S}s is used"
        return HOLD_TIME_MAX_S, (doubt,)
    return int(seconds), ()


def _restart_time(seconds: float, *, graceful: bool) -> int:
    if graceful and not 0 < seconds <= RESTART_TIME_MAX_S:
        raise ConfigError(
            f"--bgp-graceful-restart-time: {seconds:g}s is not greater than 0 and at most {RESTART_TIME_MAX_S}s"
        )
    return min(max(1, math.ceil(seconds)), RESTART_TIME_MAX_S)


def _deferral(seconds: float, *, graceful: bool) -> float:
    if graceful and not 0 < seconds <= DEFERRAL_MAX_S:
        raise ConfigError(f"--bgp-graceful-restart-deferral-time: {seconds:g}s is not greater than 0 and at most 18h")
    return min(max(0.0, seconds), float(DEFERRAL_MAX_S))


def _bfd(options: Options) -> BfdConfig | None:
    if not options.flag("enable-bfd"):
        return None
    return BfdConfig(
        port=options.number("bfd-port"),
        detect_mult=options.number("bfd-detection-multiplier"),
        desired_min_tx_ms=options.number("bfd-desired-min-tx-interval"),
        required_min_rx_ms=options.number("bfd-required-min-rx-interval"),
    )


def _networks(options: Options, name: str) -> tuple[Network, ...]:
    return tuple(ip_network(str(values.prefix(text))) for text in options.texts(name))


# -- the peers given by flags ------------------------------------------------------------------------------------------


def _passwords_file(options: Options) -> str:
    """Return the name of the file, "" where there is nothing to read from it: the list of the flag wins."""
    if options.texts("peer-router-passwords") or not options.texts("peer-router-ips"):
        return ""
    return options.text("peer-router-passwords-file")


def _peers(options: Options, bfd: BfdConfig | None) -> tuple[ExternalPeer, ...]:
    addresses = options.texts("peer-router-ips")
    asns = _of_length(options, "peer-router-asns", len(addresses), optional=False)
    ports = _of_length(options, "peer-router-ports", len(addresses))
    passwords = _of_length(options, "peer-router-passwords", len(addresses))
    peers: dict[str, ExternalPeer] = {}
    for i, text in enumerate(addresses):
        address = values.unicast(text)
        if address in peers:
            raise ConfigError(f"--peer-router-ips: {address} is there twice")
        peers[address] = ExternalPeer(
            address=address,
            asn=values.asn(asns[i]),
            port=values.port(ports[i]) if ports[i].strip() else BGP_PORT,
            password=values.password(passwords[i]),
            waiting=bool(_passwords_file(options)),
            bfd=bfd,
            where=f"--peer-router-ips, item {i + 1}",
        )
    return tuple(peers.values())


def _of_length(options: Options, name: str, length: int, *, optional: bool = True) -> tuple[str, ...]:
    """Return a list that goes with the addresses, blanks where it may be and is left out."""
    texts = options.texts(name)
    if not texts and optional:
        return ("",) * length
    if len(texts) != length:
        raise ConfigError(f"--{name}: has {len(texts)} items, but --peer-router-ips has {length}")
    return texts
