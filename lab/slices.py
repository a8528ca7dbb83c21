"""EndpointSlices of Services with a selector, as the real controller derives them (pure).

Reference: Kubernetes pkg/controller/endpointslice and k8s.io/endpointslice (reconciler), read for its rules: one list
of slices for each family of the Service; pods whose ports resolve differently are in different slices; 100 endpoints
at most in one; a Service without endpoints has one empty slice; ready is "serving and not terminating", or always
with publishNotReadyAddresses. Slices here have names that can be told apart by people, not random ones.
"""

from collections.abc import Iterable, Sequence

from kube_router.lab.objects import Json, flag, items, key, labels, namespace, number, selects, text, tree
from kube_router.lab.services import is_headless
from kube_router.lab.topology import family_of
from kube_router.lab.workloads import ENDED, is_ready

ENDPOINTS_MAX = 100
ZONE = "topology.kubernetes.io/zone"
MANAGED_BY = {"endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}
HEADLESS_LABEL = {"service.kubernetes.io/headless": ""}
Ports = tuple[tuple[str, str, int], ...]  # name, protocol, number


def slices_of(service: Json, pods: Iterable[Json], zones: dict[str, str]) -> list[Json]:
    """Return the EndpointSlices of a Service; ``pods`` with their status, ``zones`` by node."""
    selector = labels(service, "spec", "selector")
    chosen = [
        pod
        for pod in pods
        if namespace(pod) == namespace(service)
        and selects(selector, labels(pod, "metadata", "labels"))
        and text(pod, "status", "phase") not in ENDED
    ]
    found = []
    for family in items(service, "spec", "ipFamilies"):
        found += _of_family(service, family, chosen, zones)
    return found


def _of_family(service: Json, family: str, pods: Sequence[Json], zones: dict[str, str]) -> list[Json]:
    groups: dict[Ports, list[Json]] = {}
    for pod in sorted(pods, key=key):
        addresses = [text(one, "ip") for one in items(pod, "status", "podIPs")]
        address = next((ip for ip in addresses if ip and family_of(ip) == family), None)
        if address is not None:
            groups.setdefault(_resolve(service, pod), []).append(_endpoint(service, pod, address, zones))
    parts = [
        (ports, group[at : at + ENDPOINTS_MAX])
        for ports, group in sorted(groups.items())
        for at in range(0, len(group), ENDPOINTS_MAX)
    ]
    return [_slice(service, family, ordinal, part) for ordinal, part in enumerate(parts or [((), [])], 1)]


def _resolve(service: Json, pod: Json) -> Ports:
    """Return the ports of a Service on one pod; a named target the pod has not is left out."""
    resolved = []
    for port in items(service, "spec", "ports"):
        protocol = text(port, "protocol") or "TCP"
        target = tree({"port": port}, "port").get("targetPort") or number(port, "port")
        value = _container_port(pod, target, protocol) if isinstance(target, str) else target
        if isinstance(value, int):
            resolved.append((text(port, "name"), protocol, value))
    return tuple(resolved)


def _container_port(pod: Json, name: str, protocol: str) -> int | None:
    for container in items(pod, "spec", "containers"):
        for port in items(container, "ports"):
            if text(port, "name") == name and (text(port, "protocol") or "TCP") == protocol:
                return number(port, "containerPort")
    return None


def _endpoint(service: Json, pod: Json, address: str, zones: dict[str, str]) -> Json:
    serving = is_ready(pod)
    terminating = bool(text(pod, "metadata", "deletionTimestamp"))
    ready = flag(service, "spec", "publishNotReadyAddresses") or (serving and not terminating)
    node = text(pod, "spec", "nodeName")
    endpoint: Json = {
        "addresses": [address],
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        "nodeName": node,
        "targetRef": {"kind": "Pod", "namespace": namespace(pod), "name": text(pod, "metadata", "name")},
    }
    if zone := zones.get(node):
        endpoint["zone"] = zone
    return endpoint


def _slice(service: Json, family: str, ordinal: int, part: tuple[Ports, list[Json]]) -> Json:
    ports, endpoints = part
    name = text(service, "metadata", "name")
    suffix = f"-{ordinal}" if ordinal > 1 else ""
    marks = labels(service, "metadata", "labels") | MANAGED_BY | {"kubernetes.io/service-name": name}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{name}-{family.lower()}{suffix}",
            "namespace": namespace(service),
            "labels": marks | (HEADLESS_LABEL if is_headless(service) else {}),
        },
        "addressType": family,
        "endpoints": endpoints,
        "ports": [{"name": port, "protocol": protocol, "port": value} for port, protocol, value in ports],
    }
