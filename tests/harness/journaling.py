"""What the tests of the journal share: a clock, records, and a journal that is quickly opened."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kube_router.events.event import AnyRecord, ObjectDecoder, Put, Segment
from kube_router.events.journal import Journal
from kube_router.events.model import Pod
from kube_router.events.normalize import BUILTIN
from kube_router.events.reading import Damage, read
from kube_router.events.resource import Catalogue


class Clock:
    """A clock that stands until it is told otherwise."""

    def __init__(self) -> None:
        self.now = 1_000_000

    def __call__(self) -> int:
        return self.now


def decoders() -> Mapping[str, ObjectDecoder]:
    return Catalogue(BUILTIN).decoders


def pod_put(seq: int, name: str, *, rv: str = "") -> Put:
    pod = Pod(namespace="prod", name=name, uid=f"uid-{name}", labels={"app": "web"}, ips=("10.1.0.1",), phase="Running")
    return Put(seq=seq, t=seq, r="pods", key=pod.key, rv=rv, obj=pod)


def start(
    directory: Path, *, cluster: str = "c1", boot: str = "b1", clock: Clock | None = None, **bounds: Any
) -> Journal:
    """Return a journal that was opened and begun."""
    ignored: list[AnyRecord] = []
    journal = Journal.open(directory, objects=decoders(), apply=ignored.append, now_ms=clock or Clock(), **bounds)
    journal.begin(Segment(seq=1, t=1, v=1, cluster=cluster, node="n1", boot=boot, agent="3.0"))
    return journal


@contextmanager
def opened(directory: Path) -> Iterator[tuple[Journal, list[AnyRecord]]]:
    """Open the journal and give what it recovered."""
    records: list[AnyRecord] = []
    with Journal.open(directory, objects=decoders(), apply=records.append, now_ms=Clock()) as journal:
        yield journal, records


def records_of(source: Path) -> list[AnyRecord]:
    """Return all records of an undamaged journal."""
    records: list[AnyRecord] = []
    for record in read(source, decoders()):
        assert not isinstance(record, Damage), record
        records.append(record)
    return records
