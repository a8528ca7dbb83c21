"""Whether one Service wants its addresses announced by this node, and why or why not (pure).

An address of a Service with a Local traffic policy is announced only by nodes that have an endpoint for it that is
ready and not terminating: traffic sent here otherwise would be dropped. External and load-balancer addresses are
announced only inside the ranges that the operator allots, never inside those of cluster IPs: whoever may create a
Service must not be able to draw the network's traffic for any address here.
"""

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from kube_router.core import pflag
from kube_router.events.errors import Problem
from kube_router.events.faults import Faults, quoted
from kube_router.events.model import EndpointSlice, Service
from kube_router.plugins.routing import values
from kube_router.plugins.routing.annotations import OURS, where
from kube_router.plugins.routing.bgp.model import Family, Prefix
from kube_router.plugins.routing.settings import Network, RoutingOptions

Address = IPv4Address | IPv6Address

PROXY_NAME = "kube-router"
LOCAL = OURS + "service.local"
SKIP_LOAD_BALANCER_IPS = OURS + "service.skiplbips"
TYPES = ("ClusterIP", "NodePort", "LoadBalancer")
RANGE_FLAG = "--advertise-service-cluster-ip-range"
FAMILY_NAMES = {Family.IPV4: "IPv4", Family.IPV6: "IPv6"}


class Facts(NamedTuple):
    """What the claims depend on of this node. ``families``: those it has a next hop for."""

    node: str = ""
    addresses: frozenset[str] = frozenset()
    families: frozenset[Family] = frozenset()


NO_FACTS = Facts()


class Claim(NamedTuple):
    """One address of one Service: whether this Service gets it announced, and the reason in words."""

    prefix: Prefix
    service: str  # key; "" for a range of cluster IPs
    announced: bool
    why: str


class _Class(NamedTuple):
    """One of the three kinds of addresses a Service can have."""

    words: str
    field: str
    flag: str
    annotation: str
    addresses: tuple[str, ...]
    by_default: bool
    policy: str  # Cluster | Local
    policy_field: str
    ranges_flag: str = ""
    ranges: tuple[Network, ...] = ()


def range_claims(options: RoutingOptions, facts: Facts) -> tuple[Claim, ...]:
    """Return the claims on the ranges of cluster IPs themselves."""
    if not options.advertise_service_cluster_ip_range:
        return ()
    return tuple(
        Claim(prefix, "", *_with_next_hop(prefix, facts, f"range of cluster IPs, {RANGE_FLAG}"))
        for prefix in dict.fromkeys(values.prefix(str(network)) for network in options.service_cluster_ip_ranges)
    )


def judge(
    service: Service, slices: Sequence[EndpointSlice], facts: Facts, options: RoutingOptions
) -> tuple[tuple[Claim, ...], tuple[Problem, ...]]:
    """Return what a Service claims, each prefix once, and what is wrong with it.

    Of two claims on one prefix, such as an external IP that is the load balancer's too, the granted one stands.
    """
    faults = Faults("Service", service.key)
    found: dict[Prefix, Claim] = {}
    for kind in _classes(service, options):
        if not kind.addresses:
            continue
        wanted, because = _is_wanted(service, kind, faults)
        for address in kind.addresses:
            parsed = ip_address(address)
            prefix = Prefix(parsed.packed, parsed.max_prefixlen)
            if not wanted:
                verdict = False, because
            elif reason := _withheld(kind, parsed, options, faults):
                verdict = False, reason
            elif kind.policy == "Local" and not _has_ready_endpoint(slices, prefix.family, facts):
                verdict = False, f"{kind.policy_field}: Local, and no ready endpoint of it is on this node"
            else:
                verdict = _with_next_hop(prefix, facts, f"{kind.words} of Service {service.key}, {because}")
            if prefix not in found or (verdict[0] and not found[prefix].announced):
                found[prefix] = Claim(prefix, service.key, *verdict)
    return tuple(found.values()), faults.found()


def _classes(service: Service, options: RoutingOptions) -> Iterator[_Class]:
    forced = service.annotations.get(LOCAL) == "true"
    external = ("Local", LOCAL) if forced else (service.external_traffic_policy, "externalTrafficPolicy")
    yield _Class(
        "cluster IP",
        "spec.clusterIPs",
        "--advertise-cluster-ip",
        OURS + "service.advertise.clusterip",
        service.cluster_ips,
        options.advertise_cluster_ip,
        # service.local speaks of both policies: traffic from inside the cluster goes anywhere then.
        "Cluster" if forced else service.internal_traffic_policy,
        "internalTrafficPolicy",
    )
    yield _Class(
        "external IP",
        "spec.externalIPs",
        "--advertise-external-ip",
        OURS + "service.advertise.externalip",
        service.external_ips,
        options.advertise_external_ip,
        *external,
        "--service-external-ip-range",
        options.service_external_ip_ranges,
    )
    yield _Class(
        "load-balancer IP",
        "status.loadBalancer.ingress",
        "--advertise-loadbalancer-ip",
        OURS + "service.advertise.loadbalancerip",
        service.load_balancer_ips,
        options.advertise_loadbalancer_ip,
        *external,
        "--loadbalancer-ip-range",
        options.loadbalancer_ip_ranges,
    )


def _is_wanted(service: Service, kind: _Class, faults: Faults) -> tuple[bool, str]:
    """Return whether addresses of a class are to be announced at all, and what says so."""
    if reason := _not_ours(service):
        return False, reason
    if kind.words == "load-balancer IP":
        if service.type != "LoadBalancer":
            return False, f"the Service is of type {service.type}, not LoadBalancer"
        if SKIP_LOAD_BALANCER_IPS in service.annotations:
            return False, f"annotation {SKIP_LOAD_BALANCER_IPS}"
    text = service.annotations.get(kind.annotation)
    if text is None:
        return kind.by_default, kind.flag if kind.by_default else f"{kind.flag} is not set"
    try:
        return pflag.boolean(text), f"annotation {kind.annotation}={text}"
    except ValueError:
        faults.add(where(kind.annotation), f"{quoted(text)} is neither true nor false; taken as false")
        return False, f"annotation {kind.annotation} is neither true nor false"


def _not_ours(service: Service) -> str:
    """Return why this proxy does not serve a Service, "" where it does."""
    if service.type not in TYPES:
        return f"the Service is of type {service.type}"
    if service.headless:
        return "label service.kubernetes.io/headless"
    if service.proxy_name not in (None, PROXY_NAME):
        return f"another proxy serves it: label service.kubernetes.io/service-proxy-name={service.proxy_name}"
    if not service.cluster_ips:
        return "the Service is headless"
    return ""


def _withheld(kind: _Class, address: Address, options: RoutingOptions, faults: Faults) -> str:
    """Return why an address that is wanted must not be announced, "" where it may."""
    cluster = _inside(address, options.service_cluster_ip_ranges)
    if kind.words == "cluster IP":
        if cluster is not None and options.advertise_service_cluster_ip_range:
            return f"the range {cluster} is announced instead, {RANGE_FLAG}"
        return ""
    if cluster is not None:
        reason = f"is inside {cluster} of --service-cluster-ip-range"
    elif not options.strict_external_ip_validation or _inside(address, kind.ranges) is not None:
        return ""
    else:
        reason = (
            f"is not inside {kind.ranges_flag}" if kind.ranges else f"is not permitted: {kind.ranges_flag} is not set"
        )
    faults.add(kind.field, f"{address} {reason}; not announced")
    return reason


def _inside(address: Address, ranges: Sequence[Network]) -> Network | None:
    return next((network for network in ranges if address in network), None)


def _has_ready_endpoint(slices: Sequence[EndpointSlice], family: Family, facts: Facts) -> bool:
    """Return whether an endpoint on this node takes new connections; without a node name its address tells."""
    return any(
        endpoint.ready
        and not endpoint.terminating
        and (endpoint.node_name == facts.node if endpoint.node_name else endpoint.addresses[0] in facts.addresses)
        for piece in slices
        if piece.address_type == FAMILY_NAMES[family]
        for endpoint in piece.endpoints
        if endpoint.addresses
    )


def _with_next_hop(prefix: Prefix, facts: Facts, why: str) -> tuple[bool, str]:
    if prefix.family in facts.families:
        return True, why
    return False, f"this node has no {FAMILY_NAMES[prefix.family]} address to be the next hop"
