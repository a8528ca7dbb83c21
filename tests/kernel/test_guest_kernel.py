"""The guest is what its tests rely on: root, a kernel with ip_vs and dummy interfaces, time limits that fit it."""

import os
import subprocess

import pytest
from harness import machine


@pytest.mark.guest
def test_guest_tests_run_as_root_on_a_kernel_with_ip_vs() -> None:
    assert os.geteuid() == 0
    subprocess.run(["ipvsadm", "-Ln"], check=True, capture_output=True)


@pytest.mark.guest
@pytest.mark.timeout(20)
def test_time_limits_are_stretched_inside_the_guest(request: pytest.FixtureRequest) -> None:
    marker = request.node.get_closest_marker("timeout")
    assert marker.args == (300,) if machine.in_guest() else (20,)
