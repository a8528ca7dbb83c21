"""Bridged packets made to pass the node's own rules, for pods that hang on kube-bridge (I/O).

A packet between two pods on one bridge is the bridge's affair alone, unless br_netfilter hands it to the IP hooks. Then
the node's IPVS sees the reply of a service, without which the client does not know the sender, and the firewall judges
the packet at all: without it pods on one node reach each other whatever the policies say.

br_netfilter is loaded where there is kube-bridge; its sysctls are set wherever it is, since its default is the
distribution's choice. Somebody may turn them off again: whoever needs them calls this at each resync.
"""

import socket
from pathlib import Path

from kube_router.core import modules
from kube_router.core.sysctl import ROOT, write_sysctls

BRIDGE = "kube-bridge"
BRIDGE_SYSCTLS = {"net/bridge/bridge-nf-call-iptables": "1", "net/bridge/bridge-nf-call-ip6tables": "1"}
MODULE = "br_netfilter"
WITHOUT = f"without it pods on {BRIDGE} do not reach each other through a Service, nor do network policies part them"


def prepare_bridge(*, root: Path = ROOT) -> tuple[int, list[str]]:
    """Return how many sysctls were written, and in words what stayed undone; nothing where no bridge filters."""
    there = root / "net/bridge"
    if not there.exists():
        if not has_bridge():
            return 0, []
        if trouble := modules.load(MODULE):
            return 0, [f"{trouble}; {WITHOUT}"]
    return write_sysctls(BRIDGE_SYSCTLS, root=root)


def has_bridge() -> bool:
    """Return whether this network namespace has a kube-bridge."""
    try:
        return bool(socket.if_nametoindex(BRIDGE))
    except OSError:
        return False
