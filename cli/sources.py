"""What ``kr replay`` reads: a journal's folder, one of its files, stdin, manifests. Which one it is, is looked at.

A source is read anew for each question (its end, two moments to compare), so what comes on stdin is kept.
"""

import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from kube_router.events.errors import ConfigError
from kube_router.events.event import AnyRecord
from kube_router.events.reading import Damage, follow, read
from kube_router.events.resource import Catalogue
from kube_router.events.segment import listing
from kube_router.events.sources.scan import is_manifest

FOLLOW_S = 0.2

Report = Callable[[str], None]
Records = Iterator[AnyRecord | Damage | None]
_line_begins = re.compile(rb"[0-9a-f]{8} \{").match
_is_journal_name = re.compile(r".*\.(log|snap)(\.(torn|bad|aside)(\.[0-9]+)?)?").fullmatch


@dataclass(frozen=True, slots=True)
class Source:
    """``records`` begins at the beginning each time; it yields None while a followed source has nothing new."""

    name: str
    records: Callable[[], Records]


def open_source(name: str, catalogue: Catalogue, report: Report, *, live: bool = False) -> Source:
    """Return the source. ConfigError for what cannot be read or is neither journal nor manifests.

    ``report`` is told what in manifests cannot be used; what is damaged in a journal is among the records.
    """
    if name == "-":
        return _stdin(catalogue, live=live)
    path = Path(name)
    try:
        if path.is_fifo():  # such as <(zcat journal.log.gz): what is read is gone
            return _kept(name, path.read_bytes(), catalogue)
        is_journal = _is_journal(path)
    except OSError as error:
        hint = "; a journal is its owner's (root)" if isinstance(error, PermissionError) else ""
        raise ConfigError(f"{name}: {error.strerror}{hint}") from None
    if not is_journal:
        return _manifests(path, catalogue, report, live=live)
    if live:
        return Source(name, lambda: _patiently(follow(path, catalogue.decoders, salvage=True)))
    return Source(name, lambda: read(path, catalogue.decoders, salvage=True))


def _is_journal(path: Path) -> bool:
    if path.is_dir():
        return bool(listing(path).files)
    with path.open("rb") as file:
        return bool(_line_begins(file.read(16))) or _is_journal_name(path.name) is not None


def _manifests(path: Path, catalogue: Catalogue, report: Report, *, live: bool) -> Source:
    if path.is_dir() and not any(is_manifest(entry.name) for entry in path.iterdir()):
        raise ConfigError(f"{path}: holds neither a journal nor manifests (.yaml, .yml, .json)")
    if live:
        raise ConfigError(f"{path}: manifests have no history to follow; kr run --manifests watches them")
    # YAML and the folder's watcher are slow to import, and a journal needs neither.
    from kube_router.cli.declared import declared

    return Source(str(path), lambda: declared(path, catalogue, report))


def _patiently(records: Records) -> Records:
    """Wait a little wherever there is nothing new."""
    for record in records:
        yield record
        if record is None:
            time.sleep(FOLLOW_S)


def _stdin(catalogue: Catalogue, *, live: bool) -> Source:
    if live:
        return Source("-", lambda: read(sys.stdin.buffer, catalogue.decoders, salvage=True))
    return _kept("-", sys.stdin.buffer.read(), catalogue)


def _kept(name: str, content: bytes, catalogue: Catalogue) -> Source:
    return Source(name, lambda: read(BytesIO(content), catalogue.decoders, salvage=True))
