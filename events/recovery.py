"""Recover what a journal's folder holds: the newest complete snapshot, and the logs after it up to the first damage.

What follows damage is not used, for a record may only be understood after all before it. It is kept as evidence: the
rest of the damaged log as ``.torn``, later logs and broken snapshots as ``.bad``. Files of another schema are put aside
(``.aside``) and the journal starts anew. Recovery never refuses: the journal is a memory, the API server the truth.

What was lost decides whether the kernel may be newer than the journal (``complete``). An unfinished last line is no
loss: its writer died within the write, before anybody acted on it. Any other loss is one.
"""

import gc
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kube_router.events.event import SCHEMA, AnyRecord, ObjectDecoder, Segment
from kube_router.events.line import BadLine, Grammar, Position
from kube_router.events.segment import (
    COMPLETE,
    File,
    Folder,
    evidence_path,
    lines,
    listing,
    open_for_reading,
    parse,
    schema,
)

Apply = Callable[[AnyRecord], object]


@dataclass(frozen=True, slots=True)
class Recovery:
    """What was found.

    ``boot``, ``node`` are those of the last run, ``rv`` and ``synced`` what the streams had reached. ``complete`` says
    that the journal held all its writer had acted upon. ``cut`` says in words what was lost, nothing where all is well.
    """

    last_seq: int = 0
    cluster: str = ""
    node: str = ""
    boot: str = ""
    synced: frozenset[str] = frozenset()
    rv: Mapping[str, str] = field(default_factory=dict)
    complete: bool = False
    cut: tuple[str, ...] = ()
    records: int = 0
    seconds: float = 0.0
    snapshot_bytes: int = 0
    tail_bytes: int = 0
    unreadable: str = ""


def recover(directory: Path, objects: Mapping[str, ObjectDecoder], apply: Apply, position: Position) -> Recovery:
    """Apply what the folder holds, in order, and say what that was. ``position`` is left where the streams stand.

    A disk that cannot be read or written ends the recovery where it is (``unreadable``).
    """
    began = time.monotonic()
    run = _Recoverer(directory, objects, apply, position)
    unreadable = ""
    # Millions of new objects without a cycle among them: the collector would go through all of them again and again.
    collecting = gc.isenabled()
    gc.disable()
    try:
        run.recover()
    except OSError as error:
        run.whole = False
        unreadable = f"{error.strerror}: {error.filename or directory}"
        run.cut.append(f"the rest could not be read ({unreadable})")
    finally:
        if collecting:
            gc.enable()
    return Recovery(
        last_seq=run.seq,
        cluster=position.cluster,
        node=run.head.node,
        boot=run.head.boot,
        synced=frozenset(position.synced),
        rv=dict(position.rv),
        complete=run.whole and (directory / COMPLETE).exists(),
        cut=tuple(run.cut),
        records=run.records,
        seconds=time.monotonic() - began,
        snapshot_bytes=run.snapshot_bytes,
        tail_bytes=run.tail_bytes,
        unreadable=unreadable,
    )


class _Recoverer:
    """One recovery: the seq reached so far, what was found and what was lost."""

    def __init__(self, directory: Path, objects: Mapping[str, ObjectDecoder], apply: Apply, position: Position) -> None:
        self.directory, self.objects, self.apply, self.position = directory, objects, apply, position
        self.cut: list[str] = []
        self.whole = True  # nothing is lost that anybody may have acted upon
        self.head = Segment(seq=1, t=0, v=SCHEMA)
        self.seq = self.records = 0
        self.snapshot_bytes = self.tail_bytes = 0

    def recover(self) -> None:
        """Apply all there is."""
        folder = listing(self.directory)
        if any(schema(file.path) not in (None, SCHEMA) for file in folder.logs + folder.snapshots):
            self._set_aside(folder)
            return
        self._snapshot(folder)
        logs = folder.logs_after(self.seq)
        if logs and logs[0].seq > self.seq + 1:
            self._bad(logs, f"the records {self.seq + 1}-{logs[0].seq - 1} before it are missing")
        else:
            self._logs(logs)

    def _set_aside(self, folder: Folder) -> None:
        self.whole = False
        for file in folder.logs + folder.snapshots:
            self._rename(file, "aside")
        self.cut.append(f"another version's journal (schema other than {SCHEMA}) is kept as *.aside; starting anew")

    # -- snapshot ------------------------------------------------------------------------------------------------------

    def _snapshot(self, folder: Folder) -> None:
        """Apply the newest complete snapshot, if there is one."""
        for file in reversed(folder.snapshots):
            try:
                records = self._load_snapshot(file)
            except BadLine as error:
                self._bad([file], str(error))
                continue
            for record in records:
                self._take(record)
            if isinstance(head := records[0], Segment):
                self.position.rv = {r: rv for r, rv in head.rv.items() if rv}
                self.position.synced = set(head.synced)
            self.snapshot_bytes = file.path.stat().st_size
            self.seq = file.seq
            return

    def _load_snapshot(self, file: File) -> list[AnyRecord]:
        """Return the snapshot's records. BadLine unless it is complete."""
        grammar = Grammar(file.seq + 1)
        records = []
        with open_for_reading(file.path) as opened:
            for line in lines(opened):
                record = parse(line, self.objects)
                grammar.take(record)
                records.append(record)
        if not records or grammar.in_snapshot or grammar.expected != file.seq + 1 or records[-1].seq != file.seq:
            raise BadLine("the snapshot has no end")
        return records

    # -- logs ----------------------------------------------------------------------------------------------------------

    def _logs(self, logs: tuple[File, ...]) -> None:
        """Apply the records behind the snapshot, up to the first damage."""
        grammar = Grammar(logs[0].seq if logs else 0)
        for i, log in enumerate(logs):
            offset, error = self._log(log, grammar)
            if error is not None:
                self._tear(log, offset, error, last=i == len(logs) - 1)
                self._bad(logs[i + 1 :], f"the damage in {log.path.name} is before it")
                return

    def _log(self, log: File, grammar: Grammar) -> tuple[int, BadLine | None]:
        """Apply one log; return where it ends, and the damage if it ends in one."""
        objects, expect, apply, move = self.objects, grammar.take, self.apply, self.position.move
        snapshot_seq, offset, records, covered = self.seq, 0, 0, 0
        try:
            with open_for_reading(log.path) as opened:
                for line in lines(opened):
                    record = parse(line, objects)
                    expect(record)
                    offset += len(line)
                    if isinstance(record, Segment):
                        self._take(record)
                    elif record.seq > snapshot_seq:
                        apply(record)
                        move(record)
                        records += 1
                    else:
                        covered += len(line)
        except BadLine as error:
            return offset, error
        finally:
            self.seq += records
            self.records += records
            self.tail_bytes += offset - covered
        return offset, None

    def _take(self, record: AnyRecord) -> None:
        if isinstance(record, Segment):
            self.position.head(record)
            self.head = record
        else:
            self.records += 1
        self.apply(record)

    # -- evidence ------------------------------------------------------------------------------------------------------

    def _tear(self, log: File, offset: int, error: BadLine, *, last: bool) -> None:
        """Cut the log at ``offset`` and keep the rest beside it."""
        self.whole = self.whole and last and error.unfinished
        kept = evidence_path(log.path, "torn")
        with open(log.path, "r+b") as file:
            file.seek(offset)
            rest = file.read()
            note = f"{len(rest)} bytes are kept as {kept.name}"
            try:
                with open(os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as evidence:
                    evidence.write(rest)
            except OSError as full:
                note = f"{len(rest)} bytes could not be kept ({full.strerror})"
            file.truncate(offset)
        self.cut.append(f"{log.path.name}: {error} at offset {offset}; {note}")
        if offset == 0:
            log.path.unlink()

    def _bad(self, files: tuple[File, ...] | list[File], why: str) -> None:
        for file in files:
            self.whole = self.whole and file.kind == "snap"  # a snapshot repeats what the logs hold
            kept = self._rename(file, "bad")
            self.cut.append(f"{file.path.name}: {why}; kept as {kept.name}")

    def _rename(self, file: File, suffix: str) -> Path:
        kept = evidence_path(file.path, suffix)
        file.path.rename(kept)
        return kept
