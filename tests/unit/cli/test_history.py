"""Each record of a journal in words."""

import pytest
from harness import story
from msgspec import structs

from kube_router.cli.history import Entry, tell
from kube_router.cli.output import entry_line
from kube_router.core.state import State
from kube_router.events.event import AnyRecord, Note, ReceiptRecord, Segment, Sync
from kube_router.events.normalize import BUILTIN
from kube_router.events.resource import Catalogue


def told(*records: AnyRecord, everything: bool = False) -> list[str]:
    """Return what is said of the records, folded one after the other."""
    state, head, said = State(Catalogue(BUILTIN)), None, []
    for record in records:
        entry = tell(state, record, head=head, everything=everything)
        if isinstance(record, Segment):
            head = record
        state.apply(record)
        if entry is not None:
            said.append(entry_line(entry))
    return said


STORY = """\
19:54:01.000       1  journal                                       node n1; cluster c0ffee; agent 3.0.0; boot b1; \
options --ipvs-sync-period=1m
19:54:01.000       1  Node           n1                             added; addresses: InternalIP 192.0.2.1; \
pod CIDRs: 10.0.3.0/24
19:54:01.001       2  Service        prod/web                       added; ClusterIP; cluster IPs: 10.96.0.10; \
ports: http 80/TCP; IP families: IPv4
19:54:01.002       3  EndpointSlice  prod/web-x7                    added; service: prod/web; ports: http 8080/TCP; \
endpoints: 10.0.3.7 ready on n1, 10.0.4.8 ready on n2
19:54:01.003       4  Node                                          full list confirmed; 1 object
19:54:01.004       5  Service                                       full list confirmed; 1 object
19:54:01.005       6  EndpointSlice                                 full list confirmed; 1 object
19:54:01.060       7  proxy                                         state 6 applied in 8.2 ms: 1 services added, \
2 servers added
19:56:01.000       9  journal                                       agent 3.0.1
19:56:01.000       9  agent                                         started
19:57:01.000      10  EndpointSlice  prod/web-x7                    endpoint 10.0.4.8: ready → \
terminating, still serving
19:58:01.000      11  EndpointSlice  prod/web-x7                    endpoint 10.0.4.8 removed
05:54:01.000      12  Service        prod/web                       removed
"""


def test_a_history_reads_as_a_story() -> None:
    assert told(*story.FIRST, *story.SECOND) == STORY.splitlines()


def test_bookmarks_are_told_on_demand() -> None:
    assert told(*story.FIRST[-1:]) == []
    assert told(*story.FIRST[-1:], everything=True) == [
        "19:55:01.000       8  Service                                       stream position 20"
    ]


def test_a_head_that_says_nothing_new_is_told_on_demand() -> None:
    again = structs.replace(story.HEAD, seq=9)
    assert len(told(story.HEAD, again)) == 1
    assert len(told(story.HEAD, again, everything=True)) == 2


@pytest.mark.parametrize(
    ("record", "what"),
    [
        (Sync(seq=1, t=0, r="pods", why="resume"), ("stream resumed, what was known is current",)),
        (Sync(seq=1, t=0, r="pods", why="later"), ("full list confirmed (later)",)),
        (Note(seq=1, t=0, about="proxy", text="restarted"), ("restarted",)),
        (
            ReceiptRecord(seq=2, t=0, plugin="proxy", upto=1, took_ms=1, problems=("Service a/b: no",)),
            ("state 1 applied in 1.0 ms: no change", "problem: Service a/b: no"),
        ),
    ],
)
def test_what_concerns_no_object_is_told_too(record: AnyRecord, what: tuple[str, ...]) -> None:
    entry = tell(State(Catalogue(BUILTIN)), record)
    assert entry is not None
    assert (entry.key, entry.what) == ("", what)


def test_what_a_stranger_wrote_cannot_steer_the_terminal() -> None:
    assert entry_line(Entry(0, 1, "note", "agent", "", ("\x1b[2Jgone\nfor good",))) == (
        "00:00:00.000       1  agent                                         \\x1b[2Jgone\\nfor good"
    )
