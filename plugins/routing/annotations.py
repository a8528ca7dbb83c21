"""What the annotations of a Node mean for BGP; one bad item harms only itself (pure)."""

from kube_router.events.faults import Faults
from kube_router.events.model import Node
from kube_router.plugins.routing.bgp.model import Family, Prefix


def best_address(node: Node, family: Family) -> str:
    """Return the node's address of a family: InternalIP before ExternalIP, "" where it has none."""
    raise NotImplementedError


def primary_address(node: Node) -> str:
    """Return the first InternalIP, else the first ExternalIP, of whichever family; "" where there is none."""
    raise NotImplementedError


def pod_cidrs(node: Node, faults: Faults, *, cni: tuple[str, ...] = ()) -> tuple[Prefix, ...]:
    """Return a node's pod CIDRs: annotation pod-cidrs, else pod-cidr, else spec.podCIDRs, else the CNI's."""
    raise NotImplementedError
