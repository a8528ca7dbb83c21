"""The IPVS table: ours against ipvsadm, side by side in one run. Needs root and a kernel with ip_vs (or the lab's VM).

    python -m benchmarks.ipvs_table [SERVICES [SERVERS [ROUNDS]]]

Runs in network namespaces of its own. Bars are ratios of the same run: cold start ≤ 0.25 × ``ipvsadm --restore``,
observation ≤ 1 × ``ipvsadm -Sn``. The best of the rounds counts, ours and ipvsadm's in turn.
"""

import ctypes
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Address

from benchmarks.figures import Figure, report
from kube_router.core.netlink import Netlink
from kube_router.plugins.proxy import host, observe, render
from kube_router.plugins.proxy.kernel import Kernel
from kube_router.plugins.proxy.model import (
    Actual,
    AddServer,
    IpvsStep,
    Masquerade,
    RemoveServer,
    Server,
    ServerId,
    ServiceId,
    VirtualService,
    Wanted,
)
from kube_router.plugins.proxy.plan import plan

CLONE_NEWNET = 0x40000000
NODE = "192.0.2.1"


def content(services: int, servers: int) -> dict[ServiceId, VirtualService]:
    """Return that many services on 10.96/12 with their servers on 10.128/9."""
    found = {}
    for n in range(services):
        id = ServiceId("TCP", str(IPv4Address("10.96.0.1") + n), 80)
        pods = range(n * servers, (n + 1) * servers)
        found[id] = VirtualService(servers={ServerId(str(IPv4Address("10.128.0.1") + m), 8080): Server() for m in pods})
    return found


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def ipvsadm(*words: str, text: str | None = None) -> str:
    return subprocess.run(["ipvsadm", *words], input=text, text=True, check=True, capture_output=True).stdout


def compare(what: str, ours: float, theirs: float, bar: float) -> None:
    report(Figure(what, ours, "s", peer=theirs, peer_name="ipvsadm", bar=bar, of_peer=True))


def fresh() -> Kernel:
    """Return a kernel with an empty table, in a new network namespace.

    Emptying a table in place would not do: IPVS keeps removed servers for two minutes, in a list that is walked for
    each one added.
    """
    if ctypes.CDLL(None).unshare(CLONE_NEWNET):
        sys.exit("needs root: for a network namespace of its own")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ip", "addr", "add", f"{NODE}/32", "dev", "lo"], check=True)
    kernel = Kernel()
    kernel.prepare()
    return kernel


def cold_start(services: dict[ServiceId, VirtualService], rounds: int) -> tuple[Kernel, Wanted]:
    """Fill an empty table, by each in turn; return the kernel that holds it all in the end, and what that is."""
    lines = "\n".join(render.lines(services)) + "\n"
    steps = [step for step in plan(Wanted(services), Actual(), in_sync=True) if isinstance(step, IpvsStep)]
    ours, theirs = [], []
    for _ in range(rounds):
        fresh()
        theirs.append(timed(lambda: ipvsadm("-R", text=lines)))
        assert table() == render.lines(services)
        ours.append(timed(partial(fresh().apply, steps)))
        assert table() == render.lines(services)
    size = f"{len(services):,} services × {len(steps) // len(services) - 1}"
    compare(f"cold start, IPVS only, {size}", min(ours), min(theirs), 0.25)
    kernel = fresh()
    wanted = Wanted(services, {id.address: NODE for id in services}, Masquerade())
    whole = timed(lambda: kernel.apply(plan(wanted, kernel.observe(), in_sync=True)))
    report(Figure("  with observation, plan, addresses, owned set", whole, "s"))
    left = plan(wanted, kernel.observe(), in_sync=True)
    assert left == [], f"{len(left)} steps are left: {left[:3]}"
    return kernel, wanted


def table() -> list[str]:
    """Return what ipvsadm shows, sorted."""
    return sorted(map(str.rstrip, ipvsadm("-Sn").splitlines()))


def observation(kernel: Kernel, wanted: Wanted, rounds: int) -> None:
    """Read the whole table, by each in turn."""
    ours, theirs, parts = [], [], []
    for _ in range(rounds):
        theirs.append(timed(lambda: ipvsadm("-Sn")))
        ours.append(timed(kernel.observe))
        parts.append((timed(observe.services), timed(observe.table), timed(observe.addresses)))
    compare("restart, nothing changed: all read", min(ours), min(theirs), 1.0)
    best = [min(times) for times in zip(*parts, strict=True)]
    for part, seconds in zip(("services", "owned set", "addresses"), best, strict=True):
        report(Figure(f"  of it {part}", seconds, "s"))
    actual = kernel.observe()
    planned = min(timed(lambda: plan(wanted, actual, in_sync=True)) for _ in range(rounds))
    report(Figure("  and the plan (nothing to do)", planned, "s"))


def one_change(services: dict[ServiceId, VirtualService], rounds: int) -> None:
    """Replace one server of one service, there and back."""
    id = next(iter(services))
    old, new = next(iter(services[id].servers)), ServerId("10.127.0.1", 8080)
    there: list[IpvsStep] = [AddServer(id, new, Server()), RemoveServer(id, old)]
    back: list[IpvsStep] = [AddServer(id, old, Server()), RemoveServer(id, new)]
    python, kernel = [], []
    with host.ipvs_link() as (link, packer):
        for _ in range(rounds * 10):
            for steps in (there, back):
                started = time.perf_counter()
                messages = [render.ipvs_message(packer, step) for step in steps]
                packed = time.perf_counter()
                assert _write(link, messages)
                python.append(packed - started)
                kernel.append(time.perf_counter() - packed)
    python.sort(), kernel.sort()
    middle = len(python) // 2
    report(Figure("one server replaced, kernel (median)", kernel[middle] * 1e6, "µs"))
    report(Figure("one server replaced, Python (median)", python[middle] * 1e6, "µs"))


def _write(link: Netlink, messages: list[bytes]) -> bool:
    return link.write(messages) == []


def main() -> None:
    numbers = [int(word) for word in sys.argv[1:]]
    count, servers, rounds = (*numbers, *(5000, 3, 3)[len(numbers) :])
    print(f"{count} services × {servers} servers, best of {rounds}", flush=True)
    services = content(count, servers)
    kernel, wanted = cold_start(services, rounds)
    observation(kernel, wanted, rounds)
    one_change(services, rounds)


if __name__ == "__main__":
    main()
