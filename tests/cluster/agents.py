"""The agent in a test cluster, installed as an operator would: images imported, ``kubectl apply -k``."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster.cluster import Cluster
from harness.machine import until

NATIVE = Path(__file__).parent / "native"
NAMESPACE, NAME = "kube-system", "kube-router"
DAEMONSET = (f"daemonset/{NAME}", "--namespace", NAMESPACE)
HOST = "kubernetes.io/hostname"
ROLLOUT_S = 120
CHANGE_S = 60  # of one agent: to leave, to fail, to be restarted
SYNC_S = 90


def install(cluster: Cluster, folder: Path = NATIVE) -> None:
    """Apply a kustomization; return when every agent is in sync and every node ready."""
    cluster.kubectl("apply", "--kustomize", str(folder))
    wait(cluster)
    cluster.kubectl("wait", "--for=condition=Ready", "node", "--all", f"--timeout={ROLLOUT_S * cluster.slowness}s")


def wait(cluster: Cluster) -> None:
    """Wait for the end of a rollout. CalledProcessError with kubectl's words after the time."""
    cluster.kubectl("rollout", "status", *DAEMONSET, f"--timeout={ROLLOUT_S * cluster.slowness}s")


def undo(cluster: Cluster) -> None:
    """Take the last change of the DaemonSet back; return when every agent is in sync."""
    cluster.kubectl("rollout", "undo", *DAEMONSET)
    wait(cluster)


def leave(cluster: Cluster, node: str) -> None:
    """Take the DaemonSet's agent from one of two nodes and leave the other's alone; ``come_back`` ends it."""
    (other,) = (name for name in cluster.nodes if name != node)
    _select(cluster, {HOST: other}, strategy="OnDelete")
    wait_gone(cluster, node)


def come_back(cluster: Cluster) -> None:
    """Let the DaemonSet's agent run on every node again; return when all are in sync."""
    _select(cluster, {HOST: None}, strategy="RollingUpdate")
    wait(cluster)


def _select(cluster: Cluster, nodes: Mapping[str, str | None], *, strategy: str) -> None:
    template = {"spec": {"nodeSelector": nodes}}
    patch = {"spec": {"updateStrategy": {"type": strategy, "rollingUpdate": None}, "template": template}}
    cluster.kubectl("patch", *DAEMONSET, f"--patch={json.dumps(patch)}")


def wait_gone(cluster: Cluster, node: str) -> None:
    """Wait until a node has no agent."""
    until(lambda: node not in pods(cluster), what=f"the agent of {node} to leave", timeout_s=CHANGE_S)


def wait_ready(cluster: Cluster, node: str) -> None:
    """Wait until a node's agent is in sync, whoever started it."""

    def ready() -> bool:
        pod = pods(cluster).get(node)
        return pod is not None and is_ready(pod)

    until(ready, what=f"the agent of {node} to be in sync", timeout_s=SYNC_S)


def policies(cluster: Cluster, node: str) -> str:
    """Return the table of policies in a node's kernel, "" where there is none."""
    table = ["nft", "--stateless", "list", "table", "inet", "kube-router-firewall"]
    return cluster.nodes[node].run(*table, check=False).stdout


def pods(cluster: Cluster) -> dict[str, dict[str, Any]]:
    """Return the agents' pods by node."""
    text = cluster.kubectl("get", "pods", "--namespace", NAMESPACE, "--selector=k8s-app=kube-router", "--output=json")
    return {item["spec"].get("nodeName", ""): item for item in json.loads(text)["items"]}


def kr(cluster: Cluster, node: str, *arguments: str) -> str:
    """Return what ``kr`` says in a node's agent."""
    name = pods(cluster)[node]["metadata"]["name"]
    container = ["--namespace", NAMESPACE, name, "--container", NAME]
    return cluster.kubectl("exec", *container, "--", "kr", *arguments)


def logs(cluster: Cluster, node: str, *, container: str = NAME) -> str:
    """Return what a node's agent has logged."""
    name = pods(cluster)[node]["metadata"]["name"]
    return cluster.kubectl("logs", "--namespace", NAMESPACE, name, "--container", container)


def is_ready(pod: dict[str, Any]) -> bool:
    """Tell whether a pod is ready."""
    conditions = pod["status"].get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def wait_broken(cluster: Cluster) -> str:
    """Wait until an agent fails again and again, or cannot even be started; return its node."""

    def broken() -> str:
        for node, pod in pods(cluster).items():
            for status in pod["status"].get("containerStatuses", []):
                reason = status["state"].get("waiting", {}).get("reason", "")
                if reason in ("CrashLoopBackOff", "RunContainerError"):
                    return node
        return ""

    return until(broken, what="an agent to fail", timeout_s=CHANGE_S)


def wait_restarted(cluster: Cluster, node: str, times: int) -> None:
    """Wait until a node's agent has been restarted so many times."""

    def count() -> int:
        statuses = pods(cluster)[node]["status"].get("containerStatuses", [])
        return max((int(status["restartCount"]) for status in statuses), default=0)

    until(lambda: count() >= times, what=f"the agent of {node} to be restarted", timeout_s=CHANGE_S)
