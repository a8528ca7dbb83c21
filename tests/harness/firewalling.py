"""Two nodes' rulesets and the reference evaluator over one world, and the questions they are to agree on."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address, ip_network
from typing import NamedTuple

from doubles.nftables import Packet, Tracer
from policies import NODES, OUTSIDE, node_addresses, pod_addresses, telling_ports
from strategies import World as Objects
from strategies import records

from kube_router.core.state import State, View
from kube_router.core.view import Dirty
from kube_router.events.model import Namespace, NetworkPolicy, Node, Pod
from kube_router.events.normalize import BUILTIN
from kube_router.events.resource import Catalogue
from kube_router.plugins.firewall import render
from kube_router.plugins.firewall.evaluate import DEFAULTS, Settings, Verdict, evaluate
from kube_router.plugins.firewall.wanted import Cluster
from kube_router.plugins.firewall.world import World

NEEDS = (Node, Namespace, Pod, NetworkPolicy)
EVERYTHING = Dirty(everything=True)


def folded(world: Objects) -> State:
    """Return the state that holds a world."""
    state = State(Catalogue(BUILTIN))
    for record in records([(*ref, obj) for ref, obj in world.items()]):
        state.apply(record)
    return state


def view_of(state: State) -> View:
    """Return the firewall's view of a state."""
    return View(state, NEEDS)


def from_scratch(state: State, node: str = "node-1", *, settings: Settings = DEFAULTS) -> Cluster:
    """Return a cluster that has seen the state as a whole."""
    cluster = Cluster(node, default_deny=settings.default_deny, judge_icmp=settings.judge_icmp)
    cluster.update(view_of(state), EVERYTHING)
    return cluster


class Question(NamedTuple):
    """May this address begin this? ``port`` is 0 for ICMP."""

    source: str
    destination: str
    protocol: str
    port: int = 0

    def packet(self, hook: str, *, local_source: bool = False) -> Packet:
        """Return the packet that begins it, in a hook of a node."""
        if self.protocol != "ICMP":
            return Packet(
                self.source,
                self.destination,
                self.protocol.lower(),
                self.port,
                hook=hook,
                local_source=local_source,
            )
        word = "icmpv6" if ":" in self.source else "icmp"
        return Packet(
            self.source, self.destination, word, icmp_type="echo-request", hook=hook, local_source=local_source
        )


@dataclass(frozen=True)
class Answer:
    """What a node's ruleset says of a packet, by direction; None where the packet does not pass such a hook there."""

    egress: bool
    ingress: bool


class Both:
    """The rulesets of both nodes, as written, and the evaluator, over the same state."""

    def __init__(self, objects: Objects, settings: Settings = DEFAULTS) -> None:
        state = folded(objects)
        self.settings = settings
        self.world = World(view_of(state))
        self.clusters = {node: from_scratch(state, node, settings=settings) for node in NODES}
        self.tracers = {node: Tracer(render.write_table(its.ruleset)) for node, its in self.clusters.items()}
        self._nodes = {node: view_of(state).get(Node, node) for node in NODES}
        self._homes: dict[str, str] = {}
        self._owners: dict[str, str] = {}

    def ask(self, question: Question) -> Verdict:
        """Return what the evaluator says."""
        source, destination = self.world.party(question.source), self.world.party(question.destination)
        return evaluate(self.world, source, destination, question.port or None, question.protocol, self.settings)

    def trace(self, question: Question) -> Answer:
        """Return what the rulesets say: egress the source's node, ingress the destination's."""
        from_node, to_node = self.home(question.source), self.home(question.destination)
        from_self, to_self = self.owner(question.source), self.owner(question.destination)
        egress = ingress = True
        if from_node:
            hooks = ["output"] if from_self else ["input"] if to_self == from_node else ["forward", "output"]
            egress = self._passes(from_node, "egress", question, hooks, local=bool(from_self))
        if to_node and not to_self:
            hooks = ["output"] if from_self == to_node else ["forward", "output"]
            ingress = self._passes(to_node, "ingress", question, hooks, local=from_self == to_node)
        return Answer(egress, ingress)

    def _passes(self, node: str, direction: str, question: Question, hooks: list[str], *, local: bool) -> bool:
        """Return what all of these hooks of a node say, which has to be the same: IPVS sends packets by ``output``."""
        fates = {}
        for hook in hooks:
            fate = self.tracers[node].fate(question.packet(hook, local_source=local), only=f"{hook}-{direction}")
            assert fate.passes == (f"denied_{direction}" not in fate.counters), fate
            fates[hook] = fate.passes
        assert len(set(fates.values())) == 1, f"the hooks differ: {fates}"
        return next(iter(fates.values()))

    def owner(self, address: str) -> str:
        """Return the node whose own an address is, "" for none."""
        if address not in self._owners:
            self._owners[address] = self._find_owner(address)
        return self._owners[address]

    def home(self, address: str) -> str:
        """Return the node that an address's packets pass: of the pod that has it, else where its network is."""
        if address not in self._homes:
            self._homes[address] = self._find_home(address)
        return self._homes[address]

    def _find_owner(self, address: str) -> str:
        for name, node in self._nodes.items():
            bridges = (str(ip_network(cidr)[1]) for cidr in node.pod_cidrs) if node is not None else ()
            addresses = (each.address for each in node.addresses) if node is not None else ()
            if address in (*bridges, *addresses):
                return name
        return ""

    def _find_home(self, address: str) -> str:
        pod = self.world.party(address).pod
        if pod is not None:
            return pod.node_name
        for name, node in self._nodes.items():
            cidrs = node.pod_cidrs if node is not None else ()
            if any(is_inside(address, cidr) for cidr in cidrs):
                return name
        return self.owner(address)


def pairs(objects: Objects) -> Iterator[tuple[str, str]]:
    """Return all pairs of addresses of one family of which one at least is a pod's, or might be."""
    of_pods, others = pod_addresses(objects), (*node_addresses(objects), *OUTSIDE)
    for one in of_pods:
        for other in (*of_pods, *others):
            if (":" in one) == (":" in other) and one != other:
                yield one, other
                if other in others:
                    yield other, one


@cache
def is_inside(address: str, cidr: str) -> bool:
    """Whether an address is one of a network's."""
    return ip_address(address) in ip_network(cidr)


def questions(objects: Objects) -> Iterator[Question]:
    """Return all that tells something about a world: of every pair, and every port that its policies speak of."""
    ports = {"ICMP": (0,), **telling_ports(objects)}
    for source, destination in pairs(objects):
        for protocol, numbers in ports.items():
            yield from (Question(source, destination, protocol, number) for number in numbers)
