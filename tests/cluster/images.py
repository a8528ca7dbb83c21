"""The images of a test cluster, made here: nothing is pulled (I/O)."""

import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from cluster.node import PAUSE_IMAGE
from harness.gomodules import KUBERNETES, Say

ROOT = Path(__file__).parents[2]
AGNHOST = "localhost/agnhost:test"
BUILD_S_MAX = 900


def agent(folder: Path) -> Path:
    """Return the archive of this checkout's agent, built now; $KR_IMAGE names one that is to be taken instead."""
    if given := os.environ.get("KR_IMAGE"):
        return Path(given)
    archive = folder / "kube-router.oci.tar"
    done = subprocess.run([ROOT / "deploy/image/build", archive], capture_output=True, text=True, timeout=BUILD_S_MAX)
    if done.returncode:
        raise RuntimeError(f"deploy/image/build failed ({done.returncode}):\n{done.stderr[-3000:]}")
    return archive


def agnhost(folder: Path, say: Say | None = None) -> Path:
    """Return the archive of Kubernetes' own test program: servers and clients for pods, and the pause container."""
    program = KUBERNETES.program("agnhost", say).read_bytes()
    archive = folder / "agnhost.tar"
    write(archive, [AGNHOST, PAUSE_IMAGE], {"agnhost": program}, entrypoint=["/agnhost"], command=["pause"])
    return archive


def write(
    archive: Path,
    names: Sequence[str],
    files: Mapping[str, bytes],
    *,
    entrypoint: Sequence[str],
    command: Sequence[str],
) -> None:
    """Write an image of one layer with programs at its root, in the format of ``docker save``."""
    layer = _tar({name: (data, 0o755) for name, data in files.items()})
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": list(entrypoint), "Cmd": list(command)},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
    ).encode()
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": name, "RepoTags": list(names), "Layers": ["layer.tar"]}]).encode()
    archive.write_bytes(_tar({name: (config, 0o644), "layer.tar": (layer, 0o644), "manifest.json": (manifest, 0o644)}))


def _tar(files: Mapping[str, tuple[bytes, int]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, (data, mode) in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), mode
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()
