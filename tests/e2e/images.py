"""The images that the network's specs run, made here under the names that the suite asks for: nothing is pulled (I/O).

All share one root filesystem of Debian packages, so the C library is Debian's even where the original has another.
What the fake registry of agnhost serves is left out.
"""

import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from cluster import archive
from harness.gomodules import COREDNS, KUBERNETES, Say

ROOTFS = Path(__file__).parent / "rootfs"
ROOTFS_S_MAX = 900
PATH = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
NGINX = ("nginx", "-g", "daemon off;")
LIST_S = 120
REGISTRY = "registry.k8s.io"


def suite(folder: Path, say: Say | None = None) -> Path:
    """Return the archive of them all."""
    root, names = _root(say), _names()
    agnhost = KUBERNETES.program("agnhost", say)
    programs = {"agnhost": agnhost, "agnhost-2": agnhost, "coredns": COREDNS.program("coredns", say)}
    tools = archive.layer(folder / "tools.layer.tar", programs)
    pause = archive.layer(folder / "pause.layer.tar", {"agnhost": agnhost})
    server = KUBERNETES.program("regression-issue-74839", say)
    regression = archive.layer(folder / "regression.layer.tar", {"regression-issue-74839": server})
    path = folder / "suite.tar"
    archive.write(
        path,
        [
            archive.Image(names("e2e-test-images/agnhost"), (root, tools), ("/agnhost",), ("pause",), PATH),
            archive.Image(names("e2e-test-images/busybox"), (root,), command=("sh",), environment=PATH),
            archive.Image(names("e2e-test-images/glibc-dns-testing"), (root, tools), (), ("bash",), PATH),
            archive.Image(names("e2e-test-images/nginx"), (root,), command=NGINX, environment=PATH),
            archive.Image(names("e2e-test-images/regression-issue-74839"), (regression,), ("/regression-issue-74839",)),
            archive.Image(names("pause"), (pause,), ("/agnhost",), ("pause",)),
        ],
    )
    return path


def _names() -> Callable[[str], tuple[str, ...]]:
    """Return what finds the names with tags that the suite uses of an image."""
    argv = [str(KUBERNETES.program("e2e.test")), "--list-images"]
    listed = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=LIST_S).stdout.split()

    def names(image: str) -> tuple[str, ...]:
        found = tuple(sorted(name for name in listed if name.startswith(f"{REGISTRY}/{image}:")))
        assert found, f"the suite uses no image {image} any more"
        return found

    return names


def _root(say: Say | None) -> Path:
    """Return the root filesystem's archive, made once for each version of the script that makes it."""
    cache = Path(os.environ.get("KR_CACHE") or Path.home() / ".cache" / "kube-router") / "e2e"
    made = cache / f"root-{hashlib.sha256(ROOTFS.read_bytes()).hexdigest()[:16]}.tar"
    if not made.exists():
        if say is not None:
            say("e2e: making the specs' root filesystem once, two minutes")
        cache.mkdir(parents=True, exist_ok=True)
        half = made.with_suffix(f".{os.getpid()}.tar")
        done = subprocess.run([ROOTFS, half], capture_output=True, text=True, timeout=ROOTFS_S_MAX)
        if done.returncode:
            raise RuntimeError(f"tests/e2e/rootfs failed ({done.returncode}):\n{done.stderr[-3000:]}")
        half.rename(made)
    return made
