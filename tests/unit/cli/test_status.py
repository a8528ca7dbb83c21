"""``kr status``: its text, and what is said when no agent answers."""

import contextlib
import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.command import kr

from kube_router.cli.status import render
from kube_router.core.ask import ask
from kube_router.events.errors import PeerError

DOCUMENT = {
    "node": "n1",
    "agent": "3.0.0",
    "uptime_s": 7384,
    "source": {"kind": "API server", "at": "https://10.96.0.1:443", "streams": {"services": "watching"}},
    "sync": {
        "services": {"recovered": True, "live": True, "objects": 12},
        "endpointslices": {"recovered": True, "live": False, "objects": 30},
        "nodes": {"recovered": False, "live": False, "objects": 0},
    },
    "journal": {"dir": "/var/lib/kube-router/journal", "last_seq": 4182, "size_bytes": 12897485, "lag_records": 3},
    "plugins": [
        {
            "name": "proxy",
            "state": "backing off",
            "reconciles": 31,
            "last_ms": 12.34,
            "says": {"backend": "libnftables"},
            "changes": {"services added": 2},
            "problems": ["Service prod/web: spec.ports[0].port: 70000 is not 1-65535; port ignored"],
            "restarts": 2,
            "last_error": "KernelError: ENOENT",
            "backoff_s": 1.5,
        }
    ],
    "problems": ["Service prod/web: spec.ports[0].port: 70000 is not 1-65535; port ignored"],
    "loop": {"lag_ms": 0.31, "blocked": ["proxy for 2.1 s in wanted.py:71"]},
}

AT_40 = """\
not in sync: proxy backing off
problems
  Service prod/web: spec.ports[0].port:
    70000 is not 1-65535; port ignored
node n1
agent 3.0.0, up 2h3m4s
source
  kind: API server
  at: https://10.96.0.1:443
  streams: services: watching
sync
  services 12, in sync
  endpointslices 30, from the journal,
    not confirmed
  nodes 0, not known yet
journal
  /var/lib/kube-router/journal
  seq 4182, 12.3 MiB
  3 records not on disk yet
proxy
  backing off
  31 reconciles, last 12.3 ms
  backend: libnftables
  wrote 2 services added
  restarted 2 times
  last error: KernelError: ENOENT
  next try in 1s500ms
loop
  lag 0.3 ms
  BLOCKED: proxy for 2.1 s in
    wanted.py:71
"""


def test_the_status_can_be_read_at_forty_columns() -> None:
    assert render(DOCUMENT, 40) == AT_40
    assert max(map(len, AT_40.splitlines())) <= 40


@pytest.mark.parametrize("width", range(24, 101))
def test_at_any_width_no_line_is_longer_and_no_word_is_lost(width: int) -> None:
    text = render(DOCUMENT, width)
    assert max(map(len, text.splitlines())) <= width
    said = "".join(text.split())
    for words in ("31reconciles,last12.3ms", "70000isnot1-65535;portignored", "https://10.96.0.1:443"):
        assert words in said


def test_a_problem_that_only_its_plugin_tells_of_is_not_lost_on_a_phone() -> None:
    older = {**DOCUMENT, "problems": []}
    assert "  problem: Service prod/web:\n" in render(older, 40)


def test_what_an_agent_of_another_version_does_not_say_is_left_out() -> None:
    assert render({"node": "n1", "plugins": [{"name": "a-long-name", "state": "running"}]}, 60) == (
        "not in sync: a-long-name running\nnode     n1\nagent    ?, up 0s\n"
        "a-long-name\n         running\n         0 reconciles, last 0.0 ms\nproblems none\n"
    )


def test_what_could_steer_the_terminal_is_shown_and_not_sent() -> None:
    shown = render({"node": "n1", "problems": ["Node n1: \x1b[2Jgone"]}, 60)
    assert "\x1b" not in shown
    assert "Node n1: \\x1b[2Jgone" in shown


@pytest.mark.parametrize(
    ("columns", "begins"),
    [
        pytest.param(40, ["not in sync: proxy backing off", "problems", "  Service prod/web: spec.ports[0].port:"]),
        pytest.param(100, ["not in sync: proxy backing off", "node     n1", "agent    3.0.0, up 2h3m4s"]),
    ],
)
def test_the_terminal_s_own_width_decides(serve: "Serve", columns: int, begins: list[str]) -> None:
    path = serve(json.dumps(DOCUMENT).encode() + b"\n")
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    command = [sys.executable, "-P", "-m", "kube_router.cli", "status", "--control-socket", str(path)]
    environ = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    done = subprocess.run(command, stdin=theirs, stdout=theirs, env=environ, timeout=30, check=True)
    os.close(theirs)
    said = _read_all(ours).decode()
    assert (done.returncode, said.split("\r\n")[:3]) == (0, begins)


def _read_all(terminal: int) -> bytes:
    """Return what was written to a terminal whose writers have gone: reading then ends in EIO."""
    said = b""
    with contextlib.suppress(OSError), open(terminal, "rb", buffering=0) as opened:
        while chunk := opened.read(4096):
            said += chunk
    return said


def test_what_is_no_terminal_gets_the_table(serve: "Serve") -> None:
    path = serve(json.dumps(DOCUMENT).encode() + b"\n")
    lines = kr("status", "--control-socket", str(path)).out.splitlines()
    assert lines[:2] == ["not in sync: proxy backing off", "node     n1"]
    assert lines[-2] == "problems Service prod/web: spec.ports[0].port: 70000 is not 1-65535; port"


def test_streams_are_told_by_their_state_and_each_error_once() -> None:
    stream = {"state": "connecting", "since": 1795502903.99, "last_error": "refused", "rv": ""}
    source = {"services": stream, "nodes": stream, "pods": {"state": "watching", "last_error": ""}}
    assert render({"node": "n1", "source": source}, 60).splitlines()[3:6] == [
        "source   services, nodes: connecting",
        "         pods: watching",
        "         last error: refused",
    ]


def test_the_error_of_a_stream_that_is_connected_again_is_no_longer_told() -> None:
    stream = {"state": "connected", "last_error": "refused"}
    assert "refused" not in render({"node": "n1", "source": {"services": stream}}, 60)


def test_the_api_server_that_is_asked_is_told_once() -> None:
    stream = {"state": "connected", "server": "https://192.0.2.1:6443 (endpoint of default/kubernetes)"}
    lines = render({"node": "n1", "source": {"services": stream, "nodes": stream}}, 80).splitlines()
    assert lines[3:5] == [
        "source   https://192.0.2.1:6443 (endpoint of default/kubernetes)",
        "         services, nodes: connected",
    ]


def test_no_agent_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(PeerError) as error:
        ask(str(tmp_path / "kr.sock"), "status")
    assert str(error.value) == (
        f"no agent listens at {tmp_path}/kr.sock: start it with kr run, or name its --control-socket"
    )


Serve = Callable[[bytes], Path]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """Return a function that serves one request with these bytes and returns the socket's path."""

    def start(answer: bytes) -> Path:
        path = tmp_path / "kr.sock"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen(1)

        def one() -> None:
            with listener:
                client, _ = listener.accept()
                with client:
                    assert json.loads(client.recv(4096)) == {"cmd": "status"}
                    client.sendall(answer)

        threading.Thread(target=one, daemon=True).start()
        return path

    return start


def test_the_agent_s_answer_is_read_to_its_end(serve: Serve) -> None:
    assert ask(str(serve(b'{"node": "' + b"n" * 200_000 + b'"}\n')), "status") == {"node": "n" * 200_000}


@pytest.mark.parametrize(
    ("answer", "words"),
    [(b"", "broke off its answer"), (b'{"node"', "broke off"), (b'{"error": "no such command"}', "no such command")],
)
def test_a_bad_answer_is_the_agent_s_fault(serve: Serve, answer: bytes, words: str) -> None:
    with pytest.raises(PeerError, match=words):
        ask(str(serve(answer)), "status")
