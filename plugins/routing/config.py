"""What this node's BGP speaker is to be: a function of Nodes, Services, EndpointSlices and options (pure).

One bad object, annotation or item harms only itself: what it would have configured is left out and named, the rest is
as if it were not there. Only without an AS number, an address or a router id can the node not speak at all.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from kube_router.core.view import ClusterView, Dirty
from kube_router.events.errors import Problem
from kube_router.events.faults import Faults
from kube_router.events.model import Node
from kube_router.plugins.routing import annotations, values
from kube_router.plugins.routing.announce import AnnounceTable
from kube_router.plugins.routing.bgp.model import Family, Kind, Prefix, SpeakerConfig
from kube_router.plugins.routing.claims import FAMILY_NAMES
from kube_router.plugins.routing.external import annotated_peers
from kube_router.plugins.routing.peers import Export, Party, external, mesh, party
from kube_router.plugins.routing.settings import RoutingOptions

Secret = Callable[[str], str | None]

MUTE = "this node does not speak BGP"
NO_POD_CIDR = (
    f"absent, and so are the annotations {annotations.POD_CIDRS} and {annotations.POD_CIDR} and CIDRs in the CNI "
    "configuration; no pod CIDR is announced, so this node's pods cannot be reached from others"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Configured:
    """``config`` None: this node cannot speak (yet); ``problems`` say why.

    ``waiting`` are the addresses of peers left out because their password is not known. ``pod_why`` says of each own
    pod CIDR where it is from.
    """

    config: SpeakerConfig | None
    problems: tuple[Problem, ...] = ()
    waiting: tuple[str, ...] = ()
    pod_why: Mapping[Prefix, str] = field(default_factory=dict)


def speaker_config(
    view: ClusterView,
    options: RoutingOptions,
    node: str,
    secret: Secret,
    *,
    announced: AnnounceTable | None = None,
    cni_cidrs: tuple[str, ...] = (),
) -> Configured:
    """Return the whole configuration.

    ``announced`` is a table that is up to date with the view; without one it is made anew. ``cni_cidrs`` are those of
    the CNI configuration, for a node that has no others.
    """
    doubts = tuple(Problem("Node", node, doubt) for doubt in options.doubts)
    own = view.get(Node, node)
    if own is None:
        missing = Problem("Node", node, f"is not known (yet): {MUTE}")
        return Configured(config=None, problems=(*doubts, missing))
    faults = Faults("Node", node)
    me = party(own, options, faults, consequence=MUTE)
    router_id = _router_id(own, options, faults)
    if me is None or me.asn is None or router_id is None:
        _say_what_is_missing(own, me, options, faults)
        return Configured(config=None, problems=(*doubts, *faults.found()))
    if announced is None:
        announced = AnnounceTable(options, node, cni_cidrs=cni_cidrs)
        announced.update(view, Dirty(everything=True))
    pods, next_hops = _pods(own, cni_cidrs, faults)
    peers, others = mesh(me, view.each(Node), options) if options.enable_ibgp else ({}, [])
    export = Export(annotations.prepend(own, faults), annotations.communities(own, faults))
    wanted = options.peers or annotated_peers(own, secret, faults)
    outside, waiting = external(me, wanted, peers, options, export, faults)
    config = SpeakerConfig(
        asn=me.asn,
        router_id=router_id,
        listen=annotations.local_addresses(own, faults),
        port=options.bgp_port,
        peers={**peers, **outside},
        originated={**announced.announced, **dict.fromkeys(pods, Kind.POD)},
        next_hops={family: values.packed(address) for family, address in next_hops.items()},
        advertise_pods_externally=options.advertise_pod_cidr,
        cluster_id=me.reflection.cluster_id if me.reflection.role == "server" else 0,
        rejected=annotations.import_reject(own, faults),
        deferral_s=options.bgp_graceful_restart_deferral_s,
    )
    problems = (*doubts, *faults.found(), *others, *announced.problems)
    return Configured(config=config, problems=problems, waiting=waiting, pod_why=pods)


def _router_id(own: Node, options: RoutingOptions, faults: Faults) -> int | None:
    """Return the router id; a generated one is the one that kube-router generates."""
    if options.router_id == "generate":
        primary = annotations.primary_address(own)
        return values.fnv1a(_sixteen_octets(primary)) if primary else None
    address = options.router_id or annotations.best_address(own, Family.IPV4)
    if not address and own.addresses:
        faults.add("status.addresses", f"no IPv4 address to be the router id; {MUTE}: set --router-id=generate")
    return int(IPv4Address(address)) if address else None


def _sixteen_octets(address: str) -> bytes:
    """Return an address as Go holds it: an IPv4 one as IPv4-mapped."""
    octets = values.packed(address)
    return octets if len(octets) == 16 else bytes(10) + b"\xff\xff" + octets


def _say_what_is_missing(own: Node, me: Party | None, options: RoutingOptions, faults: Faults) -> None:
    if me is None:
        faults.add("status.addresses", f"holds no InternalIP and no ExternalIP; {MUTE}")
    elif me.asn is None and not own.annotations.get(annotations.NODE_ASN, "").strip():
        faults.add(annotations.where(annotations.NODE_ASN), f"missing, but --nodes-full-mesh=false needs it; {MUTE}")


def _pods(own: Node, cni_cidrs: tuple[str, ...], faults: Faults) -> tuple[dict[Prefix, str], Mapping[Family, str]]:
    """Return the pod CIDRs to announce, each with why, and the next hops by family."""
    found = annotations.pod_cidrs_from(own, faults, cni=cni_cidrs)
    if not found.source:
        faults.add("spec.podCIDRs", NO_POD_CIDR)
    next_hops = annotations.next_hops(own, found.prefixes)
    announced = {}
    for prefix in found.prefixes:
        if prefix.family in next_hops:
            announced[prefix] = f"pod CIDR of this node, {found.source}"
        else:
            needed = f"the node has no {FAMILY_NAMES[prefix.family]} address to be the next hop"
            faults.add(found.source, f"{prefix}: {needed}; not announced")
    return announced, next_hops
