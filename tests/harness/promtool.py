"""Prometheus' own judge of rules, queries and configurations: promtool, of Debian's package prometheus."""

import shutil
import subprocess

from harness.plugin import need

PROMTOOL_S = 60


def promtool(*arguments: str) -> None:
    """Run it; AssertionError with its words where it refuses. Without it the test is skipped, or fails in CI."""
    program = shutil.which("promtool")
    need("" if program else "there is no promtool: apt-get install prometheus")
    done = subprocess.run([str(program), *arguments], capture_output=True, text=True, timeout=PROMTOOL_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
