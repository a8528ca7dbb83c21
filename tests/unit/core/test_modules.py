"""A kernel module is loaded where it is missing, and who has to load it instead is told where that is refused."""

from pathlib import Path

import pytest

from kube_router.core import modules


@pytest.fixture(name="program")
def _program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of a modprobe of the test's own; only ``there`` is loaded."""
    (tmp_path / "loaded" / "there").mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    monkeypatch.setattr(modules, "LOADED", tmp_path / "loaded")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path / "bin" / "modprobe"


def plant(program: Path, body: str) -> None:
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)


def test_a_module_that_is_there_is_not_asked_for(program: Path) -> None:
    plant(program, "exit 1")
    assert modules.load("there") == ""


def test_a_module_is_loaded_by_its_name(program: Path) -> None:
    plant(program, f'echo "$@" > {program}.called')
    assert modules.load("fou6") == ""
    assert Path(f"{program}.called").read_text() == "fou6\n"


def test_a_refusal_says_why_and_who_may_load_it(program: Path) -> None:
    plant(program, 'echo "ERROR: could not insert fou: Operation not permitted" >&2; exit 1')
    told = modules.load("fou")
    assert told.startswith("modprobe fou: ERROR: could not insert fou: Operation not permitted; load it on the host")
    assert "an init container of the DaemonSet" in told


def test_without_the_program_the_same_is_told(program: Path) -> None:
    told = modules.load("fou")
    assert not program.exists()
    assert "No such file or directory" in told
    assert "load it on the host (`modprobe fou`" in told
