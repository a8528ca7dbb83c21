"""A lab for routes: a pod on each node, and only the routing plugin runs; static routes to pods there are none.

    node-1   x/a        node-2   x/b, x/host (host network)        node-3   x/c

Each pod serves TCP 80 and UDP 53. The fabric between the nodes knows no pods: what comes back to a pod from outside the
cluster was masqueraded.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import yaml
from harness.machine import slowness
from harness.reach import Reach
from harness.routed import pings

from kube_router.core.ask import ask
from kube_router.events.errors import PeerError
from kube_router.lab import cluster, manifests, netns
from kube_router.lab.objects import Json
from kube_router.lab.topology import IPV4, IPV6

PREFIX = "kube-router.io/"
PODS = {"x/a": "node-1", "x/b": "node-2", "x/c": "node-3"}
HOST_POD = "x/host"
ANSWER_S = 0.5
BETWEEN_S = 0.01  # from one question of a prober to the next


def world(nodes: int) -> list[Json]:
    """Return the pods of a lab of so many nodes."""
    pods = [_pod(name, node) for name, node in list(PODS.items())[:nodes]]
    return [*pods, _pod(HOST_POD, "node-2", hostNetwork=True)]


def _pod(name: str, node: str, **spec: object) -> Json:
    namespace, _, short = name.partition("/")
    number = 8080 if "hostNetwork" in spec else 80
    ports = [{"containerPort": number}, {"containerPort": 53, "protocol": "UDP"}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": namespace, "name": short},
        "spec": {"nodeName": node, "containers": [{"name": "c", "ports": ports}], **spec},
    }


class Told(NamedTuple):
    """A route of ours: what it leads to, and by which next hops and devices."""

    destination: str
    hops: tuple[str, ...]


class Routed:
    """The lab, and what its agents say and hold."""

    def __init__(self, lab: cluster.Cluster) -> None:
        self.lab = lab
        self.nodes = [node.name for node in lab.topology.nodes]
        self.pods = [pod for pod, node in PODS.items() if node in self.nodes]
        self.reach = Reach(lab, self.pods, self.pods)

    # -- objects -------------------------------------------------------------------------------------------------------

    def edit(self, node: str, change: Callable[[Json], None]) -> None:
        """Change a Node object as somebody would at the API server."""
        path = self.lab.folder.manifests / f"node.{node}.yaml"
        obj = yaml.safe_load(path.read_text())
        change(obj)
        manifests.put(path, manifests.dump(obj))

    def annotate(self, node: str, **annotations: str) -> None:
        """Give a Node exactly these annotations; ``_`` stands for a dash in the first word, ``__`` for a dot."""
        named = {PREFIX + name.replace("__", ".").replace("_", "-"): text for name, text in annotations.items()}
        self.edit(node, lambda obj: obj["metadata"].__setitem__("annotations", named))

    def forget(self, node: str) -> None:
        """Delete a Node object."""
        (self.lab.folder.manifests / f"node.{node}.yaml").unlink()

    def restore(self) -> None:
        """Let the objects be what they were when the lab was made."""
        self.lab.apply([])
        for node in self.nodes:  # those that were edited: the lab does not know of it
            (derived,) = [o for o in self.lab.objects if o["kind"] == "Node" and o["metadata"]["name"] == node]
            manifests.put(self.lab.folder.manifests / f"node.{node}.yaml", manifests.dump(derived))

    # -- what agents say -----------------------------------------------------------------------------------------------

    def status(self, node: str) -> Json:
        """Return what a node's routing plugin says of itself."""
        status = self.lab.agent(node).status()
        return next(plugin for plugin in status["plugins"] if plugin["name"] == "routing")

    def problems(self, node: str) -> list[str]:
        """Return what a node's routing plugin finds wrong."""
        return [str(problem) for problem in self.status(node)["problems"]]

    def neighbours(self, node: str) -> dict[str, Json]:
        """Return the neighbours of a node's speaker by address, none while it does not answer."""
        try:
            answer = ask(str(self.lab.agent(node).control_socket), "ask", plugin="routing", what="neighbours")
        except PeerError:
            return {}
        return {row["address"]: row for row in answer["neighbours"]}

    def established(self, node: str) -> list[str]:
        """Return the addresses of neighbours with a session."""
        return sorted(a for a, row in self.neighbours(node).items() if str(row["state"]).lower() == "established")

    def flaps(self, node: str) -> dict[str, int]:
        """Return how often each neighbour's session has ended."""
        return {address: int(row["flaps"]) for address, row in self.neighbours(node).items()}

    def log(self, node: str) -> str:
        """Return a node's log."""
        return self.lab.agent(node).log.read_text()

    # -- what kernels hold ---------------------------------------------------------------------------------------------

    def run(self, place: str, command: str) -> str:
        """Return the output of a command that succeeds."""
        done = self.lab.machines.run(place, ["/bin/sh", "-ec", command])
        assert done.returncode == 0, f"{command!r} in {place}: {done.stderr}"
        return done.stdout

    def routes(self, node: str, *, protocol: str = "75", table: str = "main") -> set[Told]:
        """Return the routes of a protocol."""
        found = set()
        for family in "46":
            text = self.run(node, f"ip -{family} -j route show table {table} proto {protocol} 2>/dev/null || true")
            for route in json.loads(text or "[]"):
                hops = route.get("nexthops") or [route]
                told = tuple(sorted(f"{hop.get('gateway', '')} {hop['dev']}".strip() for hop in hops))
                found.add(Told(route["dst"], told))
        return found

    def mesh_routes(self, node: str) -> set[Told]:
        """Return the routes that a node has where all are on one subnet and all is well."""
        nodes = self.lab.topology.nodes
        return {
            Told(cidr, (f"{address} eth0",))
            for other in nodes
            if other.name != node
            for cidr, address in zip(other.pod_cidrs, other.addresses, strict=True)
        }

    def expect_routes(self, wanted: dict[str, set[Told]], *, timeout_s: float = 10) -> None:
        """Wait until these nodes hold exactly these routes."""
        deadline = time.monotonic() + timeout_s * slowness()
        for node, routes in wanted.items():
            while (found := self.routes(node)) != routes:
                assert time.monotonic() < deadline, self._difference(node, routes, found)
                time.sleep(0.05)

    def _difference(self, node: str, wanted: set[Told], found: set[Told]) -> str:
        words = [f"lacks {route.destination} by {route.hops}" for route in sorted(wanted - found)]
        words += [f"has {route.destination} by {route.hops}" for route in sorted(found - wanted)]
        return f"{node} {'; '.join(words)}; its log ends with:\n{self.lab.agent(node).last_words(30)}"

    def expect_mesh(self, *nodes: str, timeout_s: float = 15) -> None:
        """Wait until these nodes, or all, hold the routes of the whole mesh."""
        self.expect_routes({node: self.mesh_routes(node) for node in nodes or self.nodes}, timeout_s=timeout_s)

    def expect_every_pod_reaches_every_other(self) -> None:
        """See that all connections between pods are made, in both families."""
        table = "\n".join([" ".join(["", *self.pods]), *(" ".join([pod, *"." * len(self.pods)]) for pod in self.pods)])
        self.reach.expect("80/tcp", table)
        self.reach.expect("53/udp", table)

    def overlay(self, node: str) -> list[str]:
        """Return the lines of all that a node's overlay and policy routing consist of, sorted."""
        text = self.run(
            node,
            "ip rule; ip -6 rule; ip route show table 77 2>/dev/null; ip -6 route show table 77 2>/dev/null;"
            "ip route show proto 75; ip -6 route show proto 75;"
            "for d in $(ls /sys/class/net | grep -e ^kube-vxlan -e ^tun-); do"
            " ip neigh show dev $d nud permanent; bridge fdb show dev $d;"
            " ip link show $d | grep -o 'mtu.*state UNK'; done",
        )
        return sorted(text.splitlines())

    def cni(self, node: str) -> Json:
        """Return a node's CNI configuration."""
        read: Json = json.loads(self.lab.agent(node).cni.read_text())
        return read

    def pings(self, source: str, target: str, *, family: int, size: int) -> bool:
        """Return whether an echo with so much data gets from pod to pod in one piece, and back."""
        addresses = self.reach.address(source, family), self.reach.address(target, family)
        return pings(self.lab.machines.namespace_of(source), *addresses, size=size)

    @contextmanager
    def probing(self, *pairs: tuple[str, str]) -> Iterator["Probing"]:
        """Let pods ask each other all the time, in both families, while the block runs."""
        probing = Probing()
        for source, target in pairs:
            for family in (4, 6):
                address = self.reach.address(target, family)
                probing.start(self.lab.machines.namespace_of(source), f"{source}-{target}-{family}", address)
        try:
            yield probing
        finally:
            probing.stop()


class Probing:
    """Threads that ask UDP servers about a hundred times a second. A question whose answer does not come is lost."""

    def __init__(self) -> None:
        self.answered: dict[str, int] = {}
        self.lost: dict[str, list[float]] = {}  # when, in seconds since the start
        self._began = time.monotonic()
        self._end = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, namespace: str, name: str, address: str) -> None:
        self.answered[name], self.lost[name] = 0, []
        thread = threading.Thread(target=netns.run_in, args=(namespace, partial(self._ask, name, address)), daemon=True)
        thread.start()
        self._threads.append(thread)

    def stop(self) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()

    def _ask(self, name: str, address: str) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        while not self._end.is_set():
            with socket.socket(family, socket.SOCK_DGRAM) as client:
                client.settimeout(ANSWER_S * slowness())
                began = time.monotonic() - self._began
                try:
                    client.connect((address, 53))
                    client.send(b"who\n")
                    client.recv(100)
                    self.answered[name] += 1
                except OSError:
                    self.lost[name].append(round(began, 2))
            self._end.wait(BETWEEN_S)


@contextmanager
def routed(
    name: str, *flags: str, nodes: int = 3, subnets: int = 1, agents: bool = True, objects: Sequence[Json] = ()
) -> Iterator[Routed]:
    """Run the lab for the block, its agents with these flags. ``objects`` are there besides its pods."""
    plan = cluster.new_lab(
        f"{name}{os.getpid()}",
        nodes=nodes,
        subnets=subnets,
        families=(IPV4, IPV6),
        plugins=("routing",),
        agent_args=("--health-port=0", *flags),
    )
    lab = cluster.Cluster.up(plan, [*world(nodes), *objects], agents=agents)
    try:
        yield Routed(lab)
    finally:
        cluster.down(plan.name)
