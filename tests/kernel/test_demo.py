"""The demo, as ``make demo`` plays it: all it looks at is as expected."""

import subprocess
import sys

import pytest

pytestmark = [pytest.mark.vm, pytest.mark.slow, pytest.mark.timeout(600)]


def test_the_demo_shows_all_as_expected() -> None:
    argv = [sys.executable, "-m", "kube_router.lab.demo", "--no-install"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=580, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all as expected" in done.stdout
    assert "-A -t 10.96.0.10:80 -s rr" in done.stdout
