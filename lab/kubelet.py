"""The lab against a real control plane: it registers its nodes and plays kubelet (and scheduler) for them.

    python -m kube_router.lab.kubelet LAB

``up`` creates the Node objects and waits for the podCIDRs of the real controllers; this process then binds pods that
nobody has bound, starts those bound to its nodes, patches their status, and finishes the deletion of those that go.
EndpointSlices are the real controllers'. It looks every half second rather than watches: a lab has few pods. What it
sees is mirrored into the lab's manifests folder, for ``kr lab status`` and ``probe``; agents read the API server.
"""

import json
import logging
import sys
import time
from collections.abc import Sequence
from functools import partial

import anyio
import anyio.to_thread
from msgspec.structs import replace

from kube_router.events.errors import KubeRouterError, PeerError, Problem
from kube_router.lab import cluster, machines, relay
from kube_router.lab.agents import spawn
from kube_router.lab.allocate import Pool
from kube_router.lab.apiclient import ApiClient
from kube_router.lab.manifests import Folder
from kube_router.lab.objects import Json, items, key, text, tree
from kube_router.lab.store import Lab, LabFolder
from kube_router.lab.topology import LabNode, Topology, family_of
from kube_router.lab.workloads import bind, give_addresses, lab_pod, with_status

logger = logging.getLogger(__name__)

POLL_S = 0.5
PROBLEM_POLL_S = 3.0
CIDR_TIMEOUT_S = 15
READY = [{"type": kind, "status": "True"} for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")]


def up(lab: Lab, *, agents: bool, say: cluster.Say) -> cluster.Cluster:
    """Build a lab of a real cluster's nodes. PeerError if its API server does not do as it should."""
    cluster.check_machine()
    api = ApiClient(lab.kubeconfig)
    topology = cluster.topology_of(lab)
    for node in topology.nodes:
        api.create("/api/v1/nodes", _node(node))
    lab = replace(lab, pod_cidrs=_pod_cidrs(api, topology, say))
    built = cluster.Cluster.up(lab, (), agents=False, say=say)
    for node in built.topology.nodes:
        api.patch(f"/api/v1/nodes/{node.name}/status", {"status": _node_status(node)})
    spawn([sys.executable, "-m", "kube_router.lab.kubelet", lab.name], log=built.folder.path / "kubelet.log")
    if agents:
        built.start_agents()
    return built


def _node(node: LabNode) -> Json:
    metadata = {"name": node.name, "labels": {"kubernetes.io/hostname": node.name}}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata}


def _node_status(node: LabNode) -> Json:
    addresses = [{"type": "InternalIP", "address": address} for address in node.addresses]
    addresses.append({"type": "Hostname", "address": node.name})
    return {"addresses": addresses, "conditions": [{"type": "Ready", "status": "True", "reason": "Lab"}]}


def _pod_cidrs(api: ApiClient, topology: Topology, say: cluster.Say) -> dict[str, tuple[str, ...]]:
    """Return the nodes' pod CIDRs: the controller manager's, or our own where none gives any in time."""
    found: dict[str, tuple[str, ...]] = {}
    deadline = time.monotonic() + CIDR_TIMEOUT_S
    while len(found) < len(topology.nodes) and time.monotonic() < deadline:
        for node in topology.nodes:
            if cidrs := items(api.get(f"/api/v1/nodes/{node.name}"), "spec", "podCIDRs"):
                found[node.name] = tuple(str(cidr) for cidr in cidrs if family_of(str(cidr)) in topology.families)
        time.sleep(POLL_S)
    for node in topology.nodes:
        if node.name not in found:
            say(f"no controller gave {node.name} a pod CIDR; it gets {', '.join(node.pod_cidrs)}")
            spec = {"podCIDR": node.pod_cidrs[0], "podCIDRs": list(node.pod_cidrs)}
            api.patch(f"/api/v1/nodes/{node.name}", {"spec": spec})
            found[node.name] = node.pod_cidrs
    return found


class Kubelet:
    """Plays kubelet for all nodes of a lab."""

    def __init__(self, lab: Lab, api: ApiClient) -> None:
        self.api, self.topology = api, cluster.topology_of(lab)
        folder = LabFolder(lab.name)
        self.machines = machines.Machines(self.topology, folder)
        self.mirror = Folder(folder.manifests)
        self.nodes = {node.name: node for node in self.topology.nodes}
        self._told: set[str] = set()

    def look(self) -> None:
        """Do once what has to be done. PeerError if the API server refuses."""
        pods = [pod | {"kind": "Pod", "apiVersion": "v1"} for pod in self._list("/api/v1/pods")]
        services = [one | {"kind": "Service", "apiVersion": "v1"} for one in self._list("/api/v1/services")]
        problems: list[Problem] = []
        self._bind(pods, problems)
        ours = [pod for pod in pods if text(pod, "spec", "nodeName") in self.nodes]
        for pod in ours:
            if text(pod, "metadata", "deletionTimestamp"):
                self.api.delete(_path(pod))
        staying = [pod for pod in ours if not text(pod, "metadata", "deletionTimestamp")]
        running = self._with_addresses(staying, problems)
        lab_pods = [pod for pod in map(lab_pod, running) if pod is not None]
        words = self.machines.start_pods(lab_pods)
        for before, after in zip(staying, running, strict=True):
            self._patch(before, after)
        self.machines.stop_pods_but(lab_pods)
        self.mirror.write([*running, *services])
        self._tell([*map(str, problems), *words])

    def _list(self, path: str) -> list[Json]:
        return [one for one in items(self.api.get(path), "items") if isinstance(one, dict)]

    def _bind(self, pods: Sequence[Json], problems: list[Problem]) -> None:
        """Bind pods that nobody has bound, as the scheduler would, and note it in them."""
        nodes: dict[str, Json] = {name: _node(node) for name, node in self.nodes.items()}
        loose = [pod for pod in pods if not text(pod, "spec", "nodeName")]
        placed = [pod for pod in pods if text(pod, "spec", "nodeName") in nodes]
        bound = bind([*placed, *loose], nodes, {}, problems)
        for pod in loose:
            if node := bound.get(key(pod)):
                target = {"apiVersion": "v1", "kind": "Node", "name": node}
                metadata = {"name": text(pod, "metadata", "name")}
                self.api.create(
                    f"{_path(pod)}/binding",
                    {"apiVersion": "v1", "kind": "Binding", "metadata": metadata, "target": target},
                )
                pod["spec"] = {**tree(pod, "spec"), "nodeName": node}

    def _with_addresses(self, pods: Sequence[Json], problems: list[Problem]) -> list[Json]:
        """Return the pods as they will be: the addresses they have, new ones for those that have none."""
        before = {
            f"{key(pod)} {'IPv6' if ':' in ip else 'IPv4'}": ip
            for pod in pods
            for ip in (text(one, "ip") for one in items(pod, "status", "podIPs"))
        }
        bound = {key(pod): text(pod, "spec", "nodeName") for pod in pods}
        ips = give_addresses(pods, bound, self.nodes, Pool(before), problems)
        fresh = [{**pod, "status": {}} for pod in pods]
        return [with_status(pod, node=self.nodes[bound[key(pod)]], ips=ips.get(key(pod), ())) for pod in fresh]

    def _patch(self, before: Json, after: Json) -> None:
        """Tell the API server of a pod's new status. A pod that somebody made unready by hand is left so."""
        if items(before, "status", "podIPs") == items(after, "status", "podIPs"):
            return
        status = {**after["status"], "conditions": READY}
        self.api.patch(f"{_path(before)}/status", {"status": status})
        logger.warning("pod_running pod=%s ips=%s", key(before), json.dumps(status.get("podIPs", [])))

    def _tell(self, problems: Sequence[str]) -> None:
        """Log each problem once for as long as it stands."""
        for problem in problems:
            if problem not in self._told:
                logger.warning("problem text=%r", problem)
        self._told = set(problems)


def _path(pod: Json) -> str:
    namespace, _, name = key(pod).partition("/")
    return f"/api/v1/namespaces/{namespace}/pods/{name}"


async def _serve(kubelet: Kubelet, namespaces: Sequence[str]) -> None:
    server = relay.resolve(kubelet.api.host, kubelet.api.port)
    doors = relay.open_doors(server, namespaces)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(relay.carry, doors, server)
        while True:
            pause_s = POLL_S
            try:
                await anyio.to_thread.run_sync(kubelet.look)
            except PeerError as error:
                logger.warning("api_server_refused error=%r", str(error))
                pause_s = PROBLEM_POLL_S
            await anyio.sleep(pause_s)


def main(words: Sequence[str]) -> int:
    """Play kubelet for the lab named, until killed."""
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    lab = LabFolder(words[0]).load()
    try:
        kubelet = Kubelet(lab, ApiClient(lab.kubeconfig))
        namespaces = [kubelet.topology.namespace(node) for node in kubelet.nodes]
        anyio.run(partial(_serve, kubelet, namespaces))
    except KubeRouterError as error:
        logger.error("kubelet_ended error=%r", str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
