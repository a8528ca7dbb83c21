"""Pods as policies see them (pure).

A pod is *actionable* while it has an address of its own and something may run in it: not one on the host's network,
whose packets are the node's, and not one that has finished, whose address may be somebody else's by now. A pod that is
terminating stays actionable until it is gone.
"""

from collections.abc import Mapping
from typing import NamedTuple

from kube_router.events.model import ContainerPort, Pod

FINISHED = frozenset({"Succeeded", "Failed"})


class PodFacts(NamedTuple):
    """What of an actionable pod rules depend on."""

    namespace: str
    labels: Mapping[str, str]
    ips: tuple[str, ...]
    ports: tuple[ContainerPort, ...]
    local: bool
    terminating: bool


def facts_of(pod: Pod | None, node: str) -> PodFacts | None:
    """Return the facts of an actionable pod, None of any other."""
    if pod is None or pod.host_network or pod.phase in FINISHED or not pod.ips:
        return None
    ips = tuple(dict.fromkeys(pod.ips))
    return PodFacts(pod.namespace, pod.labels, ips, pod.ports, pod.node_name == node, pod.terminating)
