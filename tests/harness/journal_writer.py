"""A process that appends to a journal until it is killed: ``python -m harness.journal_writer FOLDER``.

After each batch it writes the last seq to its standard output, so that a test knows what must have survived.
"""

import sys
from pathlib import Path

from kube_router.events.event import SCHEMA, Change, Note, Segment
from kube_router.events.journal import Journal
from kube_router.events.normalize import BUILTIN
from kube_router.events.resource import Catalogue

BATCH = 7


def main() -> None:
    journal = Journal.open(
        Path(sys.argv[1]),
        objects=Catalogue(BUILTIN).decoders,
        apply=lambda record: None,
        now_ms=lambda: 1,
        segment_bytes_max=20_000,
    )
    journal.begin(Segment(seq=1, t=1, v=SCHEMA, cluster="c1"))
    while True:
        seq = journal.last_seq
        notes: list[Change] = [
            Note(seq=seq + n, t=1, about="test", text="x" * (seq % 300)) for n in range(1, BATCH + 1)
        ]
        journal.append(notes)
        sys.stdout.write(f"{journal.last_seq}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
