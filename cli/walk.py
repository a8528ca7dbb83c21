"""Walks through one source: folds its records and says what of its state is known.

Each record is yielded just before it is folded, so that it can be told against the state before it. Objects of a
snapshot are folded without being yielded: they say how things stood, not what happened.
"""

from collections.abc import Callable, Iterator

from kube_router.cli.moment import Point
from kube_router.cli.sources import Source
from kube_router.core.state import State
from kube_router.events.errors import ConfigError
from kube_router.events.event import AnyRecord, End, Put, Segment
from kube_router.events.reading import Damage
from kube_router.events.resource import Catalogue

ALWAYS = Point()


class Walk:
    """One walk.

    ``state`` is what is folded so far, ``head`` the head of the segment before the record at hand. ``known`` says
    whether the state is complete: all since seq 1 or since a snapshot has been folded.
    """

    def __init__(self, source: Source, catalogue: Catalogue, report: Callable[[str], None]) -> None:
        self.source = source
        self.state = State(catalogue)
        self.head: Segment | None = None
        self._report = report
        self.known = False
        self._next_seq = 1

    @property
    def label(self) -> str:
        """The node whose journal it is, else the source's name."""
        return self.state.node or self.source.name

    def steps(self, until: Point = ALWAYS) -> Iterator[AnyRecord | None]:
        """Yield each record up to ``until``; None where a source that is followed has nothing more yet.

        ConfigError where the source begins with a snapshot of a later state.
        """
        head: Segment | None = None  # read, but not yet known to be a log's or a snapshot's
        for item in self.source.records():
            if isinstance(item, Damage):
                self._report(str(item))
                continue
            if head is not None and (item is None or isinstance(item, Segment)):
                yield from self._take(head, until)
                head = None
            if item is None:
                yield None
            elif isinstance(item, Segment):
                head = item
            elif self._is_after(item, head or self.head, until):
                return
            else:
                if head is not None:
                    yield from self._take(head, ALWAYS)
                    head = None
                yield from self._take(item, ALWAYS)
        if head is not None:
            yield from self._take(head, until)

    def fold(self, until: Point) -> State:
        """Walk to ``until`` and return the state there."""
        for _ in self.steps(until):
            pass
        return self.state

    def _is_after(self, record: AnyRecord, head: Segment | None, until: Point) -> bool:
        if head is None or not _is_of_snapshot(record, head):
            return until.is_before(record.seq, record.t)
        after = until.is_before(head.seq - 1, head.t)
        if after and self.head is None:
            raise ConfigError(f"{until} lies before this source's beginning: the state at seq {head.seq - 1}")
        return after

    def _take(self, record: AnyRecord, until: Point) -> Iterator[AnyRecord]:
        if until.is_before(record.seq, record.t):
            return
        if isinstance(record, Segment):
            yield record
            self.state.apply(record)
            self.head = record
        elif self.head is not None and _is_of_snapshot(record, self.head):
            self.state.apply(record)
            if isinstance(record, End):
                self.known, self._next_seq = True, self.head.seq
        else:
            self._check(record)
            yield record
            self.state.apply(record)

    def _check(self, record: AnyRecord) -> None:
        """Say once per gap from where on the state is known in part only."""
        if record.seq != self._next_seq or not (self.known or record.seq == 1):
            if self.known or record.seq != self._next_seq or self._next_seq == 1:
                self._report(f"state incomplete before seq {record.seq}")
            self.known = False
        elif record.seq == 1:
            self.known = True
        self._next_seq = record.seq + 1


def _is_of_snapshot(record: AnyRecord, head: Segment) -> bool:
    return isinstance(record, End) or (isinstance(record, Put) and record.seq < head.seq)
