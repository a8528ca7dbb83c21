"""The agent in a test cluster, installed as an operator would: images imported, ``kubectl apply -k``."""

import json
from pathlib import Path
from typing import Any

from cluster.cluster import Cluster
from harness.machine import until

NATIVE = Path(__file__).parent / "native"
NAMESPACE, NAME = "kube-system", "kube-router"
ROLLOUT_S = 120


def install(cluster: Cluster, folder: Path = NATIVE) -> None:
    """Apply a kustomization; return when every agent is in sync and every node ready."""
    cluster.kubectl("apply", "--kustomize", str(folder))
    wait(cluster)
    cluster.kubectl("wait", "--for=condition=Ready", "node", "--all", f"--timeout={ROLLOUT_S * cluster.slowness}s")


def wait(cluster: Cluster) -> None:
    """Wait for the end of a rollout. CalledProcessError with kubectl's words after the time."""
    timeout = f"--timeout={ROLLOUT_S * cluster.slowness}s"
    cluster.kubectl("rollout", "status", f"daemonset/{NAME}", "--namespace", NAMESPACE, timeout)


def pods(cluster: Cluster) -> dict[str, dict[str, Any]]:
    """Return the agents' pods by node."""
    text = cluster.kubectl("get", "pods", "--namespace", NAMESPACE, "--selector=k8s-app=kube-router", "--output=json")
    return {item["spec"].get("nodeName", ""): item for item in json.loads(text)["items"]}


def kr(cluster: Cluster, node: str, *arguments: str) -> str:
    """Return what ``kr`` says in a node's agent."""
    name = pods(cluster)[node]["metadata"]["name"]
    container = ["--namespace", NAMESPACE, name, "--container", NAME]
    return cluster.kubectl("exec", *container, "--", "kr", *arguments)


def logs(cluster: Cluster, node: str, *, container: str = NAME, previous: bool = False) -> str:
    """Return what a node's agent has logged."""
    name = pods(cluster)[node]["metadata"]["name"]
    which = ["--namespace", NAMESPACE, name, "--container", container, *(["--previous"] if previous else [])]
    return cluster.kubectl("logs", *which)


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

    return until(broken, what="an agent to fail", timeout_s=60)


def wait_restarted(cluster: Cluster, node: str, times: int) -> None:
    """Wait until a node's agent has been restarted so many times."""

    def count() -> int:
        statuses = pods(cluster)[node]["status"].get("containerStatuses", [])
        return max((int(status["restartCount"]) for status in statuses), default=0)

    until(lambda: count() >= times, what=f"the agent of {node} to be restarted", timeout_s=60)
