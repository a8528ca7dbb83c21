"""How ``kr replay`` writes: as lines for people's eyes, or as one JSON document per line.

Every time is UTC. In a table the date stands on a line of its own where it changes, so that a record fits a terminal.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from kube_router.cli.history import Entry
from kube_router.cli.moment import clock_text, date_text, time_text
from kube_router.cli.plan import Difference, line_text
from kube_router.cli.printable import printable
from kube_router.core.api import Line
from kube_router.events.event import AnyRecord

KIND, KEY = 14, 30


class HistoryTable:
    """Prints entries as lines. ``labelled`` puts the node before each."""

    def __init__(self, *, labelled: bool, flush: bool) -> None:
        self._labelled, self._flush = labelled, flush
        self._date = ""

    def show(self, label: str, entry: Entry, record: AnyRecord) -> None:
        """Print one entry, and the date before it where it is another than that of the entry before."""
        date = date_text(entry.t)
        if date != self._date:
            self._date = date
            print(f"{date} (UTC)")
        print(entry_line(entry, label if self._labelled else ""), flush=self._flush)


class HistoryJson:
    """Prints entries as JSON lines, with the record they tell of."""

    def __init__(self, *, flush: bool) -> None:
        self._flush = flush

    def show(self, label: str, entry: Entry, record: AnyRecord) -> None:
        document = {
            "source": label,
            "time": time_text(entry.t),
            "seq": entry.seq,
            "op": entry.op,
            "kind": entry.kind,
            "key": entry.key,
            "what": list(entry.what),
            "record": msgspec.to_builtins(record) if not _holds_raw(record) else None,
        }
        print(json.dumps(document), flush=self._flush)


def _holds_raw(record: AnyRecord) -> bool:
    return isinstance(getattr(record, "obj", None), msgspec.Raw)


def entry_line(entry: Entry, label: str = "") -> str:
    """Return ``19:54:01.250  4182  EndpointSlice  prod/web-x7  endpoint 10.0.3.7: ready → terminating``."""
    prefix = f"{label:<10} " if label else ""
    what = "; ".join(entry.what)
    line = f"{prefix}{clock_text(entry.t)} {entry.seq:>7}  {entry.kind:<{KIND}} {entry.key:<{KEY}} {what}"
    return printable(line.rstrip())


def print_lines(lines: Iterable[Line], *, blame: bool, as_json: bool) -> None:
    """Print a plan."""
    for line in lines:
        print(json.dumps(_line_document(line)) if as_json else printable(line_text(line, blame=blame)))


def print_difference(difference: Difference, *, blame: bool, as_json: bool) -> None:
    """Print what one plan has and the other has not: ``-`` lines, then ``+`` lines."""
    for sign, lines in (("-", difference.removed), ("+", difference.added)):
        for line in lines:
            if as_json:
                print(json.dumps({"sign": sign, **_line_document(line)}))
            else:
                print(f"{sign} {printable(line_text(line, blame=blame))}")


def _line_document(line: Line) -> dict[str, Any]:
    return {"text": line.text, "because": [{"seq": cause.seq, "object": cause.object} for cause in line.because]}


def print_objects(rows: Sequence[tuple[str, str, int, Sequence[str], object]], *, as_json: bool) -> None:
    """Print rows of kind, key, seq, words and object."""
    for kind, key, seq, words, obj in rows:
        if as_json:
            document = {"kind": kind, "key": key, "seq": seq, "what": list(words), "object": _builtins(obj)}
            print(json.dumps(document))
        else:
            print(printable(f"{kind:<{KIND}} {key:<{KEY}} {seq:>7}  {'; '.join(words)}".rstrip()))


def _builtins(obj: object) -> object:
    return json.loads(bytes(obj)) if isinstance(obj, msgspec.Raw) else msgspec.to_builtins(obj)


def complain(text: str) -> None:
    """Say on stderr what is wrong with the input; the output goes on."""
    sys.stdout.flush()
    print(f"kr: {printable(text)}", file=sys.stderr, flush=True)
