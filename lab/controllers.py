"""Derive the cluster's objects from what somebody wrote: the lab's controllers in one pure function.

What is written (Deployments, Pods, Services, Nodes, policies) plus what was given out before (``Allocations``) becomes
what an API server would show after all controllers have done their work. Calling it again with its own allocations
and the same objects changes nothing. Kinds the lab knows nothing of pass through as they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kube_router.events.errors import Problem
from kube_router.lab.allocate import Allocations, Pool
from kube_router.lab.objects import Json, items, key, kind, labels, namespace, of_kind, text, tree
from kube_router.lab.services import needs_slices, serve
from kube_router.lab.slices import ZONE, slices_of
from kube_router.lab.topology import LabNode, LabPod, Topology
from kube_router.lab.workloads import REPLICATED, bind, expand, give_addresses, lab_pod, with_status

CONSUMED = (*REPLICATED, "DaemonSet", "Pod", "Service", "Node", "Namespace")
NAMESPACED = ("NetworkPolicy", "EndpointSlice")
HOSTNAME = "kubernetes.io/hostname"
NAME_LABEL = "kubernetes.io/metadata.name"


@dataclass(frozen=True, slots=True)
class Derived:
    """What the controllers made: all objects, the pods that run, what was given out, what could not be."""

    objects: tuple[Json, ...]
    pods: tuple[LabPod, ...]
    allocations: Allocations
    problems: tuple[Problem, ...]


def derive(objects: Sequence[Json], topology: Topology, before: Allocations) -> Derived:
    """Return the whole cluster."""
    problems: list[Problem] = []
    written = [obj for obj in objects if _is_usable(obj, problems)]
    nodes = {node.name: _node(node, written) for node in topology.nodes}
    lab_nodes = {node.name: node for node in topology.nodes}

    ips, ports, pod_ips = (
        Pool(before.cluster_ips),
        Pool({name: str(port) for name, port in before.node_ports.items()}),
        Pool(before.pod_ips),
    )
    services = serve(
        list(of_kind(written, "Service")), offered=topology.families, ips=ips, ports=ports, problems=problems
    )
    wanted = expand(written, lab_nodes, problems)
    bound = bind(wanted, nodes, before.pod_nodes, problems)
    pods = _running(wanted, bound, lab_nodes, pod_ips, problems)

    zones = {name: labels(node, "metadata", "labels").get(ZONE, "") for name, node in nodes.items()}
    slices = [part for service in services if needs_slices(service) for part in slices_of(service, pods, zones)]
    others = [_in_namespace(obj) for obj in written if kind(obj) not in CONSUMED]
    inhabited = [*pods, *services, *(obj for obj in others if text(obj, "metadata", "namespace"))]
    return Derived(
        objects=(*nodes.values(), *_namespaces(written, inhabited), *pods, *services, *others, *slices),
        pods=tuple(pod for pod in map(lab_pod, pods) if pod is not None),
        allocations=Allocations(
            cluster_ips=ips.given,
            node_ports={name: int(port) for name, port in ports.given.items()},
            pod_nodes=bound,
            pod_ips=pod_ips.given,
        ),
        problems=tuple(problems),
    )


def node_manifests(objects: Sequence[Json]) -> dict[str, list[str]]:
    """Return the Nodes that are written down, with the pod CIDRs they ask for."""
    return {
        text(node, "metadata", "name"): [cidr for cidr in items(node, "spec", "podCIDRs") if isinstance(cidr, str)]
        for node in of_kind(objects, "Node")
    }


def _is_usable(obj: Json, problems: list[Problem]) -> bool:
    if kind(obj) and text(obj, "metadata", "name"):
        return True
    problems.append(Problem(kind(obj) or "object", key(obj), "has no kind or no metadata.name; left out"))
    return False


def _running(
    wanted: Sequence[Json],
    bound: Mapping[str, str],
    nodes: Mapping[str, LabNode],
    pool: Pool,
    problems: list[Problem],
) -> list[Json]:
    ips = give_addresses(wanted, bound, nodes, pool, problems)
    return [
        with_status(pod, node=nodes.get(bound.get(key(pod), "")), ips=ips.get(key(pod), ()))
        for pod in sorted(wanted, key=key)
    ]


def _node(node: LabNode, written: Sequence[Json]) -> Json:
    """Return the Node object: what is written of it, with the addresses and pod CIDRs it really has."""
    own = next((obj for obj in of_kind(written, "Node") if text(obj, "metadata", "name") == node.name), {})
    metadata = dict(tree(own, "metadata"))
    metadata |= {"name": node.name, "labels": {HOSTNAME: node.name, **labels(own, "metadata", "labels")}}
    spec = {**tree(own, "spec"), "podCIDR": node.pod_cidrs[0], "podCIDRs": list(node.pod_cidrs)}
    addresses = [{"type": "InternalIP", "address": address} for address in node.addresses]
    addresses.append({"type": "Hostname", "address": node.name})
    status = {**tree(own, "status"), "addresses": addresses}
    status.setdefault("conditions", [{"type": "Ready", "status": "True"}])
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": spec, "status": status}


def _namespaces(written: Sequence[Json], inhabited: Sequence[Json]) -> list[Json]:
    """Return the Namespaces that are written down and those that something is in, with the label the API gives."""
    found = {text(obj, "metadata", "name"): obj for obj in of_kind(written, "Namespace")}
    for name in sorted({namespace(obj) for obj in inhabited}):
        found.setdefault(name, {})
    result: list[Json] = []
    for name, obj in found.items():
        metadata = {**tree(obj, "metadata"), "name": name}
        metadata["labels"] = {**labels(obj, "metadata", "labels"), NAME_LABEL: name}
        result.append({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    return result


def _in_namespace(obj: Json) -> Json:
    """Return an object in a namespace if its kind has them; of a kind unknown here nobody can tell."""
    if kind(obj) not in NAMESPACED:
        return obj
    return {**obj, "metadata": {**tree(obj, "metadata"), "namespace": namespace(obj)}}
