"""Print how large the agent's image is, and how long an agent takes in it from its start to its first reconcile.

    python -m benchmarks.image_start [--image ARCHIVE] [--runs N]

The image is built now unless one is named. It is unpacked, and its entry point is run as a container runtime would: in
its root, with its environment, in namespaces of its own, with a folder of manifests instead of an API server. Firewall
and routing run; the service proxy does where the kernel has IPVS.
"""

import argparse
import os
import selectors
import shlex
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from cluster import images
from harness.oci import Image

from benchmarks.figures import Figure, report
from kube_router.lab import machine

MIB = 1 << 20
SIZE_BAR_MIB, START_BAR_S = 60.0, 1.5
START_S_MAX = 60.0
MANIFESTS = """\
apiVersion: v1
kind: Node
metadata: {name: node-1}
spec: {podCIDR: 10.244.0.0/24, podCIDRs: [10.244.0.0/24]}
status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}
"""
SETUP = """\
set -e
ip link set lo up
ip link add eth0 type veth peer name eth1
ip addr add 192.0.2.1/24 dev eth0
ip link set eth0 up
mount -t proc proc {root}/proc
mount -t sysfs sysfs {root}/sys
mount --rbind /dev {root}/dev
exec env -i {environment} chroot {root} {command}
"""


def start_s(root: Path, config: dict[str, Any], plugins: list[str]) -> float:
    """Return the time from the start of the process to the last plugin's first reconcile."""
    folder = root / "manifests"
    folder.mkdir(exist_ok=True)
    (folder / "cluster.yaml").write_text(MANIFESTS)
    with tempfile.TemporaryDirectory(dir=root) as state:
        inside = f"/{Path(state).name}"
        options = [
            "--manifests=/manifests",
            "--hostname-override=node-1",
            f"--journal-dir={inside}/journal",
            f"--control-socket={inside}/kr.sock",
            "--enable-cni=false",
            *([] if "proxy" in plugins else ["--run-service-proxy=false"]),
        ]
        command = [*config["Entrypoint"], *options]
        environment = shlex.join(config["Env"])
        script = SETUP.format(root=root, environment=environment, command=shlex.join(command))
        argv = ["unshare", "--net", "--mount", "--ipc", "--uts", "sh", "-c", script]
        started = time.monotonic()
        with subprocess.Popen(argv, stderr=subprocess.PIPE) as process:
            try:
                return _until_reconciled(process, set(plugins)) - started
            finally:
                process.terminate()


def _until_reconciled(process: "subprocess.Popen[bytes]", waiting: set[str]) -> float:
    assert process.stderr is not None
    text = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stderr, selectors.EVENT_READ)
        deadline = time.monotonic() + START_S_MAX
        while time.monotonic() < deadline:
            selector.select(1)
            text += (chunk := os.read(process.stderr.fileno(), 65536))
            if not waiting - {name for name in waiting if f"reconciled plugin={name} ".encode() in text}:
                return time.monotonic()
            if not chunk:
                break
    raise RuntimeError(f"not reconciled: {text.decode(errors='replace')[-3000:]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", type=Path, help="an OCI archive built before")
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kr-image-") as folder:
        archive = options.image or images.agent(Path(folder))
        root = Path(folder) / "root"
        root.mkdir()
        report(Figure("image, compressed", archive.stat().st_size / MIB, "MiB", bar=SIZE_BAR_MIB))
        with Image(archive) as image:
            image.unpack(root)
            config = image.config
        size = sum(path.lstat().st_size for path in root.rglob("*") if path.is_file() and not path.is_symlink())
        report(Figure("image, unpacked", size / MIB, "MiB"))
        plugins = ["firewall", "routing", *(["proxy"] if machine.have_ip_vs() else [])]
        times = [start_s(root, config, plugins) for _ in range(options.runs)]
        what = f"start to first reconcile of {', '.join(plugins)}, median of {options.runs}"
        report(Figure(what, statistics.median(times), "s", bar=START_BAR_S))
        report(Figure("  slowest", max(times), "s"))


if __name__ == "__main__":
    main()
