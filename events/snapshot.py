"""Write a snapshot so that it is either there and complete or not there, and remove what is no longer needed.

Kept are the last two snapshots and all logs after the older one: what recovery may need. Older logs are history for
people; they and the evidence of old damage go, oldest first, when the folder outgrows its budget.
"""

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from kube_router.events.event import End, Put, Segment
from kube_router.events.line import frame
from kube_router.events.segment import File, Folder, listing, snapshot_path, sync_directory

SNAPSHOTS_KEPT = 2

# Objects encoded between two writes: small enough that the event loop's thread gets its turn in between.
SLICE_OBJECTS = 500


def write_snapshot(directory: Path, head: Segment, puts: Sequence[Put]) -> int:
    """Write the state before ``head.seq`` and make it durable; return its size in bytes.

    OSError when the disk will not have it; nothing is left behind then.
    """
    path = snapshot_path(directory, head.seq - 1)
    temporary = path.with_suffix(".tmp")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            for part in _parts(head, puts):
                file.write(part)
            file.flush()
            os.fdatasync(file.fileno())
            size = file.tell()
        temporary.rename(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(directory)
    return size


def _parts(head: Segment, puts: Sequence[Put]) -> Iterator[bytes]:
    yield frame(head)
    rest = iter(puts)
    while part := b"".join(map(frame, islice(rest, SLICE_OBJECTS))):
        yield part
    yield frame(End(seq=head.seq - 1, t=head.t, n=len(puts)))


def remove_unneeded(directory: Path, size_max: int) -> None:
    """Remove old snapshots, and the oldest history while the folder is larger than ``size_max`` bytes."""
    folder = listing(directory)
    for snapshot in folder.snapshots[:-SNAPSHOTS_KEPT]:
        snapshot.path.unlink(missing_ok=True)
    folder = listing(directory)
    excess = sum(size_of(file) for file in folder.files) - size_max
    for file in _history(folder):
        if excess <= 0:
            break
        excess -= size_of(file)
        file.path.unlink(missing_ok=True)


def _history(folder: Folder) -> list[File]:
    """Return what recovery does not need, oldest first."""
    # While there is only one snapshot, the logs from the first on are what recovery falls back to.
    full = len(folder.snapshots) >= SNAPSHOTS_KEPT
    needed = set(folder.logs_after(folder.snapshots[0].seq) if full else folder.logs)
    return sorted([*(log for log in folder.logs if log not in needed), *folder.evidence])


def size_of(file: File) -> int:
    """Return the file's size, 0 when it is gone."""
    try:
        return file.path.stat().st_size
    except FileNotFoundError:
        return 0


def remove_unfinished(directory: Path) -> None:
    """Remove what a snapshot left behind whose writer died."""
    for path in directory.glob("*.tmp"):
        path.unlink(missing_ok=True)
