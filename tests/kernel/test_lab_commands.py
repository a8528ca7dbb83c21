"""``kr lab`` as people type it, with agents that run no plugin: those need nothing of this kernel."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kube_router.events.errors import ConfigError
from kube_router.lab import cluster, commands, netns
from kube_router.lab.cluster import Cluster

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]
NAME = f"c{os.getpid()}"
WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
"""


def kr_lab(*words: str, stdin: str = "") -> Result:
    return CliRunner().invoke(commands.lab, [*words], input=stdin, catch_exceptions=True)


def output(*words: str) -> str:
    result = kr_lab(words[0], "--name", NAME, *words[1:])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("KR_LAB_DIR", str(tmp_path / "labs"))
    file = tmp_path / "web.yaml"
    file.write_text(WEB)
    yield file
    cluster.down(NAME)


def test_a_lab_is_built_looked_at_changed_and_removed(lab: Path) -> None:
    assert output("up", str(lab), "--nodes", "2", "--plugins", "", "--no-vm").splitlines() == [
        "2 nodes on 1 subnet(s)",
        "2 pods",
        f"lab {NAME} is up; kr lab status --name {NAME} shows it",
    ]
    found = json.loads(output("status", "-o", "json"))
    assert [node["ips"] for node in found["nodes"]] == [["172.30.0.11"], ["172.30.0.12"]]
    assert all(node["pid"] for node in found["nodes"])
    assert found["services"] == [{"name": "default/web", "ips": ["10.96.0.10"], "ports": ["80/TCP, node port 30000"]}]
    assert output("probe", "outside", "web-2:8080", "-n", "3") == "web-2 3\n"
    assert json.loads(output("probe", "web-1", "web-2:8080/http", "-n", "1", "--client", "-o", "json")) == {
        "answers": {"10.244.1.2": 1},
        "errors": {},
    }
    output("scale", "web", "1")
    assert [pod["name"] for pod in json.loads(output("status", "-o", "json"))["pods"]] == ["default/web-1"]
    output("delete", "Service", "web")
    output("apply", str(lab))
    assert "web-2                node-2  10.244.2.2\n" in output("status")
    assert NAME in output_of_list()
    assert output("down") == "6 namespaces removed\n"
    assert NAME not in output_of_list()


def output_of_list() -> str:
    return kr_lab("list").output


def test_an_agent_is_stopped_killed_and_started_again(lab: Path) -> None:
    output("up", str(lab), "--nodes", "1", "--plugins", "", "--no-vm")
    running = Cluster.open(NAME)
    first = running.agents["node-1"].pid()
    assert netns.is_in(first, running.topology.namespace("node-1"))
    output("stop", "node-1", "--hard")
    assert running.agents["node-1"].pid() == 0
    output("start", "node-1")
    second = running.agents["node-1"].pid()
    assert second not in (0, first)
    assert running.agents["node-1"].status()["node"] == "node-1"
    output("stop", "node-1")
    assert "agent_stopped node=node-1" in running.agents["node-1"].log.read_text()


def test_lines_are_commands_and_the_worst_of_them_is_the_status(lab: Path) -> None:
    output("up", str(lab), "--nodes", "1", "--no-agents", "--no-vm")
    result = kr_lab(
        "shell", "--name", NAME, stdin="# a comment\nprobe outside web-1:8080 -n 1\nprobe outside nobody:1\n"
    )
    assert result.exit_code == 1
    assert result.output.startswith("web-1 1\n")
    assert "has no node nobody" in result.output
    assert kr_lab("shell", "--name", NAME, stdin="status\nexit\nprobe outside nobody:1\n").exit_code == 0


def test_a_question_without_an_answer_is_status_1(lab: Path) -> None:
    output("up", str(lab), "--nodes", "1", "--no-agents", "--no-vm")
    result = kr_lab("probe", "--name", NAME, "outside", "web-1:81", "-n", "2")
    assert (result.exit_code, result.output) == (1, "nothing; errors: refused 2\n")


def test_what_is_not_there_is_said(lab: Path) -> None:
    error = kr_lab("status", "--name", NAME).exception
    assert isinstance(error, ConfigError)
    assert str(error) == f"there is no lab {NAME} (there: none); kr lab up makes one"
    wrong = kr_lab("up", "--name", NAME, "--api", "real")
    assert wrong.exit_code == 2
    assert "--api real and --kubeconfig go together" in wrong.output


def test_a_plugin_that_is_not_installed_is_named_and_nothing_is_left(lab: Path) -> None:
    result = kr_lab("up", "--name", NAME, "--nodes", "1", "--plugins", "nope", "--no-vm")
    assert "no plugin nope is installed" in str(result.exception)
    assert not [name for name in netns.names() if name.startswith(f"kr-{NAME}-")]
