"""Read a journal without touching it: a folder, one file of it, or a stream; live, damaged, or from another version.

``read`` yields records in order, and a ``Damage`` where something is lost. It stops there unless told to salvage: then
it goes on behind the next LF. ``follow`` does the same and waits at the live end: it yields None whenever there is
nothing more to read yet.

Of a folder the logs are read from the oldest on, as history. A snapshot is read only where the state is not known yet
(the oldest log is not the first, or records are lost) and at the place where it belongs, between the records before
and after it. So a reader knows the state from seq 1 or from an ``end`` on. Records between a head and its ``end`` are
a snapshot: objects as they stood, not events.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from kube_router.events.event import SCHEMA, AnyRecord, ObjectDecoder, Segment
from kube_router.events.line import BadLine, Grammar
from kube_router.events.segment import File, listing, open_for_reading, parse
from kube_router.events.segment import lines as all_lines


@dataclass(frozen=True, slots=True)
class Damage:
    """Something that cannot be read: what, in which file, at which byte. ``seq`` is the last good record before it."""

    text: str
    file: str
    offset: int
    seq: int

    def __str__(self) -> str:
        return f"{self.file}: {self.text} at offset {self.offset}, after record {self.seq}"


def read(
    source: Path | BinaryIO, objects: Mapping[str, ObjectDecoder], *, salvage: bool = False
) -> Iterator[AnyRecord | Damage]:
    """Yield all there is now. ``source`` is a folder, a file, or an open stream. OSError where it cannot be opened."""
    # Only a live reading yields None.
    return cast("Iterator[AnyRecord | Damage]", _read(source, _Reader(objects, live=False), salvage=salvage))


def follow(
    source: Path, objects: Mapping[str, ObjectDecoder], *, salvage: bool = False
) -> Iterator[AnyRecord | Damage | None]:
    """Yield all there is and all that comes; None at the live end, where the caller waits as long as it likes."""
    return _read(source, _Reader(objects, live=True), salvage=salvage)


def _read(source: Path | BinaryIO, reader: "_Reader", *, salvage: bool) -> Iterator[AnyRecord | Damage | None]:
    records = _open(source, reader)
    return records if salvage else _up_to_damage(records)


def _up_to_damage(records: Iterator[AnyRecord | Damage | None]) -> Iterator[AnyRecord | Damage | None]:
    for record in records:
        yield record
        if isinstance(record, Damage):
            return


def _open(source: Path | BinaryIO, reader: "_Reader") -> Iterator[AnyRecord | Damage | None]:
    if not isinstance(source, Path):
        yield from reader.lines(source, str(getattr(source, "name", "-")), lambda: False)
    elif source.is_dir():
        yield from reader.folder(source)
    else:
        with open_for_reading(source) as file:
            yield from reader.lines(file, source.name, lambda: reader.live)


class _Reader:
    """One reading: the grammar over all files, and how to go on after damage."""

    def __init__(self, objects: Mapping[str, ObjectDecoder], *, live: bool) -> None:
        self.objects, self.live = objects, live
        self.grammar = Grammar()
        self.known = False  # all records from 1 or from a snapshot on have been read: the state is known
        self.loose = False  # salvaging what no head introduces: its order cannot be judged
        self.replaced = False  # the log that was read has given its name to another file
        self.snapshots: dict[int, File] = {}

    # -- a folder ------------------------------------------------------------------------------------------------------

    def folder(self, directory: Path) -> Iterator[AnyRecord | Damage | None]:
        """Yield the logs as history, and a snapshot where the state would else be unknown."""
        done = 0
        while True:
            listed = listing(directory)
            self.snapshots = {snapshot.seq: snapshot for snapshot in listed.snapshots}
            logs = [log for log in listed.logs if log.seq > done]
            for log in logs:
                self.replaced = False
                yield from self._log(log)
                done = log.seq - 1 if self.replaced else log.seq
            if not logs:
                yield from self._newest_snapshot()
                if not self.live:
                    return
                yield None

    def _log(self, log: File) -> Iterator[AnyRecord | Damage | None]:
        expected = self.grammar.expected
        if expected and log.seq > expected:
            yield self._damage(f"records {expected}-{log.seq - 1} are missing", log.path.name, 0)
        if not expected or log.seq > expected:
            self.grammar = Grammar(log.seq)
            self.known = log.seq == 1
        try:
            file = open_for_reading(log.path)
        except FileNotFoundError:
            return  # too old, and removed since the listing
        with file:
            yield from self._snapshot_here()
            for record in self.lines(file, log.path.name, lambda: self._may_grow(log, file)):
                yield record
                if not self.known:
                    yield from self._snapshot_here()

    def _snapshot_here(self) -> Iterator[AnyRecord]:
        """Yield the snapshot that belongs between the last record and the next, if there is one and it is needed."""
        snapshot = None if self.known else self.snapshots.get(self.grammar.expected - 1)
        if snapshot is not None and not self.grammar.in_snapshot:
            yield from self._complete(snapshot)

    def _newest_snapshot(self) -> Iterator[AnyRecord]:
        """Yield the newest complete snapshot where all logs behind it are gone."""
        for seq in sorted(self.snapshots, reverse=True):
            if not self.known and seq >= self.grammar.expected:
                yield from self._complete(self.snapshots[seq])

    def _complete(self, snapshot: File) -> list[AnyRecord]:
        """Return the records of a snapshot, and none where it is not complete."""
        grammar, records = Grammar(snapshot.seq + 1), []
        try:
            with open_for_reading(snapshot.path) as file:
                for line in all_lines(file):
                    records.append(parse(line, self.objects))
                    grammar.take(records[-1])
        except (BadLine, FileNotFoundError):
            return []
        if not records or records[-1].seq != snapshot.seq or grammar.in_snapshot:
            return []
        self.known = True
        if self.grammar.expected != snapshot.seq + 1:
            self.grammar = Grammar(snapshot.seq + 1)
        return records

    def _may_grow(self, log: File, file: BinaryIO) -> bool:
        """Whether to wait for more at the log's end: while it is the last one, and the one that its name means."""
        if not self.live:
            return False
        try:
            self.replaced = os.stat(log.path).st_ino != os.fstat(file.fileno()).st_ino
        except FileNotFoundError:
            return False
        return not self.replaced and listing(log.path.parent).logs[-1:] == (log,)

    # -- a file --------------------------------------------------------------------------------------------------------

    def lines(self, file: BinaryIO, name: str, may_grow: Callable[[], bool]) -> Iterator[AnyRecord | Damage | None]:
        """Yield the records of one file, and None at its end while it may grow."""
        offset = 0
        while True:
            # Asked before reading: what was written before the answer is then read.
            grows = may_grow()
            for line in all_lines(file):
                if grows and line[-1:] != b"\n":
                    break
                record: AnyRecord | None = None
                try:
                    record = parse(line, self.objects)
                    if not self.loose or isinstance(record, Segment):
                        self.grammar.take(record)
                        self.loose = False
                except BadLine as error:
                    yield self._damage(str(error), name, offset)
                    if record is not None:
                        self._resume_at(record)
                if record is not None:
                    yield record
                offset += len(line)
            if not grows:
                return
            yield None
            file.seek(offset)

    def _damage(self, text: str, name: str, offset: int) -> Damage:
        self.known = False
        return Damage(text, name, offset, max(self.grammar.expected - 1, 0))

    def _resume_at(self, record: AnyRecord) -> None:
        """Take a record that does not fit as the beginning of something new."""
        fits = isinstance(record, Segment) and record.v == SCHEMA
        # What comes before any head may be the rest of a snapshot, whose seqs jump.
        self.loose = not fits and (isinstance(record, Segment) or not self.grammar.expected)
        self.grammar = Grammar(record.seq + (not isinstance(record, Segment)))
        if fits:
            self.grammar.take(record)
