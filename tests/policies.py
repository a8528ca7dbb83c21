"""Hypothesis strategies: small clusters with NetworkPolicies in which labels, addresses and names collide often.

Everything policies can say is in them, faults included, and all the ways of a pod: without an address yet, on the
host's network, terminating, finished, with an address that another one has.
"""

from collections.abc import Mapping, Sequence
from ipaddress import ip_network

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

NAMESPACES = ("prod", "dev", "bare")
NODES = ("node-1", "node-2")
POD_CIDRS = {"node-1": ("10.244.1.0/24", "fd00:244:1::/64"), "node-2": ("10.244.2.0/24", "fd00:244:2::/64")}
NODE_ADDRESSES = {"node-1": ("192.0.2.1", "2001:db8::1"), "node-2": ("192.0.2.2", "2001:db8::2")}
HOSTS = (2, 3, 4)  # of a pod network, for pods
UNKNOWN = ("10.244.1.200", "10.244.2.201", "fd00:244:1::200")  # of a pod network, but no pod's
OUTSIDE = ("198.51.100.1", "198.51.100.130", "192.0.2.77", "10.245.0.1", "2001:db8:f::1", "fd01::1")
PROTOCOLS = ("TCP", "UDP", "SCTP")
PORT_NAMES = ("http", "dns")
PORTS = (53, 80, 81, 8080, 30000)
NOBODY = (("pods", "prod/nobody"), ("networkpolicies", "dev/none"), ("namespaces", "nowhere"), ("nodes", "node-9"))
KEYS, VALUES = ("app", "tier"), ("", "a", "b")

labels = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES), max_size=2)


# -- policies ----------------------------------------------------------------------------------------------------------


def _some(strategy: st.SearchStrategy[object], most: int) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(strategy, max_size=most).map(tuple)


_requirements = st.one_of(
    st.builds(
        Requirement,
        key=st.sampled_from((*KEYS, "absent")),
        operator=st.sampled_from(("In", "NotIn")),
        values=st.lists(st.sampled_from((*VALUES, "c")), min_size=1, max_size=2, unique=True).map(tuple),
    ),
    st.builds(
        Requirement, key=st.sampled_from((*KEYS, "absent")), operator=st.sampled_from(("Exists", "DoesNotExist"))
    ),
)
_unreadable = st.sampled_from((
    Requirement(key="app", operator="Gt", values=("1",)),
    Requirement(key="app", operator="In"),
    Requirement(key="app", operator="Exists", values=("a",)),
    Requirement(key="", operator="Exists"),
))  # fmt: skip
selectors = st.one_of(
    st.just(Selector()),
    st.just(Selector()),
    st.builds(Selector, match_labels=st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES), max_size=1)),
    st.builds(
        Selector,
        match_labels=st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES), max_size=1),
        match_expressions=_some(_requirements, 2),
    ),
)

BLOCKS = (
    *(
        "0.0.0.0/0",
        "10.244.0.0/16",
        "10.244.1.0/24",
        "10.244.2.0/24",
        "10.244.1.2/32",
        "10.244.1.7/29",
        "10.244.2.3/31",
    ),
    *("192.0.2.0/24", "198.51.100.0/24", "198.51.100.128/25", "128.0.0.0/1", "10.0.0.0/8"),
    *(
        "::/0",
        "fd00:244::/32",
        "fd00:244:1::/64",
        "fd00:244:1::2/127",
        "fd00:244:2::3/128",
        "2001:db8::/32",
        "8000::/1",
    ),
)


def _inside(outer: str) -> list[str]:
    """Return which of the blocks are strictly inside another."""
    whole = ip_network(outer, strict=False)
    found = []
    for text in BLOCKS:
        inner = ip_network(text, strict=False)
        if inner.version == whole.version and inner != whole and inner[0] in whole and inner[-1] in whole:
            found.append(text)
    return found


@st.composite
def _blocks(draw: st.DrawFn) -> IPBlock:
    cidr = draw(st.sampled_from(BLOCKS))
    inside = _inside(cidr)
    excepts = draw(st.lists(st.sampled_from(inside), max_size=3)) if inside else []
    return IPBlock(cidr=cidr, excepts=tuple(excepts))


blocks = _blocks()
peers = st.one_of(
    st.builds(PolicyPeer, pod_selector=selectors),
    st.builds(PolicyPeer, namespace_selector=selectors),
    st.builds(PolicyPeer, pod_selector=selectors, namespace_selector=selectors),
    st.builds(PolicyPeer, ip_block=blocks),
)
_ranges = st.sampled_from(((30000, 30010), (80, 81), (80, 80), (1, 65535), (65535, 65535), (53, 8080)))
_protocols = st.sampled_from(("TCP", "TCP", "UDP", "SCTP"))
policy_ports = st.one_of(
    st.builds(PolicyPort, protocol=_protocols, port=st.sampled_from(PORTS)),
    st.builds(
        lambda protocol, ends: PolicyPort(protocol=protocol, port=ends[0], end_port=ends[1]), _protocols, _ranges
    ),
    st.builds(PolicyPort, protocol=_protocols, port=st.sampled_from(PORT_NAMES)),
    st.builds(PolicyPort, protocol=_protocols, port=st.sampled_from(PORT_NAMES)),
    st.builds(PolicyPort, protocol=_protocols),
)
_rules = st.builds(PolicyRule, peers=_some(peers, 3), ports=_some(policy_ports, 3))
_types = st.sampled_from((("Ingress",), ("Egress",), ("Ingress", "Egress"), ("Egress", "Ingress"), None))


@st.composite
def good_policies(draw: st.DrawFn) -> NetworkPolicy:
    """A policy that the API would take; ``None`` for its types stands for those it would default them to."""
    ingress, egress = ([draw(_rules) for _ in range(draw(st.sampled_from((1, 2, 0))))] for _ in range(2))
    types = draw(_types)
    return NetworkPolicy(
        namespace=draw(st.sampled_from((*NAMESPACES, "prod", "dev"))),
        name=draw(st.sampled_from(("p1", "p2", "p3", "p4", "p5", "p6"))),
        pod_selector=draw(selectors),
        policy_types=types or (("Ingress", "Egress") if egress else ("Ingress",)),
        ingress=tuple(ingress),
        egress=tuple(egress),
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


@st.composite
def faulty_policies(draw: st.DrawFn) -> NetworkPolicy:
    """A policy with a fault somewhere: among its types, in its selector, in a rule of either direction."""
    policy = draw(good_policies())
    where = draw(st.sampled_from(("types", "selector", "peer", "ingress", "egress")))
    types, selector, ingress, egress = policy.policy_types, policy.pod_selector, policy.ingress, policy.egress
    if where == "types":
        types = draw(st.sampled_from(((), ("ingress",), ("Ingress", "Both"))))
    elif where == "selector":
        selector = Selector(match_labels=selector.match_labels, match_expressions=(draw(_unreadable),))
    elif where == "peer":
        ingress = (
            *ingress,
            PolicyRule(peers=(PolicyPeer(pod_selector=Selector(match_expressions=(draw(_unreadable),))),)),
        )
    elif where == "ingress":
        ingress = (draw(st.sampled_from(FAULTY_RULES)), *ingress)
    else:
        egress = (*egress, draw(st.sampled_from(FAULTY_RULES)))
    return NetworkPolicy(
        namespace=policy.namespace,
        name=policy.name,
        pod_selector=selector,
        policy_types=types,
        ingress=ingress,
        egress=egress,
    )


policies = st.one_of(*[good_policies()] * 7, faulty_policies())


# -- nodes, namespaces, pods -------------------------------------------------------------------------------------------


namespaces = st.builds(Namespace, name=st.sampled_from(NAMESPACES), labels=labels)


@st.composite
def nodes(draw: st.DrawFn, name: str) -> Node:
    """A node with its addresses and pod networks, of one family or both."""
    kept = draw(st.sampled_from(((0, 1), (0, 1), (0,), (1,))))
    return Node(
        name=name,
        addresses=tuple(NodeAddress(type="InternalIP", address=NODE_ADDRESSES[name][n]) for n in kept),
        pod_cidrs=tuple(POD_CIDRS[name][n] for n in kept),
    )


@st.composite
def _ips(draw: st.DrawFn, node: str) -> tuple[str, ...]:
    families = draw(st.sampled_from(((0, 1), (0, 1), (0,), (0,), (1,), (1, 0), ())))
    whose = draw(st.sampled_from((node,) * 9 + NODES))
    return tuple(str(ip_network(POD_CIDRS[whose][family])[draw(st.sampled_from(HOSTS))]) for family in families)


_container_ports = st.builds(
    ContainerPort,
    name=st.sampled_from(PORT_NAMES),
    protocol=_protocols,
    port=st.sampled_from(PORTS),
)


@st.composite
def pods(draw: st.DrawFn, name: str) -> Pod:
    """A pod in whatever state a pod can be."""
    node = draw(st.sampled_from((*NODES, *NODES, *NODES, "")))
    on_host = bool(node) and draw(st.sampled_from((False,) * 6 + (True,)))
    ips = NODE_ADDRESSES[node] if on_host else draw(_ips(node)) if node else ()
    return Pod(
        namespace=draw(st.sampled_from((*NAMESPACES, "prod", "dev"))),
        name=name,
        labels=draw(labels),
        node_name=node,
        ips=ips,
        phase=draw(st.sampled_from(("Running",) * 6 + ("Pending", "Succeeded", "Failed"))),
        host_network=on_host,
        terminating=draw(st.sampled_from((False,) * 5 + (True,))),
        ports=tuple(draw(st.lists(_container_ports, max_size=3))),
    )


@st.composite
def clusters(draw: st.DrawFn) -> World:
    """A cluster: two nodes, up to three namespaces, some pods and policies; a part of it may not be known yet."""
    objects: list[Object] = [draw(nodes(name)) for name in NODES if draw(st.sampled_from((True,) * 7 + (False,)))]
    objects += [draw(namespaces) for _ in range(draw(st.sampled_from((4, 4, 4, 1))))]
    objects += [draw(pods(name)) for name in draw(st.sampled_from(("abcdef", "abcdefgh", "ab")))]
    objects += [draw(policies) for _ in range(draw(st.sampled_from((4, 5, 3, 1, 0))))]
    return by_key(objects)


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
                found[port.protocol] |= numbers.get(port.port, set())
            elif port.port is not None:
                last = port.end_port or port.port
                found[port.protocol] |= {port.port - 1, port.port, last, last + 1}
    return {protocol: sorted(port for port in ports if 0 < port < 65536) for protocol, ports in found.items()}
