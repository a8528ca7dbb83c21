"""With whom this node speaks BGP, and how: the other nodes and the external peers (pure).

Whether two nodes have a session is decided by one rule that is symmetric in both, from their Node objects alone: else
one of them would forever knock at a door the other does not open. Two nodes speak over the family of their primary
addresses, where these differ over IPv4, else IPv6, whichever both have. Without route reflectors every node peers with
every other one. A client peers only with servers of its own cluster; everybody else with everybody else.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from kube_router.events.errors import Problem
from kube_router.events.faults import Faults
from kube_router.events.model import Node
from kube_router.plugins.routing import annotations, values
from kube_router.plugins.routing.annotations import Reflection
from kube_router.plugins.routing.bgp.model import Family, PeerConfig
from kube_router.plugins.routing.claims import FAMILY_NAMES
from kube_router.plugins.routing.settings import ExternalPeer, RoutingOptions


@dataclass(frozen=True, slots=True)
class Party:
    """A node as the mesh sees it. ``asn`` None: it has none that can be used, and so no session."""

    name: str
    asn: int | None
    addresses: Mapping[Family, str]  # the best one of each family, the primary one first
    families: frozenset[Family]  # those it has a next hop for
    reflection: Reflection


def party(node: Node, options: RoutingOptions, faults: Faults, *, consequence: str) -> Party | None:
    """Return what the mesh has to know of a node, None for one without an address."""
    addresses = annotations.addresses(node)
    if not addresses:
        return None
    asn: int | None = options.cluster_asn
    if not options.nodes_full_mesh:
        asn = annotations.node_asn(node, faults, consequence=consequence)
    return Party(
        node.name,
        asn,
        addresses,
        frozenset(annotations.next_hops(node, own=addresses)),
        annotations.reflection(node, faults),
    )


def transport(a: Party, b: Party) -> Family | None:
    """Return the family in which two nodes reach each other, None for none. Symmetric."""
    primary = next(iter(a.addresses))
    if primary is next(iter(b.addresses)):
        return primary
    return min(a.addresses.keys() & b.addresses.keys(), default=None)


def is_session(a: Party, b: Party) -> bool:
    """Return whether two nodes peer with each other. Symmetric."""
    if a.asn is None or a.asn != b.asn:
        return False
    roles = {a.reflection.role, b.reflection.role}
    if "client" not in roles:
        return True
    return roles == {"client", "server"} and a.reflection.cluster_id == b.reflection.cluster_id


def mesh(me: Party, nodes: Iterable[Node], options: RoutingOptions) -> tuple[dict[str, PeerConfig], list[Problem]]:
    """Return the other nodes to peer with, by address, and what is wrong with them as far as it keeps them out."""
    peers: dict[str, PeerConfig] = {}
    problems: list[Problem] = []
    for node in sorted(nodes, key=lambda node: node.name):
        if node.name == me.name:
            continue
        faults = Faults("Node", node.name)
        other = party(node, options, faults, consequence="no node peers with it")
        family = transport(me, other) if other is not None else None
        if other is not None and family is not None and is_session(me, other):
            address = other.addresses[family]
            if address in peers or address in me.addresses.values():
                faults.add("status.addresses", f"{address} is another node's address already; not peered with")
            else:
                peers[address] = _mesh_peer(me, other, family, options)
        problems += faults.found()
    return peers, problems


def _mesh_peer(me: Party, other: Party, family: Family, options: RoutingOptions) -> PeerConfig:
    assert me.asn is not None
    return PeerConfig(
        address=other.addresses[family],
        asn=me.asn,
        internal=True,
        mesh=True,
        port=options.bgp_port,
        local_address=me.addresses[family],
        families=tuple(sorted(me.families & other.families)),
        graceful_restart_s=options.bgp_graceful_restart_time_s if options.bgp_graceful_restart else None,
        reflector_client=me.reflection.role == "server" and other.reflection.role == "client",
        bfd=options.bfd,
    )


# -- external peers ----------------------------------------------------------------------------------------------------


class Export(NamedTuple):
    """What goes with every announcement to an external peer."""

    prepend: annotations.Prepend
    communities: annotations.Communities


def external(
    me: Party,
    wanted: Iterable[ExternalPeer],
    taken: Mapping[str, PeerConfig],
    options: RoutingOptions,
    export: Export,
    faults: Faults,
) -> tuple[dict[str, PeerConfig], tuple[str, ...]]:
    """Return the external peers by address, and the addresses of those that wait for their password.

    ``taken`` are the peers of the mesh, which stand.
    """
    assert me.asn is not None
    peers: dict[str, PeerConfig] = {}
    waiting: list[str] = []
    for each in wanted:
        family = values.family(each.address)
        local = each.local_address or me.addresses.get(family, "")
        if each.address in me.addresses.values():
            faults.add(each.where, f"{each.address} is this node's own address; peer left out")
        elif each.address in taken:
            faults.add(each.where, f"{each.address} is a node's address, with which this node peers; peer left out")
        elif not local:
            needed = f"{each.address} needs an {FAMILY_NAMES[family]} address of this node, which has none"
            faults.add(each.where, f"{needed}; peer left out")
        elif each.waiting:
            waiting.append(each.address)
        else:
            peers[each.address] = _external_peer(me, me.asn, each, local, options, export)
    return peers, tuple(waiting)


def _external_peer(
    me: Party, our_asn: int, each: ExternalPeer, local: str, options: RoutingOptions, export: Export
) -> PeerConfig:
    internal = each.asn == our_asn
    multihop = options.peer_router_multihop_ttl
    return PeerConfig(
        address=each.address,
        asn=each.asn,
        internal=internal,
        port=each.port,
        local_address=local,
        password=each.password,
        families=tuple(sorted(me.families)),
        hold_time_s=options.bgp_holdtime_s,
        ttl=multihop if multihop > 1 and not internal else 0,
        graceful_restart_s=options.bgp_graceful_restart_time_s if options.bgp_graceful_restart else None,
        bfd=each.bfd,
        next_hop_self=options.override_nexthop,
        prepend_asn=export.prepend.asn,
        prepend_count=export.prepend.times,
        communities=export.communities.standard,
        large_communities=export.communities.large,
    )
