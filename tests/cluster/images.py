"""The images of a test cluster, made here: nothing is pulled (I/O)."""

import os
import subprocess
from pathlib import Path

from cluster import archive
from cluster.node import PAUSE_IMAGE
from harness.gomodules import KUBERNETES, Say

ROOT = Path(__file__).parents[2]
AGNHOST = "localhost/agnhost:test"
BUILD_S_MAX = 900


def agent(folder: Path) -> Path:
    """Return the archive of this checkout's agent, built now; $KR_IMAGE names one that is to be taken instead."""
    if given := os.environ.get("KR_IMAGE"):
        return Path(given)
    path = folder / "kube-router.oci.tar"
    done = subprocess.run([ROOT / "deploy/image/build", path], capture_output=True, text=True, timeout=BUILD_S_MAX)
    if done.returncode:
        raise RuntimeError(f"deploy/image/build failed ({done.returncode}):\n{done.stderr[-3000:]}")
    return path


def agnhost(folder: Path, say: Say | None = None) -> Path:
    """Return the archive of Kubernetes' own test program: servers and clients for pods, and the pause container."""
    layer = archive.layer(folder / "agnhost.layer", {"agnhost": KUBERNETES.program("agnhost", say)})
    path = folder / "agnhost.tar"
    image = archive.Image((AGNHOST, PAUSE_IMAGE), (layer,), entrypoint=("/agnhost",), command=("pause",))
    archive.write(path, [image])
    return path
