"""Turn the API's JSON into our models, and say what had to be left out.

One function per kind, each from the bytes of one object to a ``Normalized``. They are lenient towards the world and
strict towards us: an address that is none, a port outside 1-65535, a protocol nobody serves is left out with a Problem
that names its path, and the rest of the object lives; what comes out is canonical, so that equal meaning is equal
value and an update that means nothing compares equal to what is known.

Absent is read as the API means it (``ready`` absent is true), except where the model keeps the difference.

It does not judge between objects (two Services with one address), nor what a plugin can serve.
"""

from datetime import datetime

import msgspec
from msgspec import Raw

from kube_router.events import canonical, model, wire
from kube_router.events.faults import Faults, decode, identify, quoted
from kube_router.events.normalize_node import normalize_namespace, normalize_node
from kube_router.events.normalize_policy import normalize_networkpolicy
from kube_router.events.normalize_service import normalize_service
from kube_router.events.resource import Normalized, Redact, Resource

TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"
SERVICE_NAME = "kubernetes.io/service-name"

_slices = msgspec.json.Decoder(wire.EndpointSlice)
_pods = msgspec.json.Decoder(wire.Pod)

# Values of which there are many equal ones; msgspec makes a new string of each.
intern = canonical.intern


# -- EndpointSlice ---------------------------------------------------------------------------------------------------


def normalize_endpointslice(raw: bytes | Raw, redact: Redact) -> Normalized:
    """Return the EndpointSlice, its endpoints in the API's order. It has no secrets."""
    written = decode(_slices, raw, "EndpointSlice")
    namespace, name, faults = identify("EndpointSlice", written.metadata, namespaced=True)
    meta = written.metadata or wire.SliceMeta()
    family = written.address_type or ""
    if family not in ("IPv4", "IPv6", "FQDN"):
        raise faults.fatal("addressType", f"{quoted(family)} is none of IPv4, IPv6, FQDN")
    slice_ = model.EndpointSlice(
        namespace=namespace,
        name=name,
        uid=meta.uid or "",
        service=_owner(namespace, meta),
        address_type=intern(family),
        ports=_endpoint_ports(written.ports or (), faults),
        endpoints=_endpoints(written.endpoints or (), family, faults),
    )
    trigger_ms = _unix_ms((meta.annotations or {}).get(TRIGGER_TIME))
    return Normalized(slice_, meta.resource_version or "", trigger_ms, faults.found())


def _owner(namespace: str, meta: wire.SliceMeta) -> str:
    """Return the key of the Service, ``""`` for none: the label says, else the only owner."""
    service = (meta.labels or {}).get(SERVICE_NAME)
    if not service:
        owners = meta.owner_references or ()
        service = owners[0].name if len(owners) == 1 and owners[0].kind == "Service" else None
    return f"{namespace}/{service}" if service and canonical.is_name(service) else ""


def _endpoint_ports(written: list[wire.EndpointPort] | tuple[()], faults: Faults) -> tuple[model.EndpointPort, ...]:
    ports = []
    for i, port in enumerate(written):
        protocol = canonical.PROTOCOLS.get(port.protocol or "TCP")
        if port.port is None:
            faults.add(f"ports[{i}].port", "absent means all ports, which no Service port can use; port ignored")
        elif not canonical.is_port(port.port):
            faults.add(f"ports[{i}].port", f"{quoted(port.port)} is not 1-65535; port ignored")
        elif protocol is None:
            faults.add(f"ports[{i}].protocol", f"{quoted(port.protocol)} is none of TCP, UDP, SCTP; port ignored")
        else:
            ports.append(model.EndpointPort(name=intern(port.name or ""), protocol=protocol, port=port.port))
    return tuple(ports)


def _endpoints(written: list[wire.Endpoint] | tuple[()], family: str, faults: Faults) -> tuple[model.Endpoint, ...]:
    """Return the endpoints that have an address. Those of type FQDN have none that a kernel could use."""
    if family == "FQDN":
        return ()
    endpoints = []
    for i, endpoint in enumerate(written):
        addresses = _endpoint_addresses(endpoint.addresses or (), i, family, faults)
        if addresses:
            endpoints.append(_endpoint(endpoint, addresses))
    return tuple(endpoints)


def _endpoint_addresses(written: list[str] | tuple[()], index: int, family: str, faults: Faults) -> tuple[str, ...]:
    addresses = []
    for i, text in enumerate(written):
        address = canonical.address(text)
        if address is None:
            faults.add(f"endpoints[{index}].addresses[{i}]", f"{quoted(text)} is no address; left out")
        elif canonical.family(address) != family:
            faults.add(
                f"endpoints[{index}].addresses[{i}]", f"{address} is not {family}, as addressType says; left out"
            )
        else:
            addresses.append(address)
    return tuple(addresses)


def _endpoint(written: wire.Endpoint, addresses: tuple[str, ...]) -> model.Endpoint:
    conditions = written.conditions or _NO_CONDITIONS
    ready = conditions.ready is not False
    pod = written.target_ref
    zones = (written.hints.for_zones or ()) if written.hints is not None else ()
    return model.Endpoint(
        addresses=addresses,
        ready=ready,
        serving=ready if conditions.serving is None else conditions.serving,
        terminating=conditions.terminating is True,
        node_name=intern(written.node_name or ""),
        zone=intern(written.zone or ""),
        hints_zones=tuple(intern(zone.name) for zone in zones if zone.name),
        pod=f"{pod.namespace or ''}/{pod.name or ''}" if pod is not None and pod.kind == "Pod" else "",
    )


_NO_CONDITIONS = wire.Conditions()


def _unix_ms(rfc3339: str | None) -> int:
    """Return the time in Unix milliseconds, 0 for none: it is a measure only and harms nobody when it is bad."""
    if not rfc3339:
        return 0
    try:
        time = datetime.fromisoformat(rfc3339)
        return 0 if time.tzinfo is None else max(0, int(time.timestamp() * 1000))
    except (ValueError, OverflowError):
        return 0


# -- Pod -------------------------------------------------------------------------------------------------------------


def normalize_pod(raw: bytes | Raw, redact: Redact) -> Normalized:
    """Return the Pod. Of what it runs only the named ports are kept, so no secret of it can be."""
    written = decode(_pods, raw, "Pod")
    namespace, name, faults = identify("Pod", written.metadata, namespaced=True)
    meta = written.metadata or wire.PodMeta()
    spec = written.spec or wire.PodSpec()
    status = written.status or wire.PodStatus()
    pod = model.Pod(
        namespace=namespace,
        name=name,
        uid=meta.uid or "",
        labels=canonical.labels(meta.labels),
        node_name=intern(spec.node_name or ""),
        ips=_pod_ips(status, faults),
        phase=intern(status.phase or ""),
        host_network=spec.host_network is True,
        terminating=meta.deletion_timestamp is not None,
        ports=_container_ports(spec, faults),
    )
    return Normalized(pod, meta.resource_version or "", 0, faults.found())


def _pod_ips(status: wire.PodStatus, faults: Faults) -> tuple[str, ...]:
    written = [ip.ip for ip in status.pod_ips or () if ip.ip] or ([status.pod_ip] if status.pod_ip else [])
    ips = []
    for i, text in enumerate(written):
        address = canonical.address(text)
        if address is None:
            faults.add(f"status.podIPs[{i}].ip", f"{quoted(text)} is no address; left out")
        else:
            ips.append(address)
    return tuple(ips)


def _container_ports(spec: wire.PodSpec, faults: Faults) -> tuple[model.ContainerPort, ...]:
    """Return the ports that have names, of containers and of init containers that keep running (sidecars)."""
    named = _named_ports("spec.containers", spec.containers or [], faults)
    sidecars = [container for container in spec.init_containers or () if container.restart_policy == "Always"]
    if sidecars:
        named += _named_ports("spec.initContainers", sidecars, faults)
    return canonical.container_ports(tuple(named)) if named else ()


def _named_ports(path: str, containers: list[wire.Container], faults: Faults) -> list[tuple[str, str, int]]:
    named = []
    for container in containers:
        for port in container.ports or ():
            if not port.name:
                continue
            protocol = canonical.PROTOCOLS.get(port.protocol or "TCP")
            if protocol is None or port.container_port is None or not canonical.is_port(port.container_port):
                what = f"protocol {quoted(port.protocol or 'TCP')} or port {quoted(port.container_port)}"
                faults.add(f"{path}[].ports[{quoted(port.name)}]", f"{what} cannot be; port ignored")
            else:
                named.append((port.name, protocol, port.container_port))
    return named


# -- The catalogue's built-in part -----------------------------------------------------------------------------------

BUILTIN: tuple[Resource, ...] = (
    Resource("services", "/api/v1", "Service", model.Service, normalize_service),
    Resource(
        "endpointslices", "/apis/discovery.k8s.io/v1", "EndpointSlice", model.EndpointSlice, normalize_endpointslice
    ),
    Resource("nodes", "/api/v1", "Node", model.Node, normalize_node, namespaced=False),
    Resource("namespaces", "/api/v1", "Namespace", model.Namespace, normalize_namespace, namespaced=False),
    # Pods that have finished keep their address in the API while another pod may have it already.
    Resource(
        "pods",
        "/api/v1",
        "Pod",
        model.Pod,
        normalize_pod,
        selectors={"fieldSelector": "status.phase!=Succeeded,status.phase!=Failed"},
    ),
    Resource(
        "networkpolicies",
        "/apis/networking.k8s.io/v1",
        "NetworkPolicy",
        model.NetworkPolicy,
        normalize_networkpolicy,
    ),
)
