"""Sysctls are written where ``KUBE_ROUTER_PROC_SYS`` says, and a refusal says what to mount."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from harness.netns import run_in_new, sh

from kube_router.core import sysctl
from kube_router.events.errors import ConfigError

NAME = "net/ipv4/ip_forward"
WRITE = f"from kube_router.core import sysctl; sysctl.check(); print(sysctl.write_sysctls({{'{NAME}': '1'}}))"


def write(root: str) -> str:
    """Return what a process prints that writes a sysctl as the agent does, with this variable."""
    environ = {**os.environ, sysctl.VARIABLE: root}
    done = subprocess.run([sys.executable, "-c", WRITE], env=environ, capture_output=True, text=True, timeout=30)
    return done.stdout.strip() or done.stderr


def test_the_variable_names_the_root(tmp_path: Path) -> None:
    (tmp_path / NAME).parent.mkdir(parents=True)
    (tmp_path / NAME).write_text("0\n")
    assert write(str(tmp_path)) == "(1, [])"
    assert (tmp_path / NAME).read_text() == "1"
    assert write(str(tmp_path)) == "(0, [])"


def test_a_root_that_was_not_mounted_is_the_operator_s_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{sysctl.VARIABLE}={tmp_path}: there is no {tmp_path}/net; in a pod"):
        sysctl.check(tmp_path)
    assert "ConfigError" in write(str(tmp_path))


def test_the_kernel_s_own_root_is_taken_as_it_is() -> None:
    sysctl.check(sysctl.PROC_SYS)


@pytest.mark.root
def test_a_read_only_proc_is_told_with_what_to_mount_and_there_it_is_written(tmp_path: Path) -> None:
    """As in a pod: /proc/sys is read-only, and the same /proc/sys/net is writable at another place."""
    other = tmp_path / "host/proc/sys"
    (other / "net").mkdir(parents=True)
    (tmp_path / "write.py").write_text(WRITE)
    (tmp_path / "pod").write_text(
        f"mount --bind /proc/sys/net {other}/net\n"
        "mount --bind /proc/sys /proc/sys\n"
        "mount -o remount,bind,ro /proc/sys\n"
        f"{sys.executable} {tmp_path}/write.py\n"
        f"{sysctl.VARIABLE}={other} {sys.executable} {tmp_path}/write.py\n"
        f"cat /proc/sys/{NAME}\n"
    )
    printed = run_in_new(lambda: sh(f"unset {sysctl.VARIABLE}; unshare -m sh -e {tmp_path}/pod"))
    refused, written, value = printed.splitlines()
    trouble = f"sysctl net.ipv4.ip_forward=1: Read-only file system; {sysctl.IN_A_POD}"
    assert ast.literal_eval(refused) == (0, [trouble])
    assert (written, value) == ("(1, [])", "1")
