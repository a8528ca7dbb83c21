"""Deployments and their kin become Pods, Pods get a node, addresses and a status (pure).

Pods of a Deployment are called ``web-1``, ``web-2`` …: names that people can type, and the same after each derivation.
Scaling down takes the highest numbers first. The lab's kubelet has no containers to wait for: a pod with a node is
Running and Ready at once, unless its own manifest says otherwise (``status.conditions`` with Ready "False",
``status.phase``, ``metadata.deletionTimestamp``).
"""

from collections.abc import Iterable, Mapping, Sequence

from kube_router.events.errors import Problem
from kube_router.lab.allocate import POD_FIRST, Exhausted, Pool, addresses, is_in, least_loaded
from kube_router.lab.objects import Json, flag, items, key, kind, labels, namespace, number, of_kind, text, tree
from kube_router.lab.topology import LabNode, LabPod, family_of

REPLICATED = ("Deployment", "ReplicaSet", "StatefulSet")
REPLICAS_MAX = 200
PROTOCOLS = ("TCP", "UDP", "SCTP")
ENDED = ("Succeeded", "Failed")


def expand(objects: Sequence[Json], nodes: Iterable[str], problems: list[Problem]) -> list[Json]:
    """Return all pods that are wanted: those written down and those of workloads. The former win a name."""
    pods = {key(pod): pod for pod in of_kind(objects, "Pod")}
    for workload in of_kind(objects, *REPLICATED, "DaemonSet"):
        for pod in _pods_of(workload, nodes, problems):
            if key(pod) in pods:
                problems.append(
                    Problem("Pod", key(pod), f"is wanted by {kind(workload)} {key(workload)} too; left out")
                )
            else:
                pods[key(pod)] = pod
    return list(pods.values())


def _pods_of(workload: Json, nodes: Iterable[str], problems: list[Problem]) -> list[Json]:
    if kind(workload) == "DaemonSet":
        return [_pod(workload, node, node=node) for node in nodes]
    wanted = number(workload, "spec", "replicas")
    count = 1 if wanted is None else wanted
    if not 0 <= count <= REPLICAS_MAX:
        possible = min(max(count, 0), REPLICAS_MAX)
        words = f"spec.replicas: {count} is not 0-{REPLICAS_MAX}; taken as {possible}"
        problems.append(Problem(kind(workload), key(workload), words))
        count = possible
    first = 0 if kind(workload) == "StatefulSet" else 1
    return [_pod(workload, str(ordinal)) for ordinal in range(first, first + count)]


def _pod(workload: Json, suffix: str, *, node: str = "") -> Json:
    template = tree(workload, "spec", "template")
    spec = dict(tree(template, "spec"))
    if node:
        spec["nodeName"] = node
    name = f"{text(workload, 'metadata', 'name')}-{suffix}"
    metadata: Json = {"name": name, "namespace": namespace(workload), "labels": labels(template, "metadata", "labels")}
    if annotations := labels(template, "metadata", "annotations"):
        metadata["annotations"] = annotations
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def bind(
    pods: Sequence[Json], nodes: Mapping[str, Json], before: Mapping[str, str], problems: list[Problem]
) -> dict[str, str]:
    """Return the node of each pod that can have one: its own wish, where it was, else the least loaded that fits."""
    bound: dict[str, str] = {}
    load: dict[str, int] = {}

    def place(pod: Json, node: str) -> None:
        bound[key(pod)] = node
        load[node] = load.get(node, 0) + 1

    waiting = []
    for pod in pods:
        wish = text(pod, "spec", "nodeName")
        fits = _fitting(pod, nodes)
        if wish and wish not in nodes:
            problems.append(Problem("Pod", key(pod), f"spec.nodeName: there is no node {wish}; it stays Pending"))
        elif wish or before.get(key(pod)) in fits:
            place(pod, wish or before[key(pod)])
        elif fits:
            waiting.append((pod, fits))
        else:
            problems.append(Problem("Pod", key(pod), "spec.nodeSelector: no node has these labels; it stays Pending"))
    for pod, fits in waiting:
        place(pod, least_loaded(fits, load))
    return bound


def _fitting(pod: Json, nodes: Mapping[str, Json]) -> list[str]:
    selector = labels(pod, "spec", "nodeSelector")
    return [
        name
        for name, node in nodes.items()
        if all(labels(node, "metadata", "labels").get(label) == value for label, value in selector.items())
    ]


def give_addresses(
    pods: Sequence[Json], bound: Mapping[str, str], nodes: Mapping[str, LabNode], pool: Pool, problems: list[Problem]
) -> dict[str, tuple[str, ...]]:
    """Return each bound pod's addresses, one for each of its node's pod CIDRs; on the host's network the node's."""
    own = [pod for pod in pods if key(pod) in bound and not flag(pod, "spec", "hostNetwork")]
    late = []
    for pod in own:
        for cidr in nodes[bound[key(pod)]].pod_cidrs:
            name = f"{key(pod)} {family_of(cidr)}"
            if not pool.keep(name, allowed=is_in(pool.had(name), cidr)):
                late.append((pod, name, cidr))
    for pod, name, cidr in late:
        try:
            pool.give(name, addresses(cidr, POD_FIRST))
        except Exhausted:
            problems.append(Problem("Pod", key(pod), f"{cidr} has no address left; it gets none"))
    result = {}
    for pod in pods:
        if key(pod) in bound:
            node = nodes[bound[key(pod)]]
            families = [family_of(cidr) for cidr in node.pod_cidrs]
            given = (pool.given.get(f"{key(pod)} {family}") for family in families)
            host_network = flag(pod, "spec", "hostNetwork")
            result[key(pod)] = node.addresses if host_network else tuple(ip for ip in given if ip is not None)
    return result


def with_status(pod: Json, *, node: LabNode | None, ips: Sequence[str]) -> Json:
    """Return a pod as the API would show it: its node, addresses, phase and readiness."""
    written = tree(pod, "status")
    default_phase = "Running" if node is not None and ips else "Pending"
    phase = text(written, "phase") or default_phase
    conditions = items(written, "conditions") or [
        {"type": "Ready", "status": "True" if phase == "Running" else "False"}
    ]
    status: Json = {"phase": phase, "conditions": list(conditions)}
    if node is not None and ips and phase not in ENDED:
        status |= {"podIP": ips[0], "podIPs": [{"ip": ip} for ip in ips]}
        status |= {"hostIP": node.addresses[0], "hostIPs": [{"ip": ip} for ip in node.addresses]}
    elif phase in ENDED and (had := items(written, "podIPs")):  # the API shows what addresses it had
        status |= {"podIP": text(had[0], "ip"), "podIPs": list(had)}
    spec = dict(tree(pod, "spec"))
    if node is not None:
        spec["nodeName"] = node.name
    metadata = dict(tree(pod, "metadata"))
    metadata["namespace"] = namespace(pod)
    metadata.setdefault("uid", f"pod-{key(pod)}")
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}


def is_ready(pod: Mapping[str, object]) -> bool:
    """Tell whether the pod's Ready condition is True."""
    found = (one for one in items(pod, "status", "conditions") if text(one, "type") == "Ready")
    return any(text(one, "status") == "True" for one in found)


def lab_pod(pod: Json) -> LabPod | None:
    """Return a pod as the lab runs it, None for one that does not run (yet, or any more)."""
    ips = tuple(text(one, "ip") for one in items(pod, "status", "podIPs"))
    if not ips or text(pod, "status", "phase") in ENDED:
        return None
    return LabPod(
        key=key(pod),
        node=text(pod, "spec", "nodeName"),
        ips=ips,
        ports=tuple(served_ports(pod)),
        host_network=flag(pod, "spec", "hostNetwork"),
    )


def served_ports(pod: Mapping[str, object]) -> list[tuple[str, int]]:
    """Return protocol and number of every container port that can be one."""
    found: dict[tuple[str, int], None] = {}
    for container in items(pod, "spec", "containers"):
        for port in items(container, "ports"):
            value = number(port, "containerPort")
            protocol = text(port, "protocol") or "TCP"
            if value is not None and 1 <= value <= 65535 and protocol in PROTOCOLS:
                found[protocol, value] = None
    return list(found)
