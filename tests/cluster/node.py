"""One node of a test cluster: a kubelet and a containerd in namespaces, as on a machine of their own (I/O).

The node has its own network, host name, processes and /sys, and its own /etc, /opt, /var and /run: what is written
there lies in the node's folder (over this machine's, which stay as they are), but for /run, which ends with the boot.
The first process is the node's power switch: killing it kills everything inside at once, and so does the end of ours.

No systemd, no image registry, cgroups shared with this machine.
"""

import base64
import os
import signal
import subprocess
from pathlib import Path

import yaml
from cluster.layout import API_URL, POD_CIDR, Seat, inside
from harness import client
from harness.daemon import Daemon
from harness.gomodules import CONTAINERD, KUBERNETES
from harness.machine import until

SOCKET = "/run/containerd/containerd.sock"
PAUSE_IMAGE = "registry.k8s.io/pause:3.10"
MANIFESTS = "/etc/kubernetes/manifests"
LAYERED = ("etc", "opt", "var")  # of the node's own over this machine's
COMMAND_S = 120

# A network namespace sees its own interfaces only in a /sys of its own, which has no cgroups in it at first.
BOOT = """\
set -e
mount -t proc proc /proc
mkdir -p {folder}/cgroup
mount --rbind /sys/fs/cgroup {folder}/cgroup
mount -t sysfs sysfs /sys
mount --move {folder}/cgroup /sys/fs/cgroup
{layers}
mount -t tmpfs -o mode=755 tmpfs /run
for disk in containerd kubelet; do
    mkdir -p /var/lib/$disk
    mount --bind {folder}/disk/$disk /var/lib/$disk
done
mount --make-rshared /
hostname {name}
touch {folder}/booted
while :; do sleep infinity & wait $!; done
"""

CONTAINERD_CONFIG = f"""
version = 3
[grpc]
address = "{SOCKET}"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "{PAUSE_IMAGE}"
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"""
KUBELET_CONFIG = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "kind": "KubeletConfiguration",
    "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
    "authorization": {"mode": "AlwaysAllow"},
    "containerRuntimeEndpoint": f"unix://{SOCKET}",
    "staticPodPath": MANIFESTS,
    "clusterDNS": ["10.96.0.10"],
    "clusterDomain": "cluster.local",
    "cgroupDriver": "cgroupfs",
    "cgroupsPerQOS": False,
    "failCgroupV1": False,
    "failSwapOn": False,
    "enforceNodeAllocatable": [],
    "localStorageCapacityIsolation": False,
    "imageGCHighThresholdPercent": 100,
    "evictionHard": {"memory.available": "100Mi"},
    "nodeStatusUpdateFrequency": "2s",
}


class Node:
    """Powered on by ``start``, off by ``power_off``; between the two its disk stays as it is."""

    def __init__(self, seat: Seat, folder: Path, *, token: str, ca_file: Path) -> None:
        self.seat, self._folder = seat, folder
        self._token, self._ca_file = token, ca_file
        self._power = Daemon(self._power_argv(), folder / "power.log")
        self._inner = 0
        self._daemons: dict[str, Daemon] = {}

    def install(self) -> None:
        """Write the configuration files."""
        for name in LAYERED:
            for part in ("upper", "work"):
                (self._folder / part / name).mkdir(parents=True, exist_ok=True)
        etc = self._folder / "upper" / "etc"
        for folder in ("containerd", "kubernetes/manifests", "cni/net.d"):
            (etc / folder).mkdir(parents=True, exist_ok=True)
        (self._folder / "upper/opt/cni/bin").mkdir(parents=True)
        for name in ("containerd", "kubelet"):  # an image's layers cannot lie on a layered disk
            (self._folder / "disk" / name).mkdir(parents=True)
        (etc / "containerd/config.toml").write_text(CONTAINERD_CONFIG)
        (etc / "kubernetes/kubelet.yaml").write_text(yaml.safe_dump(KUBELET_CONFIG))
        (etc / "kubernetes/kubelet.kubeconfig").write_text(kubeconfig(self._token, self._ca_file))
        (etc / "resolv.conf").write_text("options ndots:1\n")
        (etc / "hostname").write_text(f"{self.seat.name}\n")

    def start(self) -> None:
        """Power on: the namespaces, then containerd, then the kubelet."""
        self._power.start()
        self._inner = until(self._first_process, what=f"{self.seat.name} to boot")
        until(self._booted, what=f"{self.seat.name} to boot")
        self.run_daemon("containerd", str(CONTAINERD.program("containerd")))
        until(
            lambda: self.run(_ctr(), "version", check=False).returncode == 0, what="containerd to answer", timeout_s=30
        )
        self.run_daemon(
            "kubelet",
            str(KUBERNETES.program("kubelet")),
            "--config=/etc/kubernetes/kubelet.yaml",
            "--kubeconfig=/etc/kubernetes/kubelet.kubeconfig",
            f"--hostname-override={self.seat.name}",
            f"--node-ip={self.seat.address}",
        )

    def power_off(self) -> None:
        """Kill everything on the node at once. Its disk stays, /run does not."""
        self._power.stop(kill=True)
        for daemon in self._daemons.values():
            daemon.stop(kill=True)
        self._daemons.clear()
        self._inner = 0
        self._folder.joinpath("booted").unlink(missing_ok=True)

    def run(self, *argv: str, check: bool = True, timeout_s: float = COMMAND_S) -> subprocess.CompletedProcess[str]:
        """Run a command on the node, as its root. CalledProcessError with its words."""
        done = subprocess.run([*self._inside(), *argv], capture_output=True, text=True, timeout=timeout_s)
        if check and done.returncode:
            error = subprocess.CalledProcessError(done.returncode, argv, done.stdout, done.stderr)
            error.add_note(done.stdout + done.stderr)
            raise error
        return done

    def run_daemon(self, name: str, *argv: str) -> None:
        """Start a program on the node; it ends with the node's power at the latest."""
        self._daemons[name] = Daemon([*self._inside(), *argv], self._folder / f"{name}.log")
        self._daemons[name].start()

    def stop_daemon(self, name: str) -> None:
        """End a program politely, and wait for it. nsenter, which stands before it, hands no signal on."""
        daemon = self._daemons.pop(name)
        for pid in _children(daemon.pid):
            os.kill(pid, signal.SIGTERM)
        daemon.wait_ended()

    def load(self, archive: Path) -> None:
        """Import an image's archive."""
        self.run(_ctr(), "--namespace=k8s.io", "images", "import", str(archive))

    def start_kube_proxy(self, token: str) -> None:
        """Start kube-proxy in its nftables mode: it serves Services where the kernel has no IPVS."""
        self.write("/etc/kubernetes/kube-proxy.kubeconfig", kubeconfig(token, self._ca_file))
        self.run_daemon(
            "kube-proxy",
            str(KUBERNETES.program("kube-proxy")),
            "--kubeconfig=/etc/kubernetes/kube-proxy.kubeconfig",
            "--proxy-mode=nftables",
            f"--hostname-override={self.seat.name}",
            f"--cluster-cidr={POD_CIDR}",
            "--conntrack-max-per-core=0",
            "--metrics-bind-address=",
        )

    def write(self, path: str, text: str) -> None:
        """Write a file below /etc, /opt or /var to the node's disk, on or off."""
        target = self._folder / "upper" / path.lstrip("/") if not self._inner else self.path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        written = target.with_name(f".{target.name}")
        written.write_text(text)
        written.rename(target)

    def path(self, path: str) -> Path:
        """Return where a path of the node's is on this machine, while it is on."""
        return Path(f"/proc/{self._inner}/root{path}")

    def log(self, name: str) -> str:
        """Return the end of a program's log."""
        return (self._folder / f"{name}.log").read_text(errors="replace")[-5000:]

    def _inside(self) -> list[str]:
        return ["nsenter", f"--target={self._inner}", "--mount", "--uts", "--pid", "--net", "--"]

    def _booted(self) -> bool:
        self._power.check()
        return (self._folder / "booted").exists()

    def _first_process(self) -> int:
        """Return the pid of the node's first process, 0 before it is there."""
        self._power.check()
        return next(iter(_children(self._power.pid)), 0)

    def _power_argv(self) -> list[str]:
        self._folder.mkdir(parents=True, exist_ok=True)
        script = self._folder / "boot"
        layers = [_layer(self._folder, name) for name in LAYERED]
        script.write_text(BOOT.format(folder=self._folder, layers="\n".join(layers), name=self.seat.name))
        unshare = ["unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--propagation=private"]
        return [*inside(self.seat.namespace), *unshare, "bash", str(script)]


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:  # it has ended
        return []


def _layer(folder: Path, name: str) -> str:
    options = f"lowerdir=/{name},upperdir={folder}/upper/{name},workdir={folder}/work/{name}"
    return f"mount -t overlay overlay -o {options} /{name}"


def kubeconfig(token: str, ca_file: Path) -> str:
    """Return a kubeconfig for the cluster's API server that bears a token and needs no other file."""
    ca = base64.b64encode(ca_file.read_bytes()).decode()
    return client.kubeconfig(API_URL, token, {"certificate-authority-data": ca})


def _ctr() -> str:
    return str(CONTAINERD.program("ctr"))
