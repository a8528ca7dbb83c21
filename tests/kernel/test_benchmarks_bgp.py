"""BGP's benchmarks, small: everybody takes all routes and gives them back, before anything is measured in large."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from harness.bird import Bird
from harness.gobgp import Gobgp
from harness.plugin import need

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(120)]
ROOT = Path(__file__).parents[2]


def bench(name: str, *arguments: str) -> list[str]:
    """Return the figures that a benchmark prints."""
    need(Bird.why_none() or Gobgp.why_none())
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    argv = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    done = subprocess.run(argv, env=env, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    return [line.split("  ")[0] for line in done.stdout.splitlines()]


def test_routes_are_taken_and_given_back_by_all_receivers() -> None:
    assert bench("bgp_convergence", "--routes=300", "--rounds=1") == [
        "300 routes, established → in the kernel",
        "300 routes, withdrawn → out of the kernel",
        "300 routes, told → in the RIB",
        "300 routes, memory of each (RSS)",
    ]


def test_a_mesh_comes_up_rests_and_grows() -> None:
    assert bench("bgp_mesh", "--sessions=20", "--seconds=7") == [
        "20 sessions, CPU at rest",
        "20 sessions, lateness of a keepalive, p99",
        "20 sessions, the latest keepalive",
        "20 sessions, a node joins, time",
        "20 sessions, a node joins, CPU",
    ]
