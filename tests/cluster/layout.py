"""Where everything of a test cluster is: names of namespaces, addresses, ports.

Addresses are the same in all clusters, for each has a network of its own; namespaces bear the process that made them.
"""

import os
from dataclasses import dataclass

SERVICE_CIDR, POD_CIDR, NODE_NET = "10.96.0.0/16", "10.244.0.0/16", "172.30.0"
NODE_CIDR = f"{NODE_NET}.0/24"
CONTROL_ADDRESS = f"{NODE_NET}.1"
API_PORT, ETCD_PORT, ETCD_PEER_PORT = 6443, 2379, 2380
FIRST_NODE = 11
PREFIX = "krcluster"


@dataclass(frozen=True, slots=True)
class Seat:
    """One node's place in the cluster."""

    number: int

    @property
    def name(self) -> str:
        """The Node's name in the API."""
        return f"node-{self.number}"

    @property
    def namespace(self) -> str:
        """Its network namespace."""
        return f"{PREFIX}-{os.getpid()}-{self.name}"

    @property
    def address(self) -> str:
        """Its address, the only one."""
        return f"{NODE_NET}.{FIRST_NODE + self.number - 1}"

    @property
    def port(self) -> str:
        """Its port of the bridge between the nodes."""
        return f"{PREFIX}-{self.number}"


FABRIC = (
    f"{PREFIX}-{os.getpid()}-fabric"  # holds the bridge and the control plane: the host's own network stays as it is
)
BRIDGE = "fabric"
API_URL = f"https://{CONTROL_ADDRESS}:{API_PORT}"
API_SERVICE = "10.96.0.1"


def inside(namespace: str) -> list[str]:
    """Return the words before a command that is to run in a network namespace.

    ``ip netns exec`` would mount another /sys, without the cgroups that a kubelet needs.
    """
    return ["nsenter", f"--net=/run/netns/{namespace}", "--"]
