"""The control plane's programs are found where people have them, and what is missing is said in words."""

import os
from pathlib import Path

import pytest
from harness import binaries, gomodules
from harness.gomodules import KUBERNETES


def program(path: Path, text: str = "exit 0") -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any of it; returns the folder that is its PATH."""
    monkeypatch.setenv("KR_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.delenv("GOTOOLCHAIN", raising=False)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(gomodules, "GO_PLACES", [])
    return tmp_path / "bin"


def test_the_version_is_the_one_the_go_module_pins() -> None:
    assert KUBERNETES.version.startswith("v1.")


def test_assets_come_first_and_our_own_build_fills_the_gaps(nothing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assets, cache = nothing.with_name("assets"), KUBERNETES.cache
    assets.mkdir()
    cache.mkdir(parents=True)
    for name in ("etcd", "kube-apiserver", "kubectl"):
        program(assets / name)
    for name in ("server", "kube-apiserver", "kube-controller-manager", "kubectl"):
        program(cache / name)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))
    found = binaries.binaries()
    assert found.etcd == assets / "etcd"
    assert found.kube_controller_manager == cache / "kube-controller-manager"
    monkeypatch.delenv("KUBEBUILDER_ASSETS")
    assert binaries.binaries().etcd == cache / "server"


def test_without_go_it_is_said_what_to_install(nothing: Path) -> None:
    assert "there is no go: install Go 1.26" in binaries.why_none()


@pytest.mark.parametrize(
    ("go", "toolchain", "why"),
    [
        ("go1.19.8", "", "go is go1.19.8"),
        ("go1.23.4", "", ""),
        ("go1.23.4", "local", "with GOTOOLCHAIN=local"),
        ("go1.26.0", "local", ""),
        ("go2.0", "local", ""),
        ("gibberish", "", "go is gibberish"),
    ],
)
def test_go_must_be_new_enough_or_able_to_fetch_a_newer_one(
    nothing: Path, monkeypatch: pytest.MonkeyPatch, go: str, toolchain: str, why: str
) -> None:
    program(nothing / "go", f"echo {go}")
    if toolchain:
        monkeypatch.setenv("GOTOOLCHAIN", toolchain)
    assert (why in binaries.why_none()) if why else (binaries.why_none() == "")


def test_a_build_that_fails_says_why_and_leaves_nothing(nothing: Path) -> None:
    program(nothing / "go", 'case $1 in env) echo go1.26.0;; *) echo "no network" >&2; exit 1;; esac')
    said: list[str] = []
    with pytest.raises(gomodules.Unavailable, match="no network"):
        binaries.binaries(said.append)
    assert len(said) == 1
    assert sorted(os.listdir(KUBERNETES.cache.parent)) == ["build.log", f"{KUBERNETES.version}.lock"]


def test_a_build_ends_in_the_cache(nothing: Path) -> None:
    made = "for n in server kube-apiserver kube-controller-manager kubectl; do : > $GOBIN/$n; chmod +x $GOBIN/$n; done"
    program(nothing / "go", f"case $1 in env) echo go1.26.0;; *) {made};; esac")
    os.symlink("/usr/bin/chmod", nothing / "chmod")
    assert binaries.binaries(lambda text: None).kubectl == KUBERNETES.cache / "kubectl"
