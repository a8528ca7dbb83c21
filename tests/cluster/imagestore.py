"""A containerd's disk with images on it, made on this machine for nodes whose CPU is emulated (I/O).

To unpack and check an image there takes minutes; to copy what a containerd here made of it, seconds.
"""

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from harness.daemon import Daemon
from harness.gomodules import CONTAINERD
from harness.machine import slowness, until

IMPORT_S, PACK_S = 300, 120
CONFIG = """
version = 3
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{folder}/socket"
[ttrpc]
address = "{folder}/socket.ttrpc"
"""


def pack(archives: Sequence[Path], store: Path) -> None:
    """Write a tar of the folder that containerd has as its ``root`` once the images are imported."""
    with tempfile.TemporaryDirectory(prefix="kr-store-") as name:
        folder = Path(name)
        (folder / "config.toml").write_text(CONFIG.format(folder=folder))
        argv = [str(CONTAINERD.program("containerd")), f"--config={folder / 'config.toml'}"]
        daemon = Daemon(["unshare", "--mount", "--propagation=private", *argv], folder / "log")
        daemon.start()
        try:
            until(lambda: _ctr(folder, "version", check=False) == 0, what="containerd to answer", timeout_s=30)
            for archive in archives:
                _ctr(folder, "--namespace=k8s.io", "images", "import", str(archive))
        finally:
            daemon.stop()
        subprocess.run(["tar", "--create", f"--file={store}", "-C", folder / "root", "."], check=True, timeout=PACK_S)


def unpack(store: Path, folder: Path) -> None:
    """Lay such a folder out."""
    subprocess.run(["tar", "--extract", f"--file={store}", "-C", folder], check=True, timeout=PACK_S * slowness())


def _ctr(folder: Path, *arguments: str, check: bool = True) -> int:
    argv = [str(CONTAINERD.program("ctr")), f"--address={folder}/socket", *arguments]
    return subprocess.run(argv, check=check, capture_output=True, timeout=IMPORT_S).returncode
