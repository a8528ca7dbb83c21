"""A lab for policies: two nodes, five pods in two namespaces, and one on the host's network; only the firewall runs.

    node-1   x/a (app=a)   x/c (app=c, env=prod)   y/b (app=b)   y/host (app=host, host network)
    node-2   x/b (app=b, tier="")   y/a (app=a)

Each pod serves TCP 80 and 81 and UDP 53; the port named ``web`` is 80 in x and 81 in y.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count

import yaml
from harness.machine import until
from harness.reach import Reach

from kube_router.lab import cluster
from kube_router.lab.objects import Json, key
from kube_router.lab.topology import IPV4, IPV6

PODS = ("x/a", "x/b", "x/c", "y/a", "y/b")
PLACES = (*PODS, "node-1", "node-2", "outside")
LABELS = {
    "x/a": {"app": "a"},
    "x/b": {"app": "b", "tier": ""},
    "x/c": {"app": "c", "env": "prod"},
    "y/a": {"app": "a"},
    "y/b": {"app": "b"},
    "y/host": {"app": "host"},
}
NODES = {"x/a": "node-1", "x/b": "node-2", "x/c": "node-1", "y/a": "node-2", "y/b": "node-1", "y/host": "node-1"}
MARKER = "zz-marker"
_numbers = count(1)


def _pod(name: str) -> Json:
    namespace, _, short = name.partition("/")
    web = 80 if namespace == "x" else 81
    ports: list[Json] = [{"containerPort": 53, "protocol": "UDP"}]
    ports += [{"containerPort": port, **({"name": "web"} if port == web else {})} for port in (80, 81)]
    spec: Json = {"nodeName": NODES[name], "containers": [{"name": "c", "image": "none", "ports": ports}]}
    if short == "host":
        spec["hostNetwork"] = True
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": namespace, "name": short, "labels": LABELS[name]},
        "spec": spec,
    }


def world() -> list[Json]:
    """Return the objects of the lab."""
    namespaces: list[Json] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x", "labels": {"team": "x"}}},
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "y", "labels": {"team": "y", "empty": ""}}},
    ]
    return [*namespaces, *map(_pod, NODES)]


def policies(text: str) -> list[Json]:
    """Return NetworkPolicies written as ``NAMESPACE/NAME: SPEC`` in YAML."""
    return [policy(name, spec) for name, spec in (yaml.safe_load(text) or {}).items()]


def policy(name: str, spec: Json) -> Json:
    """Return one NetworkPolicy."""
    namespace, _, short = name.partition("/")
    metadata = {"namespace": namespace, "name": short}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


class Policed:
    """The lab, and what is in force in it."""

    def __init__(self, lab: cluster.Cluster) -> None:
        self.lab = lab
        self.reach = Reach(lab, PLACES, PODS)
        self._enforced: list[str] = []

    def enforce(self, text: str) -> None:
        """Let exactly these policies be in force, on all nodes, when this returns."""
        wanted = policies(text)
        # A policy that opens nothing and closes nothing: once its chain is in a node's table, so is the rest.
        marker = f"{MARKER}-{next(_numbers)}"
        everything = {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]}
        markers = [policy(f"{namespace}/{marker}", everything) for namespace in ("m1", "m2")]
        before, self._enforced = self._enforced, [key(each) for each in (*wanted, *markers)]
        for name in before:
            if name not in self._enforced:
                self.lab.delete("NetworkPolicy", name)
        self.lab.apply([*wanted, *markers])
        for number, node in enumerate(("node-1", "node-2"), 1):
            until(partial(self._shows, node, f'"m{number}/{marker}"'), what=f"policies on {node}")

    def _shows(self, node: str, words: str) -> bool:
        return words in self.table(node)

    def table(self, node: str) -> str:
        """Return the node's table as nft lists it, "" where there is none."""
        return self.lab.machines.run(node, ["nft", "list", "table", "inet", "kube-router-firewall"]).stdout

    def status(self, node: str) -> Json:
        """Return what the node's firewall says of itself."""
        status = self.lab.agent(node).status()
        return next(plugin for plugin in status["plugins"] if plugin["name"] == "firewall")


@contextmanager
def policed(
    name: str, *flags: str, objects: Sequence[Json] = (), plugins: Sequence[str] = ("firewall",)
) -> Iterator[Policed]:
    """Run the lab for the block, its agents with these flags. ``objects`` are there instead of ``world()``."""
    objects = [*(objects or world()), *(_marked(number) for number in (1, 2))]
    plan = cluster.new_lab(
        f"{name}{os.getpid()}", objects, nodes=2, families=(IPV4, IPV6), plugins=plugins, agent_args=flags
    )
    lab = cluster.Cluster.up(plan, objects)
    for node in lab.topology.nodes:  # a kernel sends few ICMP errors a second to one address, and a table wants many
        lab.machines.run(node.name, ["sysctl", "-qw", "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0"])
    try:
        yield Policed(lab)
    finally:
        cluster.down(plan.name)


def _marked(number: int) -> Json:
    """Return the pod of one node that markers select."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": f"m{number}", "name": "marked"},
        "spec": {"nodeName": f"node-{number}", "containers": [{"name": "c", "image": "none"}]},
    }
