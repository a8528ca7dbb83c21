"""The names of the specs that the suite has (I/O)."""

import re
import subprocess

from harness.gomodules import KUBERNETES

LIST_S = 120


def specs() -> tuple[str, ...]:
    """Return the full names of all, in order. CalledProcessError where the program fails."""
    argv = [str(KUBERNETES.program("e2e.test")), "--list-tests"]
    text = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=LIST_S).stdout
    return parse(text)


def parse(text: str) -> tuple[str, ...]:
    """Return the names in what ``--list-tests`` prints: each after its file and line."""
    return tuple(sorted({found[1] for found in re.finditer(r"^\s+\S+\.go:\d+: (.+?)\s*$", text, re.MULTILINE)}))
