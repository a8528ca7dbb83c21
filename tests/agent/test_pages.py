"""What a running agent says over HTTP: health, readiness, metrics."""

import http.client
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from harness import machine
from harness.daemon import Daemon, free_ports
from prometheus_client.parser import text_string_to_metric_families

ANSWER_S = 10


class Running(NamedTuple):
    daemon: Daemon
    health_port: int
    metrics_port: int
    manifests: Path


class Page(NamedTuple):
    status: int
    body: str
    content_type: str


def get(port: int, path: str, method: str = "GET") -> Page:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_S)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return Page(answer.status, answer.read().decode(), answer.getheader("Content-Type", ""))
    finally:
        connection.close()


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Running]:
    """Return an agent without plugins, which therefore needs neither root nor a kernel of its own."""
    (tmp_path / "manifests").mkdir()
    health, metrics = free_ports(2)
    flags = [
        f"--manifests={tmp_path / 'manifests'}", f"--journal-dir={tmp_path / 'journal'}", "--hostname-override=n1",
        f"--control-socket={tmp_path / 'kr.sock'}", f"--health-port={health}", f"--metrics-port={metrics}",
        "--health-addr=127.0.0.1", "--metrics-addr=127.0.0.1", "--run-service-proxy=false", "--run-firewall=false",
        "--run-router=false",
    ]  # fmt: skip
    command = [sys.executable, "-m", "kube_router.cli", "run", *flags]
    daemon = Daemon(["/usr/bin/env", "-u", "KR_HEALTH_PORT", *command], tmp_path / "agent.log")
    daemon.start()

    def up() -> bool:
        daemon.check()
        try:
            return get(health, "/healthz").status == 200 and get(metrics, "/metrics").status == 200
        except OSError:
            return False

    try:
        machine.until(up, what="the agent to answer", timeout_s=30)
        yield Running(daemon, health, metrics, tmp_path / "manifests")
    finally:
        daemon.stop()


def test_an_agent_with_nothing_to_wait_for_is_healthy_and_ready(agent: Running) -> None:
    assert get(agent.health_port, "/healthz")[:2] == (200, "OK\n")
    assert get(agent.health_port, "/readyz")[:2] == (200, "OK\n")


def test_its_metrics_are_what_prometheus_reads(agent: Running) -> None:
    page = get(agent.metrics_port, "/metrics")
    assert page.content_type == "text/plain; version=0.0.4; charset=utf-8"
    found = {each.name: each for each in text_string_to_metric_families(page.body)}
    (build,) = found["kube_router_build_info"].samples
    assert (build.labels["goversion"], build.value) == ("", 1)
    assert found["kube_router_journal_size_bytes"].samples[0].value > 0
    assert found["kube_router_journal_stopped"].samples[0].value == 0
    assert found["process_resident_memory_bytes"].samples[0].value > 10 << 20
    (stream,) = found["kube_router_stream_connected"].samples
    assert (stream.labels, stream.value) == ({"stream": "manifests"}, 1)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("POST", "/metrics", 405),
        ("GET", "/metrics?collect=all", 200),
        ("HEAD", "/metrics", 200),
    ],
)
def test_what_is_asked_for_wrongly_is_told_so(agent: Running, method: str, path: str, status: int) -> None:
    page = get(agent.metrics_port, path, method)
    assert page.status == status
    assert bool(page.body) == (method != "HEAD")


def test_clients_that_say_nothing_or_nonsense_do_not_keep_others_from_an_answer(agent: Running) -> None:
    silent = [http.client.HTTPConnection("127.0.0.1", agent.metrics_port, timeout=ANSWER_S) for _ in range(8)]
    for client in silent:
        client.connect()
        client.send(os.urandom(64))
    try:
        assert get(agent.metrics_port, "/metrics").status == 200
    finally:
        for client in silent:
            client.close()
    assert get(agent.health_port, "/healthz").status == 200
