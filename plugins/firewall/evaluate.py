"""May this one reach that one, and who says so: NetworkPolicy judged from the API's own words (pure).

    A pod that some policy with policyType Egress selects is isolated for egress: it reaches only what some egress rule
    of these policies allows. The same with Ingress for what reaches it. A connection is allowed if both ends allow it.

A rule allows what one of its peers (or no peers: everybody) and one of its ports (or no ports: all) match. Before any
policy: a pod reaches itself, a node reaches the pods on it, ICMP passes unless it is to be judged.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from kube_router.events.model import NetworkPolicy, Pod, PolicyPeer, PolicyPort
from kube_router.plugins.firewall.world import Party, Side, World, selects

Why = Literal["no pod", "not isolated", "itself", "its node", "icmp", "rule", "isolated", "unknown address"]


class Match(NamedTuple):
    """Which part of a rule matched, counted from 0; None where there are no peers or ports, which matches all."""

    policy: str
    rule: int
    peer: int | None
    port: int | None


class Decision(NamedTuple):
    """What one end says. ``policies`` are those that isolate it."""

    allowed: bool
    why: Why
    match: Match | None = None
    policies: tuple[str, ...] = ()


class Verdict(NamedTuple):
    """What both ends say."""

    egress: Decision
    ingress: Decision

    @property
    def allowed(self) -> bool:
        return self.egress.allowed and self.ingress.allowed


class Settings(NamedTuple):
    """The agents' options that verdicts depend on."""

    default_deny: bool = False
    judge_icmp: bool = False


DEFAULTS = Settings()


def evaluate(
    world: World, source: Party, destination: Party, port: int | None, protocol: str, settings: Settings = DEFAULTS
) -> Verdict:
    """Return the verdict on a new connection. ``port`` is None for ICMP; ``protocol`` is as the API writes it."""
    question = _Question(world, source, destination, port, protocol)
    if protocol == "ICMP" and not settings.judge_icmp:
        return Verdict(Decision(True, "icmp"), Decision(True, "icmp"))
    if source.address == destination.address:
        return Verdict(Decision(True, "itself"), Decision(True, "itself"))
    return Verdict(_egress(question, settings), _ingress(question, settings))


class _Question(NamedTuple):
    world: World
    source: Party
    destination: Party
    port: int | None
    protocol: str


def _egress(question: _Question, settings: Settings) -> Decision:
    return _decide(question, "egress", question.source, settings)


def _ingress(question: _Question, settings: Settings) -> Decision:
    pod = question.destination.pod
    if pod is not None and pod.node_name and question.world.node_of(question.source.address) == pod.node_name:
        return Decision(True, "its node")
    return _decide(question, "ingress", question.destination, settings)


def _decide(question: _Question, side: Side, end: Party, settings: Settings) -> Decision:
    world = question.world
    if end.pod is None:
        unknown = settings.default_deny and _is_unknown(question, end.address)
        return Decision(False, "unknown address") if unknown else Decision(True, "no pod")
    policies = world.isolating(end.pod, side)
    if not policies:
        return Decision(True, "not isolated")
    keys = tuple(policy.key for policy in policies)
    for policy in policies:
        if not world.faults(policy) and (match := _match(question, side, policy)) is not None:
            return Decision(True, "rule", match, keys)
    return Decision(False, "isolated", None, keys)


def _is_unknown(question: _Question, address: str) -> bool:
    """Whether an address is meant for a pod that nobody knows. A node reaches its own pods, known or not."""
    world = question.world
    home = world.pod_cidr_node(address) if not world.node_of(address) else ""
    return bool(home) and world.node_of(question.source.address) != home


def _match(question: _Question, side: Side, policy: NetworkPolicy) -> Match | None:
    """Return the first rule of a policy that allows the connection, None if none does."""
    for number, rule in enumerate(policy.ingress if side == "ingress" else policy.egress):
        peer = _first_peer(question, side, policy, number) if rule.peers else None
        port = _first_port(question, side, rule.ports) if rule.ports else None
        if (peer is not None or not rule.peers) and (port is not None or not rule.ports):
            return Match(policy.key, number, peer, port)
    return None


def _first_peer(question: _Question, side: Side, policy: NetworkPolicy, rule: int) -> int | None:
    world, other = question.world, question.source if side == "ingress" else question.destination
    peers = world.peers(policy, side, rule)
    block = peers.first_block(other.address)
    for number, peer in peers.selecting:
        if block is not None and block < number:
            break
        # Of two pods with one address, either may be the one that is selected: the kernel sees an address.
        if any(_is_selected(world, policy.namespace, peer, pod) for pod in other.pods):
            return number
    return block


def _is_selected(world: World, namespace: str, peer: PolicyPeer, pod: Pod) -> bool:
    if peer.namespace_selector is None:
        if pod.namespace != namespace:
            return False
    else:
        labels = world.labels_of(pod.namespace)
        if labels is None or not selects(peer.namespace_selector, labels):
            return False
    return peer.pod_selector is None or selects(peer.pod_selector, pod.labels)


def _first_port(question: _Question, side: Side, ports: Sequence[PolicyPort]) -> int | None:
    return next((number for number, port in enumerate(ports) if _is_port(question, side, port)), None)


def _is_port(question: _Question, side: Side, port: PolicyPort) -> bool:
    if port.protocol != question.protocol or question.port is None:
        return False
    if port.port is None:
        return True
    if isinstance(port.port, int):
        return port.port <= question.port <= (port.end_port if port.end_port is not None else port.port)
    pods, wanted = question.destination.pods, (port.port, port.protocol, question.port)
    if side == "ingress":  # asked on the pod's own node, which names the ports of its own pods only
        pods = tuple(pod for pod in pods if pod.node_name == pods[0].node_name)
    return any((each.name, each.protocol, each.port) == wanted for pod in pods for each in pod.ports)
