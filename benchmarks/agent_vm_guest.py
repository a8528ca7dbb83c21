"""The half of benchmarks/agent_vm.py that runs inside the VM: starts agents, watches IPVS, prints the figures."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from harness.controlplane import VM_HOST
from harness.netns import run_in
from harness.nodes import Node
from harness.zygote import Zygote

from benchmarks.agent_vm import addresses
from benchmarks.figures import Figure, report
from benchmarks.process import cpu_s
from kube_router.plugins.proxy import host, ipvs, observe
from kube_router.plugins.proxy.model import ServiceId

WAIT_S_MAX = 180
POLL_S = 0.02
SETTLE_S = 1.5  # after a change, so that what follows it (journal, sync to disk) counts as its cost
IDLE_S = 10.0
USE_COUNT = Path("/sys/module/ip_vs/refcnt")
WRITES_BAR = 4
PEER = "kube-router 2.11"
# kube-router 2.11, recorded in an earlier run of the same content: by Services, seconds, CPU seconds, writes.
RECORDED = {
    500: {"full": 13.5, "full cpu": 11.5, "change": 3.7, "change cpu": 7.1, "change writes": 4033.0}
    | {"restart cpu": 11.0, "restart writes": 4046.0},
    2000: {"full": 34.6, "full cpu": 31.6, "change": 17.0, "change cpu": 26.1, "change writes": 16063.0}
    | {"restart cpu": 19.1, "restart writes": 16076.0},
}


class Bench:
    """One node and its agent."""

    def __init__(self, node: Node, services: int, base: int) -> None:
        self.node, self.services, self._base = node, services, base
        wait(lambda: use_count() == base, "the last namespace to be gone")
        self._recorded = RECORDED.get(services, {})
        self._process: subprocess.Popen[bytes] | None = None

    def run_process(self) -> None:
        """Start ``kr run`` as an operator does: a process of its own, which imports all it needs."""
        argv = [sys.executable, "-m", "kube_router.cli", "run", *self.node.argv]
        with self.node.log.open("ab") as log:
            process = run_in(self.node.netns, lambda: subprocess.Popen(argv, stdout=log, stderr=log))
        self._process, self.node.pid = process, process.pid

    def end(self) -> None:
        """End the agent with -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process, self.node.pid = None, 0
        self.node.kill()

    def start(self, how: Callable[[], None], words: str) -> None:
        """Start an agent on an empty table, and tell what it took to fill it."""
        began = time.monotonic()
        how()
        wait(lambda: use_count() - self._base >= self.services, "all services")
        wait(lambda: self._table() == (self.services + 1, 3 * self.services + 1), "a full table")
        seconds, cpu = time.monotonic() - began, cpu_s(self.node.pid)
        wait(lambda: self.node.plugin().get("state") == "in sync", "in sync")
        self._report(f"agent start ({words}) to full table", seconds, "s", "full")
        self._report(f"  CPU until then ({words})", cpu, "CPU s", "full cpu")
        report(Figure(f"  kernel writes ({words})", self._writes(), "writes"))
        self._tell_log()

    def restart(self, how: Callable[[], None], words: str) -> None:
        """End the agent, start it again over the same journal and kernel, and tell what that took."""
        self.end()
        began = time.monotonic()
        how()
        wait(lambda: self.node.plugin().get("state") == "in sync", "in sync", poll_s=0.2)
        seconds, cpu = time.monotonic() - began, cpu_s(self.node.pid)
        report(Figure(f"restart, nothing changed ({words}), to in sync", seconds, "s"))
        self._report(f"  CPU until then ({words})", cpu, "CPU s", "restart cpu")
        self._report(f"  kernel writes ({words})", self._writes(), "writes", "restart writes", bar=0)
        self._tell_log()

    def changes(self, count: int, ips: list[str], orders: socket.socket) -> None:
        """Change one endpoint again and again, and tell how long IPVS takes to show it, and what that costs."""
        idle = self._idle_rate()
        writes, cpu, began, times = self._writes(), cpu_s(self.node.pid), time.monotonic(), []
        for version in range(1, count + 1):
            number = version * (self.services // (count + 1))
            times.append(self._change(number, version, ips[number], orders))
            time.sleep(SETTLE_S)
        spent = cpu_s(self.node.pid) - cpu - idle * (time.monotonic() - began)
        self._report("one endpoint changed → in IPVS, median", median(times), "s", "change")
        report(Figure("one endpoint changed → in IPVS, slowest", max(times), "s"))
        self._report("  CPU per change, idle deducted", max(spent, 0) / count, "CPU s", "change cpu")
        each = (self._writes() - writes) / count
        self._report("  kernel writes per change", each, "writes", "change writes", bar=WRITES_BAR)
        report(Figure("  CPU of the idle agent", idle * 100, "% of the VM's CPU"))

    def _change(self, number: int, version: int, ip: str, orders: socket.socket) -> float:
        wanted = {(address, 8080) for address in addresses(number, version=version)}
        id = ServiceId("TCP", ip, 80)

        def watch() -> float:
            with host.ipvs_link() as (link, packer):
                request, family = packer.get_dests(id), ipvs.packed(ip)[0]
                began = time.monotonic()
                orders.sendall(f"{number} {version}\n".encode())
                wait(lambda: {tuple(ipvs.parse_dest(body, family)[0]) for body in link.dump(request)} == wanted, "it")
                took = time.monotonic() - began
            assert orders.recv(100) == b"done\n"
            return took

        return run_in(self.node.netns, watch)

    def _idle_rate(self) -> float:
        time.sleep(SETTLE_S)
        began, cpu = time.monotonic(), cpu_s(self.node.pid)
        time.sleep(IDLE_S)
        return (cpu_s(self.node.pid) - cpu) / (time.monotonic() - began)

    def _table(self) -> tuple[int, int]:
        """Return how many services and servers IPVS holds."""
        lines = run_in(self.node.netns, host.read_ip_vs)
        return sum(line[:3] in ("TCP", "UDP") for line in lines), sum(line.startswith("  ->") for line in lines) - 1

    def _writes(self) -> int:
        changes: dict[str, int] = self.node.plugin()["changes"]
        return sum(changes.values())

    def _tell_log(self) -> None:
        for line in self.node.log.read_text().splitlines():
            if "service_added" in line or "ERROR" in line:
                print(f"    log: {line}")
        self.node.log.write_text("")

    def _report(self, what: str, ours: float, unit: str, key: str, *, bar: float | None = None) -> None:
        peer = self._recorded.get(key, 0.0)
        report(Figure(what, ours, unit, peer=peer, peer_name=PEER if peer else "", bar=bar, recorded=bool(peer)))


def use_count() -> int:
    """Return how often ip_vs is in use: once for each virtual service of all namespaces."""
    return int(USE_COUNT.read_text())


def wait(condition: Callable[[], bool], what: str, *, poll_s: float = POLL_S) -> None:
    deadline = time.monotonic() + WAIT_S_MAX
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {WAIT_S_MAX} s for {what}")
        time.sleep(poll_s)


def main() -> None:
    services, changes, port = map(int, sys.argv[1:4])
    folder = Path(sys.argv[4])
    kubeconfig = json.loads((folder / "controlplane.json").read_text())["access"]["kubeconfig"]
    ips = (folder / "ips").read_text().splitlines()
    flag = f"--kubeconfig={kubeconfig}"
    print(f"{services} Services × 3 in the VM; {PEER} recorded in an earlier run, not measured in this one", flush=True)
    subprocess.run(["modprobe", "ip_vs_rr"], check=True)
    observe.services()
    base = use_count()
    with Zygote() as zygote:
        zygote.start(["--version"], netns="", log=Path(os.devnull))  # returns when all is imported
        with Node(zygote, flag) as node:
            bench = Bench(node, services, base)
            bench.start(bench.run_process, "own process")
            bench.restart(bench.run_process, "own process")
            bench.end()
        with Node(zygote, flag) as node, socket.create_connection((VM_HOST, port)) as orders:
            bench = Bench(node, services, base)
            bench.start(node.start, "forked")
            bench.changes(changes, ips, orders)
            bench.restart(node.start, "forked")


if __name__ == "__main__":
    main()
