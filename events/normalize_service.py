"""Turn the API's Service into ours: which addresses and ports the node is to serve, and how.

What is left out is left out to the safe side: a load balancer whose source ranges are all unreadable is not served at
its load-balancer addresses at all, since no range at all would admit everybody.
"""

from collections.abc import Iterable, Mapping

import msgspec
from msgspec import Raw

from kube_router.events import canonical, model, wire
from kube_router.events.faults import Faults, decode, identify, quoted
from kube_router.events.resource import Normalized, Redact

ANNOTATIONS = "kube-router.io/"
PROXY_NAME = "service.kubernetes.io/service-proxy-name"
HEADLESS = "service.kubernetes.io/headless"

# core/v1: the default of sessionAffinityConfig.clientIP.timeoutSeconds, and its bound.
AFFINITY_TIMEOUT_S = 10800
AFFINITY_TIMEOUT_MAX_S = 86400

_services = msgspec.json.Decoder(wire.Service)


def normalize_service(raw: bytes | Raw, redact: Redact) -> Normalized:
    """Return the Service; of its annotations only ours are kept, which hold no secrets."""
    written = decode(_services, raw, "Service")
    namespace, name, faults = identify("Service", written.metadata, namespaced=True)
    meta = written.metadata or wire.AnnotatedMeta()
    spec = written.spec or wire.ServiceSpec()
    labels = meta.labels or {}
    ranges, closed = _source_ranges(spec, faults)
    service = model.Service(
        namespace=namespace,
        name=name,
        uid=meta.uid or "",
        created=meta.creation_timestamp or "",
        type=canonical.intern(spec.type or "ClusterIP"),
        cluster_ips=_cluster_ips(spec, faults),
        external_ips=_addresses("spec.externalIPs", spec.external_ips or (), faults),
        load_balancer_ips=() if closed else _load_balancer_ips(written.status, faults),
        load_balancer_source_ranges=ranges,
        load_balancer_class=spec.load_balancer_class or "",
        ports=_ports(spec.ports or (), faults),
        session_affinity_timeout_s=_affinity_timeout_s(spec, faults),
        internal_traffic_policy=_traffic_policy("internal", spec.internal_traffic_policy, faults),
        external_traffic_policy=_traffic_policy("external", spec.external_traffic_policy, faults),
        ip_families=_families(spec.ip_families or (), faults),
        health_check_node_port=_port("spec.healthCheckNodePort", spec.health_check_node_port, faults),
        publish_not_ready_addresses=spec.publish_not_ready_addresses is True,
        traffic_distribution=spec.traffic_distribution or "",
        proxy_name=(labels[PROXY_NAME] or "") if PROXY_NAME in labels else None,
        headless=HEADLESS in labels,
        annotations=own_annotations(meta),
    )
    return Normalized(service, meta.resource_version or "", 0, faults.found())


def own_annotations(meta: wire.AnnotatedMeta) -> Mapping[str, str]:
    """Return the annotations that are kube-router's."""
    return {name: text or "" for name, text in (meta.annotations or {}).items() if name.startswith(ANNOTATIONS)}


def _cluster_ips(spec: wire.ServiceSpec, faults: Faults) -> tuple[str, ...]:
    """Return the cluster IPs; ``None`` is the API's word for headless, and an ExternalName has none."""
    if spec.type == "ExternalName":
        return ()
    path = "spec.clusterIPs" if spec.cluster_ips else "spec.clusterIP"
    written = spec.cluster_ips or ([spec.cluster_ip] if spec.cluster_ip else [])
    return _addresses(path, [text for text in written if text.lower() not in ("", "none")], faults)


def _addresses(path: str, written: Iterable[str], faults: Faults) -> tuple[str, ...]:
    """Return the addresses without repetitions, in their order."""
    addresses: dict[str, None] = {}
    for i, text in enumerate(written):
        address = canonical.address(text)
        if address is None:
            faults.add(f"{path}[{i}]", f"{quoted(text)} is no address; left out")
        else:
            addresses[address] = None
    return tuple(addresses)


def _load_balancer_ips(status: wire.ServiceStatus | None, faults: Faults) -> tuple[str, ...]:
    """Return the addresses for which the node is to answer: ipMode Proxy says that it is not."""
    if status is None or status.load_balancer is None:
        return ()
    ingress = status.load_balancer.ingress or ()
    served = [entry.ip for entry in ingress if entry.ip and (entry.ip_mode or "VIP") == "VIP"]
    return _addresses("status.loadBalancer.ingress", served, faults)


def _source_ranges(spec: wire.ServiceSpec, faults: Faults) -> tuple[tuple[str, ...], bool]:
    """Return the ranges, and whether none of those asked for can be read."""
    path, written = "spec.loadBalancerSourceRanges", spec.load_balancer_source_ranges or ()
    ranges: dict[str, None] = {}
    for i, text in enumerate(written):
        network = canonical.network(text)
        if network is None:
            faults.add(f"{path}[{i}]", f"{quoted(text)} is no CIDR; admits nobody")
        else:
            ranges[network] = None
    closed = bool(written) and not ranges
    if closed:
        faults.add(path, "no range can be read; load-balancer addresses not served until fixed")
    return tuple(ranges), closed


def _ports(written: Iterable[wire.ServicePort], faults: Faults) -> tuple[model.ServicePort, ...]:
    ports: dict[tuple[str, int], model.ServicePort] = {}
    for i, port in enumerate(written):
        path = f"spec.ports[{i}]"
        protocol = canonical.PROTOCOLS.get(port.protocol or "TCP")
        if port.port is None or not canonical.is_port(port.port):
            faults.add(f"{path}.port", f"{quoted(port.port)} is not 1-65535; port ignored")
        elif protocol is None:
            faults.add(f"{path}.protocol", f"{quoted(port.protocol)} is none of TCP, UDP, SCTP; port ignored")
        elif (protocol, port.port) in ports:
            faults.add(path, f"{port.port}/{protocol} is there already; port ignored")
        else:
            ports[protocol, port.port] = model.ServicePort(
                name=canonical.intern(port.name or ""),
                protocol=protocol,
                port=port.port,
                node_port=_port(f"{path}.nodePort", port.node_port, faults),
            )
    return tuple(ports.values())


def _port(path: str, number: int | None, faults: Faults) -> int:
    """Return the port, 0 for none."""
    if not number:
        return 0
    if not canonical.is_port(number):
        faults.add(path, f"{quoted(number)} is not 1-65535; not served there")
        return 0
    return number


def _affinity_timeout_s(spec: wire.ServiceSpec, faults: Faults) -> int:
    affinity = spec.session_affinity or "None"
    if affinity != "ClientIP":
        if affinity != "None":
            faults.add("spec.sessionAffinity", f"{quoted(affinity)} is neither None nor ClientIP; None assumed")
        return 0
    client_ip = spec.session_affinity_config.client_ip if spec.session_affinity_config is not None else None
    timeout_s = client_ip.timeout_seconds if client_ip is not None else None
    if timeout_s is None:
        return AFFINITY_TIMEOUT_S
    if not 1 <= timeout_s <= AFFINITY_TIMEOUT_MAX_S:
        what = f"{quoted(timeout_s)} is not 1-{AFFINITY_TIMEOUT_MAX_S}; {AFFINITY_TIMEOUT_S} assumed"
        faults.add("spec.sessionAffinityConfig.clientIP.timeoutSeconds", what)
        return AFFINITY_TIMEOUT_S
    return timeout_s


def _traffic_policy(which: str, written: str | None, faults: Faults) -> str:
    if written in (None, "", "Cluster"):
        return "Cluster"
    if written != "Local":
        faults.add(f"spec.{which}TrafficPolicy", f"{quoted(written)} is neither Cluster nor Local; Cluster assumed")
        return "Cluster"
    return "Local"


def _families(written: Iterable[str], faults: Faults) -> tuple[str, ...]:
    families: dict[str, None] = {}
    for i, family in enumerate(written):
        if family in ("IPv4", "IPv6"):
            families[canonical.intern(family)] = None
        else:
            faults.add(f"spec.ipFamilies[{i}]", f"{quoted(family)} is neither IPv4 nor IPv6; left out")
    return tuple(families)
