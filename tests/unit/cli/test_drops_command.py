"""``kr drops``: what is denied, live from an agent that may restart, and from a journal."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from textwrap import dedent

import pytest
from harness import story
from harness.answering import answering
from harness.command import kr
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from kube_router.cli.drops import from_note, lines, live
from kube_router.events.errors import PeerError
from kube_router.events.event import Note
from kube_router.plugins.firewall.drops import POLICIES_TOLD, Drop, Drops
from kube_router.plugins.firewall.nflog import Packet

PODS = {"10.244.1.2": "prod/web", "10.244.1.3": "prod/db", "fd00::3": "prod/db"}
TO_DB = Packet("ingress", "TCP", "10.244.1.2", "10.244.1.3", 40000, 5432)
FROM_OUTSIDE = Packet("ingress", "ICMPv6", "2001:db8::1", "fd00::3", icmp_type=128, icmp_code=0)
LEAVING = Packet("egress", "UDP", "10.244.1.2", "198.51.100.7", 40000, 53)
T = 1_795_377_241_250  # 2026-11-22T19:54:01.250Z


def made(*packets: Packet, note: Callable[[str], None] = lambda text: None) -> Drops:
    drops = Drops(
        describe=lambda address: PODS.get(address, ""),
        policies_of=lambda address, direction: [f"prod/closed-{direction}"] if address in PODS else [],
        note=note,
    )
    drops.state = "reading NFLOG group 100"
    for packet in packets:
        drops.take(packet)
    return drops


@contextmanager
def agent(path: Path, drops: Drops | None) -> Iterator[None]:
    """Answer at the control socket as an agent does; without ``drops`` as one whose firewall does not run."""

    def asked(request: object) -> object:
        assert isinstance(request, dict)
        assert (request["plugin"], request["what"]) == ("firewall", "drops")
        if drops is None:
            raise ValueError("plugin 'firewall' does not run here; running: proxy")
        return drops.answer(request)

    with answering(path, {"ask": asked}):
        yield


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "kr.sock"


# -- live --------------------------------------------------------------------------------------------------------------


def test_what_was_denied_is_shown_with_those_who_closed_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    with agent(path, made(TO_DB, FROM_OUTSIDE, LEAVING)):
        done = kr("drops", "--control-socket", str(path))
    assert (done.status, done.err) == (0, "")
    date, *told = done.out.splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \(UTC\)", date)
    assert [re.sub(r"^[\d:.]{12} ", "", line) for line in told] == [
        "ingress prod/web → prod/db TCP 5432, isolated by prod/closed-ingress",
        "ingress 2001:db8::1 → prod/db ICMPv6 type 128, isolated by prod/closed-ingress",
        "egress prod/web → 198.51.100.7 UDP 53, isolated by prod/closed-egress",
    ]


def test_as_json_each_is_a_document_of_its_own(path: Path) -> None:
    drops = made(TO_DB)
    with agent(path, drops):
        done = kr("drops", "-o", "json", "--control-socket", str(path))
    (document,) = map(json.loads, done.out.splitlines())
    assert document.pop("time").startswith("20")
    assert document == drops.since(0)[0].document()


def test_that_nothing_was_denied_is_said(path: Path) -> None:
    with agent(path, made()):
        assert kr("drops", "--control-socket", str(path)) == (0, "no denied packet was seen\n", "")
        assert kr("drops", "-o", "json", "--control-socket", str(path)) == (0, "", "")


def test_why_the_agent_sees_none_is_said(path: Path) -> None:
    drops = made()
    drops.state = "somebody else reads NFLOG group 100"
    with agent(path, drops):
        done = kr("drops", "--control-socket", str(path))
    assert (done.status, done.err) == (0, "kr: somebody else reads NFLOG group 100\n")


def test_an_agent_without_firewall_is_an_error(path: Path) -> None:
    with agent(path, None):
        done = kr("drops", "--follow", "--control-socket", str(path))
    assert (done.status, done.out) == (1, "")
    assert "plugin 'firewall' does not run here; running: proxy" in done.err


def test_an_agent_that_is_not_there_is_an_error_also_for_who_would_wait(path: Path) -> None:
    with pytest.raises(PeerError, match="no agent listens"):
        next(live(str(path), follow=True))


def test_following_survives_a_restart_of_the_agent_and_says_so_once(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    naps: list[float] = []
    restart: list[AbstractContextManager[None]] = []
    first, second = made(TO_DB), made(LEAVING, LEAVING)
    second.born_ms = first.born_ms + 1  # a machine quick enough makes both within a millisecond

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:  # it was away for a while
            restart.append(agent(path, second))
            restart[0].__enter__()

    monkeypatch.setattr("kube_router.cli.drops.time.sleep", nap)
    with agent(path, first):
        following = live(str(path), follow=True)
        assert next(following)["number"] == 1
        first.take(FROM_OUTSIDE)
        assert next(following)["number"] == 2
    try:
        assert [next(following)["destination"] for _ in range(2)] == ["198.51.100.7", "198.51.100.7"]
    finally:
        following.close()  # type: ignore[attr-defined]
        restart[0].__exit__(None, None, None)
    assert set(naps) == {0.5}
    assert capsys.readouterr().err == (
        f"kr: no agent listens at {path}: start it with kr run, or name its --control-socket; waiting for it\n"
        "kr: the agent has started anew\n"
    )


# -- from a journal ----------------------------------------------------------------------------------------------------


@pytest.fixture(name="journal")
def _journal(tmp_path: Path) -> Path:
    """A journal of two denied packets among other notes."""
    told: list[str] = []
    made(TO_DB, FROM_OUTSIDE, note=told.append)
    told += ["built anew after KernelError: ENOENT", "denied 3 more, too many to tell of each"]
    said = [*(("firewall", text) for text in told), ("proxy", told[0])]
    notes = [Note(seq=13 + n, t=T + n, about=about, text=text) for n, (about, text) in enumerate(said)]
    folder = story.journal(tmp_path / "journal")
    story.write(folder / f"{13:020}.log", [structs.replace(story.HEAD, seq=13), *notes])
    return folder


def test_a_journal_tells_who_was_denied_then(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert kr("drops", "--from", str(journal)) == (
        0,
        "2026-11-22 (UTC)\n"
        "19:54:01.250 ingress prod/web → prod/db TCP 5432, isolated by prod/closed-ingress\n"
        "19:54:01.251 ingress 2001:db8::1 → prod/db ICMPv6 type 128, isolated by prod/closed-ingress\n",
        "",
    )


def test_a_journal_s_documents_are_the_agent_s_with_the_seq_in_place_of_its_number(journal: Path) -> None:
    done = kr("drops", "--from", str(journal), "-o", "json")
    first, second = map(json.loads, done.out.splitlines())
    assert first == {
        "seq": 13,
        "t": T,
        "time": "2026-11-22T19:54:01.250Z",
        "direction": "ingress",
        "source": "10.244.1.2",
        "source_pod": "prod/web",
        "destination": "10.244.1.3",
        "destination_pod": "prod/db",
        "protocol": "TCP",
        "port": 5432,
        "icmp_type": None,
        "icmp_code": None,
        "policies": ["prod/closed-ingress"],
        "more_policies": 0,
    }
    assert (second["source_pod"], second["icmp_type"], second["icmp_code"]) == ("", 128, 0)
    live_document = made(TO_DB).since(0)[0].document()
    assert {*first} - {"seq", "time", "more_policies"} == {*live_document} - {"number", "source_port"}


def test_damage_in_the_journal_is_said(journal: Path) -> None:
    last = journal / f"{13:020}.log"
    last.write_bytes(last.read_bytes().replace(b"5432", b"5433", 1))
    done = kr("drops", "--from", str(journal))
    assert done.status == 0
    assert str(last.name) in done.err
    assert "5433" not in done.out
    assert "ICMPv6 type 128" in done.out


def test_what_is_no_journal_is_wrong_use(tmp_path: Path) -> None:
    done = kr("drops", "--from", str(tmp_path / "nowhere"))
    assert (done.status, done.out) == (2, "")
    assert "nowhere" in done.err


def test_the_sample_in_the_documentation_is_what_is_printed(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    page = (Path(__file__).parents[3] / "docs" / "drops.md").read_text()
    sample = page.partition("    $ kr drops\n")[2].partition("\n\n")[0]
    assert dedent(sample) + "\n" == kr("drops", "--from", str(journal)).out


# -- text --------------------------------------------------------------------------------------------------------------


def test_on_a_phone_a_drop_is_a_few_short_lines() -> None:
    note = Note(seq=1, t=T, about="firewall", text=made(TO_DB).since(0)[0].text)
    drop = from_note(note)
    assert drop is not None
    assert lines(drop, 40).splitlines() == [
        "19:54:01.250 ingress prod/web → prod/db",
        "  TCP 5432, isolated by",
        "  prod/closed-ingress",
    ]


def test_a_journal_cannot_steer_the_terminal() -> None:
    text = "denied ingress \x1b[2Jweb (10.0.0.1) -> 10.0.0.2 TCP 80; isolated by a/db"
    drop = from_note(Note(seq=1, t=T, about="firewall", text=text))
    assert drop is not None
    assert lines(drop, 100) == "19:54:01.250 ingress ?[2Jweb → 10.0.0.2 TCP 80, isolated by a/db"


addresses = st.ip_addresses().map(str)
keys = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?/[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?", fullmatch=True)
directions, octets = st.sampled_from(["ingress", "egress"]), st.integers(0, 255)
packets = st.one_of(
    st.tuples(directions, st.sampled_from(["TCP", "253"]), addresses, addresses, st.none(), st.integers(0, 65535)),
    st.tuples(directions, st.just("GRE"), addresses, addresses),
    st.tuples(directions, st.just("ICMP"), addresses, addresses, st.none(), st.none(), octets, octets),
).map(lambda fields: Packet(*fields))
pods, policies = st.just("") | keys, st.lists(keys, max_size=8).map(tuple)


@given(st.builds(Drop, st.just(1), st.just(T), packets, pods, pods, policies))
def test_what_the_firewall_notes_is_read_back_whole(drop: Drop) -> None:
    found = from_note(Note(seq=1, t=T, about="firewall", text=drop.text))
    assert found is not None
    differing = {name for name, value in drop.document().items() if name in found and found[name] != value}
    assert differing <= {"policies"}
    assert found["policies"] == list(drop.policies[:POLICIES_TOLD])
    assert len(found["policies"]) + found["more_policies"] == len(drop.policies)


@given(st.text(max_size=120) | st.text(alphabet="denied ingress-> ();TCP80", max_size=120))
def test_no_note_breaks_the_reader(text: str) -> None:
    drop = from_note(Note(seq=1, t=T, about="firewall", text=text))
    if drop is not None:
        lines(drop, 40)
