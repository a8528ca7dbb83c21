"""``kr replay``: questions that make no sense, sources of every kind, damage, moments, options, pipes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import story
from harness.command import kr
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

KR = os.path.join(os.path.dirname(sys.executable), "kr")
WAIT_S = 20.0


@pytest.fixture
def journal(tmp_path: Path) -> str:
    return str(story.journal(tmp_path / "journal"))


def seqs(out: str) -> list[int]:
    """Return the seqs of a history printed as JSON."""
    return [json.loads(line)["seq"] for line in out.splitlines()]


# -- questions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--follow", "--state"], "--follow tells history; it does not go with --plan, --state or --diff"),
        (["--follow", "-"], "--follow goes with one SOURCE; start it once per node"),
        (["--blame"], "--blame needs --plan PLUGIN"),
        (["--node", "n1"], "--node needs --plan PLUGIN"),
        (["--at", "5"], "--at needs --plan or --state (history: --until)"),
        (["--plan", "proxy", "--at", "5", "--diff", "1", "2"], "--at needs --plan or --state (history: --until)"),
        (["--state", "--plan", "proxy"], "--state and --plan are two questions; ask one"),
        (["--state", "--until", "5"], "--seq, --since and --until choose records of the history"),
        (["--plan", "proxy", "--kind", "Service"], "--kind and --key do not go with --plan"),
        (["--plan", "proxi"], "there is no plugin 'proxi'; did you mean proxy?"),
        (["--plan", "zzz"], "there is no plugin 'zzz'; installed: firewall, proxy"),
        (["--masquerade-all"], "--masquerade-all=true makes a difference only with --plan"),
        (["--plna", "proxy"], "unknown flag --plna; did you mean --plan?"),
        (["--plan", "proxy", "--masqerade-all"], "unknown flag --masqerade-all; did you mean --masquerade-all?"),
        (["--plan", "proxy", "--ipvs-sync-period", "x"], "flag --ipvs-sync-period: 'x' is not a duration"),
        (["--seq", "9..5"], "the range of seqs 9..5 is empty"),
        (["--follow", "--since", "-5m"], "--follow has no end yet"),
        (["--state", "x", "y"], "--plan, --state and --diff look at one SOURCE"),
    ],
)
def test_a_question_that_makes_no_sense_is_wrong_use(journal: str, argv: list[str], words: str) -> None:
    if "x" in argv and "y" in argv:
        argv = ["--state", journal]
    done = kr("replay", journal, *argv)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("kr: ")
    assert words in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("made", ["nothing", "an empty folder", "a folder of pictures"])
def test_what_is_no_source_is_wrong_use(tmp_path: Path, made: str) -> None:
    path = tmp_path / "source"
    if made != "nothing":
        path.mkdir()
    if made == "a folder of pictures":
        (path / "picture.png").write_bytes(b"\x89PNG")
    done = kr("replay", str(path))
    assert (done.status, done.out) == (2, "")
    assert str(path) in done.err


# -- which records -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        (["--seq", "3..5"], [3, 4, 5]),
        (["--seq", "11.."], [11, 12]),
        (["--since", "10"], [10, 11, 12]),
        (["--until", "2"], [1, 1, 2]),
        (["--since", "2026-11-22T19:56:30Z", "--until", "2026-11-22T19:57:30Z"], [10]),
        (["--since", "-9h57m"], [10, 11, 12]),
        (["--since", "19:57"], [10, 11, 12]),
        (["--kind", "Service"], [2, 5, 12]),
        (["--kind", "services", "--kind", "Node"], [1, 2, 4, 5, 12]),
        (["--kind", "proxy"], [7]),
        (["--key", "prod/*"], [2, 3, 10, 11, 12]),
        (["--key", "*/web", "--key", "n1"], [1, 2, 12]),
    ],
)
def test_filters_choose_the_records(journal: str, argv: list[str], shown: list[int]) -> None:
    done = kr("replay", journal, "-o", "json", *argv)
    assert (done.status, done.err) == (0, "")
    assert seqs(done.out) == shown


def test_the_folder_the_exported_file_and_stdin_tell_the_same(journal: str, tmp_path: Path) -> None:
    file = tmp_path / "journal.log"
    assert kr("journal", "export", str(file), "--journal-dir", journal).out.startswith(
        f"{file}: 14 records up to seq 12"
    )
    told = kr("replay", journal)
    assert told.status == 0
    assert kr("replay", str(file)) == told
    assert kr("replay", "-", stdin=file.read_bytes()) == told


def test_a_pipe_by_name_is_read_once_and_answers_every_question(journal: str, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    command = f"cat {journal}/*.log > {pipe} & {KR} replay {pipe} --plan proxy --diff 9 -1h"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=WAIT_S)
    assert (done.returncode, done.stdout, done.stderr) == (1, f"- {REAL_B}\n", "")


def test_an_export_to_stdout_is_the_file_and_its_summary_goes_to_stderr(journal: str, tmp_path: Path) -> None:
    file = tmp_path / "journal.log"
    summary = kr("journal", "export", str(file), "--journal-dir", journal).out.removeprefix(f"{file}: ")
    command = [sys.executable, "-P", "-m", "kube_router.cli", "journal", "export", "-", "--journal-dir", journal]
    done = subprocess.run(command, capture_output=True, timeout=30, check=True)
    assert done.stdout == file.read_bytes()
    assert done.stderr.decode() == f"-: {summary}"


def test_exporting_what_is_no_journal_is_wrong_use(tmp_path: Path) -> None:
    done = kr("journal", "export", str(tmp_path / "x"), "--journal-dir", str(tmp_path / "none"))
    assert done.status == 2
    assert not (tmp_path / "x").exists()


# -- moments and snapshots ---------------------------------------------------------------------------------------------


def plan(source: str, *argv: str) -> list[str]:
    done = kr("replay", source, "--plan", "proxy", *argv)
    assert done.status == 0, done.err
    return done.out.splitlines()


VIRTUAL = "-A -t 10.96.0.10:80 -s rr"
REAL_A = "-a -t 10.96.0.10:80 -r 10.0.3.7:8080 -m -w 1"
REAL_B = "-a -t 10.96.0.10:80 -r 10.0.4.8:8080 -m -w 1"


@pytest.mark.parametrize(
    ("moment", "lines"),
    [
        ("1", []),
        ("2", [VIRTUAL]),
        ("3", [VIRTUAL, REAL_A, REAL_B]),
        ("2026-11-22T19:57:30Z", [VIRTUAL, REAL_A]),
        ("2026-11-22T19:54:01.001Z", [VIRTUAL]),
        ("12", []),
        ("-1h", [VIRTUAL, REAL_A]),
    ],
)
def test_a_plan_is_of_the_moment_asked_for(journal: str, moment: str, lines: list[str]) -> None:
    assert plan(journal, "--at", moment) == lines


def test_two_moments_with_the_same_plan_do_not_differ(journal: str) -> None:
    assert kr("replay", journal, "--plan", "proxy", "--diff", "10", "11") == (0, "", "")


def test_a_history_that_begins_with_a_snapshot_knows_the_state(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    story.write(folder / f"{8:020}.snap", story.SNAPSHOT)
    story.write(folder / f"{9:020}.log", story.SECOND)
    done = kr("replay", str(folder), "-o", "json")
    assert done.err == ""
    assert seqs(done.out) == [9, 9, 9, 10, 11, 12]
    assert plan(str(folder), "--at", "8") == [VIRTUAL, REAL_A, REAL_B]
    assert plan(str(folder), "--at", "11") == [VIRTUAL, REAL_A]


def test_a_moment_before_the_first_snapshot_is_an_error(tmp_path: Path) -> None:
    story.write(tmp_path / f"{8:020}.snap", story.SNAPSHOT)
    done = kr("replay", str(tmp_path), "--state", "--at", "5")
    assert (done.status, done.out) == (2, "")
    assert done.err == "kr: seq 5 lies before this source's beginning: the state at seq 8\n"


def test_a_segment_without_a_snapshot_before_it_says_so(journal: str) -> None:
    done = kr("replay", f"{journal}/{9:020}.log", "--plan", "proxy", "--at", "11")
    assert (done.status, done.out, done.err) == (0, "", "kr: state incomplete before seq 9\n")


# -- manifests ---------------------------------------------------------------------------------------------------------

MANIFESTS = """\
apiVersion: v1
kind: Service
metadata: {name: web, namespace: prod}
spec: {clusterIP: 10.96.0.10, clusterIPs: [10.96.0.10], ports: [{port: 80, name: http}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-x7, namespace: prod, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 8080, name: http}]
endpoints: [{addresses: [10.0.3.7]}, {addresses: [nowhere]}]
"""


def test_manifests_can_be_planned_before_there_is_a_cluster(tmp_path: Path) -> None:
    file = tmp_path / "web.yaml"
    file.write_text(MANIFESTS)
    (tmp_path / "broken.json").write_text("{")
    done = kr("replay", str(file), "--plan", "proxy", "--node", "n1")
    assert (done.status, done.out.splitlines()) == (0, [VIRTUAL, REAL_A])
    assert done.err.startswith("kr: EndpointSlice prod/web-x7: ")
    assert "nowhere" in done.err
    folder = kr("replay", str(tmp_path), "--plan", "proxy", "--node", "n1", "--diff", "1", "-0s")
    assert (folder.status, folder.out) == (1, f"+ {REAL_A}\n")
    assert folder.err.count("broken.json") == 1


def test_manifests_have_no_history_to_follow(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(MANIFESTS)
    done = kr("replay", "--follow", str(tmp_path))
    assert (done.status, done.out) == (2, "")
    assert "kr run --manifests watches them" in done.err


# -- damage ------------------------------------------------------------------------------------------------------------


def test_a_damaged_line_costs_only_itself_and_is_said(journal: str) -> None:
    file = Path(journal) / f"{1:020}.log"
    lines = file.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(b"10.0.3.7", b"10.0.3.9")  # the slice of seq 3
    file.write_bytes(b"".join(lines))
    done = kr("replay", journal, "-o", "json")
    assert done.status == 0
    assert seqs(done.out) == [1, 1, 2, 4, 5, 6, 7, 9, 9, 10, 11, 12]
    assert f"{file.name}: " in done.err
    assert "state incomplete before seq 4\n" in done.err


def test_a_torn_tail_is_told_up_to_its_tear(journal: str) -> None:
    file = Path(journal) / f"{9:020}.log"
    file.write_bytes(file.read_bytes()[:-10])
    done = kr("replay", journal, "-o", "json")
    assert (done.status, seqs(done.out)[-1]) == (0, 11)
    assert file.name in done.err


WHOLE = b"".join(map(story.line, story.FIRST))


@given(st.integers(0, len(WHOLE) - 1), st.binary(max_size=12))
@settings(max_examples=60, deadline=None)
def test_no_damage_makes_replay_fail_or_invent(place: int, what: bytes) -> None:
    done = kr("replay", "-", "-o", "json", stdin=WHOLE[:place] + what + WHOLE[place + len(what) :])
    assert done.status == 0
    whole = kr("replay", "-", "-o", "json", stdin=WHOLE).out.splitlines()
    told = {line.replace('"first seen"', '"added"') for line in done.out.splitlines()}
    assert {json.loads(line)["seq"] for line in told} <= {json.loads(line)["seq"] for line in whole}


@given(st.binary(max_size=200))
@settings(max_examples=60, deadline=None)
def test_no_bytes_make_replay_end_in_a_traceback(content: bytes) -> None:
    assert kr("replay", "-", stdin=content).status in (0, 2)


def test_a_journal_of_a_later_schema_is_said_to_be_one(tmp_path: Path) -> None:
    story.write(tmp_path / f"{1:020}.log", [structs.replace(story.HEAD, v=99), *story.FIRST[1:]])
    done = kr("replay", str(tmp_path))
    assert done.status == 0
    assert "schema 99" in done.err


# -- options of the plan -----------------------------------------------------------------------------------------------


def test_options_of_the_head_that_cannot_be_read_are_reported_and_left_out(tmp_path: Path) -> None:
    head = structs.replace(story.HEAD, options={"ipvs-sync-period": "soon", "from-the-future": "1"})
    story.write(tmp_path / f"{1:020}.log", [head, *story.FIRST[1:]])
    done = kr("replay", str(tmp_path), "--plan", "proxy")
    assert (done.status, done.out.splitlines()) == (0, [VIRTUAL, REAL_A, REAL_B])
    assert "option ipvs-sync-period in the journal's head: 'soon' is not a duration" in done.err
    assert done.err.endswith("its default is used\n")


def test_flags_among_the_sources_override_the_head(journal: str) -> None:
    assert plan(journal, "--masquerade-all", "--excluded-cidrs", "10.0.0.0/8", "--at", "3") == [VIRTUAL, REAL_A, REAL_B]


def test_a_source_without_a_node_asks_for_one(tmp_path: Path) -> None:
    story.write(tmp_path / f"{1:020}.log", [structs.replace(story.HEAD, node=""), *story.FIRST[1:]])
    done = kr("replay", str(tmp_path), "--plan", "proxy")
    assert (done.status, done.err) == (2, "kr: this source names no node to plan for; give --node NAME\n")
    assert plan(str(tmp_path), "--node", "n1") == [VIRTUAL, REAL_A, REAL_B]


# -- pipes -------------------------------------------------------------------------------------------------------------


def test_a_reader_that_has_had_enough_is_no_error(tmp_path: Path) -> None:
    many = [structs.replace(story.FIRST[2], seq=seq, t=story.T + seq) for seq in range(1, 20_001)]
    story.write(tmp_path / f"{1:020}.log", [story.HEAD, *many])
    with subprocess.Popen([KR, "replay", str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"2026-11-22 (UTC)\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(WAIT_S) == 0


def test_a_terminal_without_utf_8_gets_everything(journal: str) -> None:
    environ = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([KR, "replay", journal], capture_output=True, env=environ, timeout=WAIT_S)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"ready \\u2192 terminating" in done.stdout


@pytest.fixture
def follower(journal: str) -> Iterator[subprocess.Popen[str]]:
    """Yield ``kr replay --follow`` of the journal, ended after the test."""
    process = subprocess.Popen(
        [KR, "replay", "--follow", journal, "-o", "json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=WAIT_S)


def read_until(process: subprocess.Popen[str], done: Callable[[int], bool]) -> None:
    """Read entries until one whose seq is ``done``."""
    assert process.stdout is not None
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if done(json.loads(process.stdout.readline())["seq"]):
            return
    raise AssertionError("the entry did not come")


def test_following_shows_what_is_written_meanwhile_also_in_the_next_segment(
    journal: str, follower: subprocess.Popen[str]
) -> None:
    read_until(follower, lambda seq: seq == 12)
    put = structs.replace(story.SECOND[2], seq=13)
    with (Path(journal) / f"{9:020}.log").open("ab") as file:
        whole = story.line(put)
        file.write(whole[:20])
        file.flush()
        file.write(whole[20:])
    read_until(follower, lambda seq: seq == 13)
    head = structs.replace(story.HEAD, seq=14)
    story.write(Path(journal) / f"{14:020}.log", [head, structs.replace(put, seq=14)])
    read_until(follower, lambda seq: seq == 14)
    follower.send_signal(signal.SIGINT)
    assert follower.wait(WAIT_S) == 130
    assert follower.stderr is not None
    assert follower.stderr.read() == ""
