"""What tests may expect of the machine they run on: markers' reasons, the guest's slowness, CI's strictness.

A test that cannot run says why. On a person's machine that is a skip; in CI ($CI is "true") it is a failure, so that
no test is ever lost silently.
"""

import functools
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from typing import TypeVar

from harness.gomodules import CONTAINERD, KUBERNETES

from kube_router.events.errors import ConfigError
from kube_router.lab import machine, vm

IN_GUEST = "KR_GUEST"
GUEST_SLOWNESS = 15  # an emulated CPU against a real one
POLL_S = 0.05
PROBE_TIMEOUT_S = 30

T = TypeVar("T")


def in_ci() -> bool:
    """Tell whether a test that cannot run is a failure."""
    return os.environ.get("CI") == "true"


def in_guest() -> bool:
    """Tell whether this pytest runs inside the VM."""
    return os.environ.get(IN_GUEST) == "1" or machine.in_vm()


def slowness() -> int:
    """Return the factor for every time limit of a test."""
    return GUEST_SLOWNESS if in_guest() else 1


@functools.cache
def runs_guest_tests_itself() -> bool:
    """Tell whether tests marked ``guest`` run right here: inside the VM, or where root has a kernel with ip_vs."""
    return in_guest() or machine.have_ip_vs()


@functools.cache
def why_no_vm() -> str:
    """Return why this machine cannot run the VM, "" if it can."""
    try:
        vm.check(vm.Machine())
    except ConfigError as error:
        return str(error)
    return ""


@functools.cache
def why_no_namespaces() -> str:
    """Return why tests marked ``root`` cannot run here, "" if they can."""
    if os.geteuid() != 0:
        return "needs root: sudo make test"
    try:
        subprocess.run(["unshare", "--net", "true"], check=True, capture_output=True, timeout=PROBE_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError) as error:
        return f"needs network namespaces of its own, and this machine grants none: {error}"
    return ""


def why_no_image() -> str:
    """Return why the agent's image cannot be built here, "" if it can."""
    return _missing("mmdebstrap", "buildah")


@functools.cache
def why_no_cluster() -> str:
    """Return why tests marked ``cluster`` cannot run here, "" if they can."""
    why_not = why_no_image() or _missing("runc") or why_no_namespaces()
    return why_not or KUBERNETES.why_none(["kubelet"]) or CONTAINERD.why_none(["containerd"])


def _missing(*packages: str) -> str:
    missing = [package for package in packages if shutil.which(package) is None]
    return f"needs Debian's {' and '.join(missing)}: .ci/setup installs them" if missing else ""


def until(condition: Callable[[], T], *, what: str, timeout_s: float = 10) -> T:
    """Return the condition's first true value; AssertionError naming ``what`` after the time, longer in the guest."""
    deadline = time.monotonic() + timeout_s * slowness()
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s * slowness():g} s for {what}; the last answer was {value!r}")
        time.sleep(POLL_S)
    return value
