"""The bridge's sysctls are set where the kernel has them, and what cannot be done is told."""

import subprocess
from pathlib import Path

import pytest
from harness.netns import run_in_new, sh

from kube_router.core import bridge, modules
from kube_router.core.bridge import BRIDGE_SYSCTLS, prepare_bridge

BRIDGE = Path("net/bridge")


def plant(root: Path, iptables: str, ip6tables: str) -> None:
    (root / BRIDGE).mkdir(parents=True)
    (root / BRIDGE / "bridge-nf-call-iptables").write_text(iptables)
    (root / BRIDGE / "bridge-nf-call-ip6tables").write_text(ip6tables)


def test_only_what_differs_is_written(tmp_path: Path) -> None:
    plant(tmp_path, "1\n", "0\n")
    assert prepare_bridge(root=tmp_path) == (1, [])
    assert (tmp_path / BRIDGE / "bridge-nf-call-ip6tables").read_text() == "1"
    assert prepare_bridge(root=tmp_path) == (0, [])


def test_a_missing_sysctl_is_told(tmp_path: Path) -> None:
    (tmp_path / BRIDGE).mkdir(parents=True)
    (tmp_path / BRIDGE / "bridge-nf-call-iptables").write_text("0")
    assert prepare_bridge(root=tmp_path) == (
        1,
        ["sysctl net.bridge.bridge-nf-call-ip6tables=1: No such file or directory"],
    )


@pytest.mark.root
def test_without_a_bridge_no_module_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError(f"a program was run: {arguments}")

    def inside() -> None:
        with monkeypatch.context() as patched:
            patched.setattr(subprocess, "run", refuse)
            assert prepare_bridge(root=tmp_path) == (0, [])

    run_in_new(inside)


@pytest.mark.root
def test_a_module_that_is_not_to_be_had_is_told_with_what_it_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = tmp_path / "bin" / "modprobe"
    failing.parent.mkdir()
    failing.write_text("#!/bin/sh\necho 'FATAL: Module br_netfilter not found' >&2\nexit 1\n")
    failing.chmod(0o755)

    def inside() -> None:
        sh(f"ip link add {bridge.BRIDGE} type bridge")
        with monkeypatch.context() as patched:
            patched.setattr(modules, "LOADED", tmp_path / "module")
            patched.setenv("PATH", str(failing.parent))
            said = f"modprobe br_netfilter: FATAL: Module br_netfilter not found; {modules.remedy('br_netfilter')}"
            assert prepare_bridge(root=tmp_path) == (0, [f"{said}; {bridge.WITHOUT}"])
            failing.unlink()
            written, (trouble,) = prepare_bridge(root=tmp_path)
            assert (written, "No such file" in trouble) == (0, True)

    run_in_new(inside)


@pytest.mark.root
def test_where_the_module_is_there_it_is_not_loaded_and_missing_sysctls_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "module" / "br_netfilter").mkdir(parents=True)

    def inside() -> None:
        sh(f"ip link add {bridge.BRIDGE} type bridge")
        with monkeypatch.context() as patched:
            patched.setattr(modules, "LOADED", tmp_path / "module")
            patched.setenv("PATH", "")
            written, troubles = prepare_bridge(root=tmp_path)
        assert written == 0
        assert troubles == [f"sysctl {name.replace('/', '.')}=1: No such file or directory" for name in BRIDGE_SYSCTLS]

    run_in_new(inside)


@pytest.mark.root
def test_the_kernel_s_sysctls_are_this_namespace_s_own() -> None:
    def inside() -> None:
        sysctls = Path("/proc/sys/net/bridge")
        if not sysctls.exists():
            return
        (sysctls / "bridge-nf-call-iptables").write_text("0")
        assert prepare_bridge() == (1, [])
        assert (sysctls / "bridge-nf-call-iptables").read_text() == "1\n"

    run_in_new(inside)
