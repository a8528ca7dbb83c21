"""Hand over a journal as one file: the newest complete snapshot and all records after it."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from msgspec.structs import replace

from kube_router.events.event import AnyRecord, Segment
from kube_router.events.line import BadLine, Grammar, frame
from kube_router.events.segment import File, lines, listing, open_for_reading, parse

# The agent may remove a file between the listing and its turn; then the folder has moved on and is listed again.
ATTEMPTS_MAX = 3


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written: records, bytes, the seqs it spans; ``damage`` says where it ends early, "" if it does not."""

    records: int
    size_bytes: int
    last_seq: int
    damage: str = ""


def export(directory: Path, out: Path) -> Exported:
    """Write ``out`` (0600), whole or not at all, from a folder that may be in use. OSError where it cannot be."""
    temporary = out.with_name(f"{out.name}.{os.getpid()}.tmp")
    try:
        with open(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w+b") as file:
            exported = _write(directory, file)
            os.fsync(file.fileno())
        os.replace(temporary, out)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return exported


def export_to(directory: Path, out: BinaryIO) -> Exported:
    """Write to an open file, such as a pipe. It is put together in memory, so that no disk has to be writable."""
    with open(os.memfd_create("journal", os.MFD_CLOEXEC), "w+b") as file:
        exported = _write(directory, file)
        file.seek(0)
        shutil.copyfileobj(file, out)
        return exported


def _write(directory: Path, file: BinaryIO) -> Exported:
    for _ in range(ATTEMPTS_MAX - 1):
        try:
            return _attempt(directory, file)
        except FileNotFoundError:
            file.seek(0)
            file.truncate()
    return _attempt(directory, file)


def _attempt(directory: Path, file: BinaryIO) -> Exported:
    folder = listing(directory)
    if not folder.logs and not folder.snapshots:
        raise FileNotFoundError(2, "no journal in this folder", str(directory))
    seq = _copy_snapshot(folder.snapshots, file)
    logs = folder.logs_after(seq) if seq else folder.logs
    export = _Tail(file, seq, Grammar(logs[0].seq if logs else 0))
    for log in logs:
        if not export.damage:
            export.copy(log)
    size_bytes = file.tell()
    file.seek(0)
    return Exported(sum(1 for _ in lines(file)), size_bytes, export.seq, export.damage)


def _copy_snapshot(snapshots: tuple[File, ...], file: BinaryIO) -> int:
    """Copy the newest complete snapshot; return its seq, 0 without one."""
    for snapshot in reversed(snapshots):
        try:
            for line in _verified(snapshot):
                file.write(line)
            return snapshot.seq
        except BadLine:
            file.seek(0)
            file.truncate()
    return 0


def _verified(snapshot: File) -> Iterator[bytes]:
    grammar, seq = Grammar(snapshot.seq + 1), -1
    with open_for_reading(snapshot.path) as opened:
        for line in lines(opened):
            record = parse(line, {})
            grammar.take(record)
            seq = record.seq
            yield line
    if grammar.in_snapshot or seq != snapshot.seq:
        raise BadLine("the snapshot has no end")


class _Tail:
    """The records behind the snapshot, on their way into the file."""

    def __init__(self, file: BinaryIO, seq: int, grammar: Grammar) -> None:
        self.file, self.seq, self.grammar, self.damage = file, seq, grammar, ""

    def copy(self, log: File) -> None:
        """Copy a log's records after ``seq``, up to the first damage."""
        offset = 0
        with open_for_reading(log.path) as opened:
            for line in lines(opened):
                try:
                    record = parse(line, {})
                    self.grammar.take(record)
                except BadLine as error:
                    self.damage = f"{log.path.name}: {error} at offset {offset}"
                    return
                self._copy_line(line, record)
                offset += len(line)

    def _copy_line(self, line: bytes, record: AnyRecord) -> None:
        if isinstance(record, Segment):
            # Of a log that the snapshot covers in part only the head's rest is true: what follows begins later.
            self.file.write(line if record.seq > self.seq else frame(replace(record, seq=self.seq + 1)))
        elif record.seq > self.seq:
            self.file.write(line)
            self.seq = record.seq
