"""The journal as its readers see it: whole folders, single files, streams, damage, the live end, the export."""

import os
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

import pytest
from harness.journaling import decoders, opened, pod_put, records_of, start

from kube_router.events.event import AnyRecord, End, Note, Put, Segment
from kube_router.events.export import export
from kube_router.events.reading import Damage, follow, read

Read = AnyRecord | Damage | None


def told(records: Iterator[Read] | list[AnyRecord]) -> list[str]:
    """Return the records in short: ``h5`` a head, ``3`` a record, ``e4`` an end, ``!`` damage, ``.`` the live end."""
    return [short(record) for record in records]


def short(record: Read) -> str:
    if record is None:
        return "."
    if isinstance(record, Damage):
        return "!"
    return {Segment: "h", End: "e"}.get(type(record), "") + str(record.seq)


def salvaged(source: Path | BinaryIO) -> list[str]:
    return told(read(source, decoders(), salvage=True))


def stopped(source: Path | BinaryIO) -> list[str]:
    return told(read(source, decoders()))


def snapshot_head(seq: int) -> Segment:
    return Segment(seq=seq + 1, t=9, v=1, cluster="c1")


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """Three logs of three records, and a snapshot after the fifth."""
    directory = tmp_path / "journal"
    for run in range(3):
        with start(directory) as journal:
            journal.append([pod_put(3 * run + 1, "a"), pod_put(3 * run + 2, "b")])
            if run == 1:
                journal.snapshot(snapshot_head(5), [pod_put(4, "a"), pod_put(5, "b")])
            journal.append([pod_put(3 * run + 3, "c")])
    return directory


def damage(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def log(directory: Path, seq: int) -> Path:
    return directory / f"{seq:020d}.log"


def test_a_whole_history_needs_no_snapshot(written: Path) -> None:
    assert stopped(written) == ["h1", "1", "2", "3", "h4", "4", "5", "6", "h7", "7", "8", "9"]


def test_where_the_beginning_is_gone_the_snapshot_is_read_where_it_belongs(written: Path) -> None:
    log(written, 1).unlink()
    assert stopped(written) == ["h4", "4", "5", "h6", "4", "5", "e5", "6", "h7", "7", "8", "9"]


def test_a_snapshot_right_before_the_oldest_log_comes_first(written: Path) -> None:
    with start(written) as journal:
        journal.snapshot(snapshot_head(9), [pod_put(9, "c")])
    with start(written) as journal:
        journal.append([pod_put(10, "d")])
    for seq in (1, 4, 7):
        log(written, seq).unlink()
    assert stopped(written) == ["h10", "9", "e9", "h10", "10"]


def test_a_snapshot_alone_is_a_journal(written: Path) -> None:
    for seq in (1, 4, 7):
        log(written, seq).unlink()
    assert stopped(written) == ["h6", "4", "5", "e5"]
    assert stopped(written / "00000000000000000005.snap") == ["h6", "4", "5", "e5"]


def test_any_single_file_can_be_read_and_so_can_a_stream(written: Path) -> None:
    assert stopped(log(written, 4)) == ["h4", "4", "5", "6"]
    assert stopped(BytesIO(log(written, 4).read_bytes())) == ["h4", "4", "5", "6"]


def test_an_empty_folder_holds_nothing(tmp_path: Path) -> None:
    assert stopped(tmp_path) == []


def test_reading_changes_nothing(written: Path) -> None:
    damage(log(written, 4), lambda content: content[:-3])
    before = {path: path.read_bytes() for path in written.iterdir()}
    salvaged(written)
    assert {path: path.read_bytes() for path in written.iterdir()} == before


def test_reading_ends_at_damage_and_says_what_and_where(written: Path) -> None:
    damage(log(written, 4), lambda content: content.replace(b"prod/b", b"prod/X"))
    records = list(read(written, decoders()))
    assert told(iter(records)) == ["h1", "1", "2", "3", "h4", "4", "!"]
    found = records[-1]
    assert isinstance(found, Damage)
    lines = log(written, 4).read_bytes().splitlines(keepends=True)
    offset = len(lines[0] + lines[1])
    assert (found.file, found.offset, found.seq) == ("00000000000000000004.log", offset, 4)
    assert str(found) == (f"00000000000000000004.log: the line's checksum is wrong at offset {offset}, after record 4")


def test_salvage_goes_on_behind_the_damage_and_counts_what_is_missing(written: Path) -> None:
    damage(log(written, 1), lambda content: content.replace(b"prod/b", b"prod/X"))
    records = list(read(written, decoders(), salvage=True))
    # The snapshot after 5 makes the state known again.
    assert told(iter(records)) == [
        "h1", "1", "!", "!", "3", "h4", "4", "5", "h6", "4", "5", "e5", "6", "h7", "7", "8", "9",
    ]  # fmt: skip
    assert [record.text for record in records if isinstance(record, Damage)] == [
        "the line's checksum is wrong",
        "record 2 is missing",
    ]


def test_a_missing_log_is_a_damage(written: Path) -> None:
    log(written, 4).unlink()
    assert stopped(written) == ["h1", "1", "2", "3", "!"]
    assert salvaged(written) == ["h1", "1", "2", "3", "!", "h7", "7", "8", "9"]


def test_evidence_can_be_read_too(written: Path) -> None:
    damage(log(written, 7), lambda content: content[:-3])
    with opened(written):
        pass
    torn = written / "00000000000000000007.log.torn"
    assert salvaged(torn) == ["!"]
    rest = log(written, 4).read_bytes().split(b"\n", 1)[1][5:]
    assert salvaged(BytesIO(rest)) == ["!", "!", "5", "6"]


def test_a_snapshot_that_lost_a_line_says_so_once(written: Path) -> None:
    path = written / "00000000000000000005.snap"
    damage(path, lambda content: content.replace(b"prod/a", b"prod/X"))
    assert salvaged(path) == ["h6", "!", "5", "!", "e5"]


def test_a_snapshot_that_lost_its_head_is_salvaged_without_a_flood(written: Path) -> None:
    path = written / "00000000000000000005.snap"
    damage(path, lambda content: content.split(b"\n", 1)[1])
    assert salvaged(path) == ["!", "4", "5", "e5"]


def test_a_newer_schema_is_told_and_what_is_understood_is_salvaged(written: Path) -> None:
    body = b'{"op":"seg","seq":10,"t":1,"v":2,"shape":"new"}'
    warp = b'{"op":"warp","seq":10,"t":1}'
    note = b'{"op":"note","seq":11,"t":1,"about":"x","text":"y","more":1}'
    newer = b"".join(b"%08x %b\n" % (crc32(text), text) for text in (body, warp, note))
    log(written, 10).write_bytes(newer)
    records = list(read(log(written, 10), decoders(), salvage=True))
    assert told(iter(records)) == ["!", "h10", "!", "11"]
    assert isinstance(records[0], Damage)
    assert records[0].text == "written with schema 2, this program knows schema 1"
    assert stopped(log(written, 10)) == ["!"]


# -- the live end ----------------------------------------------------------------------------------------------------


def until_live(records: Iterator[Read]) -> list[str]:
    """Return what there is up to the live end."""
    found = []
    for record in records:
        if record is None:
            break
        found.append(short(record))
    return found


def test_a_follower_sees_what_is_appended_rotated_and_begun_anew(tmp_path: Path) -> None:
    records = follow(tmp_path, decoders())
    assert until_live(records) == []
    with start(tmp_path, segment_bytes_max=900) as journal:
        assert until_live(records) == ["h1"]
        journal.append([pod_put(1, "a")])
        assert until_live(records) == ["1"]
        for seq in range(2, 10):
            journal.append([pod_put(seq, "a")])
        assert [text for text in until_live(records) if text[0] != "h"] == [str(seq) for seq in range(2, 10)]
        assert until_live(records) == []
    start(tmp_path).close()
    assert until_live(records) == ["h10"]
    with start(tmp_path) as journal:  # the empty log is written anew
        journal.append([pod_put(10, "a")])
        assert until_live(records) == ["h10", "10"]


def test_a_follower_waits_for_the_rest_of_a_line(written: Path) -> None:
    content = log(written, 7).read_bytes()
    log(written, 7).write_bytes(content[:-7])
    records = follow(written, decoders())
    assert until_live(records)[-2:] == ["7", "8"]
    with open(log(written, 7), "ab") as file:
        file.write(content[-7:])
    assert until_live(records) == ["9"]


def test_a_follower_of_one_file_waits_at_its_end(written: Path) -> None:
    records = follow(log(written, 7), decoders())
    assert until_live(records) == ["h7", "7", "8", "9"]
    assert until_live(records) == []


def test_a_line_that_stays_unfinished_is_a_damage_once_the_next_log_is_there(written: Path) -> None:
    damage(log(written, 7), lambda content: content[:-7])
    records = follow(written, decoders(), salvage=True)
    assert until_live(records)[-1] == "8"
    body = b'{"op":"seg","seq":9,"t":1,"v":1}'
    log(written, 9).write_bytes(b"%08x %b\n" % (crc32(body), body))
    assert until_live(records) == ["!", "h9"]


# -- the export ------------------------------------------------------------------------------------------------------


def test_an_export_is_one_file_with_snapshot_and_tail(written: Path, tmp_path: Path) -> None:
    out = tmp_path / "journal.log"
    exported = export(written, out)
    assert (exported.last_seq, exported.damage, exported.size_bytes) == (9, "", out.stat().st_size)
    assert told(records_of(out)) == ["h6", "4", "5", "e5", "h6", "6", "h7", "7", "8", "9"]
    assert out.stat().st_mode & 0o777 == 0o600
    assert sorted(os.listdir(tmp_path)) == ["journal", "journal.log"]


def test_an_export_can_be_taken_from_a_journal_in_use(written: Path, tmp_path: Path) -> None:
    with start(written) as journal:
        journal.append([Note(seq=10, t=1, about="x", text="y")])
        assert export(written, tmp_path / "out").last_seq == 10


def test_an_export_without_a_snapshot_is_the_history(written: Path, tmp_path: Path) -> None:
    (written / "00000000000000000005.snap").unlink()
    export(written, tmp_path / "out")
    assert told(records_of(tmp_path / "out")) == stopped(written)


def test_an_export_ends_at_damage_and_says_so(written: Path, tmp_path: Path) -> None:
    damage(log(written, 7), lambda content: content.replace(b"prod/b", b"prod/X"))
    exported = export(written, tmp_path / "out")
    assert exported.last_seq == 7
    assert exported.damage.startswith("00000000000000000007.log: the line's checksum is wrong at offset")
    assert told(records_of(tmp_path / "out"))[-1] == "7"


def test_an_exported_journal_becomes_a_journal_again(written: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    export(written, tmp_path / "new" / "00000000000000000006.log")
    puts = [record for record in read(tmp_path / "new", decoders()) if isinstance(record, Put)]
    assert [put.seq for put in puts] == [4, 5, 6, 7, 8, 9]


def test_there_is_nothing_to_export_in_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no journal in this folder"):
        export(tmp_path, tmp_path / "out")
    assert os.listdir(tmp_path) == []
