"""Print what a full mesh of 500 nodes costs one of them: CPU at rest and at a node's join, and how late keepalives are.

    python -m benchmarks.bgp_mesh [--sessions 500] [--seconds 30]        (root, with ./tests on the path)

Our agent has as many Nodes in its cluster, BIRD as many neighbours in its configuration; each neighbour is a session of
a process of ours, with a route of its own, and asks for a hold time of 9 s, ten times as many keepalives as usual. Both
run at the same time and are measured over the same seconds. A node joins: its Node, or its configuration, is added, it
opens its session and tells its route, until that is in the kernel; BIRD is given its whole configuration anew.

The bar: keepalives are at most a tenth of the hold time late, 99 of 100.
"""

import argparse
import json
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from harness.bgpd import Neighbour
from harness.bgpnet import Network
from harness.bird import Bird
from harness.netns import sh

from benchmarks.bgp_crowd import Crowd, address, pod_cidr
from benchmarks.bgp_receivers import ASN, Receiver, agent, node, other
from benchmarks.figures import Figure, report
from benchmarks.process import exact_cpu_s

HOLD_TIME_S = 9
JOINS = 5
ROUTES_S_MAX = 60.0
SETTLE_S = 5.0
FIRST_NODE = 1000


def neighbour(number: int) -> Neighbour:
    """Return a node of the mesh as BIRD's configuration has it."""
    return Neighbour(address=address(number), asn=ASN, passive=True, graceful_restart=False)


class Mesh:
    """A receiver amid its crowd."""

    def __init__(self, stack: ExitStack, receiver: Receiver, crowd: Crowd) -> None:
        self.receiver, self.crowd = receiver, stack.enter_context(crowd)
        self.before = receiver.routes()

    def join(self, numbers: range) -> float:
        """Return the seconds until these are in, and their routes in the kernel."""
        began = time.monotonic()
        wanted = self.receiver.routes() + len(numbers)
        self.crowd.join(numbers)
        return self.receiver.wait_routes(wanted, ROUTES_S_MAX) - began


def widen(network: Network, receiver: Receiver, crowd: str, sessions: int) -> None:
    """Give both ends a link of 10.66.0.0/16, the crowd's all addresses of its own.

    The receiver is told their MAC: the kernel bounds how many it finds out itself, in all namespaces together.
    """
    sh(f"ip -n {receiver.namespace} addr add {receiver.address}/16 dev eth0")
    lines = [f"addr add {address(number)}/16 dev eth0" for number in range(sessions)]
    sh(f"ip -n {crowd} -batch -", stdin="\n".join(lines) + "\n")
    mac = json.loads(sh(f"ip -n {crowd} -j link show eth0"))[0]["address"]
    lines = [f"neigh replace {address(number)} lladdr {mac} nud permanent dev eth0" for number in range(sessions)]
    sh(f"ip -n {receiver.namespace} -batch -", stdin="\n".join(lines) + "\n")


def build(stack: ExitStack, sessions: int) -> tuple[Mesh, Mesh, Bird, Path]:
    """Return both meshes, BIRD, and the folder of our agent's manifests."""
    others = [(FIRST_NODE + number, address(number), pod_cidr(number)) for number in range(sessions)]
    meshes = []
    for name in ("ours", "BIRD"):
        network = stack.enter_context(Network())
        crowd = network.add("crowd", 9)
        if name == "ours":
            receiver = agent(network, 1, nodes=others)
            manifests = receiver.folder / "manifests"
        else:
            receiver, bird = other(Bird, network, 1, [neighbour(number) for number in range(sessions)])
        stack.callback(receiver.stop)
        widen(network, receiver, crowd, sessions + JOINS)
        meshes.append(Mesh(stack, receiver, Crowd(crowd, receiver.address, asn=ASN, hold_time_s=HOLD_TIME_S)))
    assert isinstance(bird, Bird)
    return meshes[0], meshes[1], bird, manifests


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long to look at rest")
    options = parser.parse_args()
    sessions = options.sessions
    with ExitStack() as stack:
        ours, theirs, bird, manifests = build(stack, sessions)
        for mesh in (ours, theirs):
            mesh.join(range(sessions))
        time.sleep(SETTLE_S)
        rest = at_rest((ours, theirs), options.seconds)
        joined = joins(ours, theirs, bird, manifests, sessions)
        ended = ours.crowd.ended
    both = f"{sessions} sessions"
    report(Figure(f"{both}, CPU at rest", rest[0][0], "ms/s", peer=rest[1][0], peer_name="BIRD"))
    late = [1000 * sorted(values)[int(len(values) * 0.99)] for _, values in rest]
    bar = HOLD_TIME_S * 1000 / 10
    name = f"{both}, lateness of a keepalive, p99"
    report(Figure(name, late[0], "ms", peer=late[1], peer_name="BIRD", bar=bar))
    latest = [1000 * max(values) for _, values in rest]
    report(Figure(f"{both}, the latest keepalive", latest[0], "ms", peer=latest[1], peer_name="BIRD"))
    for what, unit, at in (("time", "ms", 0), ("CPU", "ms", 1)):
        values = [1000 * median(each[at] for each in side) for side in joined]
        report(Figure(f"{both}, a node joins, {what}", values[0], unit, peer=values[1], peer_name="BIRD"))
    assert not ended, f"{ended} sessions ended"


def at_rest(meshes: tuple[Mesh, Mesh], seconds: float) -> list[tuple[float, list[float]]]:
    """Return for each the milliseconds of CPU it takes in a second, and how late keepalives are, in seconds."""
    began, before = time.monotonic(), [exact_cpu_s(mesh.receiver.pid()) for mesh in meshes]
    for mesh in meshes:
        mesh.crowd.forget()
    time.sleep(seconds)
    took = time.monotonic() - began
    after = [exact_cpu_s(mesh.receiver.pid()) for mesh in meshes]
    spent = [1000 * (later - earlier) / took for earlier, later in zip(before, after, strict=True)]
    return list(zip(spent, [mesh.crowd.lateness_s() for mesh in meshes], strict=True))


def joins(
    ours: Mesh, theirs: Mesh, bird: Bird, manifests: Path, sessions: int
) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Return for each node that joins the seconds and the CPU seconds that it took, ours and BIRD's."""
    found: tuple[list[tuple[float, float]], list[tuple[float, float]]] = [], []
    for number in range(sessions, sessions + JOINS):
        for side, mesh in enumerate((ours, theirs)):
            began, before = time.monotonic(), exact_cpu_s(mesh.receiver.pid())
            if mesh is ours:
                name = f"node-{FIRST_NODE + number}.yaml"
                manifest = node(FIRST_NODE + number, address(number), pod_cidr(number))
                (manifests / f".{name}").write_text(manifest)
                (manifests / f".{name}").rename(manifests / name)
            else:
                bird.add(neighbour(number))
            mesh.join(range(number, number + 1))
            took = time.monotonic() - began
            found[side].append((took, exact_cpu_s(mesh.receiver.pid()) - before))
    return found


if __name__ == "__main__":
    main()
