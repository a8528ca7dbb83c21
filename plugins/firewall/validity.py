"""What is wrong with a NetworkPolicy: all that the API's own validation would refuse (pure).

The API server lets no such policy in, but a folder of manifests may hold one, and so may an API newer than ours. A
policy with a fault admits nothing: which of its rules it meant to be wider than what can be read, nobody knows.
"""

import re
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network

from kube_router.events.model import IPBlock, NetworkPolicy, PolicyPeer, PolicyPort, PolicyRule, Requirement, Selector

PORT_MAX = 65535
FAULTS_MAX = 10
QUOTED_MAX = 100
PROTOCOLS = ("TCP", "UDP", "SCTP")
TYPES = ("Ingress", "Egress")

_is_port_name = re.compile(r"(?=.*[a-z])(?!.*--)[a-z0-9](?:[a-z0-9-]{0,13}[a-z0-9])?", re.ASCII).fullmatch
_is_label_name = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", re.ASCII).fullmatch
_is_subdomain = re.compile(
    r"(?=.{1,253}$)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*", re.ASCII
).fullmatch


def faults_of(policy: NetworkPolicy) -> tuple[str, ...]:
    """Return what is wrong, each in one sentence that begins with the path; nothing for a policy that is well."""
    faults = list(_policy(policy))
    more = len(faults) - FAULTS_MAX
    return (*faults[:FAULTS_MAX], f"spec: and {more} faults more") if more > 0 else tuple(faults)


def _policy(policy: NetworkPolicy) -> Iterator[str]:
    if len(policy.policy_types) > len(TYPES):
        yield f"spec.policyTypes: holds {len(policy.policy_types)}, more than {len(TYPES)}"
    for i, name in enumerate(policy.policy_types):
        if name not in TYPES:
            yield f"spec.policyTypes[{i}]: {_quoted(name)} is neither Ingress nor Egress"
    yield from _selector("spec.podSelector", policy.pod_selector)
    yield from _rules("spec.ingress", "from", policy.ingress)
    yield from _rules("spec.egress", "to", policy.egress)


def _rules(path: str, peers: str, rules: Iterable[PolicyRule]) -> Iterator[str]:
    for i, rule in enumerate(rules):
        for j, peer in enumerate(rule.peers):
            yield from _peer(f"{path}[{i}].{peers}[{j}]", peer)
        for j, port in enumerate(rule.ports):
            yield from _port(f"{path}[{i}].ports[{j}]", port)


def _peer(path: str, peer: PolicyPeer) -> Iterator[str]:
    selectors = {"podSelector": peer.pod_selector, "namespaceSelector": peer.namespace_selector}
    given = [name for name, selector in selectors.items() if selector is not None]
    if peer.ip_block is not None and given:
        yield f"{path}: ipBlock does not go with {given[0]}"
    elif peer.ip_block is None and not given:
        yield f"{path}: holds none of podSelector, namespaceSelector and ipBlock"
    for name, selector in selectors.items():
        if selector is not None:
            yield from _selector(f"{path}.{name}", selector)
    if peer.ip_block is not None:
        yield from _block(f"{path}.ipBlock", peer.ip_block)


# -- blocks ------------------------------------------------------------------------------------------------------------


def _block(path: str, block: IPBlock) -> Iterator[str]:
    network = _network(block.cidr)
    if network is None:
        yield f"{path}.cidr: {_quoted(block.cidr)} is no CIDR such as 10.0.0.0/8"
    for i, text in enumerate(block.excepts):
        excepted = _network(text)
        if excepted is None:
            yield f"{path}.except[{i}]: {_quoted(text)} is no CIDR such as 10.1.0.0/16"
        elif network is not None and not _is_inside(excepted, network):
            yield f"{path}.except[{i}]: {_quoted(text)} is not strictly inside {network}"


def _network(text: str) -> IPv4Network | IPv6Network | None:
    if "/" not in text or "%" in text or not text.partition("/")[2].isdecimal():
        return None
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


def _is_inside(inner: IPv4Network | IPv6Network, outer: IPv4Network | IPv6Network) -> bool:
    if inner.version != outer.version or inner.prefixlen <= outer.prefixlen:
        return False
    first = int(inner.network_address)
    return int(outer.network_address) <= first <= int(outer.broadcast_address)


# -- ports -------------------------------------------------------------------------------------------------------------


def _port(path: str, port: PolicyPort) -> Iterator[str]:
    if port.protocol not in PROTOCOLS:
        yield f"{path}.protocol: {_quoted(port.protocol)} is none of {', '.join(PROTOCOLS)}"
    if isinstance(port.port, int) and not 1 <= port.port <= PORT_MAX:
        yield f"{path}.port: {port.port} is not 1-{PORT_MAX}"
    if isinstance(port.port, str) and not _is_port_name(port.port):
        yield f"{path}.port: {_quoted(port.port)} is no port name (at most 15 of a-z, 0-9 and -)"
    if port.end_port is None:
        return
    if not isinstance(port.port, int):
        yield f"{path}.endPort: needs a port that is a number"
    elif port.end_port < port.port:
        yield f"{path}.endPort: {port.end_port} is less than port {port.port}"
    elif port.end_port > PORT_MAX:
        yield f"{path}.endPort: {port.end_port} is not 1-{PORT_MAX}"


# -- selectors ---------------------------------------------------------------------------------------------------------


def _selector(path: str, selector: Selector) -> Iterator[str]:
    for key, value in selector.match_labels.items():
        yield from _label(f"{path}.matchLabels", key, (value,))
    for i, requirement in enumerate(selector.match_expressions):
        yield from _requirement(f"{path}.matchExpressions[{i}]", requirement)


def _requirement(path: str, requirement: Requirement) -> Iterator[str]:
    operator, values = requirement.operator, requirement.values
    if operator in ("In", "NotIn"):
        if not values:
            yield f"{path}.values: {operator} needs at least one"
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            yield f"{path}.values: {operator} takes none"
    else:
        yield f"{path}.operator: {_quoted(operator)} is none of In, NotIn, Exists, DoesNotExist"
    yield from _label(path, requirement.key, values)


def _label(path: str, key: str, values: Iterable[str]) -> Iterator[str]:
    prefix, slash, name = key.rpartition("/")
    if not _is_label_name(name) or (slash and not _is_subdomain(prefix)):
        yield f"{path}: {_quoted(key)} is no label key"
    for value in values:
        if value and not _is_label_name(value):
            yield f"{path}: {_quoted(value)} is no label value"


def _quoted(text: str) -> str:
    return repr(text if len(text) <= QUOTED_MAX else text[:QUOTED_MAX] + "…")
