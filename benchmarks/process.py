"""What another process costs, read from /proc."""

import os
import re
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process with its threads, and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS


def exact_cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process's threads that live, to the nanosecond where ``cpu_s`` counts 10 ms."""
    files = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(file.read_text().split()[0]) for file in files) / 1e9


def rss_mb(pid: int) -> float:
    """Return the resident set in MB (10^6 bytes)."""
    return _status_kib(pid, "VmRSS") * 1024 / 1e6


def exact_rss_mb(pid: int) -> float:
    """Return the resident set in MB, page by page: ``rss_mb`` may be some MB behind a process that is at work."""
    found = re.search(r"^Rss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert found, f"/proc/{pid}/smaps_rollup has no Rss"
    return int(found[1]) * 1024 / 1e6


def peak_rss_mb(pid: int) -> float:
    """Return the largest resident set so far, in MB."""
    return _status_kib(pid, "VmHWM") * 1024 / 1e6


def _status_kib(pid: int, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found, f"/proc/{pid}/status has no {name}"
    return int(found[1])
