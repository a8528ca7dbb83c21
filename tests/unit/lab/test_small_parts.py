"""The lab's small parts: targets, servers' answers, manifests on disk."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube_router.events.errors import ConfigError
from kube_router.lab import manifests, probe, servers
from kube_router.lab.objects import Json


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("10.96.0.10:80", probe.Target("10.96.0.10", 80, "tcp")),
        ("[fd00:96::a]:53/UDP", probe.Target("fd00:96::a", 53, "udp")),
        ("web:8080/http", probe.Target("web", 8080, "http")),
    ],
)
def test_a_target_is_read(text: str, wanted: probe.Target) -> None:
    assert probe.target(text) == wanted


@pytest.mark.parametrize("text", ["", "10.0.0.1", ":80", "a:0", "a:65536", "a:x", "a:80/icmp", "a:٣"])
def test_what_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        probe.target(text)


@given(st.text(max_size=20))
def test_any_text_is_a_target_or_an_error_of_the_operator(text: str) -> None:
    try:
        found = probe.target(text)
    except ConfigError:
        return
    assert 1 <= found.port <= 65535


@pytest.mark.parametrize(
    ("said", "answer", "done"),
    [
        pytest.param(b"who\n", b"web-1\n", False, id="a line"),
        pytest.param(b"client\r\nwho\n", b"192.0.2.7\nweb-1\n", False, id="two lines"),
        pytest.param(b"wh", b"", False, id="half a line"),
        pytest.param(b"GET / HTTP/1.1\r\n", b"", False, id="half a request"),
        pytest.param(b"x" * servers.LINE_MAX, b"", True, id="a line without an end"),
        pytest.param(
            b"GET /client HTTP/1.1\r\nHost: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\n192.0.2.7\n",
            True,
            id="a request",
        ),
    ],
)
def test_a_server_answers(said: bytes, answer: bytes, done: bool) -> None:
    assert servers.reply(servers.Connection("web-1", "192.0.2.7", said)) == (answer, done)


@given(st.lists(st.binary(max_size=30), max_size=6))
def test_answers_do_not_depend_on_how_the_questions_are_cut(chunks: list[bytes]) -> None:
    cut = servers.Connection("w", "c")
    answers, done = b"", False
    for chunk in chunks:
        if not done:
            cut.buffer += chunk
            answer, done = servers.reply(cut)
            answers += answer
    lines = b"".join(chunks)
    if not done and b"GET " not in lines:
        assert servers.reply(servers.Connection("w", "c", lines))[0] == answers


def test_one_bad_file_is_named_with_its_line(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("kind: Pod\nmetadata: {name: [}\n")
    with pytest.raises(ConfigError, match=r"bad\.yaml:2: "):
        manifests.read([tmp_path])
    bad.write_text("- 1\n")
    with pytest.raises(ConfigError, match="holds a list where a Kubernetes object was expected"):
        manifests.read([bad])


def test_documents_lists_and_json_are_read_and_hidden_files_are_not(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("---\nkind: Pod\n---\n")
    (tmp_path / "b.json").write_text('{"kind": "PodList", "items": [{"kind": "Pod", "n": 1}, {"kind": "Pod", "n": 2}]}')
    (tmp_path / ".c.yaml.tmp").write_text("kind: Pod")
    assert manifests.read([tmp_path]) == [{"kind": "Pod"}, {"kind": "Pod", "n": 1}, {"kind": "Pod", "n": 2}]


def endpoint_slice(*addresses: str) -> Json:
    endpoints = [{"addresses": [address]} for address in addresses]
    return {"kind": "EndpointSlice", "metadata": {"name": "web", "namespace": "default"}, "endpoints": endpoints}


def test_only_what_has_changed_is_written_and_a_changed_slice_says_when(tmp_path: Path) -> None:
    service: Json = {"kind": "Service", "metadata": {"name": "web", "namespace": "default"}}
    assert manifests.Folder(tmp_path).write([service, endpoint_slice("10.0.0.1")]) == 2
    first = (tmp_path / "endpointslice.default.web.yaml").read_text()
    assert manifests.TRIGGER in first
    folder = manifests.Folder(tmp_path)
    assert folder.write([service, endpoint_slice("10.0.0.1")]) == 0
    assert folder.write([endpoint_slice("10.0.0.2")]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["endpointslice.default.web.yaml"]


def test_a_name_with_a_slash_stays_inside_of_the_folder() -> None:
    assert manifests.file_name({"kind": "Pod", "metadata": {"name": "../../etc/x"}}) == "pod.default..._.._etc_x.yaml"
