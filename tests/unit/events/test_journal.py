"""The journal as its writer sees it: append, rotate, snapshot, stop, recover."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import pytest
from harness.journaling import Clock, decoders, opened, pod_put, records_of, start

from kube_router.events.errors import ConfigError
from kube_router.events.event import (
    Advance,
    AnyRecord,
    Change,
    Delete,
    End,
    Note,
    Put,
    ReceiptRecord,
    Segment,
    Sync,
)
from kube_router.events.journal import Journal
from kube_router.events.model import NetworkPolicy, PolicyPeer, PolicyRule, Selector
from kube_router.events.reading import read

EVERY_KIND_OF_RECORD: list[Change] = [
    Advance(seq=1, t=1, r="pods", rv=""),
    pod_put(2, "a", rv="10"),
    Sync(seq=3, t=3, r="pods", rv="12", n=1, why="initial"),
    pod_put(4, "b", rv="13"),
    Delete(seq=5, t=5, r="pods", key="prod/a", rv="14"),
    Note(seq=6, t=6, about="proxy", text='said "ouch"\nand died'),
    ReceiptRecord(seq=7, t=7, plugin="proxy", upto=5, took_ms=1.5, changes={"services added": 2}, problems=("x",)),
    Advance(seq=8, t=8, r="pods", rv="20"),
]


def test_what_was_appended_is_recovered_in_order(tmp_path: Path) -> None:
    with start(tmp_path) as journal:
        journal.append(EVERY_KIND_OF_RECORD)
    with opened(tmp_path) as (journal, records):
        assert records[1:] == EVERY_KIND_OF_RECORD
        head = records[0]
        assert isinstance(head, Segment)
        assert (head.cluster, head.node, head.boot, head.agent, head.seq) == ("c1", "n1", "b1", "3.0", 1)
        found = journal.recovery
        assert (found.last_seq, found.cluster, found.node, found.boot) == (8, "c1", "n1", "b1")
        assert (found.records, found.complete, found.cut) == (8, True, ())
        assert (found.rv, found.synced) == ({"pods": "20"}, frozenset({"pods"}))


def test_an_empty_folder_is_a_fresh_start(tmp_path: Path) -> None:
    with opened(tmp_path / "not" / "there") as (journal, records):
        assert records == []
        assert (journal.last_seq, journal.recovery.complete, journal.recovery.boot) == (0, False, "")


def test_only_root_can_read_the_journal(tmp_path: Path) -> None:
    directory = tmp_path / "journal"
    directory.mkdir(mode=0o755)
    with start(directory) as journal:
        journal.append([pod_put(1, "a")])
        journal.snapshot(Segment(seq=2, t=1, v=1), [pod_put(1, "a")])
        assert directory.stat().st_mode & 0o777 == 0o700
        assert {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()} == {
            "00000000000000000001.log": 0o600,
            "00000000000000000001.snap": 0o600,
            "LOCK": 0o600,
            "complete": 0o600,
        }


def test_absent_null_and_empty_stay_distinct(tmp_path: Path) -> None:
    peers = (PolicyPeer(), PolicyPeer(pod_selector=Selector()), PolicyPeer(namespace_selector=Selector()))
    policy = NetworkPolicy(namespace="prod", name="p", ingress=(PolicyRule(peers=peers),))
    put = Put(seq=1, t=1, r="networkpolicies", key="prod/p", obj=policy)
    with start(tmp_path) as journal:
        journal.append([put])
    assert records_of(tmp_path)[1:] == [put]
    (recovered,) = (record.obj for record in records_of(tmp_path) if isinstance(record, Put))
    assert isinstance(recovered, NetworkPolicy)
    assert [peer.pod_selector for peer in recovered.ingress[0].peers] == [None, Selector(), None]


def test_an_object_of_an_unknown_kind_is_carried_along(tmp_path: Path) -> None:
    with start(tmp_path) as journal:
        journal.append([pod_put(1, "a")])
    with Journal.open(tmp_path, objects={}, apply=lambda record: None, now_ms=Clock()) as journal:
        journal.begin(Segment(seq=1, t=1, v=1))
        carried = [record for record in read(tmp_path, {}) if isinstance(record, Put)]
        journal.snapshot(Segment(seq=2, t=2, v=1), carried)
    with opened(tmp_path) as (_, records):
        assert [record for record in records if isinstance(record, Put)] == [pod_put(1, "a")]


def test_a_second_writer_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    with start(tmp_path), pytest.raises(ConfigError, match=f"is in use by process {os.getpid()}: stop it"):
        start(tmp_path)
    start(tmp_path).close()


def test_a_folder_that_cannot_be_one_is_the_operators_to_fix(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot use .* as journal folder: Not a directory"):
        start(tmp_path / "file" / "journal")


def test_logs_are_rotated_by_size_and_by_age(tmp_path: Path) -> None:
    clock = Clock()
    with start(tmp_path, clock=clock, segment_bytes_max=1000) as journal:
        for seq in range(1, 21):
            journal.append([pod_put(seq, f"pod-{seq}")])
        by_size = sorted(path.name for path in tmp_path.glob("*.log"))
        assert len(by_size) > 3
        clock.now += 3_600_000
        journal.append([pod_put(21, "later")])
        assert (tmp_path / "00000000000000000021.log").exists()
        clock.now += 3_600_000
    assert [record.seq for record in records_of(tmp_path) if isinstance(record, Put)] == list(range(1, 22))


def test_an_empty_log_is_not_rotated_by_age(tmp_path: Path) -> None:
    clock = Clock()
    with start(tmp_path, clock=clock) as journal:
        clock.now += 10 * 3_600_000
        journal.append([pod_put(1, "a")])
        assert [path.name for path in tmp_path.glob("*.log")] == ["00000000000000000001.log"]


def test_every_run_begins_its_own_log_and_an_empty_one_is_written_anew(tmp_path: Path) -> None:
    with start(tmp_path) as journal:
        journal.append([pod_put(1, "a")])
    for boot in ("b2", "b3"):
        with start(tmp_path, boot=boot) as journal:
            pass
    with start(tmp_path, boot="b4") as journal:
        journal.append([pod_put(2, "b")])
    heads = [record.boot for record in records_of(tmp_path) if isinstance(record, Segment)]
    assert heads == ["b1", "b4"]


def test_a_head_says_where_the_streams_stood_before_it(tmp_path: Path) -> None:
    with start(tmp_path, segment_bytes_max=1) as journal:
        journal.append([Sync(seq=1, t=1, r="pods", rv="5")])
        journal.append([pod_put(2, "a", rv="6"), Sync(seq=3, t=1, r="nodes", rv="9")])
        journal.append([Advance(seq=4, t=1, r="pods", rv="")])
        journal.append([pod_put(5, "b", rv="3")])
        journal.append([Note(seq=6, t=1, about="x", text="y")])
    heads = [(record.rv, record.synced) for record in records_of(tmp_path) if isinstance(record, Segment)]
    assert heads == [
        ({}, ()),
        ({"pods": "5"}, ("pods",)),
        ({"pods": "6", "nodes": "9"}, ("nodes", "pods")),
        ({"nodes": "9"}, ("nodes", "pods")),
        ({"nodes": "9"}, ("nodes", "pods")),
    ]
    with opened(tmp_path) as (journal, _):
        assert journal.recovery.rv == {"nodes": "9"}


def test_another_cluster_voids_what_was_recovered(tmp_path: Path) -> None:
    with start(tmp_path) as journal:
        journal.append([Sync(seq=1, t=1, r="pods", rv="5"), pod_put(2, "a")])
    with start(tmp_path, cluster="c2") as journal:
        journal.append([Note(seq=3, t=1, about="x", text="y")])
    with opened(tmp_path) as (journal, records):
        found = journal.recovery
        assert (found.cluster, found.rv, found.synced, found.last_seq) == ("c2", {}, frozenset(), 3)
        assert [record.cluster for record in records if isinstance(record, Segment)] == ["c1", "c2"]


def test_a_head_without_a_cluster_is_of_the_recovered_one(tmp_path: Path) -> None:
    start(tmp_path).close()
    start(tmp_path, cluster="").close()
    with opened(tmp_path) as (journal, _):
        assert journal.recovery.cluster == "c1"


# -- snapshots -------------------------------------------------------------------------------------------------------


def snapshot_head(seq: int) -> Segment:
    return Segment(seq=seq + 1, t=9, v=1, cluster="c1", node="n1", boot="b1", rv={"pods": "30"}, synced=("pods",))


def test_recovery_takes_the_snapshot_and_what_came_after_it(tmp_path: Path) -> None:
    with start(tmp_path) as journal:
        journal.append([Sync(seq=1, t=1, r="pods", rv="5"), pod_put(2, "a"), pod_put(3, "b"), pod_put(4, "a", rv="9")])
        journal.snapshot(snapshot_head(4), [pod_put(3, "b"), pod_put(4, "a", rv="9")])
        journal.append([pod_put(5, "c", rv="31")])
    with opened(tmp_path) as (journal, records):
        assert [record.seq for record in records if isinstance(record, Put)] == [3, 4, 5]
        assert [record for record in records if isinstance(record, End)] == [End(seq=4, t=9, n=2)]
        assert (journal.last_seq, journal.recovery.rv, journal.recovery.complete) == (5, {"pods": "31"}, True)


def test_a_snapshot_may_be_of_nothing(tmp_path: Path) -> None:
    with start(tmp_path) as journal:
        journal.append([pod_put(1, "a"), Delete(seq=2, t=2, r="pods", key="prod/a")])
        journal.snapshot(snapshot_head(2), [])
    with opened(tmp_path) as (journal, records):
        assert [record for record in records if isinstance(record, Put)] == []
        assert journal.last_seq == 2


def test_a_snapshot_whose_writer_died_is_removed(tmp_path: Path) -> None:
    with start(tmp_path) as journal:
        journal.append([pod_put(1, "a")])
    (tmp_path / "00000000000000000001.tmp").write_bytes(b"half")
    with opened(tmp_path) as (journal, records):
        assert journal.recovery.cut == ()
        assert len(records) == 2
        assert not list(tmp_path.glob("*.tmp"))


def test_a_broken_snapshot_is_put_aside_and_the_one_before_it_used(tmp_path: Path) -> None:
    with start(tmp_path) as journal:
        journal.append([pod_put(1, "a")])
        journal.snapshot(snapshot_head(1), [pod_put(1, "a")])
        journal.append([pod_put(2, "b")])
        journal.snapshot(snapshot_head(2), [pod_put(1, "a"), pod_put(2, "b")])
    newest = tmp_path / "00000000000000000002.snap"
    newest.write_bytes(newest.read_bytes()[:-5])
    with opened(tmp_path) as (journal, records):
        assert [record.seq for record in records if isinstance(record, Put)] == [1, 2]
        assert journal.recovery.complete
        assert journal.recovery.cut == (
            "00000000000000000002.snap: the line is unfinished; kept as 00000000000000000002.snap.bad",
        )


def test_a_snapshot_is_due_when_the_logs_outweigh_it(tmp_path: Path) -> None:
    with start(tmp_path, tail_min=1000) as journal:
        assert not journal.snapshot_due()
        puts = [pod_put(seq, f"p{seq}") for seq in range(1, 21)]
        journal.append(puts)
        assert journal.snapshot_due()
        journal.snapshot(snapshot_head(20), puts)
        assert not journal.snapshot_due()
        journal.append([pod_put(seq, "p1") for seq in range(21, 41)])
        assert not journal.snapshot_due()  # no more than the snapshot itself
    with start(tmp_path, tail_min=1000) as journal:
        assert not journal.snapshot_due()
        journal.append([pod_put(seq, "p1") for seq in range(41, 71)])
        assert journal.snapshot_due()  # what was recovered counts


def test_two_snapshots_and_the_logs_behind_them_are_kept_and_history_within_its_budget(tmp_path: Path) -> None:
    with start(tmp_path, segment_bytes_max=1, size_max=4000) as journal:
        for seq in range(1, 41):
            journal.append([pod_put(seq, "a")])
            if seq % 10 == 0:
                journal.snapshot(snapshot_head(seq), [pod_put(seq, "a")])
        assert sorted(path.name for path in tmp_path.glob("*.snap")) == [
            "00000000000000000030.snap",
            "00000000000000000040.snap",
        ]
        logs = sorted(path.name for path in tmp_path.glob("*.log"))
        assert "00000000000000000031.log" in logs
        assert "00000000000000000001.log" not in logs
        size = sum(path.stat().st_size for path in tmp_path.iterdir() if path.suffix in (".log", ".snap"))
        assert size == journal.size_bytes <= 5000
    (tmp_path / "00000000000000000040.snap").unlink()
    with opened(tmp_path) as (journal, _):
        assert (journal.last_seq, journal.recovery.complete) == (40, True)


# -- flushing --------------------------------------------------------------------------------------------------------


def test_the_lag_is_what_was_not_yet_flushed(tmp_path: Path) -> None:
    with start(tmp_path, segment_bytes_max=1) as journal:
        journal.append([pod_put(1, "a"), pod_put(2, "b")])
        journal.append([pod_put(3, "c")])
        assert journal.lag_records == 3
        journal.flush()
        assert journal.lag_records == 0


def test_open_files_do_not_pile_up_when_nobody_flushes(tmp_path: Path) -> None:
    with start(tmp_path, segment_bytes_max=1) as journal:
        before = len(os.listdir("/proc/self/fd"))
        for seq in range(1, 200):
            journal.append([pod_put(seq, "a")])
        assert len(os.listdir("/proc/self/fd")) - before <= 66
        journal.flush()
        assert len(os.listdir("/proc/self/fd")) <= before


def test_closing_twice_does_no_harm_and_frees_the_lock(tmp_path: Path) -> None:
    journal = start(tmp_path)
    journal.close()
    journal.close()
    with open(tmp_path / "LOCK", "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


# -- a log that is not as it was written -----------------------------------------------------------------------------


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A folder with three logs of three puts each."""
    for run in range(3):
        with start(tmp_path) as journal:
            journal.append([pod_put(3 * run + n, f"pod-{n}") for n in (1, 2, 3)])
    return tmp_path


def damage(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def puts(records: list[AnyRecord]) -> list[int]:
    return [record.seq for record in records if isinstance(record, Put)]


def test_an_unfinished_last_line_is_cut_and_kept_and_no_loss(written: Path) -> None:
    log = written / "00000000000000000007.log"
    damage(log, lambda content: content[:-4])
    rest = log.read_bytes().splitlines(keepends=True)[-1]
    with opened(written) as (journal, records):
        assert puts(records) == [1, 2, 3, 4, 5, 6, 7, 8]
        found = journal.recovery
        assert (found.last_seq, found.complete, len(found.cut)) == (8, True, 1)
        assert found.cut[0].startswith("00000000000000000007.log: the line is unfinished at offset")
        assert (written / "00000000000000000007.log.torn").read_bytes() == rest
    with start(written) as journal:
        journal.append([pod_put(9, "again")])
    assert puts(records_of(written)) == [1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_a_log_whose_head_is_unfinished_is_gone(written: Path) -> None:
    damage(written / "00000000000000000007.log", lambda content: content[:20])
    with opened(written) as (_, records):
        assert puts(records) == [1, 2, 3, 4, 5, 6]
        assert not (written / "00000000000000000007.log").exists()
        assert (written / "00000000000000000007.log.torn").read_bytes() != b""


def test_what_follows_damage_is_not_used_and_kept(written: Path) -> None:
    damage(written / "00000000000000000004.log", lambda content: content.replace(b"pod-2", b"pod-X"))
    with opened(written) as (journal, records):
        assert puts(records) == [1, 2, 3, 4]
        found = journal.recovery
        assert (found.last_seq, found.complete) == (4, False)
        assert "00000000000000000004.log: the line's checksum is wrong at offset" in found.cut[0]
        assert found.cut[1] == (
            "00000000000000000007.log: the damage in 00000000000000000004.log is before it; "
            "kept as 00000000000000000007.log.bad"
        )
    with start(written) as journal:
        journal.append([pod_put(5, "new")])
    assert puts(records_of(written)) == [1, 2, 3, 4, 5]


def test_logs_behind_a_missing_one_are_not_used(written: Path) -> None:
    (written / "00000000000000000004.log").unlink()
    with opened(written) as (journal, records):
        assert puts(records) == [1, 2, 3]
        assert not journal.recovery.complete


def test_logs_without_their_beginning_are_no_state(written: Path) -> None:
    (written / "00000000000000000001.log").unlink()
    with opened(written) as (journal, records):
        assert records == []
        assert (journal.last_seq, journal.recovery.complete) == (0, False)
        assert len(list(written.glob("*.bad"))) == 2


@pytest.mark.parametrize("v", [0, 2, 99])
def test_a_journal_of_another_schema_is_put_aside_whole(written: Path, v: int) -> None:
    body = b'{"op":"seg","seq":10,"t":{"other":"type"},"v":%d}' % v
    (written / "00000000000000000010.log").write_bytes(b"%08x %b\n" % (crc32(body), body))
    with opened(written) as (journal, records):
        assert records == []
        assert (journal.last_seq, journal.recovery.complete, len(journal.recovery.cut)) == (0, False, 1)
        assert sorted(path.name for path in written.iterdir()) == [
            "00000000000000000001.log.aside",
            "00000000000000000004.log.aside",
            "00000000000000000007.log.aside",
            "00000000000000000010.log.aside",
            "LOCK",
        ]


def test_an_unknown_record_ends_what_can_be_understood(written: Path) -> None:
    body = b'{"op":"warp","seq":10,"t":1}'
    with open(written / "00000000000000000007.log", "ab") as log:
        log.write(b"%08x %b\n" % (crc32(body), body))
    with opened(written) as (journal, records):
        assert puts(records) == list(range(1, 10))
        assert not journal.recovery.complete
        assert "the record is of no kind this program knows" in journal.recovery.cut[0]


def test_evidence_of_old_damage_is_not_overwritten(written: Path) -> None:
    for _ in range(2):
        damage(written / "00000000000000000007.log", lambda content: content[:-4])
        with opened(written):
            pass
    assert sorted(path.name for path in written.glob("*.torn*")) == [
        "00000000000000000007.log.torn",
        "00000000000000000007.log.torn.1",
    ]


def test_what_cannot_be_read_at_all_stops_the_journal_and_stays_as_it_is(written: Path) -> None:
    (written / "00000000000000000004.log").unlink()
    (written / "00000000000000000004.log").mkdir()
    with opened(written) as (journal, records):
        assert puts(records) == []
        assert journal.stopped.startswith("cannot read: Is a directory: ")
        journal.begin(Segment(seq=1, t=1, v=1))
        journal.append([pod_put(1, "a")])
        assert (journal.last_seq, journal.recovery.complete) == (1, False)
    assert not (written / "complete").exists()
    assert len(list(written.glob("*.log"))) == 3


# -- the marker ------------------------------------------------------------------------------------------------------


def test_the_marker_comes_back_when_the_live_source_has_confirmed_all_that_was_recovered(tmp_path: Path) -> None:
    marker = tmp_path / "complete"
    with start(tmp_path) as journal:
        journal.append([Sync(seq=1, t=1, r="pods"), Sync(seq=2, t=1, r="nodes")])
        assert marker.exists()
    marker.unlink()
    with start(tmp_path) as journal:
        assert not journal.recovery.complete
        assert not marker.exists()
        journal.append([Sync(seq=3, t=1, r="nodes")])
        assert not marker.exists()
        journal.append([Sync(seq=4, t=1, r="pods")])
        assert marker.exists()


def test_decoders_are_asked_by_resource() -> None:
    assert sorted(decoders()) == ["endpointslices", "namespaces", "networkpolicies", "nodes", "pods", "services"]
