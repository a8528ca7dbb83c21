"""Kill -9 in the middle of a write, many times: the old table or the new one, never a part of one."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness.machine import until
from harness.netns import run_in, sh
from harness.tablewriter import live, rulesets
from harness.zygote import runs

from kube_router.plugins.firewall.kernel import Kernel
from kube_router.plugins.firewall.model import Ruleset

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(180)]

KILLS = 20
WRITES_TAKE_S = 0.25  # some: a kill comes somewhere in the first of them


@pytest.fixture(name="namespace")
def _namespace() -> Iterator[str]:
    name = f"atomic-{os.getpid()}"
    sh(f"ip netns add {name}")
    try:
        yield name
    finally:
        sh(f"ip netns del {name}")


@contextmanager
def writers(namespace: str, how: str) -> Iterator[Callable[[], int]]:
    """Give what starts a writer, waits until it has written once, and returns its pid."""
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    argv = ["ip", "netns", "exec", namespace, sys.executable, "-m", "harness.tablewriter", how]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": path}
    ) as process:
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None
        assert stdout is not None

        def start() -> int:
            stdin.write(b"\n")
            stdin.flush()
            return int(stdout.readline())

        yield start
        stdin.close()


def kill(pid: int) -> None:
    """Kill and wait for the end: what a process has sent to the kernel is done by then."""
    os.kill(pid, signal.SIGKILL)
    until(lambda: not runs(pid), what=f"the end of {pid}")


def tables_left(namespace: str, how: str) -> Iterator[Ruleset]:
    """Return what is in the kernel after each kill."""
    chance = random.Random(9)
    with writers(namespace, how) as start:
        for _ in range(KILLS):
            pid = start()
            time.sleep(chance.uniform(0, WRITES_TAKE_S))
            kill(pid)
            found = run_in(namespace, lambda: Kernel().read())
            assert found is not None
            yield found


@pytest.mark.parametrize("how", ["replace", "edit"])
def test_a_killed_writer_leaves_the_one_table_or_the_other(namespace: str, how: str) -> None:
    seen: Counter[str] = Counter()
    one, other = rulesets()
    assert live(one) != live(other)
    assert one.sets.keys() ^ other.sets.keys()
    for found in tables_left(namespace, how):
        if how == "edit" and found not in (one, other):
            # Between two transactions there is besides what the one or the other has, and nobody refers to.
            assert found.chains.items() <= (one.chains | other.chains).items()
            assert found.sets.items() <= (one.sets | other.sets).items()
            seen["with something that nobody refers to"] += 1
        else:
            assert found in (one, other)
        assert live(found) in (live(one), live(other))
        seen["one" if live(found) == live(one) else "other"] += 1
    print(dict(seen))
    assert min(seen["one"], seen["other"]) >= 1
