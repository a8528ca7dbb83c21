"""The benchmarks as a person starts them. What they find is no matter of tests; that they run is."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def bench(*arguments: str) -> str:
    """Return what ``make bench`` would print with these arguments."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    argv = [sys.executable, "-m", *arguments]
    done = subprocess.run(argv, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_each_benchmark_says_whether_it_can_run_here() -> None:
    names = [line.split()[0] for line in bench("benchmarks.run", "--list").splitlines()]
    assert names == [
        "journal_rates",
        "list_decode",
        "bgp_codec",
        "bgp_fuzz",
        "agent_memory",
        "latency",
        "image_start",
        "bgp_convergence",
        "bgp_mesh",
        "firewall_packets",
        "firewall_programming",
        "firewall_latency",
        "ipvs_table",
        "agent_vm",
    ]
    assert all((ROOT / "benchmarks" / f"{name}.py").exists() for name in names)


def test_a_figure_is_told_with_its_bar() -> None:
    lines = bench("benchmarks.journal_rates", "--events=1000", "--rounds=1").splitlines()
    assert [line.split("  ")[0] for line in lines[1:]] == [
        "journal append",
        "journal recovery",
        "journal recovery into the state",
        "journal reading (kr replay)",
    ]
    assert "bar ≥ 200,000 events/s" in lines[1]


def test_agents_are_measured_in_small_as_in_large() -> None:
    memory = bench("benchmarks.latency", "--services=20", "--changes=2")
    assert "one endpoint changed → planned, without kernel, p50" in memory


def test_the_fuzz_of_bgp_counts_every_message() -> None:
    lines = [line.split("  ") for line in bench("benchmarks.bgp_fuzz", "--messages=300", "--processes=1").splitlines()]
    assert lines[0][0] == "mutated BGP messages that broke the codec"
    assert "bar ≤ 0 messages: met" in lines[0][-1]
    assert lines[1][1] == "of"
