"""Print how long one changed endpoint takes through the agent at 10k Services, WITHOUT KERNEL: until it is planned.

A stub of an API server (benchmarks/apistub.py) tells a real agent process of a changed EndpointSlice, over and over;
the proxy plans it but writes nothing (benchmarks/shadow.py). What the kernel takes for the three messages is measured
where there is one (benchmarks/ipvs_table.py, one server replaced). The time is split at two moments:

* source, journal: until the change is in the journal. The journal's times are whole milliseconds, rounded down.
* debounce: until the plugin is called (50 ms of quiet).
* plan: until it has returned.

The bar (p99 ≤ 100 ms until the kernel is programmed, debounce included) is not judged here, for want of the kernel.
"""

import argparse
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.apistub import Stub, team
from benchmarks.figures import Figure, report
from benchmarks.shadowed import Agent
from kube_router.events.event import Put
from kube_router.events.normalize import BUILTIN
from kube_router.events.reading import read
from kube_router.events.resource import Catalogue

ANSWER_S_MAX = 10.0
POLL_S = 0.002
PAUSE_S = (0.0, 0.2)


@dataclass(frozen=True, slots=True)
class Reconcile:
    """When the plugin was called and had returned, in Unix seconds."""

    begun: float
    done: float


class Log:
    """What the shadow plugin writes, read as it grows."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self._file = path.open()

    def wait_for(self, key: str) -> Reconcile:
        """Return the next reconcile that was about this slice."""
        deadline, line = time.monotonic() + ANSWER_S_MAX, ""
        while time.monotonic() < deadline:
            line += self._file.readline()
            if not line.endswith("\n"):
                time.sleep(POLL_S)
                continue
            begun, done, *keys = line.split()
            if key in keys:
                return Reconcile(float(begun), float(done))
            line = ""
        raise TimeoutError(f"the agent did not plan {key} within {ANSWER_S_MAX} s")


def measure(stub: Stub, log: Log, *, services: int, changes: int) -> list[tuple[str, float, Reconcile]]:
    """Change that many endpoints, one after the other; return each one's slice, when it was sent and when planned."""
    chance = random.Random(1)
    found = []
    for number in chance.sample(range(services), changes):
        time.sleep(chance.uniform(*PAUSE_S))
        key = f"{team(number)}/web-{number}-x7"
        sent = stub.change(number)
        found.append((key, sent, log.wait_for(key)))
    return found


def journaled(directory: Path) -> dict[str, float]:
    """Return when each slice last came into the journal, in Unix seconds."""
    records = read(directory, Catalogue(BUILTIN).decoders)
    return {it.key: it.t / 1000 for it in records if isinstance(it, Put) and it.r == "endpointslices"}


def quantile(values: list[float], share: float) -> float:
    """Return the value below which that share lies."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=10_000)
    parser.add_argument("--changes", type=int, default=200)
    options = parser.parse_args()
    print(f"{options.services:,} Services × 3, {options.changes} changes of one endpoint; WITHOUT KERNEL")
    with tempfile.TemporaryDirectory(prefix="kr-latency-") as name, Stub(services=options.services) as stub:
        folder = Path(name)
        log = Log(folder / "reconciles")
        with Agent(folder, stub.url, SHADOW_LOG=str(folder / "reconciles")) as agent:
            agent.in_sync()
            found = measure(stub, log, services=options.services, changes=options.changes)
        written = journaled(folder / "journal")
    whole = [1000 * (it.done - sent) for _, sent, it in found]
    parts = {
        "  source, journal": [1000 * (written[key] - sent) for key, sent, _ in found],
        "  debounce": [1000 * (it.begun - written[key]) for key, _, it in found],
        "  plan": [1000 * (it.done - it.begun) for _, _, it in found],
    }
    what = "one endpoint changed → planned, without kernel"
    report(Figure(f"{what}, p50", quantile(whole, 0.5), "ms"))
    report(Figure(f"{what}, p99", quantile(whole, 0.99), "ms"))
    for part, times in parts.items():
        report(Figure(f"{part}, p50", max(quantile(times, 0.5), 0), "ms"))
        report(Figure(f"{part}, p99", max(quantile(times, 0.99), 0), "ms"))


if __name__ == "__main__":
    main()
