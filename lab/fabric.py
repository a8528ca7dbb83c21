"""The commands (of ``ip -batch``) that build a lab's machines and cables (pure).

Each builder returns steps: a namespace and lines for it. All cables are made from within the fabric in one batch, both
ends at once where they belong: nothing of a lab is ever seen in the host's own network. (Linux before 6.14 refuses a
new link whose name exists where the command runs, whatever namespace it is for: the host has an eth0, the fabric none.)

Where no routing plugin runs, nodes get static routes to each other's pod CIDRs, as a cloud's route table would give.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kube_router.lab.topology import (
    IPV6,
    OUTSIDE_SUBNET,
    SUBNET,
    LabNode,
    LabPod,
    Topology,
    family_of,
    host,
    pod_interface,
)

BRIDGE = "kube-bridge"
ROUTER, CLIENT = 1, 10  # host numbers in a subnet
FORWARDING = {"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"}
# A lab's addresses are unique by construction: the second that duplicate address detection takes is not needed.
COMMON = {"net/ipv6/conf/default/accept_dad": "0", "net/ipv6/conf/all/disable_ipv6": "0"}


@dataclass(frozen=True, slots=True)
class Step:
    namespace: str
    lines: tuple[str, ...]


def namespaces(topology: Topology) -> tuple[str, ...]:
    """Return the namespaces of a lab without its pods'."""
    return (topology.fabric, topology.outside, *(topology.namespace(node.name) for node in topology.nodes))


def cables(topology: Topology) -> Step:
    """Return the making of all bridges and of the cables between fabric, nodes and the outside."""
    fabric = topology.fabric
    lines = [f"link add subnet{subnet} netns {fabric} type bridge" for subnet in topology.subnets]
    lines += [_cable("eth0", topology.namespace(node.name), f"node{node.number}", fabric) for node in topology.nodes]
    lines.append(_cable("eth0", topology.outside, "outside", fabric))
    return Step(fabric, tuple(lines))


def _cable(end: str, namespace: str, other: str, other_namespace: str) -> str:
    return f"link add {end} netns {namespace} type veth peer name {other} netns {other_namespace}"


def fabric_step(topology: Topology, *, routes: bool) -> Step:
    """Return the setting up of the fabric: bridges with the router's addresses, and routes to the pods."""
    lines = ["link set lo up"]
    for subnet in topology.subnets:
        lines += [_address(cidr, ROUTER, f"subnet{subnet}") for cidr in _subnet(topology, subnet)]
        lines.append(f"link set subnet{subnet} up")
    for node in topology.nodes:
        lines += [f"link set node{node.number} master subnet{node.subnet}", f"link set node{node.number} up"]
    lines += [_address(cidr, ROUTER, "outside") for cidr in _subnet(topology, OUTSIDE_SUBNET)]
    lines.append("link set outside up")
    if routes:
        lines += [line for node in topology.nodes for line in _pod_routes(node)]
    return Step(topology.fabric, tuple(lines))


def outside_step(topology: Topology) -> Step:
    """Return the setting up of the client outside of the cluster."""
    lines = ["link set lo up", "link set eth0 up"]
    for cidr in _subnet(topology, OUTSIDE_SUBNET):
        lines += [_address(cidr, CLIENT, "eth0"), f"route add default via {host(cidr, ROUTER)}"]
    return Step(topology.outside, tuple(lines))


def node_step(topology: Topology, node: LabNode, *, routes: bool) -> Step:
    """Return the setting up of a node: address, kube-bridge, default route, routes to the other nodes' pods."""
    lines = ["link set lo up", "link set eth0 up"]
    lines.append(f"link add {BRIDGE} address 0a:58:0a:f4:{node.number:02x}:01 type bridge")
    lines += [_address(cidr, 1, BRIDGE) for cidr in node.pod_cidrs]
    lines.append(f"link set {BRIDGE} up")
    for cidr, address in zip(_subnet(topology, node.subnet), node.addresses, strict=True):
        lines.append(_with_length(address, cidr, "eth0"))
        lines.append(f"route add default via {host(cidr, ROUTER)}")
    if routes:
        others = (other for other in topology.nodes if other.subnet == node.subnet and other != node)
        lines += [line for other in others for line in _pod_routes(other)]
    return Step(topology.namespace(node.name), tuple(lines))


def pod_cables(topology: Topology, pods: Iterable[LabPod]) -> Step:
    """Return the making of the cables between pods and their nodes."""
    return Step(
        topology.fabric,
        tuple(
            _cable("eth0", topology.pod_namespace(pod), pod_interface(pod.key), topology.namespace(pod.node))
            for pod in pods
        ),
    )


def pod_ports_step(topology: Topology, node: str, pods: Iterable[LabPod]) -> Step:
    """Return the plugging of a node's pods into its bridge, in hairpin mode as kube-router's CNI has it."""
    lines: list[str] = []
    for pod in pods:
        name = pod_interface(pod.key)
        lines += [f"link set {name} master {BRIDGE}", f"link set {name} type bridge_slave hairpin on"]
        lines.append(f"link set {name} up")
    return Step(topology.namespace(node), tuple(lines))


def pod_step(topology: Topology, pod: LabPod) -> Step:
    """Return the setting up of a pod's own interface."""
    node = topology.node(pod.node)
    lines = ["link set lo up", "link set eth0 up"]
    for address in pod.ips:
        cidr, gateway = next(
            (cidr, gateway)
            for cidr, gateway in zip(node.pod_cidrs, node.gateways, strict=True)
            if family_of(cidr) == family_of(address)
        )
        lines += [_with_length(address, cidr, "eth0"), f"route add default via {gateway}"]
    return Step(topology.pod_namespace(pod), tuple(lines))


def outside_addresses(topology: Topology) -> tuple[str, ...]:
    """Return the addresses of the client outside."""
    return tuple(host(cidr, CLIENT) for cidr in _subnet(topology, OUTSIDE_SUBNET))


def _subnet(topology: Topology, subnet: int) -> Sequence[str]:
    return [SUBNET[family].format(subnet=subnet) for family in topology.families]


def _address(cidr: str, number: int, interface: str) -> str:
    return _with_length(host(cidr, number), cidr, interface)


def _with_length(address: str, cidr: str, interface: str) -> str:
    nodad = " nodad" if family_of(cidr) == IPV6 else ""
    return f"addr add {address}/{cidr.partition('/')[2]} dev {interface}{nodad}"


def _pod_routes(node: LabNode) -> list[str]:
    by_family = {family_of(address): address for address in node.addresses}
    cidrs = [cidr for cidr in node.pod_cidrs if family_of(cidr) in by_family]
    return [f"route add {cidr} via {by_family[family_of(cidr)]} proto static" for cidr in cidrs]
