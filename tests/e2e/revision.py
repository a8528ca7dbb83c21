"""Which sources a run was of (I/O)."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ("core", "events", "plugins", "cli", "deploy")  # what the image is of


def commit() -> str:
    """Return the commit that is checked out, with "+" where the sources differ from it."""
    head = _git("rev-parse", "--short=12", "HEAD")
    return f"{head}+" if _git("status", "--porcelain", "--", *SOURCES) else head


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True, timeout=60)
    return done.stdout.strip()
