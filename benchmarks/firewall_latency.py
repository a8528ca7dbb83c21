"""Print how long a change takes from the API server until packets are judged by it, and what it costs the agent.

    python -m benchmarks.firewall_latency [--pods 500] [--policies 50] [--changes 50]     (root, ./tests on the path)

A real API server; a real agent, which runs the firewall alone, in a network namespace that routes between two of its
pods. All pods are on its node (benchmarks/policed_node.py). Times begin before the request is sent to the API server,
and include the 50 ms debounce.

* *A pod gets its address* (a patch of its status): until the kernel has the address in its map, asked every millisecond
  by one small netlink request.
* *A pod's label* changes, to and fro: until connections between it and another pod are refused, or accepted again; the
  pod sends a SYN every millisecond.

kube-router's figures are not of this run: kube-router 2.11 with the same numbers of pods and policies, recorded once.
"""

import argparse
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio
from harness.client import Client
from harness.controlplane import ControlPlane
from harness.netns import run_in

from benchmarks.figures import Figure, report
from benchmarks.forwarding import FIRST_PORT, PORTS, Line, Segment
from benchmarks.latency import quantile
from benchmarks.policed_node import ADMITTED, NODE, Pair, PolicedNode, address
from benchmarks.process import cpu_s
from kube_router.core import nfnl, nlmsg
from kube_router.core.ask import ask
from kube_router.core.netlink import NETLINK_NETFILTER, Netlink
from kube_router.core.nfnl import NFPROTO_INET, header
from kube_router.events.errors import KernelError, PeerError
from kube_router.lab import relay
from kube_router.plugins.firewall.model import TABLE

NFTA_SET_ELEM_KEY, NFTA_DATA_VALUE = 1, 1
WAIT_S_MAX, POLL_S = 60, 0.001
SETTLE_S = 1.0  # after a change, so that what follows it (journal, sync to disk) counts as its cost
IDLE_S = 5.0
BAR_S, BAR_CPU_S = 0.15, 0.05
PEER, PEER_S, PEER_CPU_S = "kube-router 2.11", 2.7, 2.2


class Agent:
    """An agent process in a namespace, and its way to the API server."""

    def __init__(self, netns: str, plane: ControlPlane, folder: Path) -> None:
        self._netns, self._plane, self._folder = netns, plane, folder

    def __enter__(self) -> Self:
        host, port = self._plane.access.url.removeprefix("https://").split(":")
        server = relay.resolve(host, int(port))
        run_in(self._netns, partial(subprocess.run, ["ip", "link", "set", "lo", "up"], check=True))
        doors = relay.open_doors(server, [self._netns])
        # A daemon: it ends with this process.
        threading.Thread(target=anyio.run, args=(relay.carry, doors, server), daemon=True).start()
        argv = [sys.executable, "-m", "kube_router.cli", "run", f"--kubeconfig={self._plane.access.kubeconfig}"]
        argv += [f"--hostname-override={NODE}", "--run-proxy=false", "--run-router=false", "--health-port=0"]
        argv += [f"--journal-dir={self._folder / 'journal'}", f"--control-socket={self._folder / 'kr.sock'}"]
        with (self._folder / "agent.log").open("ab") as log:
            self._process = run_in(self._netns, lambda: subprocess.Popen(argv, stdout=log, stderr=log))
        self.pid = self._process.pid
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        if kind is not None:
            print((self._folder / "agent.log").read_text()[-4000:])

    def status(self) -> dict[str, Any]:
        """Return the firewall's part of the status, nothing while the agent does not answer."""
        try:
            found = ask(str(self._folder / "kr.sock"), "status")
        except PeerError:
            return {}
        return next((dict(plugin) for plugin in found["plugins"] if plugin["name"] == "firewall"), {})

    def idle(self) -> float:
        """Return the CPU seconds per second that it takes when nothing happens."""
        time.sleep(SETTLE_S)
        cpu = cpu_s(self.pid)
        time.sleep(IDLE_S)
        return (cpu_s(self.pid) - cpu) / IDLE_S


class Bench:
    """The cluster, the agent, and the two pods that send and receive."""

    def __init__(self, world: PolicedNode, pair: Pair, client: Client, agent: Agent, line: Line) -> None:
        self._world, self._pair, self._client, self._agent, self._line = world, pair, client, agent, line
        self._ports = (FIRST_PORT + number % PORTS for number in count())

    def new_pods(self, changes: int) -> tuple[list[float], float]:
        """Give pods their addresses; return the seconds until each was in the kernel, and CPU seconds for one."""

        def one(number: int) -> float:
            manifest = self._world.pod(number)
            self._client.create(manifest)
            time.sleep(SETTLE_S / 2)
            began = time.perf_counter()
            self._client.patch(manifest, {"status": manifest["status"]}, subresource="status")
            until(lambda: has_verdict(address(number)), f"pod {number}")
            return time.perf_counter() - began

        first = self._world.pods
        return self._measure([partial(one, number) for number in range(first, first + changes)])

    def labels(self, changes: int) -> tuple[list[float], float]:
        """Change the sending pod's label; return the seconds until each was obeyed, and CPU seconds for one."""
        own = self._pair.source % self._world.policies % 10

        def one(*, group: int) -> float:
            manifest = self._world.pod(self._pair.source, group=group)
            began = time.perf_counter()
            self._client.patch(manifest, {"metadata": {"labels": manifest["metadata"]["labels"]}})
            until(lambda: self.passes() == (group == own), "packets to be judged anew")
            return time.perf_counter() - began

        return self._measure([partial(one, group=own + (number + 1) % 2) for number in range(changes)])

    def passes(self) -> bool:
        """Send a SYN; return whether it arrived."""
        before = self._line.received()
        with self._line.sender() as sender:
            sender.send(Segment(next(self._ports), ADMITTED))
        return self._line.received() > before

    def _measure(self, changes: list[Callable[[], float]]) -> tuple[list[float], float]:
        idle, cpu, began, times = self._agent.idle(), cpu_s(self._agent.pid), time.monotonic(), []
        for change in changes:
            times.append(run_in(self._line.netns("router"), change))
            time.sleep(SETTLE_S)
        spent = cpu_s(self._agent.pid) - cpu - idle * (time.monotonic() - began)
        return times, max(spent, 0) / len(changes)


def has_verdict(ip: str) -> bool:
    """Whether this thread's namespace sends what comes for a pod to the chain of its policies."""
    key = nlmsg.nested(NFTA_SET_ELEM_KEY, nlmsg.attr(NFTA_DATA_VALUE, socket.inet_aton(ip)))
    message = nlmsg.message(
        nfnl.NFT_MSG_GETSETELEM,
        0,
        header(NFPROTO_INET),
        nlmsg.text(nfnl.NFTA_SET_ELEM_LIST_TABLE, TABLE),
        nlmsg.text(nfnl.NFTA_SET_ELEM_LIST_SET, "ingress4"),
        nlmsg.nested(nfnl.NFTA_SET_ELEM_LIST_ELEMENTS, nlmsg.nested(nfnl.NFTA_LIST_ELEM, key)),
    )
    with Netlink(NETLINK_NETFILTER) as link:
        try:
            link.request(message)
        except KernelError:
            return False
    return True


def until(condition: Callable[[], bool], what: str, *, poll_s: float = POLL_S) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + WAIT_S_MAX
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {WAIT_S_MAX} s for {what}")
        time.sleep(poll_s)


def fill(client: Client, world: PolicedNode) -> None:
    """Create everything; pods run and have their addresses."""
    node, *rest = world.manifests()
    client.create({**node, "spec": {}})
    pods = [manifest for manifest in rest if manifest["kind"] == "Pod"]
    for kind in ("Namespace", "NetworkPolicy", "Pod"):
        client.create(*(manifest for manifest in rest if manifest["kind"] == kind))
    client.patch_all([(it, {"status": it["status"]}) for it in (node, *pods)], subresource="status")


@contextmanager
def bench(world: PolicedNode) -> Iterator[Bench]:
    """Run everything for the block."""
    pair = next(world.pairs())
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kr-latency-")))
        line = stack.enter_context(Line("latency", address(pair.source), address(pair.destination)))
        plane = stack.enter_context(ControlPlane())
        client = stack.enter_context(plane.client())
        fill(client, world)
        agent = stack.enter_context(Agent(line.netns("router"), plane, folder))
        until(lambda: agent.status().get("state") == "in sync", "the agent", poll_s=0.1)
        yield Bench(world, pair, client, agent, line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=500)
    parser.add_argument("--policies", type=int, default=50, help="a multiple of ten")
    parser.add_argument("--changes", type=int, default=50)
    options = parser.parse_args()
    print(f"{options.pods} pods × {options.policies} policies; {PEER} recorded in an earlier run")
    with bench(PolicedNode(options.pods, options.policies)) as one:
        times, cpu = one.new_pods(options.changes)
        what = "a pod gets its address → enforced"
        report(Figure(f"{what}, p50", quantile(times, 0.5), "s"))
        report(Figure(f"{what}, p99", quantile(times, 0.99), "s", bar=BAR_S))
        report(Figure("  CPU of the agent, for a pod", cpu, "CPU s", bar=BAR_CPU_S))
        times, cpu = one.labels(options.changes)
        what = "a pod's label → packets judged anew"
        beside(f"{what}, p50", quantile(times, 0.5), "s", peer=PEER_S, bar=BAR_S)
        report(Figure(f"{what}, p99", quantile(times, 0.99), "s"))
        beside("  CPU of the agent, for a label", cpu, "CPU s", peer=PEER_CPU_S, bar=BAR_CPU_S)


def beside(what: str, ours: float, unit: str, *, peer: float, bar: float) -> None:
    """Report a figure beside kube-router's."""
    report(Figure(what, ours, unit, peer=peer, peer_name=PEER, bar=bar, recorded=True))


if __name__ == "__main__":
    main()
