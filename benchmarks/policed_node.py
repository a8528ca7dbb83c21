"""A node full of pods under policies, as Kubernetes manifests and as the agent's state.

Policies come in groups of ten, a namespace each. Every pod carries the label of one policy's group and is selected by
three policies. Every policy is for both directions, with two rules of three ports in each:

    from/to  pods of its namespace with one label, and all pods of one zone of namespaces;  ports X, 8443, a range
    from/to  pods of a neighbour namespace's zone with one label, and an ipBlock;           ports 80, 443, UDP 53

Two pods can be chosen between which port 443 is admitted by exactly one of the three policies at either end.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from kube_router.core.state import State, View
from kube_router.core.view import Ref
from kube_router.events.event import Put
from kube_router.events.model import Namespace, NetworkPolicy, Node, Pod
from kube_router.events.normalize import BUILTIN
from kube_router.events.resource import Catalogue

NODE = "node-1"
NODE_ADDRESS = "192.168.7.1"
POD_CIDR = "10.244.0.0/16"
ADMITTED, DENIED = 443, 444  # TCP ports
NEEDS = (Node, Namespace, Pod, NetworkPolicy)
_GROUP = 10
_ZONES = 25
_RESOURCES = {resource.kind: resource for resource in BUILTIN}
Json = Mapping[str, Any]


class Pair(NamedTuple):
    """The numbers of two pods and of the policies that admit port 443 from one to the other."""

    source: int
    destination: int
    egress_policy: int
    ingress_policy: int


@dataclass(frozen=True, slots=True)
class PolicedNode:
    """That many pods, all on one node, and that many policies, a multiple of ten."""

    pods: int
    policies: int
    suffix: str = ""  # of the policies' names

    def manifests(self) -> Iterator[Json]:
        """Return everything, what others refer to first."""
        yield self.node()
        yield from map(self.namespace, range(self.policies // _GROUP))
        yield from map(self.policy, range(self.policies))
        yield from map(self.pod, range(self.pods))

    def node(self) -> Json:
        addresses = [{"type": "InternalIP", "address": NODE_ADDRESS}]
        return _object("Node", NODE, spec={"podCIDRs": [POD_CIDR]}, status={"addresses": addresses})

    def namespace(self, number: int) -> Json:
        return _object("Namespace", _team(number), labels={"zone": _zone(number)})

    def pod(self, number: int, *, group: int | None = None) -> Json:
        """Return a pod, with the label of another group of its namespace where one is told."""
        home, own = divmod(number % self.policies, _GROUP)
        spec = {"nodeName": NODE, "containers": [{"name": "main", "image": "none"}]}
        status = {"phase": "Running", "podIP": address(number), "podIPs": [{"ip": address(number)}]}
        labels = {"app": _app(own if group is None else group), "pod-template-hash": f"{number % 97:08x}"}
        return _object("Pod", f"web-{number}", namespace=_team(home), labels=labels, spec=spec, status=status)

    def policy(self, number: int, *, port: int = 0) -> Json:
        """Return a policy, with another port in its first rule where one is told."""
        home, own = divmod(number, _GROUP)
        teams = self.policies // _GROUP
        selected = [_app(own + n) for n in range(3)]
        block = f"172.{16 + number % 16}"
        outside = {"ipBlock": {"cidr": f"{block}.0.0/16", "except": [f"{block}.{number % 4}.0/24"]}}
        within = [{"podSelector": _apps(own + 3)}, _zone_peer(home + 3, teams)]
        above = [{**_zone_peer(home + 1, teams), "podSelector": _apps(own + 5)}, outside]
        below = [{**_zone_peer(home - 1, teams), "podSelector": _apps(own + 5)}, outside]
        own_ports = [{"port": port or 9000 + number % 50}, {"port": 8443}, {"port": 30000, "endPort": 30100}]
        common_ports = [{"port": 80}, {"port": ADMITTED}, {"port": 53, "protocol": "UDP"}]
        spec = {
            "podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": selected}]},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": within, "ports": own_ports}, {"from": above, "ports": common_ports}],
            "egress": [{"to": within, "ports": own_ports}, {"to": below, "ports": common_ports}],
        }
        return _object("NetworkPolicy", f"allow-{number:04}{self.suffix}", namespace=_team(home), spec=spec)

    def policy_key(self, number: int) -> str:
        """Return a policy's namespace and name."""
        return f"{_team(number // _GROUP)}/allow-{number:04}{self.suffix}"

    def policies_of(self, number: int) -> list[int]:
        """Return the numbers of the policies that select a pod."""
        home, own = divmod(number % self.policies, _GROUP)
        return sorted(home * _GROUP + (own - n) % _GROUP for n in range(3))

    def pairs(self) -> Iterator[Pair]:
        """Return the pairs of pods between which port 443 is admitted, those in the middle of all pods first."""
        middle = self.pods // 2
        for distance in range(min(middle, 20 * _GROUP)):
            for destination in dict.fromkeys((middle - distance, middle + distance)):
                ingress = destination % self.policies
                home, own = divmod(ingress, _GROUP)
                egress = (home + 1) * _GROUP % self.policies + (own + 5) % _GROUP
                source = destination - ingress + egress
                if 0 <= source < self.pods:
                    yield Pair(source, destination, egress, ingress)


class Cluster:
    """The agent's state of such a node, which can be changed."""

    def __init__(self, world: PolicedNode) -> None:
        self.state = State(Catalogue(BUILTIN))
        self.view = View(self.state, NEEDS)
        for manifest in world.manifests():
            self.put(manifest)

    def put(self, manifest: Json) -> Ref:
        """Create or replace an object; return its name."""
        resource = _RESOURCES[manifest["kind"]]
        normalized = resource.normalize(msgspec.json.encode(manifest), lambda text: text)
        assert not normalized.problems, normalized.problems
        seq, obj = self.state.seq + 1, normalized.obj
        self.state.apply(Put(seq=seq, t=seq, r=resource.name, key=obj.key, rv=str(seq), obj=obj))
        return Ref(resource.name, obj.key)


def address(number: int) -> str:
    """Return a pod's address."""
    return f"10.244.{number // 250}.{number % 250 + 2}"


def _object(kind: str, name: str, *, namespace: str = "", labels: Json | None = None, **parts: Json) -> Json:
    metadata = {"name": name, "labels": labels or {}, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": _RESOURCES[kind].api_version, "kind": kind, "metadata": metadata, **parts}


def _team(number: int) -> str:
    return f"team-{number}"


def _app(number: int) -> str:
    return f"app-{number % _GROUP}"


def _apps(number: int) -> Json:
    return {"matchLabels": {"app": _app(number)}}


def _zone(team: int) -> str:
    return f"zone-{team % _ZONES}"


def _zone_peer(team: int, teams: int) -> Json:
    return {"namespaceSelector": {"matchLabels": {"zone": _zone(team % teams)}}}
