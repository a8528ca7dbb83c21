"""The real state, log and problems behind the real Sink, with a list in the place of the journal on disk."""

from collections.abc import Iterable

from kube_router.core.intake import Intake
from kube_router.core.log import Log
from kube_router.core.problems import Problems
from kube_router.core.state import State
from kube_router.events.event import Change, Delete, Put, Segment, Sync
from kube_router.events.normalize import BUILTIN
from kube_router.events.resource import Catalogue


class MemorySink(Intake):
    """``journal`` holds the records in their order."""

    def __init__(self, records: Iterable[Change] = (), *, cluster: str = "") -> None:
        self.journal: list[Change] = []
        self.clusters: list[str] = []
        state = State(Catalogue(BUILTIN))
        if cluster:
            state.apply(Segment(seq=1, t=0, v=1, cluster=cluster))
        for record in records:
            state.apply(record)
        super().__init__(
            state=state,
            journal=self,
            log=Log(),
            problems=Problems(),
            now_ms=lambda: 0,
            new_cluster=self._take_cluster,
        )

    def append(self, records: Iterable[Change]) -> None:
        self.journal.extend(records)

    def _take_cluster(self, cluster: str) -> None:
        self.clusters.append(cluster)
        self.state.apply(Segment(seq=self.state.seq + 1, t=0, v=1, cluster=cluster))

    def names(self, resource: str = "services") -> list[str]:
        return sorted(self.current(resource))

    def syncs(self) -> list[str]:
        return [record.why for record in self.journal if isinstance(record, Sync)]

    def history(self) -> list[str]:
        """What was journaled, in words, without positions."""
        words = []
        for record in self.journal:
            if isinstance(record, (Put, Delete)):
                words.append(f"{'put' if isinstance(record, Put) else 'del'} {record.key}")
            elif isinstance(record, Sync):
                words.append(f"sync {record.why}")
        return words

    def problem_texts(self) -> list[str]:
        return [f"{problem.key}: {problem.text}" for problem in self.problems]
