"""The cgroups that containers of a test cluster leave behind: this machine's are shared (I/O)."""

import contextlib
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
CONTAINERS = "k8s.io"  # where containerd puts the containers of Kubernetes, in each hierarchy


def folders() -> list[Path]:
    """Return the folders of containers there are, one in each hierarchy."""
    return [*ROOT.glob(f"*/{CONTAINERS}"), *ROOT.glob(CONTAINERS)]


def remove(kept: list[Path]) -> None:
    """Remove what is empty below the folders, but for those that are to be kept: they are another's."""
    for folder in folders():
        if folder not in kept:
            for path in sorted((each for each in folder.rglob("*") if each.is_dir()), reverse=True):
                _remove(path)
            _remove(folder)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # one that is in use is not empty, and stays
        path.rmdir()
