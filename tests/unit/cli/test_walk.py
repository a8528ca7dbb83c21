"""Walking through a history: the state at any moment, from any snapshot."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from harness import story
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from kube_router.cli.moment import Point
from kube_router.cli.sources import Source
from kube_router.cli.walk import Walk
from kube_router.core.state import State
from kube_router.events.errors import ConfigError
from kube_router.events.event import AnyRecord, End, Put, Segment
from kube_router.events.normalize import BUILTIN
from kube_router.events.reading import Damage
from kube_router.events.resource import Catalogue

CATALOGUE = Catalogue(BUILTIN)
WHOLE = (*story.FIRST, *story.SECOND)


def walk(records: Sequence[AnyRecord | Damage | None]) -> tuple[Walk, list[str]]:
    said: list[str] = []
    return Walk(Source("x", lambda: iter(records)), CATALOGUE, said.append), said


def folded(records: Sequence[AnyRecord]) -> State:
    state = State(CATALOGUE)
    for record in records:
        state.apply(record)
    return state


def objects(state: State) -> dict[str, dict[str, Put]]:
    return {resource: known for resource, known in state.objects.items() if known}


def snapshot(records: Sequence[AnyRecord]) -> list[AnyRecord]:
    """Return the snapshot of the state after the records."""
    state = folded(records)
    head = structs.replace(story.HEAD, seq=state.seq + 1, t=state.t, rv=state.rvs, synced=tuple(sorted(state.synced)))
    puts: list[Put] = list(state.puts())
    return [head, *puts, End(seq=state.seq, t=state.t, n=len(puts))]


@given(st.integers(1, 12), st.integers(0, 12))
def test_the_state_at_a_moment_is_the_same_from_any_snapshot_before_it(moment: int, taken: int) -> None:
    upto = [record for record in WHOLE if record.seq <= moment]
    before = [
        record
        for record in WHOLE
        if record.seq <= taken and not (isinstance(record, Segment) and taken < 9 <= record.seq)
    ]
    after = [record for record in WHOLE if record.seq > taken]
    if taken and moment < taken:
        with pytest.raises(ConfigError, match="lies before this source's beginning"):
            walk([*snapshot(before), *after])[0].fold(Point(seq=moment))
        return
    source, said = walk([*snapshot(before), *after] if taken else WHOLE)
    assert objects(source.fold(Point(seq=moment))) == objects(folded(upto))
    assert source.state.seq == moment
    assert said == []


def test_records_are_yielded_before_they_are_folded_and_snapshots_are_not_yielded() -> None:
    source, _ = walk([*snapshot(story.FIRST), *story.SECOND])
    steps = [(record.seq, source.state.seq) for record in source.steps() if record is not None]
    assert steps == [(9, 0), (9, 8), (9, 8), (10, 9), (11, 10), (12, 11)]


def test_the_head_of_a_later_segment_is_not_of_the_moment_before_it() -> None:
    source, _ = walk(WHOLE)
    source.fold(Point(seq=8))
    assert source.head is not None
    assert source.head.agent == "3.0.0"


def test_an_empty_source_and_one_with_only_a_head_have_an_empty_state() -> None:
    assert walk([])[0].fold(Point()).objects == {}
    source, said = walk([story.HEAD])
    assert source.fold(Point()).node == "n1"
    assert said == []


def test_each_gap_is_said_once() -> None:
    kept = [record for record in story.FIRST if record.seq not in (3, 5)]
    source, said = walk([*kept[:3], Damage(text="bad", file="f", offset=1, seq=2), *kept[3:]])
    source.fold(Point())
    assert said == [
        "f: bad at offset 1, after record 2",
        "state incomplete before seq 4",
        "state incomplete before seq 6",
    ]
    assert all(first != second for first, second in pairwise(said))


def test_a_snapshot_after_a_gap_completes_the_state() -> None:
    late = [story.HEAD, *story.FIRST[7:]]
    source, said = walk([structs.replace(story.HEAD, seq=7), *late[1:], *snapshot(story.FIRST), *story.SECOND])
    assert set(source.fold(Point(seq=11)).objects) == {"nodes", "services", "endpointslices"}
    assert source.known
    assert said == ["state incomplete before seq 7"]


def test_a_source_that_is_followed_passes_its_pauses_on() -> None:
    source, _ = walk([story.HEAD, None, *story.FIRST[1:3], None])
    assert [record.seq if record else None for record in source.steps()] == [1, None, 1, 2, None]
