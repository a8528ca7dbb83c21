"""The history of a node in words: one entry per record (pure).

What changed is told against the state before the record, so records are told and folded in order (``tell``, then
``State.apply``). Bookmarks (``rv``) say nothing about the cluster and are told only on demand; a segment's head is
told where it begins the history or where something in it differs from the head before.
"""

from dataclasses import dataclass

from kube_router.cli.changes import changes
from kube_router.core.state import State
from kube_router.events.event import Advance, AnyRecord, Delete, Note, Put, ReceiptRecord, Segment, Sync

JOURNAL = "journal"  # who speaks in a segment's head
SYNC_WORDS = {
    "initial": "full list confirmed",
    "resume": "stream resumed, what was known is current",
    "expired": "full list confirmed after the stream had expired",
    "rewind": "full list confirmed after the cluster's state had been rewound",
    "periodic": "full list confirmed again",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of history. ``kind`` and ``key`` name an object; for what concerns none, who speaks and ""."""

    t: int
    seq: int
    op: str
    kind: str
    key: str
    what: tuple[str, ...]


def tell(
    state: State,
    record: AnyRecord,
    *,
    head: Segment | None = None,
    everything: bool = False,
    complete: bool = True,
) -> Entry | None:
    """Return the entry of a record that is about to be folded into ``state``, None for what is not worth one.

    ``head`` is the head of the segment before, for a ``seg`` record. Where the state is not ``complete`` an object that
    is not in it may have been there before.
    """
    if isinstance(record, (Put, Delete)):
        before = state.known(record.r).get(record.key)
        after = record.obj if isinstance(record, Put) else None
        told = changes(before.obj if before else None, after)
        if not complete and told[0] == "added":
            told = ("first seen", *told[1:])
        return _entry(state, record, "put" if isinstance(record, Put) else "del", told)
    if isinstance(record, Sync):
        words = SYNC_WORDS.get(record.why, f"full list confirmed ({record.why})")
        counted = (f"{record.n} object{'s' if record.n > 1 else ''}",) if record.n else ()
        return _entry(state, record, "sync", (words, *counted))
    if isinstance(record, Note):
        return _entry(state, record, "note", (record.text,))
    if isinstance(record, ReceiptRecord):
        return _entry(state, record, "receipt", _receipt(record))
    if isinstance(record, Segment):
        told = _head(record, head)
        return _entry(state, record, "seg", told) if told or everything else None
    if isinstance(record, Advance) and everything:
        position = record.rv or "unknown, a full list begins"
        return _entry(state, record, "rv", (f"stream position {position}",))
    return None


def subject_of(state: State, record: AnyRecord) -> tuple[str, str]:
    """Return the kind and key of the entry that ``tell`` would return: enough to know whether to ask for it."""
    if isinstance(record, (Put, Delete)):
        return kind_of(state, record.r), record.key
    if isinstance(record, (Sync, Advance)):
        return kind_of(state, record.r), ""
    if isinstance(record, ReceiptRecord):
        return record.plugin, ""
    return (record.about if isinstance(record, Note) else JOURNAL), ""


def kind_of(state: State, resource: str) -> str:
    """Return the kind as manifests write it; the resource's name for one this version does not know."""
    return state.catalogue.by_name(resource).kind if resource in state.catalogue else resource


def _entry(state: State, record: AnyRecord, op: str, what: tuple[str, ...]) -> Entry:
    kind, key = subject_of(state, record)
    return Entry(record.t, record.seq, op, kind, key, what)


def _receipt(receipt: ReceiptRecord) -> tuple[str, ...]:
    done = ", ".join(f"{count} {what}" for what, count in receipt.changes.items()) or "no change"
    problems = tuple(f"problem: {problem}" for problem in receipt.problems)
    return (f"state {receipt.upto} applied in {receipt.took_ms:.1f} ms: {done}", *problems)


def _head(head: Segment, before: Segment | None) -> tuple[str, ...]:
    """Return what a segment's head says that the one before did not."""
    said = (
        ("node", head.node, before.node if before else ""),
        ("cluster", head.cluster, before.cluster if before else ""),
        ("agent", head.agent, before.agent if before else ""),
        ("boot", head.boot, before.boot if before else ""),
        ("options", _options(head), _options(before) if before else ""),
    )
    return tuple(f"{name} {new or 'none'}" for name, new, old in said if new != old)


def _options(head: Segment) -> str:
    return " ".join(f"--{name}={text}" for name, text in sorted(head.options.items()))
