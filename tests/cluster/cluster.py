"""A whole Kubernetes cluster on this machine: a control plane and nodes with real kubelets (I/O).

    with Cluster(nodes=2) as cluster:
        cluster.kubectl("get", "nodes")

As root. One in a process; nothing is left when it ends.
"""

import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cluster import cgroups, fabric
from cluster.controlplane import ClusterControlPlane
from cluster.layout import Seat
from cluster.node import Node
from harness.started import Started


class Cluster(Started):
    """Starts on entering the context, is gone on leaving it. ``slowness`` is the factor for what its nodes do."""

    slowness = 1

    def __init__(self, *, nodes: int = 2) -> None:
        self.seats = tuple(Seat(number) for number in range(1, nodes + 1))
        self.folder = Path(tempfile.mkdtemp(prefix="kr-cluster-"))
        self.plane = ClusterControlPlane(self.seats)
        self._foreign_cgroups = cgroups.folders()
        self._with_kube_proxy = False
        self.nodes: dict[str, Node] = {}

    def start(self) -> None:
        """Start everything; return when the kubelets run. Nodes are not ready before they have a network."""
        fabric.sweep()
        fabric.lay()
        self.plane.start()
        self._start_nodes()

    def _start_nodes(self) -> None:
        for seat in self.seats:
            token, ca_file = self.plane.node_tokens[seat.name], self.plane.access.ca_file
            self.nodes[seat.name] = Node(seat, self.folder / seat.name, token=token, ca_file=ca_file)
            fabric.plug(seat)
            self.nodes[seat.name].install()
            self.nodes[seat.name].start()

    def close(self) -> None:
        """Stop everything, remove all of it."""
        for node in self.nodes.values():
            node.power_off()
        self.plane.close()
        for seat in self.seats:
            fabric.unplug(seat)
        fabric.remove()
        cgroups.remove(self._foreign_cgroups)
        shutil.rmtree(self.folder, ignore_errors=True)

    def load(self, archives: Sequence[Path]) -> None:
        """Import images on every node, all nodes at once."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda node: [node.load(archive) for archive in archives], self.nodes.values()))

    def start_kube_proxies(self) -> None:
        """Serve Services on every node by kube-proxy, where this machine's kernel has no IPVS."""
        self._with_kube_proxy = True
        for node in self.nodes.values():
            node.start_kube_proxy(self.plane.proxy_token)

    def power_off(self, name: str) -> None:
        """Take a node's power away: every process and the network are gone, the disk stays."""
        self.nodes[name].power_off()
        fabric.unplug(self.nodes[name].seat)

    def power_on(self, name: str) -> None:
        """Let a node boot again, over the disk that it had."""
        fabric.plug(self.nodes[name].seat)
        self.nodes[name].start()
        if self._with_kube_proxy:
            self.nodes[name].start_kube_proxy(self.plane.proxy_token)

    def run_on(self, name: str, *argv: str) -> str:
        """Return what a command prints on a node, as its root. CalledProcessError with its words."""
        return self.nodes[name].run(*argv).stdout

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """Return what kubectl prints; subprocess.CalledProcessError, with its words, if it fails."""
        return self.plane.kubectl(*arguments, stdin=stdin)
