"""``kr prepare`` brings what is missing, replaces nothing, and says what it may not do."""

import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.command import kr

from kube_router.cli import prepare
from kube_router.events.errors import ConfigError


@pytest.fixture
def modprobe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make the given lines of shell the only modprobe there is; until then there is none."""
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))

    def make(text: str) -> None:
        (programs / "modprobe").write_text(f"#!/bin/sh\n{text}\n")
        (programs / "modprobe").chmod(0o755)

    return make


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    for name in prepare.CNI_PLUGINS:
        (folder / name).write_text(f"the image's {name}")
    return folder


def test_missing_plugins_are_installed_and_what_is_there_stays(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "bin"
    target.mkdir()
    (target / "bridge").write_text("the node's bridge")
    done = kr("prepare", "--cni-bin", str(target), "--cni-source", str(source))
    assert done.status == 0
    assert sorted(path.name for path in target.iterdir()) == sorted(prepare.CNI_PLUGINS)
    assert (target / "bridge").read_text() == "the node's bridge"
    assert (target / "portmap").read_text() == "the image's portmap"
    assert stat.S_IMODE((target / "portmap").stat().st_mode) == 0o755
    assert "bridge: installed" not in done.out


def test_a_folder_that_is_not_there_is_named_and_nothing_is_left(source: Path, tmp_path: Path) -> None:
    done = kr("prepare", "--cni-bin", str(tmp_path / "nowhere"), "--cni-source", str(source))
    assert done.status == 2
    assert str(tmp_path / "nowhere") in done.err


def test_a_source_without_a_plugin_leaves_no_half_of_one(source: Path, tmp_path: Path) -> None:
    (source / "portmap").unlink()
    done = kr("prepare", "--cni-bin", str(tmp_path), "--cni-source", str(source))
    assert (done.status, "portmap" in done.err) == (2, True)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


ABSENT = "modprobe: FATAL: Module $1 not found in directory /lib/modules/6.1"


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests need not be root."""
    monkeypatch.setattr(prepare, "effective", lambda: frozenset({"SYS_MODULE"}))


@pytest.mark.usefixtures("able")
def test_modules_that_the_kernel_has_not_are_said_in_one_line_and_the_others_are_loaded(
    modprobe: Callable[[str], None], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    absent = f'case $1 in ip_vs|fou) echo "{ABSENT}" >&2; exit 1;; esac'
    modprobe(f"{absent}; echo $1 >>{log}")
    assert prepare.load(["br_netfilter", "ip_vs", "dummy", "fou"]) == [
        "not loaded: ip_vs, fou: FATAL: Module not found in directory /lib/modules/6.1"
    ]
    assert log.read_text().split() == ["br_netfilter", "dummy"]


@pytest.mark.usefixtures("able")
def test_a_kernel_that_is_locked_down_is_no_reason_to_fail(modprobe: Callable[[str], None]) -> None:
    words = "modprobe: ERROR: could not insert '$1': Operation not permitted"
    modprobe(f'echo "{words}" >&2; exit 1')
    assert prepare.load(["br_netfilter", "fou"]) == [
        "not loaded: br_netfilter, fou: ERROR: could not insert: Operation not permitted"
    ]


def test_without_the_capability_it_ends_and_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "effective", lambda: frozenset({"NET_ADMIN"}))
    with pytest.raises(ConfigError, match=r"the capability SYS_MODULE: add it"):
        prepare.load(["br_netfilter"])


@pytest.mark.usefixtures("able", "modprobe")
def test_without_modprobe_it_says_what_to_install() -> None:
    with pytest.raises(ConfigError, match="install kmod"):
        prepare.load(["br_netfilter"])


def test_nothing_asked_for_is_an_error() -> None:
    assert kr("prepare").status == 2
