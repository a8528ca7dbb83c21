"""What this machine can do: which kernel modules answer, which tools are there, and how to get those that are not."""

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

IN_VM = "KR_IN_VM"
VIRTIOFSD = (Path("/usr/libexec/virtiofsd"), Path("/usr/lib/qemu/virtiofsd"))
# What is looked for, and the Debian package that brings it. Debian 12 has virtiofsd in a dependency of QEMU's package.
VM_TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "busybox": "busybox-static",
    "depmod": "kmod",
}
LAB_TOOLS = {"ip": "iproute2", "nft": "nftables", "ipvsadm": "ipvsadm", "sysctl": "procps"}
BRIDGE_SYSCTLS = Path("/proc/sys/net/bridge")
PROBE_TIMEOUT_S = 60


def in_vm() -> bool:
    """Tell whether this process runs inside the lab's VM."""
    return os.environ.get(IN_VM) == "1"


def missing_tools(tools: Mapping[str, str]) -> tuple[str, ...]:
    """Return the Debian packages that bring the tools that are not there, sorted."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return tuple(sorted({package for tool, package in tools.items() if shutil.which(tool, path=path) is None}))


def missing_for_vm() -> tuple[str, ...]:
    """Return the Debian packages the VM needs and this machine has not."""
    missing = set(missing_tools(VM_TOOLS))
    if not any(path.exists() for path in VIRTIOFSD):
        missing.add("virtiofsd" if _has_package("virtiofsd") else "qemu-system-x86")
    return tuple(sorted(missing))


def install_line(packages: Iterable[str]) -> str:
    """Return the command that installs them."""
    return f"apt-get install --no-install-recommends -y {' '.join(packages)}"


def _has_package(name: str) -> bool:
    if shutil.which("apt-cache") is None:
        return False
    done = subprocess.run(["apt-cache", "policy", name], capture_output=True, text=True, timeout=60, check=False)
    return "Candidate: (none)" not in done.stdout and "Candidate:" in done.stdout


def filter_bridged_packets() -> str:
    """Load br_netfilter, as every Kubernetes node has it; return in words why that failed, "" if it did not.

    Without it an answer between two pods on one bridge does not pass the node's IPVS, and the client does not know the
    sender. New namespaces begin with it on. Where it was us who loaded it, this namespace's own bridges stay as they
    were: off.
    """
    if BRIDGE_SYSCTLS.exists():
        return ""
    try:
        done = subprocess.run(["modprobe", "br_netfilter"], capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        return f"modprobe is missing: {install_line(['kmod'])}"
    if done.returncode:
        return f"this kernel has no br_netfilter: {done.stderr.strip()}"
    for name in ("arptables", "iptables", "ip6tables"):
        (BRIDGE_SYSCTLS / f"bridge-nf-call-{name}").write_text("0")
    return ""


def have_ip_vs() -> bool:
    """Tell whether this kernel does IPVS and dummy interfaces, tried in a network namespace that is thrown away.

    Needs root; without it the answer is no. Opening the netlink family makes the kernel load the module.
    """
    script = "ip link add kr-probe type dummy && ipvsadm -A -t 192.0.2.1:1 -s rr && ipvsadm -D -t 192.0.2.1:1"
    if os.geteuid() != 0 or missing_tools({"unshare": "", "ip": "", "ipvsadm": ""}):
        return False
    argv = ["unshare", "--net", "sh", "-c", script]
    return subprocess.run(argv, capture_output=True, timeout=PROBE_TIMEOUT_S, check=False).returncode == 0
