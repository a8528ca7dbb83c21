"""``kr explain``: from manifests, a journal at any moment, an agent; one question or ten thousand, good and bad."""

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from harness import story
from harness.answering import answering
from harness.command import Done, kr
from harness.shop import NAMESPACES, NODES, PODS, policy
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec import structs

from kube_router.cli.explain import LIVE, PROBE_LENGTH_MAX, question
from kube_router.cli.loading import offline_registry
from kube_router.core.state import State, View
from kube_router.events.errors import ConfigError
from kube_router.events.event import AnyRecord, Delete, Put
from kube_router.plugins.firewall.evaluate import DEFAULTS
from kube_router.plugins.firewall.explain import explain

T, MINUTE = story.T, story.MINUTE  # 2026-11-22T19:54:01Z
CATALOGUE = offline_registry("firewall").catalogue()
DENY = policy("{podSelector: {}, policyTypes: [Ingress]}", "shop/deny")
FROM_WEB = "[{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 80}]}]"
ALLOW = policy("{podSelector: {matchLabels: {app: db}}, ingress: RULES}".replace("RULES", FROM_WEB), "shop/allow")


def records() -> list[AnyRecord]:
    """Return a journal: eleven objects, after a minute a policy that denies, then one that allows, then neither."""
    objects = (*NODES, *NAMESPACES, *PODS)
    assert len(objects) == 11
    puts = [
        Put(seq=seq, t=T, r=CATALOGUE.by_model(type(obj)).name, key=obj.key, rv=str(100 + seq), obj=obj)
        for seq, obj in enumerate(objects, 1)
    ]
    return [
        story.HEAD,
        *puts,
        Put(seq=12, t=T + MINUTE, r="networkpolicies", key="shop/deny", rv="200", obj=DENY),
        Put(seq=13, t=T + 2 * MINUTE, r="networkpolicies", key="shop/allow", rv="201", obj=ALLOW),
        Delete(seq=14, t=T + 3 * MINUTE, r="networkpolicies", key="shop/deny", rv="202"),
        Delete(seq=15, t=T + 4 * MINUTE, r="networkpolicies", key="shop/allow", rv="203"),
    ]


@pytest.fixture(name="journal", scope="module")
def _journal(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("journal")
    story.write(folder / f"{1:020}.log", records())
    return str(folder)


@pytest.fixture(name="manifests")
def _manifests(tmp_path: Path) -> str:
    folder = tmp_path / "manifests"
    folder.mkdir()
    (folder / "pods.yaml").write_text(
        """
        kind: List
        apiVersion: v1
        items:
        - {apiVersion: v1, kind: Pod, metadata: {name: a}, status: {podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}]}}
        - {apiVersion: v1, kind: Pod, metadata: {name: b}, status: {podIPs: [{ip: 10.0.0.2}, {ip: "fd00::2"}]}}
        - apiVersion: networking.k8s.io/v1
          kind: NetworkPolicy
          metadata: {name: p}
          spec: {podSelector: {}, ingress: [{ports: [{port: 80}]}]}
        """
    )
    return str(folder)


# -- one question ------------------------------------------------------------------------------------------------------


def test_from_manifests_without_a_journal(manifests: str) -> None:
    allowed, denied = (
        kr("explain", "a", "b:80", "--from", manifests),
        kr("explain", "a", "[fd00::2]:81", "--from", manifests),
    )
    assert (allowed.status, denied.status, allowed.err, denied.err) == (0, 1, "", "")
    first, egress, ingress = allowed.out.splitlines()
    assert (first, egress) == (
        "allowed  default/a (10.0.0.1) → default/b (10.0.0.2) 80/TCP",
        "  egress   allowed: no policy isolates default/a",
    )
    assert ingress.startswith("  ingress  allowed by NetworkPolicy default/p (seq ")
    assert ingress.endswith("), rule 1: from everybody, port 80/TCP")
    assert denied.out.splitlines()[0] == "denied   default/a (fd00::1) → default/b (fd00::2) 81/TCP"


@pytest.mark.parametrize(
    ("at", "status", "ingress"),
    [
        ("11", 0, "allowed: no policy isolates shop/db"),
        ("19:54:30", 0, "allowed: no policy isolates shop/db"),
        (
            "12",
            1,
            "denied: isolated by NetworkPolicy shop/deny (seq 12, resourceVersion 200, 2026-11-22T19:55:01.000Z); "
            "none of their rules allows it",
        ),
        (
            "2026-11-22T19:56:30Z",
            0,
            "allowed by NetworkPolicy shop/allow (seq 13, resourceVersion 201, 2026-11-22T19:56:01.000Z), "
            "rule 1: from pods with app=web, port 80/TCP",
        ),
        ("-1s", 0, "allowed by NetworkPolicy shop/allow (seq 13, resourceVersion 201, 2026-11-22T19:56:01.000Z), "
         "rule 1: from pods with app=web, port 80/TCP"),
        ("15", 0, "allowed: no policy isolates shop/db"),
        ("99", 0, "allowed: no policy isolates shop/db"),
    ],
)  # fmt: skip
def test_a_journal_is_asked_about_any_moment(journal: str, at: str, status: int, ingress: str) -> None:
    done = kr("explain", "shop/web", "shop/db:80", "--from", journal, "--at", at)
    assert (done.status, done.err) == (status, "")
    assert done.out.splitlines()[2] == f"  ingress  {ingress}"


def test_as_json_the_answer_is_one_document(journal: str) -> None:
    done = kr("explain", "data/web", "shop/db:http", "--from", journal, "--at", "13", "-o", "json")
    answer = json.loads(done.out)
    assert (done.status, answer["allowed"], answer["port"]) == (1, False, 80)
    assert [each["seq"] for each in answer["ingress"]["isolated_by"]] == [13, 12]


def test_a_service_without_endpoints_is_denied_in_words(manifests: str) -> None:
    path = Path(manifests, "service.yaml")
    path.write_text(
        "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {clusterIP: 10.96.0.9, ports: [{port: 80}]}}"
    )
    done = kr("explain", "a", "10.96.0.9:80", "--from", manifests)
    assert done == (
        1,
        "denied   default/a (10.0.0.1) → Service default/s 80/TCP\n"
        "  the Service has no endpoint that is ready: nobody answers\n",
        "",
    )


@pytest.mark.parametrize(
    ("flags", "status"), [((), 0), (("--netpol-judge-icmp",), 1), (("--netpol-judge-icmp=false",), 0)]
)
def test_the_agents_flags_change_verdicts(journal: str, flags: tuple[str, ...], status: int) -> None:
    done = kr("explain", "shop/web", "shop/db/icmp", "--from", journal, "--at", "12", *flags)
    assert (done.status, done.err) == (status, "")
    assert done.out.splitlines()[0].endswith("shop/db (10.2.0.11) ICMP")


def test_the_options_in_the_journals_head_count(tmp_path: Path) -> None:
    head = structs.replace(story.HEAD, options={"netpol-default-deny": "true"})
    story.write(tmp_path / f"{1:020}.log", [head, *records()[1:]])
    words = ("explain", "198.51.100.7", "10.1.0.99:80", "--from", str(tmp_path))
    assert kr(*words).out.splitlines()[2] == ("  ingress  denied: an address of no known pod (--netpol-default-deny)")
    assert kr(*words, "--netpol-default-deny=false").status == 0


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "two words are needed, SRC and DST:PORT"),
        (["shop/web"], "two words are needed"),
        (["shop/web", "shop/db:80", "more"], "two words are needed"),
        (["shop/web", "shop/db"], "'shop/db' has no port: write prod/db:5432, [fd00::1]:80 or, without one, DST/icmp"),
        (["shop/web", "fd00::1:80"], "'fd00::1:80' has no port"),
        (["shop/web", "shop/db:80/IP"], "has no port named '80/IP' for TCP"),
        (["shop/web", "shop/nobody:80"], "there is no Pod 'shop/nobody'"),
        (["shop/web", "shop/db:0"], "port 0 is neither a number from 1 to 65535 nor a name"),
        (["shop/web", "shop/db:80", "--at", "x"], "'x' is no moment"),
        (
            ["shop/web", "shop/db:80", "--netpol-judge-imcp"],
            "unknown flag --netpol-judge-imcp; did you mean --netpol-j",
        ),
        (["shop/web", "shop/db:80", "--probe"], "unknown flag --probe; did you mean --probes?"),
        (
            ["shop/web", "shop/db:80", "--probes", "-"],
            "--probes and --route bring their own questions: leave out SRC and DST",
        ),
        (["--probes", "/nowhere/probes"], "--probes /nowhere/probes: No such file or directory"),
        (["--probes", "/"], "--probes /: Is a directory"),
        (["shop/web", "shop/db:80", "--from", "/nowhere"], "/nowhere: No such file or directory"),
    ],
)
def test_a_question_that_makes_no_sense_is_wrong_use(journal: str, argv: list[str], words: str) -> None:
    done = kr("explain", *(argv if "--from" in argv else ["--from", journal, *argv]))
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("kr: ")
    assert words in done.err
    assert done.err.count("\n") == 1


# -- the two words -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("destination", "asked"),
    [
        ("prod/db:5432", ("prod/db", "5432", "TCP")),
        ("prod/db:pg/tcp", ("prod/db", "pg", "TCP")),
        ("db:53/UDP", ("db", "53", "UDP")),
        ("svc/prod/db:80/sctp", ("svc/prod/db", "80", "SCTP")),
        ("10.0.0.1:80", ("10.0.0.1", "80", "TCP")),
        ("[fd00::1]:80", ("fd00::1", "80", "TCP")),
        ("[fd00::1]:http/UDP", ("fd00::1", "http", "UDP")),
        ("prod/db/icmp", ("prod/db", None, "ICMP")),
        ("fd00::1/ICMP", ("fd00::1", None, "ICMP")),
        ("[fd00::1]/icmp", ("fd00::1", None, "ICMP")),
        ("10.0.0.1/icmp", ("10.0.0.1", None, "ICMP")),
    ],
)
def test_a_destination_is_read(destination: str, asked: tuple[str, str | None, str]) -> None:
    found = question("[fd00::9]", destination)
    assert (found["dst"], found.get("port"), found["protocol"]) == asked
    assert found["src"] == "fd00::9"


@given(st.text(), st.text(st.sampled_from("a1:/[].tcpudicmTCP-\n")) | st.text())
def test_any_two_words_are_a_question_or_an_error_of_one_line(source: str, destination: str) -> None:
    found: str | dict[str, object]
    try:
        found = question(source, destination)
    except ConfigError as error:
        found = str(error)
    if isinstance(found, str):
        assert found.isprintable()
        assert len(found) < 1000
    else:
        assert {"src", "dst", "protocol"} <= set(found)


# -- many questions ----------------------------------------------------------------------------------------------------


def probe(lines: bytes, *argv: str) -> tuple[Done, list[dict[str, Any]]]:
    done = kr("explain", "--probes", "-", *argv, stdin=lines)
    return done, [json.loads(line) for line in done.out.splitlines()]


GOOD = b'{"src": "shop/web", "dst": "shop/db", "port": 80, "expected": true}\n'


def test_each_probe_is_answered_by_a_line_with_who_decided(journal: str, tmp_path: Path) -> None:
    lines = GOOD + b"\n" + GOOD.replace(b"shop/web", b"data/web").replace(b"80", b'"http"').removesuffix(b"\n")
    done, answers = probe(lines, "--from", journal, "--at", "13")
    assert (done.status, done.err) == (0, "")
    assert [(each["allowed"], each["ingress"]["why"]) for each in answers] == [(True, "rule"), (False, "isolated")]
    assert (answers[0]["ingress"]["policy"], answers[0]["ingress"]["rule"]) == ("shop/allow", 1)
    (tmp_path / "probes").write_bytes(lines)
    assert kr("explain", "--probes", str(tmp_path / "probes"), "--from", journal, "--at", "13") == done


@pytest.mark.parametrize("flags", [(), ("--netpol-default-deny",)])
def test_probes_go_with_flags(journal: str, flags: tuple[str, ...]) -> None:
    lines = b'{"src": "198.51.100.7", "dst": "10.1.0.99", "port": 80}'
    done, answers = probe(lines, "--from", journal, *flags)
    assert (done.status, [each["allowed"] for each in answers]) == (0, [not flags])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"nonsense", "'nonsense' is no probe: JSON is malformed"),
        (b"[]", "'[]' is no probe: Expected `object`, got `array`"),
        (b"{}", "'{}' is no probe: Object missing required field `src`"),
        (b'{"src": 1, "dst": "a", "port": 1}', "Expected `str`, got `int` - at `$.src`"),
        (b'{"src": "a", "dst": "a", "port": 1.5}', "Expected `int | str | null`, got `float` - at `$.port`"),
        (b'{"src": "\xff", "dst": "a", "port": 1}', "can't decode byte 0xff"),
        (b'{"src": "\\ud800", "dst": "a", "port": 1}', "is no probe: "),
        (b'{"src": "a", "x": ' + b"[" * 4000 + b"}", "is no probe: "),
        (b'{"src": "' + b"a" * 70_000 + b'", "dst": "a", "port": 1}', "goes on for more than 4096 bytes"),
        (b'{"src": "a", "dst": "b", "port": ' + b"9" * 3000 + b"}", "… is neither a number from 1 to 65535"),
        (b'{"src": "shop/web", "dst": "shop/db", "port": 80, "protocol": "ICMPv6"}', "protocol 'ICMPv6' is none of"),
    ],
)
def test_a_bad_line_is_an_error_in_its_place_and_the_exit_status(journal: str, line: bytes, words: str) -> None:
    done, answers = probe(GOOD + line + b"\n" + GOOD, "--from", journal)
    assert (done.status, done.err) == (1, "")
    assert [list(answer) == ["error"] for answer in answers] == [False, True, False]
    assert words in answers[1]["error"]
    assert len(answers[1]["error"]) < 500


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.binary(max_size=60)
        | st.text(st.characters(exclude_categories=["Cs"]), max_size=60).map(str.encode)
        | st.recursive(
            st.none() | st.integers() | st.text() | st.sampled_from(["shop/web", "shop/db"]),
            lambda inner: st.dictionaries(st.sampled_from(["src", "dst", "port", "protocol", "x"]), inner, max_size=5),
        ).map(lambda value: json.dumps(value).encode()),
        max_size=60,
    )
)
@example([b"a" * (PROBE_LENGTH_MAX + extra) for extra in (-1, 0, 1, 2, 3, PROBE_LENGTH_MAX)])
def test_as_many_lines_come_out_as_go_in(journal: str, lines: list[bytes]) -> None:
    text = b"\n".join(lines)
    done, answers = probe(text, "--from", journal)
    asked = [line for line in text.split(b"\n") if line.strip()]
    assert len(answers) == len(asked)
    assert done.status == int(any("error" in answer for answer in answers))
    assert all(isinstance(answer.get("allowed"), bool) != ("error" in answer) for answer in answers)


# -- a running agent ---------------------------------------------------------------------------------------------------


class Agent:
    """What stands behind the control socket: the firewall's answers, counted."""

    def __init__(self, journal: str, until: int) -> None:
        self.journal = journal
        self.questions: list[Mapping[str, object]] = []
        state = State(CATALOGUE)
        for record in records()[: until + 1]:
            state.apply(record)
        self._view = View(state, [resource.model for resource in CATALOGUE])

    def status(self, request: Mapping[str, object]) -> object:
        return {"journal": {"dir": self.journal}}

    def explain(self, request: Mapping[str, object]) -> object:
        assert request["plugin"] == "firewall"
        self.questions.append(request)
        return explain(self._view, request, DEFAULTS)


def listening(path: Path, agent: Agent) -> AbstractContextManager[None]:
    return answering(path, {"status": agent.status, "explain": agent.explain})


def test_a_running_agent_is_asked_what_it_believes(journal: str, tmp_path: Path) -> None:
    path = tmp_path / "kr.sock"
    with listening(path, Agent(journal, 12)):
        socket = ("--control-socket", str(path))
        denied = kr("explain", "shop/web", "shop/db:80", *socket)
        assert (denied.status, denied.out.split(" ", 1)[0], denied.err) == (1, "denied", "")
        assert kr("explain", "shop/web", "shop/db:80", "--at", "13", *socket).status == 0  # from its journal
        unknown = kr("explain", "shop/web", "nobody:80", *socket)
        assert (unknown.status, unknown.out) == (2, "")
        assert "there is no Pod 'default/nobody'" in unknown.err
        flag = kr("explain", "shop/web", "shop/db:80", "--netpol-judge-icmp", *socket)
        assert flag == (2, "", "kr: --netpol-judge-icmp=true goes with --from; a running agent has its own options\n")


def test_ten_thousand_probes_are_asked_in_few_questions_none_longer_than_an_agent_reads(
    journal: str, tmp_path: Path
) -> None:
    agent = Agent(journal, 13)
    with listening(tmp_path / "kr.sock", agent):
        socket = ("--control-socket", str(tmp_path / "kr.sock"))
        done, answers = probe(GOOD * 10_000, *socket)
        assert (done.status, len(answers), all(each["allowed"] for each in answers)) == (0, 10_000, True)
        assert len(agent.questions) == 10_000 / LIVE.probes
        agent.questions.clear()
        long = json.dumps({"src": "é" * 1000, "dst": "shop/db", "port": 80}, ensure_ascii=False).encode() + b"\n"
        done, answers = probe((long + b"nonsense\n" + GOOD) * 100, *socket)
        assert (done.status, len(answers)) == (1, 300)
        assert ["error" in each for each in answers] == [True, True, False] * 100
        assert 2 <= len(agent.questions) <= 20


def test_without_an_agent_there_is_no_answer_and_no_denial(tmp_path: Path) -> None:
    done = kr("explain", "shop/web", "shop/db:80", "--control-socket", str(tmp_path / "kr.sock"))
    assert (done.status, done.out) == (2, "")
    assert "no agent listens at" in done.err
