"""Services get addresses and ports, as the API server gives them (pure).

Reference: Kubernetes pkg/registry/core/service (allocation, dual stack defaulting), read for its rules. What cannot be
given is a problem of that Service alone; the rest of it is served.
"""

from collections.abc import Sequence

from kube_router.events.errors import Problem
from kube_router.lab.allocate import SERVICE_CIDR, Exhausted, Pool, is_in, node_ports, service_addresses
from kube_router.lab.objects import Json, items, key, labels, number, text, tree
from kube_router.lab.topology import family_of

WITH_NODE_PORTS = ("NodePort", "LoadBalancer")
HEADLESS = "None"


def families_of(service: Json, offered: Sequence[str]) -> list[str]:
    """Return the families a Service gets of those the cluster offers, by its ipFamilies and ipFamilyPolicy.

    A headless Service without selector gets all, as its endpoints are somebody else's.
    """
    wanted = [family for family in items(service, "spec", "ipFamilies") if family in offered]
    order = wanted + [family for family in offered if family not in wanted]
    policy = text(service, "spec", "ipFamilyPolicy")
    headless_bare = is_headless(service) and not labels(service, "spec", "selector")
    several = policy in ("PreferDualStack", "RequireDualStack") or len(wanted) > 1 or (headless_bare and not policy)
    return order if several else order[:1]


def is_headless(service: Json) -> bool:
    """Tell whether a Service has said it wants no address."""
    return text(service, "spec", "clusterIP") == HEADLESS or HEADLESS in items(service, "spec", "clusterIPs")


def wanted_addresses(service: Json) -> list[str]:
    """Return the cluster addresses that a manifest asks for."""
    listed = [ip for ip in items(service, "spec", "clusterIPs") if isinstance(ip, str)]
    single = text(service, "spec", "clusterIP")
    return list(dict.fromkeys([ip for ip in [single, *listed] if ip and ip != HEADLESS]))


def serve(
    services: Sequence[Json], *, offered: Sequence[str], ips: Pool, ports: Pool, problems: list[Problem]
) -> list[Json]:
    """Return the Services as the API would show them: wishes first, then what each had, then what is free."""
    for service in services:
        _claim(service, offered, ips, ports, problems)
    for service in services:
        _keep(service, offered, ips, ports)
    return [_complete(service, offered, ips, ports, problems) for service in services]


def _claim(service: Json, offered: Sequence[str], ips: Pool, ports: Pool, problems: list[Problem]) -> None:
    for address in wanted_addresses(service) if _has_addresses(service) else ():
        family = family_of(address)
        if family not in offered or not is_in(address, SERVICE_CIDR[family]):
            _report(problems, service, f"spec.clusterIPs: {address} is not in the service range; it gets another")
        elif owner := ips.claim(f"{key(service)} {family}", address):
            _report(problems, service, f"spec.clusterIPs: {address} is {owner.split()[0]}'s; it gets another")
    for name, port in _ports_with_node_port(service):
        wanted = number(port, "nodePort")
        if wanted and not 1 <= wanted <= 65535:
            _report(problems, service, f"nodePort: {wanted} is not 1-65535; it gets another")
        elif wanted and (owner := ports.claim(name, str(wanted))):
            if _shares(name, owner):
                ports.given[name] = str(wanted)
            else:
                _report(problems, service, f"nodePort: {wanted} is {owner.split()[0]}'s; it gets another")


def _keep(service: Json, offered: Sequence[str], ips: Pool, ports: Pool) -> None:
    if _has_addresses(service):
        for family in families_of(service, offered):
            name = f"{key(service)} {family}"
            if name not in ips.given:
                ips.keep(name)
    for name, _ in _ports_with_node_port(service):
        if name not in ports.given:
            ports.keep(name)


def _complete(service: Json, offered: Sequence[str], ips: Pool, ports: Pool, problems: list[Problem]) -> Json:
    spec = dict(tree(service, "spec"))
    spec.setdefault("type", "ClusterIP")
    if spec["type"] != "ExternalName":
        families = families_of(service, offered)
        spec["ipFamilies"] = families
        spec.setdefault("ipFamilyPolicy", "SingleStack" if len(families) == 1 else "PreferDualStack")
        given = [HEADLESS] if is_headless(service) else _addresses(service, families, ips, problems)
        spec |= {"clusterIP": given[0], "clusterIPs": given} if given else {}
        spec["ports"] = _numbered(service, ports, problems)
    metadata = dict(tree(service, "metadata"))
    metadata["namespace"] = key(service).partition("/")[0]
    metadata.setdefault("uid", f"service-{key(service)}")
    return {**service, "apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def _addresses(service: Json, families: Sequence[str], ips: Pool, problems: list[Problem]) -> list[str]:
    given = []
    for family in families:
        name = f"{key(service)} {family}"
        try:
            given.append(ips.given.get(name) or ips.give(name, service_addresses(family)))
        except Exhausted:
            _report(problems, service, f"{SERVICE_CIDR[family]} has no address left; it gets none")
    return given


def _numbered(service: Json, ports: Pool, problems: list[Problem]) -> list[Json]:
    names = {id(port): name for name, port in _ports_with_node_port(service)}
    numbered = []
    for port in items(service, "spec", "ports"):
        if not isinstance(port, dict):
            _report(problems, service, f"spec.ports: {port!r} is not a port; left out")
            continue
        complete = {"protocol": "TCP", **port}
        if name := names.get(id(port)):
            try:
                complete["nodePort"] = int(ports.given.get(name) or ports.give(name, node_ports()))
            except Exhausted:
                _report(problems, service, "no node port is left; it gets none")
        numbered.append(complete)
    return numbered


def _ports_with_node_port(service: Json) -> list[tuple[str, Json]]:
    kind = text(service, "spec", "type")
    refused = kind == "LoadBalancer" and tree(service, "spec").get("allocateLoadBalancerNodePorts") is False
    if kind not in WITH_NODE_PORTS or refused:
        return []
    found = [port for port in items(service, "spec", "ports") if isinstance(port, dict)]
    return [(f"{key(service)} {text(port, 'protocol') or 'TCP'} {port.get('port')}", port) for port in found]


def _shares(name: str, owner: str) -> bool:
    """Tell whether two ports may wish for one number: only those of one Service that differ in protocol."""
    (service, protocol, _), (other, other_protocol, _) = name.split(), owner.split()
    return service == other and protocol != other_protocol


def _has_addresses(service: Json) -> bool:
    return text(service, "spec", "type") != "ExternalName" and not is_headless(service)


def _report(problems: list[Problem], service: Json, words: str) -> None:
    problems.append(Problem("Service", key(service), words))


def needs_slices(service: Json) -> bool:
    """Tell whether the EndpointSlice controller looks after a Service."""
    return bool(labels(service, "spec", "selector")) and text(service, "spec", "type") != "ExternalName"
