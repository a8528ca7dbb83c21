"""The example plugin as its users have it: installed by pip, found by ``kr``, run by an agent."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.daemon import Daemon

EXAMPLE = Path(__file__).parents[2] / "examples" / "names"
PIP_S, COMMAND_S, FOLLOWS_S = 120, 60, 30

WEB = """\
apiVersion: v1
kind: Service
metadata: {name: web, namespace: prod}
spec: {clusterIP: 10.96.0.10, clusterIPs: [10.96.0.10], ports: [{port: 80}]}
"""
DNS = WEB.replace("web", "dns").replace("prod", "kube-system").replace("10.96.0.10", "10.96.0.53")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder into which pip has installed the example."""
    folder = tmp_path_factory.mktemp("example")
    source = shutil.copytree(EXAMPLE, folder / "source", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    quiet = ("-q", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--no-index")
    pip(*quiet, "--target", str(folder / "site"), str(source))
    return folder / "site"


def pip(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *arguments], capture_output=True, text=True, timeout=PIP_S
    )
    assert done.returncode == 0, done.stderr


def environment(site: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KR_")}
    return {**kept, "PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}


def run(site: Path, *command: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", *command]
    return subprocess.run(argv, capture_output=True, text=True, timeout=COMMAND_S, env=environment(site))


def test_kr_plugins_lists_it_with_its_options(site: Path) -> None:
    done = run(site, "kube_router.cli", "plugins", "--output", "json")
    (listed,) = [each for each in json.loads(done.stdout) if each["name"] == "names"]
    assert listed == {
        "name": "names",
        "origin": "kube-router-names 1.0.0",
        "error": "",
        "options": ["--run-names", "--names-file"],
    }
    assert done.returncode == 0


def test_its_own_tests_pass_against_what_is_installed(site: Path) -> None:
    done = run(site, "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(site), "-c", os.devnull,
               str(EXAMPLE / "tests"))  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def agent(site: Path, tmp_path: Path) -> Iterator[Daemon]:
    """Return an agent that runs the example alone, on a folder of manifests."""
    (tmp_path / "manifests").mkdir()
    flags = [
        f"--manifests={tmp_path / 'manifests'}", f"--names-file={tmp_path / 'names'}",
        f"--journal-dir={tmp_path / 'journal'}", f"--control-socket={tmp_path / 'kr.sock'}",
        "--health-port=0", "--hostname-override=n1", "--run-service-proxy=false", "--run-firewall=false",
        "--run-router=false",
    ]  # fmt: skip
    settings = [f"{name}={value}" for name, value in environment(site).items()]
    command = [sys.executable, "-m", "kube_router.cli", "run", *flags]
    daemon = Daemon(["/usr/bin/env", "-i", *settings, *command], tmp_path / "agent.log")
    yield daemon
    daemon.stop()


def follows(agent: Daemon, wanted: Callable[[], bool]) -> bool:
    """Wait until it is so; False after a deadline. Raises with the agent's last words if it has ended."""
    end = time.monotonic() + FOLLOWS_S
    while not wanted():
        agent.check()
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def test_an_agent_keeps_the_file_and_follows_changes(agent: Daemon, tmp_path: Path) -> None:
    manifests, file = tmp_path / "manifests", tmp_path / "names"

    def holds(text: str) -> Callable[[], bool]:
        return lambda: file.exists() and file.read_text() == text

    (manifests / "web.yaml").write_text(WEB)
    agent.start()
    assert follows(agent, holds("10.96.0.10 web.prod.svc\n")), agent.last_words()
    (manifests / "dns.yaml").write_text(DNS)
    assert follows(agent, holds("10.96.0.53 dns.kube-system.svc\n10.96.0.10 web.prod.svc\n")), agent.last_words()
    (manifests / "web.yaml").unlink()
    assert follows(agent, holds("10.96.0.53 dns.kube-system.svc\n")), agent.last_words()


def test_kr_replay_plans_it_from_the_journal_of_the_stopped_agent(site: Path, agent: Daemon, tmp_path: Path) -> None:
    (tmp_path / "manifests" / "web.yaml").write_text(WEB)
    agent.start()
    assert follows(agent, (tmp_path / "names").exists), agent.last_words()
    agent.stop()
    done = run(site, "kube_router.cli", "replay", str(tmp_path / "journal"), "--plan", "names", "--blame")
    text, _, cause = done.stdout.strip().partition("  # ")
    assert text == "10.96.0.10 web.prod.svc"
    assert cause.endswith(" Service prod/web")
