"""Give out addresses, ports and places, and keep what was given (pure).

What an object asks for itself comes first, then what it had before, then the first that is free. So the outcome for
one object does not change when others come and go, and re-deriving the same objects changes nothing.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_network

from msgspec import Struct, field

from kube_router.lab.topology import IPV4, IPV6

SERVICE_CIDR = {IPV4: "10.96.0.0/16", IPV6: "fd00:96::/112"}
SERVICE_FIRST = 10  # the low ones are where people put kubernetes and DNS by hand
NODE_PORTS = range(30000, 32768)
POD_FIRST = 2  # 1 is the bridge


class Allocations(Struct, frozen=True, kw_only=True):
    """What was given: addresses by service and family, ports by service and port, node and addresses by pod."""

    cluster_ips: dict[str, str] = field(default_factory=dict)  # "namespace/name IPv4" → address
    node_ports: dict[str, int] = field(default_factory=dict)  # "namespace/name TCP 80" → port
    pod_nodes: dict[str, str] = field(default_factory=dict)
    pod_ips: dict[str, str] = field(default_factory=dict)  # "namespace/name IPv4" → address


class Exhausted(Exception):
    """Nothing is left to give."""


class Pool:
    """Gives each name something of its own out of an ordered supply."""

    def __init__(self, before: Mapping[str, str]) -> None:
        self._before = before
        self.given: dict[str, str] = {}
        self._taken: dict[str, str] = {}

    def claim(self, name: str, wanted: str) -> str | None:
        """Give what is asked for; return who has it already, None if it was free."""
        owner = self._taken.get(wanted)
        if owner is None:
            self.given[name] = wanted
            self._taken[wanted] = name
        return owner

    def keep(self, name: str, *, allowed: bool = True) -> bool:
        """Give a name what it had before; tell whether it had something that is still free and allowed."""
        wanted = self._before.get(name)
        return wanted is not None and allowed and self.claim(name, wanted) is None

    def had(self, name: str) -> str:
        """Return what a name had before, "" for nothing."""
        return self._before.get(name, "")

    def give(self, name: str, supply: Iterable[str]) -> str:
        """Give the first that is free. Raises Exhausted."""
        for candidate in supply:
            if candidate not in self._taken:
                self.claim(name, candidate)
                return candidate
        raise Exhausted(name)


def addresses(cidr: str, first: int) -> Iterator[str]:
    """Return the addresses of a network from host number ``first`` on, without IPv4's broadcast."""
    network = ip_network(cidr)
    last = network.num_addresses - (2 if network.version == 4 else 1)
    return (str(network[number]) for number in range(first, last + 1))


def service_addresses(family: str) -> Iterator[str]:
    """Return the addresses a Service can get."""
    return addresses(SERVICE_CIDR[family], SERVICE_FIRST)


def node_ports() -> Iterator[str]:
    """Return the ports a Service can get, as text."""
    return map(str, NODE_PORTS)


def is_in(address: str, cidr: str) -> bool:
    """Tell whether an address, as text, is one and lies in a network."""
    try:
        return ip_address(address) in ip_network(cidr)
    except ValueError:
        return False


def least_loaded(nodes: Sequence[str], load: Mapping[str, int]) -> str:
    """Return the node with the fewest pods, the first of several."""
    return min(nodes, key=lambda node: load.get(node, 0))
