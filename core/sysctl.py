"""Sysctls, written where they differ (I/O). Those of the network are the calling thread's network namespace's own.

A pod that is not privileged sees /proc/sys read-only. The host's /proc/sys/net mounted at another place is writable to
who has NET_ADMIN, and shows the reader's own namespace all the same: ``KUBE_ROUTER_PROC_SYS`` names the place.
"""

import errno
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from kube_router.events.errors import ConfigError

logger = logging.getLogger(__name__)

VARIABLE = "KUBE_ROUTER_PROC_SYS"
PROC_SYS = Path("/proc/sys")
ROOT = Path(os.environ.get(VARIABLE) or PROC_SYS)
IN_A_POD = (
    "in a pod that is not privileged mount the host's /proc/sys/net at /host/proc/sys/net "
    f"and set {VARIABLE}=/host/proc/sys"
)
DENIED = "it takes the capability NET_ADMIN: add it to securityContext.capabilities.add"


def check(root: Path = ROOT) -> None:
    """Raises ``ConfigError`` where another place than /proc/sys is named and holds no sysctls of the network."""
    if root != PROC_SYS and not (root / "net").is_dir():
        raise ConfigError(f"{VARIABLE}={root}: there is no {root / 'net'}; {IN_A_POD}")


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
            troubles.append(trouble(name, value, e))
    return written, troubles


def trouble(name: str, value: str, error: OSError) -> str:
    """Return in words that a sysctl was not written, and what now where that is known."""
    now = {errno.EROFS: f"; {IN_A_POD}", errno.EACCES: f"; {DENIED}"}.get(error.errno or 0, "")
    return f"sysctl {name.replace('/', '.')}={value}: {error.strerror}{now}"
