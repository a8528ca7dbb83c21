"""A small cluster written out, to ask the reference evaluator about: two nodes, two families, four namespaces."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from kube_router.core.view import T
from kube_router.events.model import ContainerPort, Namespace, NetworkPolicy, Node, NodeAddress, Object, Pod
from kube_router.events.normalize_policy import normalize_networkpolicy
from kube_router.plugins.firewall.compile import Compiled, compile_policy
from kube_router.plugins.firewall.evaluate import DEFAULTS, Settings, Verdict, evaluate
from kube_router.plugins.firewall.model import Family
from kube_router.plugins.firewall.validity import faults_of
from kube_router.plugins.firewall.world import World


class Objects:
    """Objects by kind and key."""

    def __init__(self, objects: Iterable[Object]) -> None:
        self._objects = {(type(obj), obj.key): obj for obj in objects}

    def get(self, model: type[T], key: str) -> T | None:
        found = self._objects.get((model, key))
        return found if isinstance(found, model) else None

    def each(self, model: type[T]) -> Iterable[T]:
        return [obj for obj in self._objects.values() if isinstance(obj, model)]


def node(number: int) -> Node:
    """Return a node."""
    own = (f"192.0.2.{number}", f"2001:db8::{number}")
    cidrs = (f"10.{number}.0.0/24", f"fd00:{number}::/64")
    addresses = tuple(NodeAddress(type="InternalIP", address=address) for address in own)
    return Node(name=f"n{number}", addresses=addresses, pod_cidrs=cidrs)


def pod(key: str, number: int, host: int, labelled: str = "", ports: str = "", **more: Any) -> Pod:
    """Return a pod of a node. Labels are written ``app=web tier=``, ports ``http=8080/TCP``."""
    namespace, name = key.split("/")
    named = [item.replace("/", "=").split("=") for item in ports.split()]
    facts: dict[str, Any] = {
        "labels": dict(item.split("=") for item in labelled.split()),
        "node_name": f"n{number}",
        "ips": (f"10.{number}.0.{host}", f"fd00:{number}::{host}"),
        "phase": "Running",
        "ports": tuple(ContainerPort(name=name, port=int(port), protocol=protocol) for name, port, protocol in named),
    }
    return Pod(namespace=namespace, name=name, **facts | more)


NODES = (node(1), node(2))
NAMESPACES = (
    Namespace(name="shop", labels={"kubernetes.io/metadata.name": "shop", "team": "red"}),
    Namespace(name="data", labels={"kubernetes.io/metadata.name": "data", "team": ""}),
    Namespace(name="bare"),
)  # "lost" is a namespace that nobody knows
PODS = (
    pod("shop/web", 1, 10, "app=web tier=front", "http=8080/TCP dns=53/UDP alt=8080/UDP"),
    pod("shop/db", 2, 11, "app=db tier=", "http=80/TCP"),
    pod("data/web", 2, 12, "app=web", "http=8080/TCP"),
    pod("data/job", 1, 13, "app=job tier=back"),
    pod("bare/bare", 1, 14),
    pod("lost/web", 2, 15, "app=web"),
)
CROWD = {each.name if each.namespace == "bare" else each.key: each.ips for each in PODS} | {
    "n1": ("192.0.2.1", "2001:db8::1"),  # the web pod's node
    "n2": ("192.0.2.2", "2001:db8::2"),
    "out": ("198.51.100.7", "2001:db8:f::7"),
}
NODE, OTHER_NODE, OUTSIDE = "192.0.2.1", "192.0.2.2", "198.51.100.7"
WEB, DB, BARE = "10.1.0.10", "10.2.0.11", "10.1.0.14"
TRIED = ("53/UDP", "80/TCP", "80/SCTP", "8080/TCP", "8080/UDP", "8081/TCP", "8090/TCP", "8091/TCP")


def policy(spec: str | Mapping[str, Any], key: str = "shop/p") -> NetworkPolicy:
    """Return a policy by its spec, which is YAML or what YAML makes of it."""
    namespace, name = key.split("/")
    written = yaml.safe_load(spec) if isinstance(spec, str) else spec
    raw = json.dumps({"metadata": {"namespace": namespace, "name": name}, "spec": written})
    found = normalize_networkpolicy(raw.encode(), str).obj
    assert isinstance(found, NetworkPolicy)
    return found


def compiled_for(policy: NetworkPolicy, families: Iterable[Family]) -> Compiled:
    """Return what a policy is compiled to, its own faults taken into account."""
    return compile_policy(policy, families, faulty=bool(faults_of(policy)))


def world(*objects: Object) -> World:
    """Return the cluster with more in it: policies, and pods that replace those of their name."""
    return World(Objects((*NODES, *NAMESPACES, *PODS, *objects)))


def ask(world: World, source: str, destination: str, port: str = "8080/TCP", settings: Settings = DEFAULTS) -> Verdict:
    """Return the verdict on a connection between two addresses. A port is written ``80/TCP``, or ``/ICMP``."""
    number, _, protocol = port.rpartition("/")
    ends = world.party(source), world.party(destination)
    return evaluate(world, *ends, int(number) if number else None, protocol, settings)


def allowed(world: World, source: str, destination: str, port: str = "8080/TCP") -> bool:
    """Whether both ends allow it."""
    return ask(world, source, destination, port).allowed
