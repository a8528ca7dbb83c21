"""Whatever happens to the bytes: a prefix is recovered, nothing is invented, and the journal goes on from there."""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from harness.journaling import opened, pod_put, records_of, start
from hypothesis import given, settings
from hypothesis import strategies as st

from kube_router.events.event import Advance, AnyRecord, Change, Delete, Note, Put, ReceiptRecord, Segment, Sync
from kube_router.events.line import BadLine, frame
from kube_router.events.reading import Damage, read
from kube_router.events.segment import parse

WRITTEN: list[Change] = [pod_put(n, f"pod-{n % 5}") for n in range(1, 13)]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a snapshot and two logs of six records."""
    directory = tmp_path_factory.mktemp("pristine") / "journal"
    with start(directory) as journal:
        journal.append(WRITTEN[:6])
        journal.snapshot(Segment(seq=4, t=1, v=1, cluster="c1"), [put for put in WRITTEN[:3] if isinstance(put, Put)])
    with start(directory) as journal:
        journal.append(WRITTEN[6:])
    return directory


def changes(records: Sequence[AnyRecord | Damage]) -> list[AnyRecord]:
    return [record for record in records if isinstance(record, Put)]


def check_prefix_and_going_on(directory: Path) -> int:
    """Recover, append one record, recover again; return how many records were recovered."""
    with opened(directory) as (journal, records):
        recovered = changes(records)
        assert recovered == WRITTEN[: len(recovered)]
        assert journal.last_seq == len(recovered)
    with start(directory) as journal:
        journal.append([Note(seq=len(recovered) + 1, t=1, about="test", text="on")])
        assert journal.stopped == ""
    with opened(directory) as (journal, records):
        assert changes(records) == recovered
        assert (journal.last_seq, journal.recovery.cut) == (len(recovered) + 1, ())
    return len(recovered)


def test_a_log_cut_at_any_byte_is_recovered_up_to_there(pristine: Path, tmp_path: Path) -> None:
    content = (pristine / "00000000000000000007.log").read_bytes()
    whole_lines = [i for i, byte in enumerate(content) if byte == 10]
    directory = tmp_path / "cut"
    shutil.copytree(pristine, directory)
    for length in range(len(content)):
        log = directory / "00000000000000000007.log"
        log.write_bytes(content[:length])
        with opened(directory) as (journal, records):
            complete = max(sum(end < length for end in whole_lines) - 1, 0)
            assert changes(records) == WRITTEN[: 6 + complete]
            assert journal.recovery.complete
        if length % 40 == 0:
            going_on = tmp_path / str(length)
            shutil.copytree(directory, going_on)
            check_prefix_and_going_on(going_on)
        for evidence in directory.glob("*.torn"):
            assert content[:length].endswith(evidence.read_bytes())
            evidence.unlink()


@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_flipped_bits_are_noticed_and_nothing_is_invented(pristine: Path, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "journal"
        shutil.copytree(pristine, directory)
        path = directory / data.draw(st.sampled_from(sorted(path.name for path in pristine.glob("*.[ls]*"))))
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 3))):
            content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(content)
        salvaged = [record for record in read(directory, {}, salvage=True) if isinstance(record, Put)]
        assert {record.seq for record in salvaged} <= set(range(1, 13))
        check_prefix_and_going_on(directory)


@given(tail=st.binary(max_size=300) | st.just(b"\0" * 4096))
@settings(max_examples=40, deadline=None)
def test_garbage_at_the_end_is_cut(pristine: Path, tail: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "journal"
        shutil.copytree(pristine, directory)
        with open(directory / "00000000000000000007.log", "ab") as log:
            log.write(tail)
        assert check_prefix_and_going_on(directory) == 12


texts = st.text(max_size=30)
stamps = st.integers(0, 2**53)
records = st.one_of(
    st.builds(Delete, seq=stamps, t=stamps, r=texts, key=texts, rv=texts),
    st.builds(Advance, seq=stamps, t=stamps, r=texts, rv=texts),
    st.builds(Sync, seq=stamps, t=stamps, r=texts, rv=texts, n=stamps, why=texts),
    st.builds(Note, seq=stamps, t=stamps, about=texts, text=texts),
    st.builds(
        ReceiptRecord,
        seq=stamps,
        t=stamps,
        plugin=texts,
        upto=stamps,
        took_ms=st.floats(0, 1e9),
        changes=st.dictionaries(texts, stamps, max_size=3),
        problems=st.lists(texts, max_size=3).map(tuple),
    ),
    st.builds(
        Segment,
        seq=stamps,
        t=stamps,
        v=stamps,
        cluster=texts,
        options=st.dictionaries(texts, texts, max_size=3),
        rv=st.dictionaries(texts, texts, max_size=3),
        synced=st.lists(texts, max_size=3).map(tuple),
    ),
)


@given(record=records)
@settings(deadline=None)
def test_any_record_comes_back_as_it_was_from_one_line(record: AnyRecord) -> None:
    line = frame(record)
    assert line.count(b"\n") == 1
    assert parse(line, {}) == record


@given(line=st.binary(max_size=200))
@settings(deadline=None)
def test_any_bytes_are_a_record_or_a_bad_line(line: bytes) -> None:
    with pytest.raises(BadLine):
        parse(line, {})


def test_every_record_is_there_after_all(pristine: Path) -> None:
    assert changes(records_of(pristine)) == WRITTEN
