"""The files of a journal: their names, and how they are read record by record.

    00000000000000000001.log     a log, named by the seq of its first record
    00000000000000021001.snap    a snapshot: the state up to and including that seq
    LOCK                         held by the one writer (flock), with its pid
    complete                     there while the logs hold all that the writer acted upon
    *.tmp                        a snapshot being written
    *.torn *.bad *.aside         evidence: what was cut off, what follows damage, what another version wrote

There is no manifest: the listing of the folder is the truth.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import msgspec

from kube_router.events.event import AnyRecord, ObjectDecoder, decode
from kube_router.events.line import BadLine, unframe

LOCK = "LOCK"
COMPLETE = "complete"
EVIDENCE = ("torn", "bad", "aside")

# A line is one object, and the API server takes none above 3 MiB; more without an LF is no line.
LINE_LENGTH_MAX = 64 * 1024 * 1024
READ_BUFFER_BYTES = 1024 * 1024
EVIDENCE_MAX = 100

_is_file = re.compile(r"([0-9]{20})\.(log|snap)((?:\.(?:torn|bad|aside)(?:\.[0-9]+)?)?)", re.ASCII).fullmatch


@dataclass(frozen=True, slots=True, order=True)
class File:
    """A file of the journal; ``seq`` is the number in its name, ``kind`` is log, snap or evidence."""

    seq: int
    kind: str
    path: Path


@dataclass(frozen=True, slots=True)
class Folder:
    """What is in a journal's folder, each list in ascending order."""

    logs: tuple[File, ...]
    snapshots: tuple[File, ...]
    evidence: tuple[File, ...]

    @property
    def files(self) -> tuple[File, ...]:
        """All of them."""
        return self.logs + self.snapshots + self.evidence

    def logs_after(self, seq: int) -> tuple[File, ...]:
        """Return the logs that may hold records after ``seq``: the last that starts at or before it, and later ones."""
        first = sum(log.seq <= seq + 1 for log in self.logs) - 1
        return self.logs[max(first, 0) :]


def listing(directory: Path) -> Folder:
    """Return what is in the folder now; empty for a folder that is not there."""
    found: dict[str, list[File]] = {"log": [], "snap": [], "evidence": []}
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        names = []
    for name in names:
        if (match := _is_file(name)) is not None:
            kind = "evidence" if match[3] else match[2]
            found[kind].append(File(int(match[1]), kind, directory / name))
    logs, snapshots, evidence = (tuple(sorted(files)) for files in found.values())
    return Folder(logs, snapshots, evidence)


def log_path(directory: Path, first_seq: int) -> Path:
    """Return the path of the log whose first record is ``first_seq``."""
    return directory / f"{first_seq:020d}.log"


def snapshot_path(directory: Path, seq: int) -> Path:
    """Return the path of the snapshot of the state at ``seq``."""
    return directory / f"{seq:020d}.snap"


def evidence_path(path: Path, suffix: str) -> Path:
    """Return a free name beside the file; when there are too many, the last one is used again."""
    candidate = path.with_name(f"{path.name}.{suffix}")
    for n in range(1, EVIDENCE_MAX):
        if not candidate.exists():
            break
        candidate = path.with_name(f"{path.name}.{suffix}.{n}")
    return candidate


def open_for_reading(path: Path) -> BinaryIO:
    """Open a file of the journal with a buffer that fits reading it whole."""
    return open(path, "rb", buffering=READ_BUFFER_BYTES)


def lines(file: BinaryIO) -> Iterator[bytes]:
    """Return the lines with their LF; the last one may lack it."""
    return iter(partial(file.readline, LINE_LENGTH_MAX), b"")


def parse(line: bytes, objects: Mapping[str, ObjectDecoder]) -> AnyRecord:
    """Return the record in a line. BadLine for what is none."""
    try:
        return decode(unframe(line), objects)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadLine(f"the record is of no kind this program knows ({error})") from None


class _AnyHead(msgspec.Struct):
    op: str
    v: int = 0


_any_head = msgspec.json.Decoder(_AnyHead)


def schema(path: Path) -> int | None:
    """Return the schema number in a file's head, whatever else its schema says; None where no head can be read."""
    try:
        with open(path, "rb") as file:
            head = _any_head.decode(unframe(file.readline(LINE_LENGTH_MAX)))
    except (ValueError, RecursionError):
        return None
    return head.v if head.op == "seg" else None


def sync_directory(directory: Path) -> None:
    """Make names durable: new, renamed and removed files of the folder."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
