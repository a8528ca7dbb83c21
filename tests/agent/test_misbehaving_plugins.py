"""A real agent with a plugin that fails in every way: the other one is not late, and the operator sees what happens."""

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from harness.crowd import install
from harness.machine import until

from kube_router.core.ask import ask

CHANGES = 12


class Crowd:
    """An agent with the plugins ``steady`` and ``bad``, fed from a folder of manifests."""

    def __init__(self, folder: Path, how: str) -> None:
        self.folder, self.seen = folder, folder / "seen"
        self.manifests, self.socket = folder / "manifests", folder / "kr.sock"
        self.manifests.mkdir()
        install(folder / "site")
        environ = {**os.environ, "PYTHONPATH": str(folder / "site"), "HOW": how, "SEEN": str(self.seen)}
        flags = [f"--manifests={self.manifests}", f"--journal-dir={folder / 'journal'}", "--health-port=0"]
        argv = [sys.executable, "-m", "kube_router.cli", "run", *flags, f"--control-socket={self.socket}"]
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen([*argv, "--run-proxy=false"], env=environ, stdout=log, stderr=log)

    def plugin(self, name: str) -> dict[str, Any]:
        status = ask(str(self.socket), "status")
        return next(plugin for plugin in status["plugins"] if plugin["name"] == name)

    def latencies_s(self) -> list[float]:
        """Change one Service after the other; return how long each took to reach ``steady``."""
        taken = []
        for number in range(CHANGES):
            written = time.time()
            self.write(number)
            at = until(partial(self._seen_at, f"default/tick-{number}"), what=f"tick {number}")
            taken.append(at - written)
        return taken

    def write(self, number: int) -> None:
        text = f"apiVersion: v1\nkind: Service\nmetadata: {{name: tick-{number}}}\nspec: {{ports: [{{port: 80}}]}}\n"
        temporary = self.folder / "temporary"
        temporary.write_text(text)
        temporary.rename(self.manifests / f"{number}.yaml")

    def _seen_at(self, key: str) -> float:
        lines = self.seen.read_text().splitlines() if self.seen.exists() else []
        times = [float(line.split()[1]) for line in lines if line.split()[0] == key]
        return times[0] if times else 0.0


@contextmanager
def crowd(folder: Path, how: str) -> Iterator[Crowd]:
    folder.mkdir()
    made = Crowd(folder, how)
    try:
        until(made.socket.exists, what="the agent")
        until(lambda: made.plugin("steady")["reconciles"], what="the first reconcile")
        yield made
        assert made.process.poll() is None, (folder / "log").read_text()
    finally:
        made.process.send_signal(signal.SIGTERM)
        made.process.wait(20)


@pytest.fixture(scope="module", name="usual_s")
def _usual_s(tmp_path_factory: pytest.TempPathFactory) -> float:
    """How long a change takes to reach ``steady`` while ``bad`` behaves."""
    with crowd(tmp_path_factory.mktemp("crowd") / "well", "well") as made:
        return statistics.median(made.latencies_s())


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("raise", "RuntimeError: I never work"),
        ("hang", "TimeoutError: no answer within 0.3 s"),
    ],
)
def test_a_plugin_that_fails_is_restarted_and_the_other_one_is_as_quick_as_ever(
    tmp_path: Path, usual_s: float, how: str, error: str
) -> None:
    with crowd(tmp_path / "crowd", how) as made:
        taken = statistics.median(made.latencies_s())
        print(f"median latency of the other plugin: {taken * 1000:.0f} ms, usually {usual_s * 1000:.0f} ms")
        bad = made.plugin("bad")
        assert bad["restarts"] >= 2
        assert bad["last_error"] == error
        assert made.plugin("steady")["restarts"] == 0
        assert taken < 2 * usual_s + 0.1


def test_a_hung_thread_is_given_up_and_replaced(tmp_path: Path, usual_s: float) -> None:
    with crowd(tmp_path / "crowd", "hang once in a thread") as made:
        taken = statistics.median(made.latencies_s())
        until(lambda: made.plugin("bad")["reconciles"], what="the bad plugin to work again")
        assert made.plugin("bad")["threads_given_up"] == 1
        assert taken < 2 * usual_s + 0.1


def test_a_plugin_that_blocks_the_loop_is_named_with_its_stack(tmp_path: Path) -> None:
    with crowd(tmp_path / "crowd", "block") as made:
        made.write(0)
        until(lambda: ask(str(made.socket), "status")["loop"]["blocked"], what="the watchdog")
        assert ask(str(made.socket), "status")["loop"]["blocked"][0].startswith("bad: ")
        log = (tmp_path / "crowd" / "log").read_text()
        assert "loop_blocked by=bad" in log
        assert 'crowd_bad.py", line' in log
