"""Manifests as a source of ``kr replay``: what a folder or file declares, as the journal of an agent that just read it.

With it a plan can be had before there is a cluster: ``kr replay manifests/ --plan proxy --node n1``.
"""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

from kube_router.events.event import SCHEMA, AnyRecord, Put, Segment, Sync
from kube_router.events.resource import Catalogue
from kube_router.events.sources.folder import read_folder


def declared(path: Path, catalogue: Catalogue, report: Callable[[str], None]) -> Iterator[AnyRecord]:
    """Yield the records; all bear the time of the last change of ``path``. What cannot be used is reported."""
    manifests = read_folder(path, catalogue.watched, _redacted)
    of_files = [problem for _, problems in sorted(manifests.problems.items()) for problem in problems]
    of_objects = [problem for objects in manifests.objects.values() for new in objects for problem in new.problems]
    for problem in (*of_files, *of_objects):
        report(str(problem))
    t = path.stat().st_mtime_ns // 1_000_000
    seqs = count(1)
    yield Segment(seq=1, t=t, v=SCHEMA, cluster=f"folder:{path.absolute()}")
    for resource, objects in manifests.objects.items():
        for new in objects:
            yield Put(seq=next(seqs), t=t, r=resource, key=new.obj.key, trigger_ms=new.trigger_ms, obj=new.obj)
    for resource, objects in manifests.objects.items():
        yield Sync(seq=next(seqs), t=t, r=resource, n=len(objects))


def _redacted(secret: str) -> str:
    """Return what stands for a password: nobody compares two of them here."""
    return "redacted"
