"""The control plane's way to pods: its API server proxies to them, and it is no node that learns routes (I/O)."""

import json

from cluster.cluster import Cluster
from cluster.layout import FABRIC

from kube_router.lab import netns


def to_pods(cluster: Cluster) -> None:
    """Route the pod CIDR of each node to it, from where the control plane is."""
    items = json.loads(cluster.kubectl("get", "nodes", "--output=json"))["items"]
    routes = [f"route replace {item['spec']['podCIDR']} via {_address(item['status']['addresses'])}" for item in items]
    netns.ip_batch(routes, namespace=FABRIC)


def _address(addresses: list[dict[str, str]]) -> str:
    return next(each["address"] for each in addresses if each["type"] == "InternalIP")
