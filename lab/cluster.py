"""A whole cluster on this machine, driven by manifests: the lab in its *folder* mode.

The controllers (controllers.py) derive what an API server would hold; it is written as manifests that the agents
watch. A change goes the way it goes in a cluster: new pods run first, then the objects say so, then old pods stop.
"""

import dataclasses
import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Any

from msgspec.structs import replace

from kube_router.events.errors import ConfigError, KernelError, PeerError, Problem
from kube_router.lab import machine, machines, netns, probe
from kube_router.lab.agents import Agent
from kube_router.lab.controllers import Derived, derive, node_manifests
from kube_router.lab.manifests import Folder, merge, read
from kube_router.lab.objects import Json, items, key, kind, of_kind
from kube_router.lab.store import Lab, LabFolder
from kube_router.lab.topology import IPV4, Topology, node_names, plan_topology, prefix
from kube_router.lab.workloads import REPLICATED, lab_pod

READY_TIMEOUT_S = 60
SLOWNESS_IN_VM = 5
POLL_S = 0.1
Say = Callable[[str], object]


def new_lab(
    name: str,
    objects: Sequence[Json] = (),
    *,
    nodes: int = 1,
    subnets: int = 1,
    families: Sequence[str] = (IPV4,),
    plugins: Sequence[str] | None = None,
    agent_args: Sequence[str] = (),
    routes: bool | None = None,
    kubeconfig: str = "",
) -> Lab:
    """Return a lab to be built. Node manifests, where there are any, say which nodes there are; else ``nodes`` does.

    ``routes``: static ones to other nodes' pods; by default where the agents do not run the routing plugin.
    """
    written = node_manifests(objects)
    return Lab(
        name=name,
        nodes=tuple(written) or node_names(nodes),
        subnets=subnets,
        families=tuple(families),
        pod_cidrs={node: tuple(cidrs) for node, cidrs in written.items() if cidrs},
        routes=plugins is not None and "routing" not in plugins if routes is None else routes,
        kubeconfig=kubeconfig,
        plugins=None if plugins is None else tuple(plugins),
        agent_args=tuple(agent_args),
    )


def topology_of(lab: Lab) -> Topology:
    """Return the machines a lab is made of."""
    return plan_topology(lab.name, lab.nodes, subnets=lab.subnets, families=lab.families, cidrs=lab.pod_cidrs)


class Cluster:
    """A running lab. ``say`` is told what happens, in one line each."""

    def __init__(self, lab: Lab, *, say: Say = lambda line: None) -> None:
        self.lab, self.say = lab, say
        self.folder = LabFolder(lab.name)
        self.topology = topology_of(lab)
        self._written = self.folder.written()
        self._derived = self._mirrored() if lab.kubeconfig else derive(self._written, self.topology, lab.allocations)
        self.machines = machines.Machines(self.topology, self.folder, self._derived.pods)
        self.agents = {node.name: self._agent(node.name) for node in self.topology.nodes}

    @classmethod
    def open(cls, name: str, *, say: Say = lambda line: None) -> "Cluster":
        """Return a lab that is there. ConfigError if there is none of that name."""
        return cls(LabFolder(name).load(), say=say)

    @classmethod
    def up(cls, lab: Lab, objects: Sequence[Json], *, agents: bool = True, say: Say = lambda line: None) -> "Cluster":
        """Build a lab, start its pods and agents. ConfigError if one of that name is there already."""
        check_machine()
        if why := machine.filter_bridged_packets():
            say(f"pods of one node cannot reach each other through a Service: {why}")
        folder = LabFolder(lab.name)
        if folder.exists:
            raise ConfigError(f"lab {lab.name} is there already: kr lab apply changes it, kr lab down removes it")
        machines.demolish(lab.name)
        folder.save(lab)
        cluster = cls(lab, say=say)
        try:
            cluster.machines.build(routes=lab.routes)
            say(f"{len(lab.nodes)} nodes on {len(cluster.topology.subnets)} subnet(s)")
            if lab.kubeconfig:
                return cluster
            derived = cluster._derive(merge((), objects))
            Folder(folder.manifests).write(derived.objects)
            if agents:  # they take longest to start: pods are plugged in while they do
                cluster.start_agents(wait=False)
            cluster._report(derived, cluster.machines.start_pods(derived.pods))
            say(f"{len(derived.pods)} pods")
            if agents:
                cluster.start_agents()
        except BaseException:
            down(lab.name)
            raise
        return cluster

    # -- objects -------------------------------------------------------------------------------------------------------

    @property
    def objects(self) -> tuple[Json, ...]:
        """What the "API server" holds."""
        return self._derived.objects

    def _mirrored(self) -> Derived:
        """Return what the lab's kubelet has last seen of the real API server."""
        objects = tuple(read([self.folder.manifests])) if self.folder.manifests.is_dir() else ()
        pods = tuple(pod for pod in map(lab_pod, of_kind(objects, "Pod")) if pod is not None)
        return Derived(objects, pods, self.lab.allocations, ())

    def apply(self, objects: Sequence[Json]) -> Derived:
        """Add or replace objects, as ``kubectl apply`` does."""
        return self._become(merge(self._written, objects))

    def delete(self, what: str, name: str) -> Derived:
        """Remove an object that was written. ConfigError if there is none."""
        full = name if "/" in name or what.lower() in ("node", "namespace") else f"default/{name}"
        left = [obj for obj in self._written if (kind(obj).lower(), key(obj)) != (what.lower(), full)]
        if len(left) == len(self._written):
            raise ConfigError(f"no {what} {full} was written; kr lab status lists what there is")
        return self._become(left)

    def scale(self, name: str, replicas: int) -> Derived:
        """Set the replicas of a Deployment, ReplicaSet or StatefulSet. ConfigError if there is none of that name."""
        full = name if "/" in name else f"default/{name}"
        found = [obj for obj in self._written if kind(obj) in REPLICATED and key(obj) == full]
        if not found:
            raise ConfigError(f"there is no Deployment {full}")
        return self.apply([{**obj, "spec": {**obj["spec"], "replicas": replicas}} for obj in found])

    def _become(self, written: list[Json]) -> Derived:
        """Let the written objects be these: new pods run, then the objects say so, then old pods stop."""
        derived = self._derive(written)
        problems = self.machines.start_pods(derived.pods)
        Folder(self.folder.manifests).write(derived.objects)
        self.machines.stop_pods_but(derived.pods)
        self._report(derived, problems)
        return derived

    def _derive(self, written: list[Json]) -> Derived:
        """Derive, and remember what was written and what was given out."""
        if self.lab.kubeconfig:
            raise ConfigError(
                f"lab {self.lab.name} has a real API server: use kubectl --kubeconfig {self.lab.kubeconfig}"
            )
        self._written = written
        self._derived = derive(written, self.topology, self.lab.allocations)
        self.lab = replace(self.lab, allocations=self._derived.allocations)
        self.folder.save(self.lab)
        self.folder.save_written(written)
        return self._derived

    def _report(self, derived: Derived, problems: Sequence[str]) -> None:
        for problem in [*derived.problems, *(Problem("Pod", "server", text) for text in problems)]:
            self.say(f"problem: {problem}")

    # -- agents --------------------------------------------------------------------------------------------------------

    def _agent(self, node: str) -> Agent:
        lab = self.lab
        source = f"--kubeconfig={lab.kubeconfig}" if lab.kubeconfig else f"--manifests={self.folder.manifests}"
        return Agent(
            node=node,
            namespace=self.topology.namespace(node),
            folder=self.folder.node(node),
            source=(source,),
            plugins=lab.plugins,
            extra=lab.agent_args,
        )

    def agent(self, node: str) -> Agent:
        """Return a node's agent. ConfigError for a node that is none."""
        self.topology.node(node)
        return self.agents[node]

    def start_agents(self, *, wait: bool = True) -> None:
        """Start the agents that do not run, all at once, and wait until each has done its first work."""
        for agent in self.agents.values():
            agent.start()
        if wait:
            for agent in self.agents.values():
                self.wait_for_agent(agent.node)

    def kill_agent(self, node: str) -> None:
        """End a node's agent with -9."""
        self.agent(node).stop(signal.SIGKILL)

    def wait_for_agent(self, node: str, *, timeout_s: float = READY_TIMEOUT_S) -> dict[str, Any]:
        """Return a node's status once all its plugins have reconciled. KernelError, with its log, if not in time."""
        agent = self.agent(node)
        deadline = time.monotonic() + timeout_s * slowness()
        while time.monotonic() < deadline:
            if not agent.pid():
                raise KernelError(f"the agent of {node} has ended: {agent.last_words()}")
            try:
                status = agent.status()
            except PeerError:  # it is starting
                status = {}
            plugins = status.get("plugins", [])
            if status and all(plugin.get("reconciles", 0) > 0 for plugin in plugins):
                return status
            time.sleep(POLL_S)
        raise KernelError(f"the agent of {node} did no work within {timeout_s * slowness():g} s: {agent.last_words()}")

    # -- traffic -------------------------------------------------------------------------------------------------------

    def probe(self, place: str, target: str, *, count: int = 1, question: str = "who") -> probe.Counts:
        """Return who answers at ``HOST:PORT[/PROTOCOL]``, asked from ``outside``, a node or a pod.

        HOST is an address or the name of a Service (its first cluster IP), a node or a pod.
        """
        where = probe.target(target)
        where = dataclasses.replace(where, address=self.address_of(where.address))
        return probe.probe(where, count=count, namespace=self.machines.namespace_of(place), question=question)

    def address_of(self, host: str) -> str:
        """Return the address of a Service, node or pod by its name; an address is returned as it is."""
        if is_address(host):
            return host
        full = host if "/" in host else f"default/{host}"
        for service in of_kind(self.objects, "Service"):
            if key(service) == full and (ips := items(service, "spec", "clusterIPs")) and is_address(ips[0]):
                return str(ips[0])
        if full in self.machines.pods:
            return self.machines.pods[full].ips[0]
        return self.topology.node(host).addresses[0]


def is_address(text: str) -> bool:
    """Tell whether a text is an IP address."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def slowness() -> int:
    """Return the factor for waits: an emulated CPU takes its time."""
    return SLOWNESS_IN_VM if machine.in_vm() else 1


def check_machine() -> None:
    """Raise ConfigError, with what to do, where no lab can be built."""
    if os.geteuid() != 0:
        raise ConfigError("the lab makes network namespaces and needs root: run it through sudo")
    if missing := machine.missing_tools(machine.LAB_TOOLS):
        raise ConfigError(f"the lab needs {', '.join(missing)}: {machine.install_line(missing)}")


def down(name: str) -> int:
    """Remove a lab, also one half built or half removed; return how many namespaces there were."""
    folder = LabFolder(name)
    count = machines.demolish(name)
    leftovers = [left for left in sorted(netns.names()) if left.startswith(prefix(name))]
    if leftovers:
        raise KernelError(
            f"could not remove {', '.join(leftovers)}: try again, or see who holds them: ip netns pids NAME"
        )
    shutil.rmtree(folder.path, ignore_errors=True)
    return count
