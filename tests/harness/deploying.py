"""What an operator applies: the objects of each variant below deploy/, as kustomize makes them."""

import functools
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from harness import binaries
from harness.plugin import need

DEPLOY = Path(__file__).parents[2] / "deploy"
STATIC_POD = DEPLOY / "static-pod" / "kube-router.yaml"
NAMESPACE, NAME = "kube-system", "kube-router"
VARIANTS: Mapping[str, Path] = {
    **{path.parent.name: path.parent for path in sorted((DEPLOY / "kustomize").glob("*/kustomization.yaml"))},
    "base-with-names": DEPLOY / "plugins" / "base-with-names",
}
KUSTOMIZE_S_MAX = 60
Object = Mapping[str, Any]
Objects = Mapping[tuple[str, str], Object]


@functools.cache
def variant(name: str) -> Objects:
    """Return the objects of a variant by kind and name."""
    need(binaries.why_none())
    argv = [str(binaries.binaries().kubectl), "kustomize", str(VARIANTS[name])]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=KUSTOMIZE_S_MAX)
    assert done.returncode == 0, done.stderr
    return by_name(yaml.safe_load_all(done.stdout))


def by_name(objects: Iterable[Any]) -> Objects:
    """Return objects by kind and name; there are no two of one."""
    found: dict[tuple[str, str], Object] = {}
    for each in filter(None, objects):
        key = each["kind"], each["metadata"]["name"]
        assert key not in found, key
        found[key] = each
    return found


def static_pod() -> Object:
    """Return the static pod."""
    pod: Object = yaml.safe_load(STATIC_POD.read_text())
    return pod


def pod_spec(objects: Objects) -> Object:
    """Return the spec of the agent's pods."""
    spec: Object = objects["DaemonSet", NAME]["spec"]["template"]["spec"]
    return spec


def agent(spec: Object) -> Object:
    """Return the agent's container, the only one besides those that prepare."""
    (container,) = spec["containers"]
    assert isinstance(container, Mapping)
    return container


def containers(spec: Object) -> Mapping[str, Object]:
    """Return all containers by name."""
    return {each["name"]: each for each in [*spec.get("initContainers", ()), *spec["containers"]]}
