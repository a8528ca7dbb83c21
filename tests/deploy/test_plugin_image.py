"""A plugin gets into the agent's pod as deploy/plugins says: built by its Containerfile, copied, found by ``kr``."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from harness.deploying import DEPLOY, agent, containers, pod_spec, variant

EXAMPLE = DEPLOY.parent / "examples" / "names"
CONTAINERFILE = (DEPLOY / "plugins" / "Containerfile").read_text()
IMAGE = (DEPLOY / "image" / "Containerfile").read_text()
ROOTFS = (DEPLOY / "image" / "rootfs").read_text()
HERE = ("--no-build-isolation", "--no-index")  # what builds it is installed already
SECONDS = 120


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """Return the folder /plugin of the image."""
    (command,) = re.findall(r"^RUN (.+)$", CONTAINERFILE, re.MULTILINE)
    shutil.copytree(EXAMPLE, tmp_path / "src", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    pip, *words = shlex.split(command.replace("=/plugin", f"={tmp_path}/plugin").replace(" /src", f" {tmp_path}/src"))
    assert pip == "pip"
    done = subprocess.run([sys.executable, "-m", "pip", *words, *HERE], capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    return tmp_path / "plugin"


def test_the_agents_pod_finds_what_was_built(built: Path, tmp_path: Path) -> None:
    spec = pod_spec(variant("base-with-names"))
    mounts = {each["name"]: each["mountPath"] for each in agent(spec)["volumeMounts"]}
    (looked_in,) = re.findall(r"PYTHONPATH=(\S+)", IMAGE)
    assert mounts["plugins"] == looked_in
    (tmp_path / "plugins").mkdir()
    places = {"/plugin/.": f"{built}/.", f"{looked_in}/": f"{tmp_path}/plugins/"}
    command = [places.get(word, word) for word in containers(spec)["plugin-names"]["command"]]
    subprocess.run(command, check=True, timeout=SECONDS)

    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "plugins"), "PYTHONSAFEPATH": "1"}
    done = subprocess.run([sys.executable, "-m", "kube_router.cli", "plugins", "--output", "json"],
                          capture_output=True, text=True, timeout=SECONDS, env=environment, check=True)  # fmt: skip
    found = {each["name"]: (each["origin"], each["error"]) for each in json.loads(done.stdout)}
    assert found["names"] == ("kube-router-names 1.0.0", "")


def test_no_second_kube_router_comes_along(built: Path) -> None:
    assert sorted(path.name for path in built.iterdir() if path.name != "__pycache__") == [
        "kube_router_names-1.0.0.dist-info",
        "kube_router_names.py",
    ]


def test_it_is_built_for_the_python_of_the_agents_image() -> None:
    (ours,) = re.findall(r"^FROM \S+python:(\S+)-slim$", CONTAINERFILE, re.MULTILINE)
    (agents,) = re.findall(r"^suite=\w+ version=(\S+)", ROOTFS, re.MULTILINE)
    assert ours == agents
