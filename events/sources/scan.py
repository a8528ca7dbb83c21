"""Read the manifests of a folder, again and again, and only what has changed since the last time.

A file is told from its former self by device, inode, size and times. One that was changed a moment before it was read
is read again the next time: the clock of the file system may not tell the two apart. Runs in a worker thread.
"""

import os
import stat
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kube_router.events.manifests import File, Manifests, keep_good, merge, parse, unreadable
from kube_router.events.resource import Redact, Resource

SUFFIXES = (".yaml", ".yml", ".json")
FILE_BYTES_MAX = 64 << 20
FILES_MAX = 100_000
FRESH_NS = 100_000_000  # coarser than the clock of any file system in use here
Signature = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class _Seen:
    signature: Signature | None  # None: read it again
    file: File


class Scanner:
    """Remembers what was read."""

    def __init__(self, folder: Path, *, resources: Sequence[Resource], redact: Redact) -> None:
        self._folder, self._resources, self._redact = folder, resources, redact
        self._seen: dict[str, _Seen] = {}

    def scan(self, being_written: Collection[str] = ()) -> Manifests:
        """Return what the folder declares now. OSError if the folder itself cannot be read.

        Files that somebody is writing count as they were before.
        """
        seen: dict[str, _Seen] = {}
        for name, signature in self._manifests():
            old = self._seen.get(name)
            if name in being_written:
                seen |= {} if old is None else {name: old}
            elif old is not None and old.signature == signature:
                seen[name] = old
            else:
                seen[name] = self._read(name, signature, old)
        self._folder.stat()  # gone meanwhile: then what was seen is no state of it
        self._seen = seen
        return merge({name: one.file for name, one in seen.items()}, self._resources)

    def __len__(self) -> int:
        return len(self._seen)

    def _manifests(self) -> Iterator[tuple[str, Signature]]:
        """Yield the manifests' names and signatures. Links count as what they point to."""
        with os.scandir(self._folder) as entries:
            names = [entry.name for entry in entries if is_manifest(entry.name)]
        for name in sorted(names)[:FILES_MAX]:
            try:
                status = os.stat(self._folder / name)
            except FileNotFoundError:  # gone meanwhile, or a link to nothing
                continue
            except PermissionError:
                yield name, (0, 0, 0, 0, 0)
                continue
            if stat.S_ISREG(status.st_mode):
                yield name, _signature(status)

    def _read(self, name: str, signature: Signature, old: _Seen | None) -> _Seen:
        now_ns, last = time.time_ns(), None if old is None else old.file
        try:
            text = read_text(self._folder / name)
        except OSError as error:
            return _Seen(None, keep_good(unreadable(name, error.strerror or str(error)), last))
        new = parse(text, file=name, resources=self._resources, redact=self._redact)
        is_fresh = now_ns - max(signature[3], signature[4]) < FRESH_NS
        return _Seen(None if is_fresh else signature, keep_good(new, last))


def is_manifest(name: str) -> bool:
    """Tell whether a file of this name is read: editors' temporary files are not."""
    return name.endswith(SUFFIXES) and not name.startswith((".", "#", "~"))


def read_text(path: Path) -> bytes:
    """Return the file's bytes. OSError if it is no regular file or larger than anybody writes."""
    with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "not a regular file", str(path))
        text = file.read(FILE_BYTES_MAX + 1)
    if len(text) > FILE_BYTES_MAX:
        raise OSError(0, f"larger than {FILE_BYTES_MAX >> 20} MiB", str(path))
    return text


def _signature(status: os.stat_result) -> Signature:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
