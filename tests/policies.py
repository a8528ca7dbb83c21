"""Small clusters with NetworkPolicies in which labels, addresses and names collide often.

Everything policies can say is in them, faults included, and all the ways of a pod: without an address yet, on the
host's network, terminating, finished, with an address that another one has.

All of it is made of one kind of choice, ``pick`` one of these. So the same clusters come from hypothesis' choices,
which it makes simpler where something fails, and from those of ``random.Random``, in a fiftieth of the time.
"""

from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_network
from random import Random
from typing import Protocol, TypeVar

from hypothesis import strategies as st
from strategies import World, by_key

from kube_router.events.model import (
    ContainerPort,
    IPBlock,
    Namespace,
    NetworkPolicy,
    Node,
    NodeAddress,
    Object,
    Pod,
    PolicyPeer,
    PolicyPort,
    PolicyRule,
    Requirement,
    Selector,
)

T = TypeVar("T")


class Pick(Protocol):
    """Returns one of some options; the first is the simplest."""

    def __call__(self, options: Sequence[T], /) -> T: ...


NAMESPACES = ("prod", "dev", "bare")
NODES = ("node-1", "node-2")
POD_CIDRS = {"node-1": ("10.244.1.0/24", "fd00:244:1::/64"), "node-2": ("10.244.2.0/24", "fd00:244:2::/64")}
NODE_ADDRESSES = {"node-1": ("192.0.2.1", "2001:db8::1"), "node-2": ("192.0.2.2", "2001:db8::2")}
POD_IPS = {  # of each node, by family
    node: tuple(tuple(str(ip_network(cidr)[host]) for host in (2, 3, 4)) for cidr in cidrs)
    for node, cidrs in POD_CIDRS.items()
}
UNKNOWN = ("10.244.1.200", "10.244.2.201", "fd00:244:1::200")  # of a pod network, but no pod's
OUTSIDE = ("198.51.100.1", "198.51.100.130", "192.0.2.77", "10.245.0.1", "2001:db8:f::1", "fd01::1")
PROTOCOLS = ("TCP", "UDP", "SCTP")
MOSTLY_TCP = ("TCP", *PROTOCOLS)
PORT_NAMES = ("http", "dns")
PORTS = (53, 80, 81, 8080, 30000)
RANGES = ((30000, 30010), (80, 81), (80, 80), (1, 65535), (65535, 65535), (53, 8080))
NOBODY = (("pods", "prod/nobody"), ("networkpolicies", "dev/none"), ("namespaces", "nowhere"), ("nodes", "node-9"))
KEYS, VALUES = ("app", "tier"), ("", "a", "b")
COIN = (False, True)


def some(pick: Pick, make: Callable[[Pick], T], counts: Sequence[int]) -> tuple[T, ...]:
    """Return as many as one of ``counts`` says."""
    return tuple(make(pick) for _ in range(pick(counts)))


# -- policies ----------------------------------------------------------------------------------------------------------


def labels(pick: Pick) -> dict[str, str]:
    """Return labels of a pod or a namespace."""
    return {key: pick(VALUES) for key in KEYS if pick(COIN)}


def requirement(pick: Pick) -> Requirement:
    """Return one of a selector's requirements."""
    key, operator = pick((*KEYS, "absent")), pick(("In", "NotIn", "Exists", "DoesNotExist"))
    values = pick((("",), ("a",), ("b",), ("c",), ("a", "b"), ("", "b"), ("c", "a")))
    return Requirement(key=key, operator=operator, values=values if operator in ("In", "NotIn") else ())


UNREADABLE = (
    Requirement(key="app", operator="Gt", values=("1",)),
    Requirement(key="app", operator="In"),
    Requirement(key="app", operator="Exists", values=("a",)),
    Requirement(key="", operator="Exists"),
)


def selector(pick: Pick) -> Selector:
    """Return a selector of pods or namespaces; often the empty one, which selects all."""
    kind = pick(("all", "all", "labels", "expressions", "both"))
    return Selector(
        match_labels={pick(KEYS): pick(VALUES)} if kind in ("labels", "both") else {},
        match_expressions=some(pick, requirement, (1, 2)) if kind in ("expressions", "both") else (),
    )


BLOCKS = (
    *("0.0.0.0/0", "10.244.0.0/16", "10.244.1.0/24", "10.244.2.0/24", "10.244.1.2/32", "10.244.1.7/29"),
    *("10.244.2.3/31", "192.0.2.0/24", "198.51.100.0/24", "198.51.100.128/25", "128.0.0.0/1", "10.0.0.0/8"),
    *("::/0", "fd00:244::/32", "fd00:244:1::/64", "fd00:244:1::2/127", "fd00:244:2::3/128", "2001:db8::/32"),
    "8000::/1",
)


def _inside(outer: str) -> tuple[str, ...]:
    """Return which of the blocks are strictly inside another."""
    whole, found = ip_network(outer, strict=False), []
    for text in BLOCKS:
        inner = ip_network(text, strict=False)
        if inner.version == whole.version and inner != whole and inner[0] in whole and inner[-1] in whole:
            found.append(text)
    return tuple(found)


INSIDE = {outer: _inside(outer) for outer in BLOCKS}


def block(pick: Pick) -> IPBlock:
    """Return a block with up to three exceptions, which may overlap."""
    cidr = pick(BLOCKS)
    inside = INSIDE[cidr]
    return IPBlock(cidr=cidr, excepts=some(pick, lambda pick: pick(inside), (0, 1, 2, 3)) if inside else ())


def peer(pick: Pick) -> PolicyPeer:
    """Return one of the four kinds of peers."""
    kind = pick(("pods", "namespaces", "both", "block"))
    if kind == "block":
        return PolicyPeer(ip_block=block(pick))
    return PolicyPeer(
        pod_selector=selector(pick) if kind in ("pods", "both") else None,
        namespace_selector=selector(pick) if kind in ("namespaces", "both") else None,
    )


def policy_port(pick: Pick) -> PolicyPort:
    """Return a number, a range, a name or a whole protocol."""
    kind, protocol = pick(("number", "range", "name", "name", "protocol")), pick(MOSTLY_TCP)
    if kind == "range":
        first, last = pick(RANGES)
        return PolicyPort(protocol=protocol, port=first, end_port=last)
    if kind == "protocol":
        return PolicyPort(protocol=protocol)
    return PolicyPort(protocol=protocol, port=pick(PORTS) if kind == "number" else pick(PORT_NAMES))


def rule(pick: Pick) -> PolicyRule:
    """Return a rule of either direction."""
    return PolicyRule(peers=some(pick, peer, (0, 1, 2, 3)), ports=some(pick, policy_port, (0, 1, 2, 3)))


def good_policy(pick: Pick) -> NetworkPolicy:
    """Return a policy that the API would take; ``None`` for its types stands for those it would default them to."""
    ingress, egress = some(pick, rule, (0, 1, 1, 2)), some(pick, rule, (0, 1, 1, 2))
    types = pick((None, ("Ingress",), ("Egress",), ("Ingress", "Egress"), ("Egress", "Ingress")))
    return NetworkPolicy(
        namespace=pick((*NAMESPACES, "prod", "dev")),
        name=pick(("p1", "p2", "p3", "p4", "p5", "p6")),
        pod_selector=selector(pick),
        policy_types=types or (("Ingress", "Egress") if egress else ("Ingress",)),
        ingress=ingress,
        egress=egress,
    )


FAULTY_RULES = (
    PolicyRule(peers=(PolicyPeer(),)),
    PolicyRule(peers=(PolicyPeer(pod_selector=Selector(), ip_block=IPBlock(cidr="0.0.0.0/0")),)),
    PolicyRule(peers=(PolicyPeer(ip_block=IPBlock(cidr="10.244.1.2")),)),
    PolicyRule(peers=(PolicyPeer(ip_block=IPBlock(cidr="10.244.0.0/33")),)),
    PolicyRule(peers=(PolicyPeer(ip_block=IPBlock(cidr="10.244.0.0/16", excepts=("10.245.0.0/24",))),)),
    PolicyRule(peers=(PolicyPeer(ip_block=IPBlock(cidr="10.244.0.0/16", excepts=("nonsense",))),)),
    PolicyRule(ports=(PolicyPort(port=81, end_port=80),)),
    PolicyRule(ports=(PolicyPort(port="http", end_port=80),)),
    PolicyRule(ports=(PolicyPort(port=0),)),
    PolicyRule(ports=(PolicyPort(port=65536),)),
    PolicyRule(ports=(PolicyPort(port="UPPER"),)),
    PolicyRule(ports=(PolicyPort(protocol="ICMP"),)),
    PolicyRule(ports=(PolicyPort(protocol="tcp", port=80),)),
)


def faulty_policy(pick: Pick) -> NetworkPolicy:
    """Return a policy with a fault somewhere: among its types, in its selector, in a rule of either direction."""
    policy = good_policy(pick)
    where = pick(("types", "selector", "peer", "ingress", "egress"))
    types, selected, ingress, egress = policy.policy_types, policy.pod_selector, policy.ingress, policy.egress
    if where == "types":
        types = pick(((), ("ingress",), ("Ingress", "Both")))
    elif where == "selector":
        selected = Selector(match_labels=selected.match_labels, match_expressions=(pick(UNREADABLE),))
    elif where == "peer":
        unreadable = PolicyPeer(pod_selector=Selector(match_expressions=(pick(UNREADABLE),)))
        ingress = (*ingress, PolicyRule(peers=(unreadable,)))
    elif where == "ingress":
        ingress = (pick(FAULTY_RULES), *ingress)
    else:
        egress = (*egress, pick(FAULTY_RULES))
    return NetworkPolicy(
        namespace=policy.namespace,
        name=policy.name,
        pod_selector=selected,
        policy_types=types,
        ingress=ingress,
        egress=egress,
    )


def policy(pick: Pick) -> NetworkPolicy:
    """Return a policy; one in eight has a fault."""
    return pick((*[good_policy] * 7, faulty_policy))(pick)


# -- nodes, namespaces, pods -------------------------------------------------------------------------------------------


def namespace(pick: Pick) -> Namespace:
    """Return a namespace that the state knows."""
    return Namespace(name=pick(NAMESPACES), labels=labels(pick))


def node(pick: Pick, name: str) -> Node:
    """Return a node with its addresses and pod networks, of one family or both."""
    kept = pick(((0, 1), (0, 1), (0,), (1,)))
    return Node(
        name=name,
        addresses=tuple(NodeAddress(type="InternalIP", address=NODE_ADDRESSES[name][n]) for n in kept),
        pod_cidrs=tuple(POD_CIDRS[name][n] for n in kept),
    )


def container_port(pick: Pick) -> ContainerPort:
    """Return a port with a name."""
    return ContainerPort(name=pick(PORT_NAMES), protocol=pick(MOSTLY_TCP), port=pick(PORTS))


def pod(pick: Pick, name: str) -> Pod:
    """Return a pod in whatever state a pod can be."""
    where = pick((*NODES, *NODES, *NODES, ""))
    on_host = bool(where) and pick((*[False] * 6, True))
    ips: tuple[str, ...] = NODE_ADDRESSES[where] if on_host else ()
    if where and not on_host:
        families, whose = pick(((0, 1), (0, 1), (0,), (0,), (1,), (1, 0), ())), pick((where,) * 9 + NODES)
        ips = tuple(pick(POD_IPS[whose][family]) for family in families)
    return Pod(
        namespace=pick((*NAMESPACES, "prod", "dev")),
        name=name,
        labels=labels(pick),
        node_name=where,
        ips=ips,
        phase=pick((*["Running"] * 6, "Pending", "Succeeded", "Failed")),
        host_network=on_host,
        terminating=pick((*[False] * 5, True)),
        ports=some(pick, container_port, (0, 1, 2, 3)),
    )


def cluster(pick: Pick) -> World:
    """Return a cluster: two nodes, up to three namespaces, some pods and policies; parts may not be known yet."""
    objects: list[Object] = [node(pick, name) for name in NODES if pick((*[True] * 7, False))]
    objects += some(pick, namespace, (1, 4, 4, 4))
    objects += [pod(pick, name) for name in pick(("ab", "abcdef", "abcdefgh"))]
    objects += some(pick, policy, (0, 1, 3, 4, 5))
    return by_key(objects)


@st.composite
def clusters(draw: st.DrawFn) -> World:
    """Hypothesis' clusters."""
    return cluster(lambda options: draw(st.sampled_from(options)))


# Clusters by the number of a seed: they do not get smaller where something fails, but cost a fiftieth of the time.
seeds = st.integers(0, (1 << 64) - 1)
random_clusters = seeds.map(lambda seed: cluster(Random(seed).choice))


# -- addresses ---------------------------------------------------------------------------------------------------------


def pod_addresses(world: World) -> Sequence[str]:
    """Return the addresses that pods of this world have, or might have though no pod is known."""
    found = {ip for obj in world.values() if isinstance(obj, Pod) and not obj.host_network for ip in obj.ips}
    return [*sorted(found), *UNKNOWN]


def node_addresses(world: World) -> Sequence[str]:
    """Return the addresses of this world's nodes, their bridges' too."""
    known = [obj for obj in world.values() if isinstance(obj, Node)]
    bridges = [str(ip_network(cidr)[1]) for node in known for cidr in node.pod_cidrs]
    return [*bridges, *(each.address for node in known for each in node.addresses)]


def telling_ports(world: World) -> Mapping[str, Sequence[int]]:
    """Return by protocol the ports that show whether each policy's ports are read rightly, and one that is nobody's."""
    found: dict[str, set[int]] = {protocol: {1} for protocol in PROTOCOLS}
    numbers: dict[str, set[int]] = {name: set() for name in PORT_NAMES}
    for obj in world.values():
        for named in obj.ports if isinstance(obj, Pod) else ():
            numbers[named.name].add(named.port)
    for obj in world.values():
        rules = (*obj.ingress, *obj.egress) if isinstance(obj, NetworkPolicy) else ()
        for port in (port for rule in rules for port in rule.ports if port.protocol in PROTOCOLS):
            if isinstance(port.port, str):
                for numbered in found.values():  # one name may be of several protocols
                    numbered |= numbers.get(port.port, set())
            elif port.port is not None:
                last = port.end_port or port.port
                found[port.protocol] |= {port.port - 1, port.port, last, last + 1}
    return {protocol: sorted(port for port in ports if 0 < port < 65536) for protocol, ports in found.items()}
