"""Bridged packets made to pass the node's own rules, for pods that hang on kube-bridge (I/O).

A packet between two pods on one bridge is the bridge's affair alone, unless br_netfilter hands it to the IP hooks. Then
the node's IPVS sees the reply of a service, without which the client does not know the sender, and the firewall judges
the packet at all: without it pods on one node reach each other whatever the policies say.

br_netfilter is loaded where there is kube-bridge; its sysctls are set wherever it is, since its default is the
distribution's choice. Somebody may turn them off again: whoever needs them calls this at each resync.
"""

import socket
import subprocess
from pathlib import Path

from kube_router.core.sysctl import ROOT, write_sysctls

BRIDGE = "kube-bridge"
BRIDGE_SYSCTLS = {"net/bridge/bridge-nf-call-iptables": "1", "net/bridge/bridge-nf-call-ip6tables": "1"}
MODPROBE_S = 30
WITHOUT = f"without it pods on {BRIDGE} do not reach each other through a Service, nor do network policies part them"


def prepare_bridge(*, root: Path = ROOT) -> tuple[int, list[str]]:
    """Return how many sysctls were written, and in words what stayed undone; nothing where no bridge filters."""
    there = root / "net/bridge"
    if not there.exists() and has_bridge() and (trouble := _load()):
        return 0, [trouble]
    return write_sysctls(BRIDGE_SYSCTLS, root=root) if there.exists() else (0, [])


def has_bridge() -> bool:
    """Return whether this network namespace has a kube-bridge."""
    try:
        return bool(socket.if_nametoindex(BRIDGE))
    except OSError:
        return False


def _load() -> str:
    """Load br_netfilter; return in words why that failed, "" else."""
    try:
        done = subprocess.run(
            ["modprobe", "br_netfilter"], capture_output=True, text=True, timeout=MODPROBE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        return f"modprobe br_netfilter: {e}; {WITHOUT}"
    return "" if done.returncode == 0 else f"modprobe br_netfilter: {done.stderr.strip()}; {WITHOUT}"
