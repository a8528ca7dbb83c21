"""Clusters of a few lines for the tests of routing's configuration."""

from collections.abc import Mapping
from typing import Any

from kube_router.core.agent_options import option_groups
from kube_router.core.options import resolve
from kube_router.core.state import State, View
from kube_router.events.event import Put
from kube_router.events.model import Endpoint, EndpointSlice, Node, NodeAddress, Object, Service
from kube_router.events.normalize import BUILTIN
from kube_router.events.resource import Catalogue
from kube_router.plugins.routing.bgp.model import PeerConfig, SpeakerConfig
from kube_router.plugins.routing.config import Configured, Secret, speaker_config
from kube_router.plugins.routing.options import OPTIONS, read
from kube_router.plugins.routing.settings import RoutingOptions

RESOURCE = {Service: "services", EndpointSlice: "endpointslices", Node: "nodes"}
GROUPS, _ = option_groups({"routing": OPTIONS})


def options(*argv: str) -> RoutingOptions:
    """Return the options of a command line."""
    return read(resolve(argv, GROUPS, environ={}))


def view(*objects: Object) -> View:
    """Return a view of a cluster that holds some objects."""
    state = State(Catalogue(BUILTIN))
    for n, obj in enumerate(objects, 1):
        state.apply(Put(seq=n, t=n, r=RESOURCE[type(obj)], key=obj.key, obj=obj))
    return View(state, (Service, EndpointSlice, Node))


def node(name: str, *addresses: str, pods: tuple[str, ...] = (), **annotations: str) -> Node:
    """Return a Node; the keywords are annotations, ``node_asn`` for kube-router.io/node.asn."""
    return Node(
        name=name,
        addresses=tuple(NodeAddress(type="InternalIP", address=address) for address in addresses),
        pod_cidrs=pods,
        annotations={f"kube-router.io/{ANNOTATIONS[key]}": text for key, text in annotations.items()},
    )


ANNOTATIONS = {
    "node_asn": "node.asn",
    "rr_server": "rr.server",
    "rr_client": "rr.client",
    "communities": "node.bgp.communities",
    "import_reject": "node.bgp.customimportreject",
    "prepend_as": "path-prepend.as",
    "prepend_times": "path-prepend.repeat-n",
    "peers": "peers",
    "peer_ips": "peer.ips",
    "peer_asns": "peer.asns",
    "peer_ports": "peer.ports",
    "peer_passwords": "peer.passwords",
    "peer_local_ips": "peer.localips",
    "local_addresses": "bgp-local-addresses",
    "pod_cidrs": "pod-cidrs",
    "pod_cidr": "pod-cidr",
}


def no_secret(digest: str) -> str | None:
    return None


def configured(*objects: Object, flags: tuple[str, ...] = (), secret: Secret = no_secret, **more: Any) -> Configured:
    """Return what node-1 is configured to be in a cluster of some objects."""
    return speaker_config(view(*objects), options(*flags), "node-1", secret, **more)


def speaker(made: Configured) -> SpeakerConfig:
    """Return the configuration of a node that can speak."""
    assert made.config is not None, made.problems
    return made.config


def peers(made: Configured) -> Mapping[str, PeerConfig]:
    return speaker(made).peers


def words(made: Configured) -> list[str]:
    """Return the problems as they are shown."""
    return [str(problem) for problem in made.problems]


def service(name: str = "web", *, ips: tuple[str, ...] = ("10.96.0.10",), **fields: Any) -> Service:
    return Service(namespace="prod", name=name, cluster_ips=ips, **fields)


def piece(*endpoints: Endpoint, service: str = "prod/web", name: str = "web-1", **fields: Any) -> EndpointSlice:
    return EndpointSlice(namespace="prod", name=name, service=service, endpoints=endpoints, **fields)


def endpoint(address: str = "10.244.1.5", node_name: str = "node-1", **conditions: Any) -> Endpoint:
    return Endpoint(addresses=(address,), node_name=node_name, **conditions)
