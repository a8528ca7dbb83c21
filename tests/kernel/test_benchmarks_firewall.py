"""The firewall's benchmarks, small: every layout loads and lets through what it should, before anything is measured."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]
ROOT = Path(__file__).parents[2]


def bench(name: str, *arguments: str) -> list[str]:
    """Return the figures that a benchmark prints."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    argv = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    done = subprocess.run(argv, env=env, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    return [line.split("  ")[0] for line in done.stdout.splitlines() if not line.startswith("  ")]


def test_a_packet_is_measured_through_each_layout() -> None:
    assert bench("firewall_packets", "--pods=10,20", "--rounds=1", "--packets=500") == [
        "packet of a new flow, 10 pods",
        "packet of an established flow, 10 pods",
        "packet of a new flow, 20 pods",
        "packet of an established flow, 20 pods",
        "a new flow's multiple of conntrack only, 20 pods",
    ]


def test_the_table_and_the_classic_layout_are_written_and_changed() -> None:
    assert bench("firewall_programming", "--sizes=20x10", "--starts=1", "--times=2") == [
        "cold start, 20 × 10",
        "a new pod, 20 × 10",
        "a pod's label, 20 × 10",
        "a policy's port, 20 × 10",
    ]


@pytest.mark.controlplane
def test_changes_are_followed_from_the_api_server_to_the_packets() -> None:
    assert bench("firewall_latency", "--pods=20", "--policies=10", "--changes=2")[1:] == [
        "a pod gets its address → enforced, p50",
        "a pod gets its address → enforced, p99",
        "a pod's label → packets judged anew, p50",
        "a pod's label → packets judged anew, p99",
    ]
