"""What a lab looks like: its nodes, subnets and addresses, and the names of its namespaces (pure).

    outside ── fabric (router) ─┬─ subnet 0 ─ node-1, node-3 … ─ kube-bridge ─ pods
                                └─ subnet 1 ─ node-2 …

Every machine is a network namespace called ``kr-LAB-…``. The fabric is a namespace too: it holds a bridge for each
subnet and routes between them, so that nothing of a lab appears in the host's own network. A lab's name has no dash,
so no lab's prefix is the beginning of another's.
"""

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network

from kube_router.events.errors import ConfigError

IPV4, IPV6 = "IPv4", "IPv6"
NODES_MAX = 200
SUBNETS_MAX = 8
NODE_FIRST = 10  # node n has the host number 10 + n in its subnet; 1 is the fabric's router
OUTSIDE_SUBNET = 255
SUBNET = {IPV4: "172.30.{subnet}.0/24", IPV6: "fd30:0:0:{subnet:x}::/64"}
POD_CIDR = {IPV4: "10.244.{number}.0/24", IPV6: "fd00:10:244:{number:x}::/64"}
_LAB_NAME = re.compile(r"[a-z][a-z0-9]{0,15}")
_NODE_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
RESERVED = ("fabric", "outside")


@dataclass(frozen=True, slots=True)
class LabNode:
    """A node. ``addresses`` (without prefix length) and ``pod_cidrs`` are in the order of the lab's families."""

    name: str
    number: int
    subnet: int
    addresses: tuple[str, ...]
    pod_cidrs: tuple[str, ...]

    @property
    def gateways(self) -> tuple[str, ...]:
        """The addresses of its kube-bridge: the first of each pod CIDR."""
        return tuple(host(cidr, 1) for cidr in self.pod_cidrs)


@dataclass(frozen=True, slots=True)
class LabPod:
    """A pod that runs: where, with which addresses, and the ports (protocol, number) it serves.

    A pod on the host's network has its node's addresses and no namespace of its own.
    """

    key: str
    node: str
    ips: tuple[str, ...]
    ports: tuple[tuple[str, int], ...] = ()
    host_network: bool = False


@dataclass(frozen=True, slots=True)
class Topology:
    """The machines of a lab."""

    lab: str
    families: tuple[str, ...] = (IPV4,)
    nodes: tuple[LabNode, ...] = ()
    _by_name: dict[str, LabNode] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        self._by_name.update((node.name, node) for node in self.nodes)

    def node(self, name: str) -> LabNode:
        """Return a node. ConfigError, with the names there are, for another name."""
        if name not in self._by_name:
            raise ConfigError(f"lab {self.lab} has no node {name}; its nodes are {', '.join(self._by_name)}")
        return self._by_name[name]

    @property
    def subnets(self) -> tuple[int, ...]:
        return tuple(sorted({node.subnet for node in self.nodes}))

    @property
    def fabric(self) -> str:
        return f"{prefix(self.lab)}fabric"

    @property
    def outside(self) -> str:
        return f"{prefix(self.lab)}outside"

    def namespace(self, node: str) -> str:
        """Return the namespace of a node."""
        return f"{prefix(self.lab)}{node}"

    def pod_namespace(self, pod: LabPod) -> str:
        """Return the namespace a pod's sockets live in."""
        if pod.host_network:
            return self.namespace(pod.node)
        return f"{prefix(self.lab)}pod.{pod.key.replace('/', '.')}"


def prefix(lab: str) -> str:
    """Return what the names of all namespaces of a lab begin with."""
    return f"kr-{lab}-"


def check_name(lab: str) -> str:
    """Return the name of a lab. ConfigError if it cannot be one."""
    if not _LAB_NAME.fullmatch(lab):
        raise ConfigError(
            f"lab name {lab!r}: has to be a letter and at most 15 more letters and digits, all lower case"
        )
    return lab


def plan_topology(
    lab: str,
    names: Sequence[str],
    *,
    subnets: int = 1,
    families: Sequence[str] = (IPV4,),
    cidrs: Mapping[str, Sequence[str]] | None = None,
) -> Topology:
    """Return a lab of the nodes named, dealt over the subnets in turn. ``cidrs`` overrides pod CIDRs by node."""
    check_name(lab)
    if not 1 <= len(names) <= NODES_MAX or len(set(names)) != len(names):
        raise ConfigError(f"a lab has 1 to {NODES_MAX} nodes of different names, not {len(names)}")
    if not 1 <= subnets <= SUBNETS_MAX:
        raise ConfigError(f"a lab has 1 to {SUBNETS_MAX} subnets, not {subnets}")
    for name in names:
        if not _NODE_NAME.fullmatch(name) or name in RESERVED or name.startswith("pod."):
            raise ConfigError(f"{name!r} cannot be the name of a node in a lab")
    nodes = []
    for number, name in enumerate(names, 1):
        subnet = (number - 1) % subnets
        addresses = tuple(host(SUBNET[family].format(subnet=subnet), NODE_FIRST + number) for family in families)
        own = tuple((cidrs or {}).get(name, ())) or tuple(POD_CIDR[family].format(number=number) for family in families)
        nodes.append(LabNode(name, number, subnet, addresses, own))
    return Topology(lab, tuple(families), tuple(nodes))


def node_names(count: int) -> tuple[str, ...]:
    """Return ``node-1`` … as many as asked for."""
    return tuple(f"node-{number}" for number in range(1, count + 1))


def host(cidr: str, number: int) -> str:
    """Return the address with that number in a network."""
    return str(ip_network(cidr)[number])


def family_of(address: str) -> str:
    """Return IPv4 or IPv6 for an address or network."""
    return IPV6 if ":" in address else IPV4


def pod_interface(key: str) -> str:
    """Return the name of the node's end of a pod's cable: 15 characters are all an interface may have."""
    return f"veth{zlib.crc32(key.encode()):08x}"
