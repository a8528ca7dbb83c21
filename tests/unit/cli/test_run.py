"""``kube-router`` as a process: starts with kube-router's flags, answers, ends when told to."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

BIN = os.path.dirname(sys.executable)
WAIT_S = 30.0
KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
    "users": [{"name": "u", "user": {}}],
    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    "current-context": "c",
}


@pytest.fixture
def flags(tmp_path: Path) -> list[str]:
    """Return flags of an agent that touches no kernel and finds no API server."""
    (tmp_path / "kubeconfig").write_text(json.dumps(KUBECONFIG))
    return [
        "--run-service-proxy=false",
        f"--kubeconfig={tmp_path}/kubeconfig",
        f"--journal-dir={tmp_path}/journal",
        f"--control-socket={tmp_path}/kr.sock",
        "--health-port=0",
    ]


@pytest.fixture
def agent(flags: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Yield a running ``kube-router``, ended after the test."""
    process = subprocess.Popen(
        [f"{BIN}/kube-router", *flags, "--enable-overlay", "--hairpin-mode=true", "-v=0"],
        env={"NODE_NAME": "n1", "KR_CACHE_SYNC_TIMEOUT": "2m", "PATH": "/usr/bin:/bin"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=WAIT_S)


def kr(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([f"{BIN}/kr", *argv], capture_output=True, text=True, timeout=WAIT_S)


def status(socket: Path) -> subprocess.CompletedProcess[str]:
    """Return what ``kr status`` says once somebody answers."""
    deadline = time.monotonic() + WAIT_S
    while (done := kr("status", "--control-socket", str(socket), "-o", "json")).returncode == 1:
        assert time.monotonic() < deadline, done.stderr
    return done


def test_an_agent_started_with_kube_router_s_flags_answers_and_ends_when_told_to(
    agent: subprocess.Popen[str], tmp_path: Path
) -> None:
    assert json.loads(status(tmp_path / "kr.sock").stdout)["node"] == "n1"
    nobody = ("--run-proxy=false", "--run-firewall=false", "--run-router=false")
    second = kr("run", f"--journal-dir={tmp_path}/journal", "--control-socket=", *nobody, "--health-port=0")
    assert second.returncode == 2
    assert f"journal {tmp_path}/journal is in use by process {agent.pid}" in second.stderr
    beside = kr("cleanup", f"--control-socket={tmp_path}/kr.sock")
    assert beside.returncode == 2
    assert "an agent is running here" in beside.stderr

    agent.send_signal(signal.SIGTERM)
    _, log = agent.communicate(timeout=WAIT_S)
    assert agent.returncode == 0
    assert log.count("accepted without effect, not served yet: --hairpin-mode'") == 1
    history = kr("replay", f"{tmp_path}/journal")
    assert history.returncode == 0
    assert "node n1; " in history.stdout
    assert "--cache-sync-timeout=2m" in history.stdout
