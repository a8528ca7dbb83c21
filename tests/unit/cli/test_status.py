"""``kr status``: its text, and what is said when no agent answers."""

import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

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
    "problems": [],
    "loop": {"lag_ms": 0.31, "blocked": ["proxy for 2.1 s in wanted.py:71"]},
}

AT_40 = """\
node     n1
agent    3.0.0, up 2h3m4s
source   kind: API server
         at: https://10.96.0.1:443
         streams: services: watching
sync     services 12, in sync
         endpointslices 30, from the
         journal, not confirmed
         nodes 0, not known yet
journal  /var/lib/kube-router/journal
         seq 4182, 12.3 MiB
         3 records not on disk yet
proxy    backing off
         31 reconciles, last 12.3 ms
         backend: libnftables
         wrote 2 services added
         restarted 2 times
         last error: KernelError: ENOENT
         next try in 1s500ms
         problem: Service prod/web:
         spec.ports[0].port: 70000 is
         not 1-65535; port ignored
loop     lag 0.3 ms
         BLOCKED: proxy for 2.1 s in
         wanted.py:71
problems none
"""


def test_the_status_can_be_read_at_forty_columns() -> None:
    assert render(DOCUMENT, 40) == AT_40
    assert max(map(len, AT_40.splitlines())) <= 40


def test_what_an_agent_of_another_version_does_not_say_is_left_out() -> None:
    assert render({"node": "n1", "plugins": [{"name": "a-long-name", "state": "running"}]}, 60) == (
        "node     n1\nagent    ?, up 0s\n"
        "a-long-name\n         running\n         0 reconciles, last 0.0 ms\nproblems none\n"
    )


def test_streams_are_told_by_their_state_and_each_error_once() -> None:
    stream = {"state": "connecting", "since": 1795502903.99, "last_error": "refused", "rv": ""}
    source = {"services": stream, "nodes": stream, "pods": {"state": "watching", "last_error": ""}}
    assert render({"node": "n1", "source": source}, 60).splitlines()[2:5] == [
        "source   services, nodes: connecting",
        "         pods: watching",
        "         last error: refused",
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
