"""Pods of a test cluster, and what they can reach: Kubernetes' own agnhost as server and as client."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cluster.cluster import Cluster
from cluster.images import AGNHOST
from harness.machine import until

PORT = 8080
READY_S = 60


@dataclass(frozen=True, slots=True)
class Pod:
    """One that runs."""

    namespace: str
    name: str
    address: str
    node: str


def server(name: str, namespace: str, node: str = "", **labels: str) -> dict[str, Any]:
    """Return the manifest of a pod that answers TCP and UDP at PORT."""
    probe = {"httpGet": {"path": "/healthz", "port": PORT}, "periodSeconds": 1, "timeoutSeconds": 30}
    container = {
        "name": "server",
        "image": AGNHOST,
        "imagePullPolicy": "Never",
        "args": ["netexec", f"--http-port={PORT}", f"--udp-port={PORT}"],
        "readinessProbe": probe,
    }
    spec: dict[str, Any] = {"containers": [container], "terminationGracePeriodSeconds": 0}
    if node:
        spec["nodeSelector"] = {"kubernetes.io/hostname": node}
    metadata = {"name": name, "namespace": namespace, "labels": {"app": name, **labels}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def service(name: str, namespace: str, selector: Mapping[str, str]) -> dict[str, Any]:
    """Return the manifest of a Service at port 80 in front of such pods."""
    spec = {"selector": dict(selector), "ports": [{"port": 80, "targetPort": PORT}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def only_from(name: str, namespace: str, target: Mapping[str, str], source: Mapping[str, str]) -> dict[str, Any]:
    """Return a NetworkPolicy that lets pods of the labels ``source`` reach those of ``target``, and nobody else."""
    peers = [{"podSelector": {"matchLabels": dict(source)}}]
    spec = {"podSelector": {"matchLabels": dict(target)}, "policyTypes": ["Ingress"], "ingress": [{"from": peers}]}
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def namespace(name: str) -> dict[str, Any]:
    """Return the manifest of a Namespace."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def apply(cluster: Cluster, *manifests: Mapping[str, Any]) -> None:
    """Apply manifests; CalledProcessError with the server's words."""
    items = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
    cluster.kubectl("apply", "--filename=-", stdin=json.dumps(items))


def running(cluster: Cluster, namespace: str) -> dict[str, Pod]:
    """Wait until all pods of a namespace are ready; return them by name."""
    timeout = f"--timeout={READY_S * cluster.slowness}s"
    cluster.kubectl("wait", "--namespace", namespace, "--for=condition=Ready", "pod", "--all", timeout)
    items = json.loads(cluster.kubectl("get", "pods", "--namespace", namespace, "--output=json"))["items"]
    found = [
        Pod(namespace, item["metadata"]["name"], item["status"]["podIP"], item["spec"]["nodeName"]) for item in items
    ]
    return {pod.name: pod for pod in found}


def guarded(cluster: Cluster, space: str, *, servers_on: str, client_on: str) -> dict[str, Pod]:
    """Run a server that all may reach (``open``) and one that a policy closes to all (``guarded``).

    And two clients, on the servers' node (``beside``) and on another (``client``). Return them once it is so.
    """
    apply(
        cluster,
        namespace(space),
        *(server(name, space, servers_on) for name in ("open", "guarded", "beside")),
        server("client", space, client_on),
        only_from("guarded", space, {"app": "guarded"}, {"app": "nobody"}),
    )
    pods = running(cluster, space)
    for client in (pods["client"], pods["beside"]):
        wait_connects(cluster, client, pods["open"].address)
        wait_connects(cluster, client, pods["guarded"].address, wanted=False)
    return pods


def remove(cluster: Cluster, namespace: str) -> None:
    """Remove a namespace; it and its pods go some time later."""
    cluster.kubectl("delete", "namespace", namespace, "--wait=false")


def connects(cluster: Cluster, pod: Pod, address: str, port: int = PORT, *, timeout_s: int = 3) -> bool:
    """Tell whether a pod gets a TCP connection."""
    command = ["/agnhost", "connect", f"{address}:{port}", f"--timeout={timeout_s}s"]
    try:
        cluster.kubectl("exec", "--namespace", pod.namespace, pod.name, "--", *command)
    except subprocess.CalledProcessError:
        return False
    return True


def wait_connects(cluster: Cluster, pod: Pod, address: str, port: int = PORT, *, wanted: bool = True) -> None:
    """Wait until a pod gets a connection, or none any more. AssertionError after the time."""
    what = f"{pod.name} to {'reach' if wanted else 'be kept from'} {address}:{port}"
    until(lambda: connects(cluster, pod, address, port, timeout_s=1) is wanted, what=what)
