"""What a source says becomes records: the Sink over the one state, the journal and the log.

The order is law: a record is written to the journal, then folded into the state, then the plugins are woken. Nothing
here waits; a disk that is full costs the journal, not the event (events/journal.py).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from kube_router.core.log import Entry, Log
from kube_router.core.problems import Problems
from kube_router.core.state import State
from kube_router.core.view import Stored
from kube_router.events.errors import Problem
from kube_router.events.event import Advance, Change, Delete, Note, Put, ReceiptRecord, Sync
from kube_router.events.model import Object
from kube_router.events.resource import Normalized


class JournalWriter(Protocol):
    """What the intake needs of a journal."""

    def append(self, records: Iterable[Change]) -> None: ...


class Intake:
    """Implements events.sink.Sink. ``live`` is what the source has confirmed since the agent started."""

    def __init__(
        self,
        *,
        state: State,
        journal: JournalWriter,
        log: Log,
        problems: Problems,
        now_ms: Callable[[], int],
        new_cluster: Callable[[str], None],
    ) -> None:
        self.state, self.log, self.problems = state, log, problems
        self.live: set[str] = set()
        self._journal = journal
        self._now_ms = now_ms
        self._new_cluster = new_cluster
        self._seen_rv: dict[str, str] = {}  # positions not journaled yet: they go out with the next checkpoint

    # -- Sink ----------------------------------------------------------------------------------------------------------

    def identify(self, cluster: str) -> None:
        if cluster != self.state.cluster:
            self._new_cluster(cluster)
            self._seen_rv.clear()
            self.live.clear()
            self.log.reset()

    def current(self, resource: str) -> Mapping[str, Stored]:
        return self.state.known(resource)

    def rv(self, resource: str) -> str:
        return self._seen_rv.get(resource) or self.state.rvs.get(resource, "")

    def put(self, resource: str, new: Normalized) -> None:
        if (change := self._put(resource, new, self.state.seq + 1)) is not None:
            self._record([change])
            self._seen_rv.pop(resource, None)
        elif new.rv:
            self.advance(resource, new.rv)

    def delete(self, resource: str, key: str, rv: str = "") -> None:
        self.problems.set(f"{resource}/{key}", ())
        if key in self.state.known(resource):
            self._record([Delete(seq=self.state.seq + 1, t=self._now_ms(), r=resource, key=key, rv=rv)])
            self._seen_rv.pop(resource, None)
        elif rv:
            self.advance(resource, rv)

    def advance(self, resource: str, rv: str) -> None:
        if self.state.rvs.get(resource):  # no position while a full list is still being written
            self._seen_rv[resource] = rv

    def replace(self, resource: str, objects: Iterable[Normalized], rv: str, why: str) -> None:
        seq, t, known = self.state.seq, self._now_ms(), self.state.known(resource)
        changes: list[Change] = []
        keys = set()
        for new in objects:
            keys.add(new.obj.key)
            # The mark below takes the first number, hence + 2.
            if (change := self._put(resource, new, seq + 2 + len(changes))) is not None:
                changes.append(change)
        for key in sorted(set(known) - keys):
            self.problems.set(f"{resource}/{key}", ())
            changes.append(Delete(seq=seq + 2 + len(changes), t=t, r=resource, key=key))
        if changes:
            changes.insert(0, Advance(seq=seq + 1, t=t, r=resource, rv=""))
        sync = Sync(seq=seq + 1 + len(changes), t=t, r=resource, rv=rv, n=len(keys), why=why)
        self._record([*changes, sync])
        self._confirmed(resource)

    def confirm(self, resource: str, rv: str) -> None:
        n = len(self.state.known(resource))
        self._record([Sync(seq=self.state.seq + 1, t=self._now_ms(), r=resource, rv=rv, n=n, why="resume")])
        self._confirmed(resource)

    def problem(self, where: str, problems: tuple[Problem, ...]) -> None:
        self.problems.set(where, problems)

    # -- what the node itself finds out --------------------------------------------------------------------------------

    def publish(
        self, model: type[Object], objects: Iterable[Object] = (), gone: Iterable[str] = (), *, journaled: bool = True
    ) -> None:
        """Add, replace and remove objects of a local kind; those that are as they were are no events.

        What is not ``journaled`` is folded into the state alone: for tables that no journal should hold. A kind that
        has left the journal stays out of it until the next agent, whatever a plugin that was built anew says.
        """
        resource = self._local(model)
        known, seq, t = self.state.known(resource), self.state.seq, self._now_ms()
        journaled = journaled and resource not in self.state.volatile
        step = 1 if journaled else 0
        changes: list[Put | Delete] = []
        for obj in objects:
            key = obj.key
            if (old := known.get(key)) is None or old.obj != obj:
                seq += step
                changes.append(Put(seq=seq, t=t, r=resource, key=key, obj=obj))
        for key in gone:
            if key in known:
                seq += step
                changes.append(Delete(seq=seq, t=t, r=resource, key=key))
        if not journaled:
            self.state.volatile.add(resource)
        if changes:
            self._record(changes, journaled=journaled)

    def settle(self, model: type[Object]) -> None:
        """Say that what is published of a local kind is all there is: from now on the rest may be deleted."""
        resource = self._local(model)
        if resource not in self.live:
            n = len(self.state.known(resource))
            self._record([Sync(seq=self.state.seq + 1, t=self._now_ms(), r=resource, n=n)])
            self._confirmed(resource)

    def _local(self, model: type[Object]) -> str:
        resource = self.state.catalogue.by_model(model)
        if not resource.local:
            raise ValueError(f"{resource.name} come from the source: a plugin publishes local kinds only")
        return resource.name

    # -- what else is journaled ----------------------------------------------------------------------------------------

    def note(self, about: str, text: str) -> None:
        """Journal a debugging mark."""
        self._record([Note(seq=self.state.seq + 1, t=self._now_ms(), about=about, text=text)])

    def receipt(
        self, plugin: str, *, upto: int, took_ms: float, changes: Mapping[str, int], problems: Sequence[str]
    ) -> None:
        """Journal what a plugin did."""
        record = ReceiptRecord(
            seq=self.state.seq + 1,
            t=self._now_ms(),
            plugin=plugin,
            upto=upto,
            took_ms=round(took_ms, 1),
            changes=changes,
            problems=tuple(problems),
        )
        self._record([record])

    def checkpoint(self) -> None:
        """Journal the positions that moved without a change. Called every ten seconds and at the end."""
        if self._seen_rv:
            seq, t = self.state.seq, self._now_ms()
            moved = sorted(self._seen_rv.items())
            self._record([Advance(seq=seq + n, t=t, r=r, rv=rv) for n, (r, rv) in enumerate(moved, 1)])
            self._seen_rv.clear()

    # -- the one way in ------------------------------------------------------------------------------------------------

    def _put(self, resource: str, new: Normalized, seq: int) -> Put | None:
        """Return the record of an object that differs from the known one."""
        key = new.obj.key
        old = self.state.known(resource).get(key)
        self.problems.set(f"{resource}/{key}", new.problems)
        if old is not None and old.obj == new.obj:
            return None
        t = self._now_ms()
        return Put(seq=seq, t=t, r=resource, key=key, rv=new.rv, trigger_ms=new.trigger_ms, obj=new.obj)

    def _record(self, changes: Sequence[Change], *, journaled: bool = True) -> None:
        if journaled:
            self._journal.append(changes)
        entries = []
        for change in changes:
            ref = self.state.apply(change)
            if ref is not None:
                since = change.trigger_ms or change.t if isinstance(change, Put) else change.t
                entries.append(Entry(ref, since))
        if entries:
            self.log.append(entries)

    def _confirmed(self, resource: str) -> None:
        self._seen_rv.pop(resource, None)
        if resource not in self.live:
            self.live.add(resource)
            self.log.wake()
