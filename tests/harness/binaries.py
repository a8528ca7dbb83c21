"""The control plane's programs: etcd, kube-apiserver, kube-controller-manager, kubectl.

Each is looked for in the folder $KUBEBUILDER_ASSETS (the convention of envtest), then among our own builds of
tests/go/kubernetes, which are made where something is missing.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from harness.gomodules import KUBERNETES, Say, Unavailable

NAMES = {"etcd": ("etcd", "server"), "kube-apiserver": (), "kube-controller-manager": (), "kubectl": ()}
BUILT = {"etcd": "server"}  # what go install makes of go.etcd.io/etcd/server


@dataclass(frozen=True, slots=True)
class Binaries:
    etcd: Path
    kube_apiserver: Path
    kube_controller_manager: Path
    kubectl: Path


def why_none() -> str:
    """Return why no control plane can be had here, "" if one can (now, or after a build)."""
    why = KUBERNETES.why_none(_unbuilt())
    return f"the control plane: {why}, or set KUBEBUILDER_ASSETS" if why else ""


def binaries(say: Say | None = None) -> Binaries:
    """Return the programs, built first if need be. Raises Unavailable."""
    KUBERNETES.build(_unbuilt(), say)
    found = [path for path in map(_find, NAMES) if path is not None]
    if len(found) < len(NAMES):
        raise Unavailable(f"not all of {', '.join(NAMES)} are in {KUBERNETES.cache}")
    return Binaries(*found)


def _find(name: str) -> Path | None:
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    for folder in [*([Path(assets)] if assets else []), KUBERNETES.cache]:
        for candidate in NAMES[name] or (name,):
            if os.access(folder / candidate, os.X_OK):
                return folder / candidate
    return None


def _unbuilt() -> list[str]:
    return [BUILT.get(name, name) for name in NAMES if _find(name) is None]
