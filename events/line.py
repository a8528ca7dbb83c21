"""One line of the journal, and what may follow what (pure).

A line is the CRC-32 of the JSON in 8 lowercase hex digits, a space, the JSON, LF: ``cut -c10-`` gives JSON lines, and
a damaged line shows.

A file begins with a head (``seg``), whose ``seq`` is that of the first record that follows. In a log the records then
count up from there without a gap. In a snapshot puts follow, each with the lower seq that once brought it, and an
``end`` with their number; ``end`` has the seq of the state. A snapshot may be continued by log records in the same
file: that is what ``kr journal export`` writes. The same rules hold across the files of a folder.

This file knows no files: events/segment.py does.
"""

from zlib import crc32

from kube_router.events.event import SCHEMA, Advance, AnyRecord, Delete, End, Put, Segment, Sync, encode

# 8 hex digits and a space.
PREFIX_LENGTH = 9


class BadLine(ValueError):
    """A line that does not say what was written. ``unfinished``: it has no LF, so its writer died, or still writes."""

    def __init__(self, what: str, *, unfinished: bool = False) -> None:
        super().__init__(what)
        self.unfinished = unfinished


def frame(record: AnyRecord) -> bytes:
    """Return the record as a line."""
    body = encode(record)
    return b"%08x %b\n" % (crc32(body), body)


def unframe(line: bytes) -> bytes:
    """Return the JSON in the line. BadLine for one that is unfinished or has changed since it was written."""
    if line[-1:] != b"\n":
        raise BadLine("the line is unfinished", unfinished=True)
    body = line[PREFIX_LENGTH:-1]
    try:
        told = int(line[: PREFIX_LENGTH - 1], 16)
    except ValueError:
        told = -1  # no number at all: as wrong as any other
    if told != crc32(body):
        raise BadLine("the line's checksum is wrong")
    return body


# Asked for each of millions of records: ``isinstance(x, A | B)`` would build the union each time.
_FRAMING = frozenset({Segment, End})
_CHANGES = (Put, Delete)
_POSITIONS = (Advance, Sync)


class Grammar:
    """Follows the records of one history and says which one cannot stand where it stands.

    ``expected`` is the seq of the next record, 0 while nothing is known.
    """

    __slots__ = ("_puts", "_snapshot_may_start", "expected")

    def __init__(self, expected: int = 0) -> None:
        self.expected = expected
        self._puts = -1  # in a snapshot: how many so far; -1 outside of one
        self._snapshot_may_start = False

    @property
    def in_snapshot(self) -> bool:
        """Whether a snapshot has begun and has not ended yet."""
        return self._puts >= 0

    def take(self, record: AnyRecord) -> None:
        """Take the next record. BadLine where it cannot be the next one; the grammar then stays where it was."""
        if record.seq == self.expected and self._puts < 0 and type(record) not in _FRAMING:
            self.expected += 1
            self._snapshot_may_start = False
        elif isinstance(record, Segment):
            self._take_head(record)
        elif isinstance(record, End):
            self._take_end(record)
        else:
            self._take_snapshot_put(record)

    def _take_head(self, head: Segment) -> None:
        if head.v != SCHEMA:
            raise BadLine(f"written with schema {head.v}, this program knows schema {SCHEMA}")
        if self._puts >= 0:
            raise BadLine("a snapshot has no end")
        if self.expected not in (0, head.seq):
            raise BadLine(self._gap(head.seq))
        self.expected = head.seq
        self._snapshot_may_start = True

    def _take_snapshot_put(self, record: AnyRecord) -> None:
        begun = self._puts >= 0 or self._snapshot_may_start
        if not begun or not isinstance(record, Put) or record.seq >= self.expected:
            raise BadLine("a snapshot has no end" if self._puts >= 0 else self._gap(record.seq))
        self._puts = max(self._puts, 0) + 1

    def _take_end(self, end: End) -> None:
        puts = max(self._puts, 0)
        if not (self._puts >= 0 or self._snapshot_may_start):
            raise BadLine("an end without a snapshot")
        if end.n != puts or end.seq != self.expected - 1:
            raise BadLine(f"the snapshot holds {puts} objects at seq {self.expected - 1}, its end says {end.n}")
        self._puts, self._snapshot_may_start = -1, False

    def _gap(self, seq: int) -> str:
        if not self.expected:
            return "there is no head before it"
        if seq > self.expected:
            last = seq - 1
            return (
                f"record {last} is missing" if last == self.expected else f"records {self.expected}-{last} are missing"
            )
        return f"record {seq} stands where {self.expected} should"


class Position:
    """Where the streams stand after the records so far: what the head of the next segment says.

    A stream's resourceVersion moves with its records, except while a full list is being written, whose objects come in
    no useful order: an ``rv`` record without a position marks the start of such a list, its ``sync`` the end.
    """

    __slots__ = ("cluster", "rv", "synced")

    def __init__(self) -> None:
        self.cluster = ""
        self.rv: dict[str, str] = {}
        self.synced: set[str] = set()

    def head(self, head: Segment) -> None:
        """Take a head. What another cluster's records said is void."""
        if self.cluster and head.cluster and head.cluster != self.cluster:
            self.rv.clear()
            self.synced.clear()
        self.cluster = head.cluster or self.cluster

    def move(self, record: AnyRecord) -> None:
        """Take a record of a log."""
        if isinstance(record, _CHANGES):
            if (resource := record.r) in self.rv and record.rv:
                self.rv[resource] = record.rv
        elif isinstance(record, _POSITIONS):
            if record.rv:
                self.rv[record.r] = record.rv
            else:
                self.rv.pop(record.r, None)
            if isinstance(record, Sync):
                self.synced.add(record.r)
