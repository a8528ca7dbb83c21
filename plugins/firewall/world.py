"""The cluster as the reference evaluator looks at it: who has an address, and which policies isolate a pod (pure).

Built from a view for one moment and read only, each answer found once: ten thousand questions about one state are as
many lookups. It shares no line with the compiler of rules (compile.py, terms.py, blocks.py, members.py), so that the
two can be held against each other.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Literal, NamedTuple, Protocol

from kube_router.core.view import T
from kube_router.events.model import Namespace, NetworkPolicy, Node, Pod, PolicyPeer, Selector
from kube_router.plugins.firewall.validity import faults_of

Side = Literal["ingress", "egress"]
ADDRESSES_REMEMBERED = 1 << 16
TYPES: Mapping[Side, str] = {"ingress": "Ingress", "egress": "Egress"}


class Objects(Protocol):
    """What of a ClusterView a world is built from."""

    def get(self, model: type[T], key: str) -> T | None: ...
    def each(self, model: type[T]) -> Iterable[T]: ...


class Party(NamedTuple):
    """One end of a connection: an address, and the pods that claim it, the one that has it first."""

    address: str
    pods: tuple[Pod, ...] = ()

    @property
    def pod(self) -> Pod | None:
        """The pod whose policies count."""
        return self.pods[0] if self.pods else None

    def __str__(self) -> str:
        return f"{self.pods[0].key} ({self.address})" if self.pods else self.address


class World:
    """One state of the cluster."""

    def __init__(self, view: Objects) -> None:
        self._view = view
        self._isolating: dict[tuple[str, Side], tuple[NetworkPolicy, ...]] = {}
        self._faults: dict[str, tuple[str, ...]] = {}
        self._peers: dict[tuple[str, Side, int], Peers] = {}

    def pod(self, key: str) -> Pod | None:
        """Return a pod by its key, whatever its state."""
        return self._view.get(Pod, key)

    def node(self, name: str) -> Node | None:
        """Return a node."""
        return self._view.get(Node, name)

    def party(self, address: str) -> Party:
        """Return who has an address. Of several pods the one that is not terminating counts, then the first by name."""
        return Party(address, tuple(self._by_address.get(address, ())))

    def node_of(self, address: str) -> str:
        """Return the node that has an address itself, as its own or as its pods' gateway; "" where none has."""
        return self._node_addresses.get(address, "")

    def labels_of(self, namespace: str) -> Mapping[str, str] | None:
        """Return a namespace's labels, None for one that nobody knows."""
        found = self._view.get(Namespace, namespace)
        return found.labels if found is not None else None

    def isolating(self, pod: Pod, side: Side) -> tuple[NetworkPolicy, ...]:
        """Return the policies that isolate a pod in a direction, by name."""
        key = (pod.key, side)
        if key not in self._isolating:
            self._isolating[key] = tuple(
                policy
                for policy in self._policies.get(pod.namespace, ())
                if self._is_for(policy, side) and selects(policy.pod_selector, pod.labels)
            )
        return self._isolating[key]

    def faults(self, policy: NetworkPolicy) -> tuple[str, ...]:
        """Return what is wrong with a policy: one with a fault admits nothing."""
        if policy.key not in self._faults:
            self._faults[policy.key] = faults_of(policy)
        return self._faults[policy.key]

    def pod_cidr_node(self, address: str) -> str:
        """Return the node for whose pods an address is meant; "" for none's."""
        nodes, networks = self._pod_networks
        return next((nodes[number] for number in networks.holding(address)), "")

    def peers(self, policy: NetworkPolicy, side: Side, number: int) -> "Peers":
        """Return the peers of a rule, counted from 0, of a policy without fault."""
        key = policy.key, side, number
        if key not in self._peers:
            self._peers[key] = Peers((policy.ingress if side == "ingress" else policy.egress)[number].peers)
        return self._peers[key]

    def _is_for(self, policy: NetworkPolicy, side: Side) -> bool:
        types = set(policy.policy_types)
        if not types or not types <= set(TYPES.values()):
            return True  # one that names a direction nobody knows closes both
        return TYPES[side] in types

    @cached_property
    def _by_address(self) -> Mapping[str, list[Pod]]:
        found: dict[str, list[Pod]] = defaultdict(list)
        for pod in self._view.each(Pod):
            if is_subject(pod):
                for address in set(pod.ips):
                    found[address].append(pod)
        for pods in found.values():
            pods.sort(key=lambda pod: (pod.terminating, pod.key))
        return found

    @cached_property
    def _node_addresses(self) -> Mapping[str, str]:
        found: dict[str, str] = {}
        for node in sorted(self._view.each(Node), key=lambda node: node.name):
            gateways = (str(ip_network(cidr)[1]) for cidr in node.pod_cidrs if ip_network(cidr).num_addresses > 1)
            for address in (*gateways, *(each.address for each in node.addresses)):
                found.setdefault(address, node.name)
        return found

    @cached_property
    def _pod_networks(self) -> tuple[Sequence[str], "Networks"]:
        nodes = sorted(self._view.each(Node), key=lambda node: node.name)
        cidrs = [(node.name, cidr) for node in nodes for cidr in node.pod_cidrs]
        return [name for name, _ in cidrs], Networks(cidr for _, cidr in cidrs)

    @cached_property
    def _policies(self) -> Mapping[str, list[NetworkPolicy]]:
        found: dict[str, list[NetworkPolicy]] = defaultdict(list)
        for policy in sorted(self._view.each(NetworkPolicy), key=lambda policy: policy.name):
            found[policy.namespace].append(policy)
        return found


def is_subject(pod: Pod) -> bool:
    """Whether policies select a pod: it has an address of its own, and may still run."""
    return bool(pod.ips) and not pod.host_network and pod.phase not in ("Succeeded", "Failed")


def selects(selector: Selector, labels: Mapping[str, str]) -> bool:
    """Judge labels as Kubernetes' library does.

    A requirement that cannot be read is no condition: a policy that has one selects more pods, and admits nothing.
    """
    for key, value in selector.match_labels.items():
        if key not in labels or labels[key] != value:
            return False
    return all(
        _holds(each.key, each.operator, each.values, labels)
        for each in selector.match_expressions
        if bool(each.values) == (each.operator in ("In", "NotIn"))
    )


def _holds(key: str, operator: str, values: Iterable[str], labels: Mapping[str, str]) -> bool:
    if operator == "In":
        return key in labels and labels[key] in values
    if operator == "NotIn":
        return key not in labels or labels[key] not in values
    if operator == "Exists":
        return key in labels
    if operator == "DoesNotExist":
        return key not in labels
    return True


# -- many networks -----------------------------------------------------------------------------------------------------


class Networks:
    """Networks, counted from 0: to ask which of them hold an address takes as many looks as they have lengths."""

    def __init__(self, cidrs: Iterable[str]) -> None:
        self._numbers: dict[tuple[int, int, int], list[int]] = defaultdict(list)
        for number, cidr in enumerate(cidrs):
            network = ip_network(cidr, strict=False)
            self._numbers[_prefix(network.network_address, network.prefixlen)].append(number)
        self._lengths = sorted({(version, length) for version, length, _ in self._numbers}, reverse=True)

    def holding(self, address: str) -> Iterator[int]:
        """Return which of them hold an address, the smallest first. Those of the other family never do."""
        its = _address(address)
        for version, length in self._lengths:
            if version == its.version:
                yield from self._numbers.get(_prefix(its, length), ())


class Peers:
    """The peers of one rule, counted from 0. An ipBlock is found by its network, whichever of ten thousand it is."""

    def __init__(self, peers: Sequence[PolicyPeer]) -> None:
        blocks = {number: peer.ip_block for number, peer in enumerate(peers) if peer.ip_block is not None}
        self.selecting = [(number, peer) for number, peer in enumerate(peers) if number not in blocks]
        self._numbers = list(blocks)
        self._blocks = Networks(block.cidr for block in blocks.values())
        self._excepts = {number: Networks(block.excepts) for number, block in blocks.items() if block.excepts}

    def first_block(self, address: str) -> int | None:
        """Return the first ipBlock that holds an address and does not except it."""
        holding = (self._numbers[number] for number in self._blocks.holding(address))
        return min((number for number in holding if not self._is_excepted(number, address)), default=None)

    def _is_excepted(self, number: int, address: str) -> bool:
        excepts = self._excepts.get(number)
        return excepts is not None and next(excepts.holding(address), None) is not None


def _prefix(address: IPv4Address | IPv6Address, length: int) -> tuple[int, int, int]:
    return address.version, length, int(address) >> (address.max_prefixlen - length)


@lru_cache(maxsize=ADDRESSES_REMEMBERED)
def _address(text: str) -> IPv4Address | IPv6Address:
    return ip_address(text)
