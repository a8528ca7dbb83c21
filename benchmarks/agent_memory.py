"""Print the resident set of a real agent process that holds 10k pods and 5k Services with three endpoints each.

The agent watches a stub of an API server (benchmarks/apistub.py), for all built-in kinds. There is no ip_vs on most
machines, so the proxy runs without a kernel (benchmarks/shadow.py); what it plans and what it would take the kernel to
hold are both in memory, as they are on a node. Bar: 150 MB.
"""

import argparse
import tempfile
import time
from pathlib import Path

from benchmarks.apistub import Stub
from benchmarks.figures import Figure, report
from benchmarks.process import cpu_s, peak_rss_mb, rss_mb
from benchmarks.shadowed import Agent

BAR_MB = 150.0
IDLE_S = 15.0  # longer than between two checkpoints of the journal


def measure(folder: Path, url: str, what: str) -> None:
    """Run one agent until it is in sync and for a while after, and tell its memory."""
    with Agent(folder, url, SHADOW_NEEDS="all") as agent:
        seconds = agent.in_sync()
        cpu = cpu_s(agent.pid)
        report(Figure(f"agent RSS, {what}", rss_mb(agent.pid), "MB", bar=BAR_MB))
        report(Figure("  its peak so far", peak_rss_mb(agent.pid), "MB"))
        report(Figure("  process start to in sync", seconds, "s"))
        report(Figure("  CPU until then", cpu, "CPU s"))
        time.sleep(IDLE_S)
        report(Figure(f"  RSS after {IDLE_S:g} s idle", rss_mb(agent.pid), "MB", bar=BAR_MB))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=5000)
    parser.add_argument("--pods", type=int, default=10_000)
    options = parser.parse_args()
    size = f"{options.pods:,} pods, {options.services:,} Services × 3"
    print(size)
    with (
        tempfile.TemporaryDirectory(prefix="kr-memory-") as folder,
        Stub(services=options.services, pods=options.pods) as stub,
    ):
        measure(Path(folder), stub.url, f"first start, {size}")
        measure(Path(folder), stub.url, "restart from the journal")


if __name__ == "__main__":
    main()
