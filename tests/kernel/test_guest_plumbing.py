"""Guest tests are reported on the host as if they had run here, whatever becomes of them in the VM."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from harness import machine

TESTS = Path(__file__).parents[1]
SUITE = """
import os
import pytest

pytestmark = pytest.mark.guest

def test_passes():
    print("hello from", os.uname().release)

def test_fails():
    assert 1 + 1 == 3, "sums are off"

def test_skips():
    pytest.skip("the moon is not full")

@pytest.mark.xfail(reason="known")
def test_expected_to_fail():
    assert False

@pytest.mark.parametrize("word", ["a b", "c[d]"])
def test_odd_ids(word):
    assert word

def test_is_not_selected():
    assert False

@pytest.fixture
def broken():
    yield
    raise RuntimeError("tear-down went wrong")

def test_tears_down_badly(broken):
    pass

def test_z_dies():
    os._exit(7)

def test_z_follows_a_death():
    pass
"""


def run_suite(folder: Path, *options: str, **env: str) -> "subprocess.CompletedProcess[str]":
    (folder / "conftest.py").write_text('pytest_plugins = ("harness.plugin",)\n')
    (folder / "test_suite.py").write_text(SUITE)
    markers = "\n".join(f"  {name}: x" for name in ("guest", "root", "controlplane"))
    (folder / "setup.cfg").write_text(f"[tool:pytest]\npythonpath = {TESTS}\ntimeout = 60\nmarkers =\n{markers}\n")
    argv = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", *options]
    return subprocess.run(argv, cwd=folder, env=os.environ | env, capture_output=True, text=True, timeout=300)


@pytest.mark.vm
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(bool(machine.why_no_vm()), reason=machine.why_no_vm())
@pytest.mark.skipif(machine.runs_guest_tests_itself(), reason="this machine needs no VM for guest tests")
def test_every_outcome_in_the_guest_is_the_outcome_here(tmp_path: Path) -> None:
    shown = run_suite(tmp_path, "-k", "not selected").stdout
    for line in (
        "PASSED test_suite.py::test_passes",
        "FAILED test_suite.py::test_fails - AssertionError: sums are off",
        "SKIPPED [1] test_suite.py:14: the moon is not full",
        "XFAIL test_suite.py::test_expected_to_fail - known",
        "PASSED test_suite.py::test_odd_ids[a b]",
        "PASSED test_suite.py::test_odd_ids[c[d]]",
        "ERROR test_suite.py::test_tears_down_badly - RuntimeError: tear-down went wrong",
        "FAILED test_suite.py::test_z_dies",
        "FAILED test_suite.py::test_z_follows_a_death",
        "The guest gave no report of this test (exit status 7)",
        "hello from ",
    ):
        assert line in shown, f"{line!r} is missing in:\n{shown}"
    assert "3 failed, 4 passed, 1 skipped, 1 deselected, 1 xfailed, 1 error" in shown


def test_where_no_vm_can_be_had_guest_tests_are_skipped_with_the_reason(tmp_path: Path) -> None:
    done = run_suite(tmp_path, "-k", "passes", PATH="/nowhere", CI="")
    assert done.returncode == 0
    assert "1 skipped" in done.stdout
    assert "the VM needs" in done.stdout


def test_where_no_vm_can_be_had_guest_tests_fail_in_ci(tmp_path: Path) -> None:
    done = run_suite(tmp_path, "-k", "passes", PATH="/nowhere", CI="true")
    assert done.returncode == 1
    assert "cannot run in CI: the VM needs" in done.stdout
