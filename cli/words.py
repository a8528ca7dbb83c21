"""Values of the model in words (pure): what ``kr replay`` prints for a port, an endpoint, a policy's rule."""

from collections.abc import Mapping

from msgspec import Raw, Struct, structs

from kube_router.events.model import (
    Endpoint,
    EndpointPort,
    IPBlock,
    NodeAddress,
    PolicyPeer,
    PolicyPort,
    PolicyRule,
    Requirement,
    Selector,
    ServicePort,
)

NONE = "none"
TEXT_MAX = 200  # of one value: a history is to be read


def value(any_value: object) -> str:
    """Return a value in words, cut where it is long."""
    text = _value(any_value)
    return text if len(text) <= TEXT_MAX else text[: TEXT_MAX - 1] + "…"


def _value(item: object) -> str:
    if isinstance(item, bool):
        return "yes" if item else "no"
    if item is None or item == "":
        return NONE
    if isinstance(item, (tuple, list)):
        return ", ".join(_value(each) for each in item) or NONE
    if isinstance(item, Mapping):
        return ", ".join(f"{key}={each}" for key, each in item.items()) or NONE
    if isinstance(item, Raw):
        return "a kind this version does not know"
    return _part(item) if isinstance(item, Struct) else str(item)


def _part(part: Struct) -> str:
    if isinstance(part, ServicePort):
        node_port = f" node port {part.node_port}" if part.node_port else ""
        return f"{_named(part.name)}{part.port}/{part.protocol}{node_port}"
    if isinstance(part, EndpointPort):
        return f"{_named(part.name)}{part.port}/{part.protocol}"
    if isinstance(part, Endpoint):
        return endpoint(part)
    if isinstance(part, NodeAddress):
        return f"{part.type} {part.address}"
    if isinstance(part, Selector):
        return selector(part)
    if isinstance(part, PolicyRule):
        return rule(part)
    return _value({name: each for name, each in structs.asdict(part).items() if each})


def _named(name: str) -> str:
    return f"{name} " if name else ""


def condition(one: Endpoint) -> str:
    """Return an endpoint's conditions in words."""
    if one.terminating:
        return "terminating, still serving" if one.serving else "terminating"
    if one.ready:
        return "ready"
    return "serving, not ready" if one.serving else "not ready"


def endpoint(one: Endpoint) -> str:
    """Return ``10.0.3.7 ready on n1``."""
    return f"{','.join(one.addresses)} {condition(one)}" + (f" on {one.node_name}" if one.node_name else "")


def selector(one: Selector) -> str:
    """Return ``app=web, tier In (a, b)``, ``all`` for one without a condition."""
    parts = [f"{key}={wanted}" for key, wanted in one.match_labels.items()]
    parts += [_requirement(each) for each in one.match_expressions]
    return ", ".join(parts) or "all"


def _requirement(one: Requirement) -> str:
    return f"{one.key} {one.operator}" + (f" ({', '.join(one.values)})" if one.values else "")


def rule(one: PolicyRule) -> str:
    """Return ``pods app=web on TCP 80-90``."""
    peers = " or ".join(_peer(peer) for peer in one.peers) or "anyone"
    ports = ", ".join(_policy_port(port) for port in one.ports)
    return peers + (f" on {ports}" if ports else "")


def _peer(peer: PolicyPeer) -> str:
    if peer.ip_block is not None:
        return _block(peer.ip_block)
    words = []
    if peer.pod_selector is not None:
        words.append(f"pods {selector(peer.pod_selector)}")
    if peer.namespace_selector is not None:
        words.append(f"namespaces {selector(peer.namespace_selector)}")
    return " in ".join(words) or "nobody"


def _block(block: IPBlock) -> str:
    return block.cidr + (f" except {', '.join(block.excepts)}" if block.excepts else "")


def _policy_port(port: PolicyPort) -> str:
    if port.port is None:
        return port.protocol
    return f"{port.protocol} {port.port}" + (f"-{port.end_port}" if port.end_port is not None else "")
