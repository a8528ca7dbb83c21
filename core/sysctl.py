"""Sysctls, written where they differ (I/O). Those of the network are the calling thread's network namespace's own."""

import logging
from collections.abc import Mapping
from pathlib import Path

logger = logging.getLogger(__name__)

ROOT = Path("/proc/sys")


def write_sysctl(path: Path, value: str) -> bool:
    """Return whether the sysctl had another value and was written. Raises ``OSError``."""
    found = path.read_text().strip()
    if found == value:
        return False
    path.write_text(value)
    logger.info(f"sysctl_set path={path} was={found} now={value}")
    return True


def write_sysctls(values: Mapping[str, str], *, root: Path = ROOT) -> tuple[int, list[str]]:
    """Return how many sysctls were written, and in words which are missing or refused."""
    written = 0
    troubles: list[str] = []
    for name, value in values.items():
        try:
            written += write_sysctl(root / name, value)
        except OSError as e:
            troubles.append(f"sysctl {name.replace('/', '.')}={value}: {e.strerror}")
    return written, troubles
