"""A real agent with a plugin that fails in every way: the other one is not late, and the operator sees what happens."""

import statistics
from pathlib import Path

import pytest
from harness.crowd import crowd
from harness.machine import until

from kube_router.core.ask import ask


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
