"""New connections without a pause, from inside of pods, while something happens to the network: what failed is kept.

A lost SYN is sent again after a second, so an answer within less means that no packet of it was lost.
"""

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cluster.cluster import Cluster
from cluster.workload import PORT, Pod

from kube_router.lab import netns

ANSWER_S = 0.9
PAUSE_S = 0.02


@dataclass
class Probe:
    """From a pod to an address: ``lost_max`` may fail. ``wanted`` False: no connection may ever come about."""

    source: Pod
    address: str
    port: int = PORT
    wanted: bool = True
    lost_max: int = 0
    asked: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.source.name} {'→' if self.wanted else '↛'} {self.address}:{self.port}"

    def ask(self) -> None:
        """Try one connection, in this thread's namespace."""
        self.asked += 1
        failure = _connect(self.address, self.port)
        if bool(failure) is self.wanted:
            self.wrong.append(f"{time.strftime('%H:%M:%S')} {failure or 'connected'}")


@contextmanager
def probing(cluster: Cluster, probes: Sequence[Probe]) -> Iterator[None]:
    """Probe while the body runs; AssertionError afterwards, naming what was not as wanted."""
    stop = threading.Event()

    def run(probe: Probe) -> None:
        netns.enter_path(namespace_of(cluster, probe.source))
        while not stop.is_set():
            probe.ask()
            time.sleep(PAUSE_S)

    threads = [threading.Thread(target=run, args=[probe], name=str(probe), daemon=True) for probe in probes]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    wrong = {
        str(probe): probe.wrong[:5] for probe in probes if len(probe.wrong) > (probe.lost_max if probe.wanted else 0)
    }
    assert not wrong, wrong
    idle = [str(probe) for probe in probes if probe.asked < 10]
    assert not idle, f"hardly asked: {idle}"


def namespace_of(cluster: Cluster, pod: Pod) -> Path:
    """Return the network namespace of a pod that runs."""
    path = ["--output=jsonpath={.status.containerStatuses[0].containerID}"]
    identity = cluster.kubectl("get", "pod", "--namespace", pod.namespace, pod.name, *path).rpartition("/")[2]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and identity in _cgroups(entry):
            return entry / "ns" / "net"
    raise AssertionError(f"no process of container {identity}")


def _cgroups(process: Path) -> str:
    try:
        return (process / "cgroup").read_text()
    except OSError:  # gone meanwhile
        return ""


def reaches(namespace: Path, address: str, port: int = PORT) -> bool:
    """Tell whether a connection comes about, from inside a network namespace."""
    return not netns.run_in_path(namespace, lambda: _connect(address, port))


def _connect(address: str, port: int) -> str:
    """Try a connection, in this thread's namespace; return why there was none, "" where there was."""
    with socket.socket() as client:
        client.settimeout(ANSWER_S)
        try:
            client.connect((address, port))
        except OSError as error:
            return repr(error)
    return ""
