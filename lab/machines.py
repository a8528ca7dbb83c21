"""The machines of a lab: namespaces, cables, pods and the process that serves for all pods.

Building is three batches of ``ip`` (namespaces, cables, then one for each namespace), for a process started costs more
than what it does. Removing needs no memory: what is ours begins with the lab's prefix, and the processes to be ended
are those inside.
"""

import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence

from kube_router.events.errors import ConfigError, KernelError
from kube_router.lab import fabric, netns, servers
from kube_router.lab.agents import spawn
from kube_router.lab.store import LabFolder
from kube_router.lab.topology import LabPod, Topology, pod_interface, prefix

COMMAND_TIMEOUT_S = 120


class Machines:
    """A lab's machines. ``pods`` are those that run now."""

    def __init__(self, topology: Topology, folder: LabFolder, pods: Iterable[LabPod] = ()) -> None:
        self.topology, self.folder = topology, folder
        there = netns.names()
        self.pods = {pod.key: pod for pod in pods if topology.pod_namespace(pod) in there}

    def build(self, *, routes: bool) -> None:
        """Make everything but the pods. KernelError names the line of ``ip`` that failed."""
        topology = self.topology
        spaces = fabric.namespaces(topology)
        netns.add(spaces)
        log = self.folder.path / "servers.log"
        spawn([sys.executable, "-m", "kube_router.lab.servers", str(self.folder.servers), topology.fabric], log=log)
        forwarding = [topology.fabric, *(topology.namespace(node.name) for node in topology.nodes)]
        for name in spaces:
            values = fabric.COMMON | (fabric.FORWARDING if name in forwarding else {})
            netns.run_in(name, _writer(values))
        run(fabric.cables(topology))
        run(fabric.fabric_step(topology, routes=routes))
        run(fabric.outside_step(topology))
        for node in topology.nodes:
            run(fabric.node_step(topology, node, routes=routes))

    # -- pods ----------------------------------------------------------------------------------------------------------

    def start_pods(self, wanted: Sequence[LabPod]) -> list[str]:
        """Start what is not running as wanted; return in words what cannot be served. Other pods go on."""
        changed = [pod for pod in wanted if _place(self.pods.get(pod.key)) != _place(pod)]
        self._unplug([self.pods[pod.key] for pod in changed if pod.key in self.pods])
        self._plug([pod for pod in changed if not pod.host_network])
        self.pods |= {pod.key: pod for pod in wanted}
        return self._serve()

    def stop_pods_but(self, wanted: Iterable[LabPod]) -> None:
        """Stop all pods that are not wanted."""
        keys = {pod.key for pod in wanted}
        gone = [pod for key, pod in self.pods.items() if key not in keys]
        for pod in gone:
            del self.pods[pod.key]
        if gone:
            self._serve()
            self._unplug(gone)

    def _plug(self, pods: Sequence[LabPod]) -> None:
        topology = self.topology
        spaces = [topology.pod_namespace(pod) for pod in pods]
        netns.add(spaces)
        for name in spaces:
            netns.run_in(name, _writer(fabric.COMMON))
        run(fabric.pod_cables(topology, pods))
        for node in topology.nodes:
            run(fabric.pod_ports_step(topology, node.name, [pod for pod in pods if pod.node == node.name]))
        for pod in pods:
            run(fabric.pod_step(topology, pod))

    def _unplug(self, pods: Sequence[LabPod]) -> None:
        """Remove pods' namespaces. The cables go first: the kernel takes its time to remove a namespace."""
        own = [pod for pod in pods if not pod.host_network]
        for node in self.topology.nodes:
            ends = [f"link del {pod_interface(pod.key)}" for pod in own if pod.node == node.name]
            netns.ip_batch(ends, namespace=self.topology.namespace(node.name))
        spaces = [self.topology.pod_namespace(pod) for pod in own]
        netns.end(netns.processes_in(spaces))
        netns.remove(spaces)

    def _serve(self) -> list[str]:
        rows = [(self.topology.pod_namespace(pod), pod.key, pod.ports) for pod in self.pods.values()]
        try:
            return servers.ask(self.folder.servers, servers.listeners(rows))
        except OSError as error:
            log = self.folder.path / "servers.log"
            raise KernelError(f"the pods' servers do not answer: {error}; see {log}") from error

    # -- names ---------------------------------------------------------------------------------------------------------

    def namespace_of(self, place: str) -> str:
        """Return the namespace of ``outside``, a node, or a pod (``default`` may be left out). ConfigError if none."""
        if place == "outside":
            return self.topology.outside
        if place in {node.name for node in self.topology.nodes}:
            return self.topology.namespace(place)
        pod = self.pods.get(place if "/" in place else f"default/{place}")
        if pod is not None:
            return self.topology.pod_namespace(pod)
        there = ["outside", *(node.name for node in self.topology.nodes), *map(servers.spoken_name, sorted(self.pods))]
        raise ConfigError(f"lab {self.topology.lab} has no {place}; there are {', '.join(there)}")

    def run(self, place: str, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Return the ended command, which ran in a place for at most COMMAND_TIMEOUT_S. Its status is not judged."""
        argv = ["ip", "netns", "exec", self.namespace_of(place), *command]
        return subprocess.run(argv, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False)


def run(step: fabric.Step) -> None:
    """Apply one step of a lab's building."""
    netns.ip_batch(step.lines, namespace=step.namespace)


def demolish(lab: str) -> int:
    """Remove all namespaces of a lab and the processes in them; return how many namespaces there were."""
    ours = sorted(name for name in netns.names() if name.startswith(prefix(lab)))
    netns.end(netns.processes_in(ours))
    netns.remove(ours)
    return len(ours)


def _place(pod: LabPod | None) -> tuple[object, ...] | None:
    """Return what of a pod cannot change while it runs."""
    return None if pod is None else (pod.node, pod.ips, pod.host_network)


def _writer(values: Mapping[str, str]) -> Callable[[], None]:
    def write() -> None:
        netns.write_sysctls(values)

    return write
