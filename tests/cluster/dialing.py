"""Ask pods and Services of a test cluster for the name of who answers, from wherever one likes (I/O).

The server of Kubernetes' agnhost answers ``/hostname`` with its pod's name, and at ``/dial`` it asks others for whom it
is told. What is asked from this machine is asked from the nodes' wire: a client outside of the cluster.
"""

import json
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlencode

from cluster.cluster import Cluster
from cluster.layout import FABRIC
from cluster.workload import PORT, Pod

from kube_router.lab import netns

ANSWER_S, DIAL_S, PAUSE_S = 60, 120, 0.05


def get(url: str, *, timeout_s: float = ANSWER_S) -> str:
    """Return what is there, asked from outside over a connection of its own. OSError if nothing is."""

    def ask() -> str:
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:
            return str(answer.read().decode())

    return netns.run_in(FABRIC, ask)


def dial(pod: Pod, address: str, port: int = 80, *, tries: int = 1, protocol: str = "http") -> Counter[str]:
    """Return how often whose name a pod is answered with; what failed counts as ``""``."""
    question = {"host": address, "port": port, "protocol": protocol, "request": "hostname", "tries": tries}
    answer = json.loads(get(f"http://{pod.address}:{PORT}/dial?{urlencode(question)}", timeout_s=DIAL_S))
    return Counter([*answer.get("responses", ()), *("" for _ in answer.get("errors", ()))])


def ask_from_node(cluster: Cluster, node: str, address: str, port: int = 80, *, tries: int = 1) -> Counter[str]:
    """Return how often whose name a process of the node's own network is answered with."""
    loop = f"for i in $(seq {tries}); do busybox wget -q -O - http://{address}:{port}/hostname; echo; done"
    return Counter(cluster.run_on(node, "sh", "-c", loop).split())


@dataclass
class Answers:
    """Of a client that asks without a pause: when, and whose name it got, or why none."""

    names: list[tuple[float, str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def since(self, moment: float) -> Counter[str]:
        """Return how often whose name came on connections that began after a moment of time.monotonic()."""
        return Counter(name for begin, name in self.names if begin > moment)


@contextmanager
def asking(url: str) -> Iterator[Answers]:
    """Ask from outside while the body runs, one connection after the other."""
    answers, stop = Answers(), threading.Event()

    def run() -> None:
        netns.enter(FABRIC)
        while not stop.wait(PAUSE_S):
            begin = time.monotonic()
            try:
                with urllib.request.urlopen(url, timeout=ANSWER_S) as answer:
                    answers.names.append((begin, answer.read().decode()))
            except OSError as error:
                answers.failures.append(repr(error))

    thread = threading.Thread(target=run, name=f"asking {url}", daemon=True)
    thread.start()
    try:
        yield answers
    finally:
        stop.set()
        thread.join()
