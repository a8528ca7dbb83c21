"""The journal under what only real processes, disks and limits do: kill -9, a full disk, secrets, memory."""

import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.journaling import decoders, opened, pod_put, start

from kube_router.events.event import AnyRecord, Note, Put, Segment
from kube_router.events.export import export
from kube_router.events.normalize import BUILTIN
from kube_router.events.redact import Redactor
from kube_router.events.resource import Normalized

TESTS = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(TESTS), "PYTHONSAFEPATH": "1"}
KILLS = 20


def killed_writer(directory: Path, lines: int) -> int:
    """Run a writer, kill it after it has said ``lines`` seqs, and return the last seq it said."""
    command = [sys.executable, "-m", "harness.journal_writer", str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=ENVIRONMENT) as writer:
        assert writer.stdout is not None
        said = [writer.stdout.readline() for _ in range(lines)]
        writer.send_signal(signal.SIGKILL)
        said += writer.stdout.readlines()
    return int([line for line in said if line.endswith(b"\n")][-1])


def test_what_a_killed_writer_had_appended_is_there_and_has_no_gap(tmp_path: Path) -> None:
    for n in range(KILLS):
        said = killed_writer(tmp_path, 1 + 37 * n % 400)
        with opened(tmp_path) as (journal, records):
            seqs = [record.seq for record in records if isinstance(record, Note)]
            assert seqs == list(range(1, journal.last_seq + 1))
            assert journal.last_seq >= said
            assert journal.recovery.complete


WRITE_UNTIL_FULL = """
    import resource, sys
    from pathlib import Path
    from harness.journaling import pod_put, start

    directory = Path(sys.argv[1])
    limit = int(sys.argv[2])
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    journal = start(directory)
    assert (directory / "complete").exists()
    seq = 0
    while not journal.stopped and seq < 100_000:
        journal.append([pod_put(seq + n, f"pod-{seq + n}") for n in range(1, 11)])
        seq = journal.last_seq
    written = seq - 10
    journal.append([pod_put(seq + 1, "on")])
    journal.flush()
    journal.snapshot(journal._head, [])
    assert journal.last_seq == seq + 1
    assert journal.lag_records == 0
    assert not journal.snapshot_due()
    assert not (directory / "complete").exists()
    journal.close()
    print(written, journal.stopped)
    """


def write_until_full(directory: Path, *, limit: int, prefix: tuple[str, ...] = ()) -> tuple[int, str, str]:
    command = [*prefix, sys.executable, "-c", textwrap.dedent(WRITE_UNTIL_FULL), str(directory), str(limit)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    seq, _, why = done.stdout.strip().partition(" ")
    return int(seq), why, done.stderr


def test_a_limit_on_the_file_stops_the_journal_and_not_the_process(tmp_path: Path) -> None:
    written, why, log = write_until_full(tmp_path, limit=100_000)
    assert why == "cannot write: File too large"
    assert log.count("journal_stopped") == 1
    with opened(tmp_path) as (journal, records):
        assert [record.seq for record in records if isinstance(record, Put)] == list(range(1, written + 1))
        assert (journal.last_seq, journal.recovery.complete) == (written, False)
        assert journal.recovery.cut == ()  # what was half written was taken back


@pytest.mark.root
def test_a_full_disk_stops_the_journal_and_a_start_on_it_still_recovers(tmp_path: Path) -> None:
    script = textwrap.dedent(
        f"""
        set -e
        mount -t tmpfs -o size=200k,mode=700 kr-journal-full {tmp_path}
        mkdir {tmp_path}/journal
        "$@"
        df --output=avail {tmp_path} >&2
        cat /dev/zero > {tmp_path}/filler 2>/dev/null || true
        {sys.executable} -c "$RECOVER" {tmp_path}/journal
        """
    )
    recover = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from harness.journaling import opened
        with opened(Path(sys.argv[1])) as (journal, records):
            print("recovered", journal.last_seq, journal.recovery.complete, len(records))
        """
    )
    command = ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, "-c", textwrap.dedent(WRITE_UNTIL_FULL)]
    done = subprocess.run(
        [*command, str(tmp_path / "journal"), "0"],
        env=ENVIRONMENT | {"RECOVER": recover},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    written, _, why = first.partition(" ")
    assert why == "cannot write: No space left on device"
    assert done.stderr.count("journal_stopped") == 1
    assert second == f"recovered {written} False {int(written) + 1}"


@pytest.mark.root
def test_an_agent_can_start_on_a_disk_that_is_full_already(tmp_path: Path) -> None:
    code = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from harness.journaling import pod_put, start
        journal = start(Path(sys.argv[1]))
        journal.append([pod_put(1, "a")])
        journal.flush()
        print(journal.last_seq, journal.stopped)
        journal.close()
        """
    )
    script = (
        f"mount -t tmpfs -o size=64k,nr_inodes=3,mode=700 kr-journal-full {tmp_path} && mkdir {tmp_path}/journal && "
        f'touch {tmp_path}/filler && exec "$@"'
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, "-c", code, str(tmp_path / "journal")],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1 cannot lock: No space left on device\n"


def test_a_disk_that_will_not_take_a_snapshot_costs_the_snapshot_only(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    puts = [pod_put(seq, f"pod-{seq}") for seq in range(1, 501)]
    with start(tmp_path, segment_bytes_max=10_000) as journal:
        for put in puts:
            journal.append([put])
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        try:
            journal.snapshot(Segment(seq=501, t=1, v=1), puts)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert not list(tmp_path.glob("*.snap")) + list(tmp_path.glob("*.tmp"))
        journal.append([pod_put(501, "on")])
        assert journal.stopped == ""
    with opened(tmp_path) as (journal, _):
        assert (journal.last_seq, journal.recovery.complete) == (501, True)


# -- secrets ---------------------------------------------------------------------------------------------------------

CANARY = "c2VjcmV0LWNhbmFyeQ=="


def laden(kind: str) -> dict[str, object]:
    """Return an object with the canary wherever people put secrets."""
    manifest = json.dumps({"spec": {"password": CANARY}})
    return {
        "kind": kind,
        "metadata": {
            "name": "laden",
            "namespace": "prod",
            "labels": {"app": "web"},
            "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": manifest,
                "example.com/token": CANARY,
            },
            "managedFields": [{"fieldsV1": {CANARY: {}}}],
            "ownerReferences": [{"kind": "X", "name": CANARY, "uid": CANARY}],
        },
        "data": {"token": CANARY},
        "addressType": "IPv4",
        "spec": {
            "podSelector": {},
            "containers": [
                {
                    "name": "c",
                    "env": [{"name": "TOKEN", "value": CANARY}],
                    "args": [CANARY],
                    "ports": [{"name": "http", "containerPort": 80}],
                    "livenessProbe": {"httpGet": {"httpHeaders": [{"name": "Authorization", "value": CANARY}]}},
                }
            ],
            "volumes": [{"name": CANARY, "csi": {"volumeAttributes": {"key": CANARY}}}],
            "providerID": CANARY,
            "externalName": CANARY,
        },
        "status": {"conditions": [{"message": CANARY}], "nodeInfo": {"machineID": CANARY}},
    }


def laden_objects(redactor: Redactor) -> Iterator[tuple[str, Normalized]]:
    for kind in BUILTIN:
        written = laden(kind.kind)
        if kind.kind == "Node":
            peers = f"- {{remoteip: 192.0.2.1, remoteasn: 64512, password: {CANARY}, pasword: {CANARY}}}"
            for annotations in (
                {"kube-router.io/peers": peers, "kube-router.io/peer.passwords": f"{CANARY},{CANARY}"},
                {"kube-router.io/peers": f"- {{password: {CANARY}"},
                {"kube-router.io/peer.password": CANARY, "kube-router.io/PASSWORDS": CANARY},
            ):
                written["metadata"] = {"name": "laden", "annotations": annotations}
                yield kind.name, kind.normalize(json.dumps(written).encode(), redactor.digest)
        else:
            yield kind.name, kind.normalize(json.dumps(written).encode(), redactor.digest)


def test_no_secret_enters_the_journal(tmp_path: Path) -> None:
    redactor = Redactor(b"k" * 32)
    with start(tmp_path / "journal") as journal:
        puts: list[Put] = []
        for resource_name, new in laden_objects(redactor):
            put = Put(seq=len(puts) + 1, t=1, r=resource_name, key=new.obj.key, rv=new.rv, obj=new.obj)
            puts.append(put)
            problems = " ".join(map(str, new.problems))
            assert CANARY not in problems
            assert CANARY[:8] not in problems
        journal.append(puts)
        journal.snapshot(Segment(seq=len(puts) + 1, t=1, v=1), puts)
        export(tmp_path / "journal", tmp_path / "journal.log")
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"laden" in written
    assert CANARY.encode() not in written
    assert redactor.plaintext(redactor.digest(CANARY)) == CANARY


# -- memory ----------------------------------------------------------------------------------------------------------


def test_a_pod_costs_about_a_kilobyte() -> None:
    from kube_router.events.normalize import normalize_pod

    def raw(i: int) -> bytes:
        return json.dumps(
            {
                "metadata": {
                    "name": f"web-{i // 20}-7d9f8c6b5d-x{i:05}",
                    "namespace": f"team-{i % 50}",
                    "uid": f"{i:08x}-1111-2222-3333-444444444444",
                    "resourceVersion": str(100_000 + i),
                    "labels": {"app": f"web-{i // 20}", "pod-template-hash": "7d9f8c6b5d", "tier": "front"},
                },
                "spec": {
                    "nodeName": f"node-{i % 100}",
                    "containers": [{"ports": [{"name": "http", "containerPort": 80}]}],
                },
                "status": {
                    "phase": "Running",
                    "podIPs": [{"ip": f"10.1.{i // 256}.{i % 256}"}, {"ip": f"fd00::{i:x}"}],
                },
            }
        ).encode()

    raws = [raw(i) for i in range(2000)]
    normalize_pod(raws[0], str)
    tracemalloc.start()
    try:
        held = [normalize_pod(each, str).obj for each in raws]
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size / len(held) < 1100


def test_recovered_objects_are_those_that_were_written(tmp_path: Path) -> None:
    puts: list[AnyRecord] = []
    with start(tmp_path) as journal:
        for resource_name, new in laden_objects(Redactor(b"k" * 32)):
            put = Put(seq=len(puts) + 1, t=1, r=resource_name, key=new.obj.key, rv=new.rv, obj=new.obj)
            puts.append(put)
            journal.append([put])
    with opened(tmp_path) as (_, records):
        assert [record for record in records if isinstance(record, Put)] == puts
    assert {put.r for put in puts if isinstance(put, Put)} == set(decoders())
