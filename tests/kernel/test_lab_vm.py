"""The VM runner, in two boots: what passes through, and what ends it early."""

import subprocess
import time
from pathlib import Path

import pytest

from kube_router.lab import vm

pytestmark = [pytest.mark.vm, pytest.mark.timeout(180)]

SCRIPT = """
cat; echo to-stderr >&2
echo "$PWD" >kept; touch /gone-with-the-vm
modprobe ip_vs && test -e /proc/net/ip_vs && ip link add probe type dummy && echo has-ip-vs
nsenter --mount=/proc/self/ns/mnt test -e "$PWD/kept" && echo is-its-own-root
test -L "/lib/modules/$(uname -r)" || echo has-modules-of-its-own
sleep 60 &
exit 7
"""


def test_streams_status_folder_and_kernel_modules_pass_through(tmp_path: Path) -> None:
    words = vm.argv(["sh", "-c", SCRIPT], vm=vm.Machine(writable=(str(tmp_path),), timeout_s=120))
    payload = bytes(range(256)) * 4000
    done = subprocess.run(words, input=payload, capture_output=True, cwd=tmp_path, timeout=150, check=False)
    assert done.returncode == 7, done.stderr
    assert done.stdout == payload + b"has-ip-vs\nis-its-own-root\nhas-modules-of-its-own\n"
    assert b"to-stderr" in done.stderr
    assert (tmp_path / "kept").read_text() == f"{tmp_path}\n"
    assert not Path("/gone-with-the-vm").exists()


def test_a_command_that_does_not_end_is_ended_with_status_124(tmp_path: Path) -> None:
    start = time.monotonic()
    words = vm.argv(["sleep", "600"], vm=vm.Machine(writable=(str(tmp_path),), timeout_s=3))
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (124, "vm: the command did not end within 3 s\n")
    assert time.monotonic() - start < 30
