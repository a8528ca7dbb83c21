"""The program helm, built from tests/go/helm, and what it makes of the chart."""

import functools
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from harness.deploying import DEPLOY, NAMESPACE, Objects, by_name
from harness.gomodules import HELM, KUBERNETES
from harness.plugin import need

CHART = DEPLOY / "helm" / "kube-router"
# Built by itself, helm takes the cluster for one of years ago; a released one has a version set.
CLUSTER = f"--kube-version={KUBERNETES.version}"
HELM_S_MAX = 60
Values = Mapping[str, Any]


def helm(*arguments: str, values: Values | None = None) -> subprocess.CompletedProcess[str]:
    """Return how helm ended, given these values on its stdin."""
    argv = [str(_program()), *arguments, f"--namespace={NAMESPACE}", *(["--values=-"] if values else [])]
    return subprocess.run(
        argv, input=yaml.safe_dump(values) if values else "", capture_output=True, text=True, timeout=HELM_S_MAX
    )


def template(values: Values | None = None) -> Objects:
    """Return the objects of the chart with these values."""
    done = helm("template", "kube-router", str(CHART), CLUSTER, values=values)
    assert done.returncode == 0, done.stderr
    return by_name(yaml.safe_load_all(done.stdout))


@functools.cache
def _program() -> Path:
    need(HELM.why_none(["helm"]))
    return HELM.program("helm")
