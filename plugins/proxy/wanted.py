"""What IPVS should hold for the Services of the cluster, kept up incrementally (pure).

Each Service makes *claims*: virtual services it wants. Two Services may claim the same protocol, address and port; the
older one owns it (creationTimestamp, then namespace and name), the other's claim is a problem until the owner is gone.
Which claim wins depends on the claims alone, so every order of events gives the same result.

Endpoints: those that are ready; where none is, those that are terminating but still serving (KEP-1669). A Service
without usable endpoints keeps its virtual services, empty, so that clients are refused rather than routed away.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from kube_router.core.slices import SliceOwners
from kube_router.core.view import ClusterView, Dirty
from kube_router.events.errors import Problem
from kube_router.events.model import EndpointSlice, Node, Service, ServicePort
from kube_router.plugins.proxy.model import (
    ROUND_ROBIN,
    Masquerade,
    Server,
    ServerId,
    ServiceId,
    VirtualService,
    Wanted,
)

PROXY_NAME = "kube-router"
MASQUERADED = Server(weight=1, method="masq")


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What the plan needs to know of this node, in all families: IPv4 is told from IPv6 by its form."""

    addresses: tuple[str, ...] = ()  # the best one of each family
    pod_cidrs: tuple[str, ...] = ()


NO_FACTS = NodeFacts()


@dataclass(frozen=True, slots=True)
class Claim:
    """What one Service wants at one place. ``on_dummy``: the address is a service address, not the node's own."""

    rank: tuple[str, str]  # creationTimestamp, key: the smallest owns the place
    service: VirtualService
    on_dummy: bool


@dataclass
class Cluster:
    """All claims, and what follows from them. ``update`` is the only way to change it.

    ``services`` holds the winning claim of each place, ``owners`` the key of the Service it belongs to.
    """

    node: str
    masquerade_all: bool = False
    facts: NodeFacts = NO_FACTS
    services: dict[ServiceId, VirtualService] = field(default_factory=dict)
    owners: dict[ServiceId, str] = field(default_factory=dict)
    _claims: dict[ServiceId, dict[str, Claim]] = field(default_factory=dict)
    _places: dict[str, frozenset[ServiceId]] = field(default_factory=dict)
    _on_dummy: dict[str, set[ServiceId]] = field(default_factory=dict)
    _slices: SliceOwners = field(default_factory=SliceOwners)

    @property
    def masquerade(self) -> Masquerade:
        """Return how service traffic is masqueraded on this node."""
        return Masquerade(self.facts.pod_cidrs, self.facts.addresses, everything=self.masquerade_all)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Return one problem for each place a Service claims and another one owns."""
        return tuple(
            Problem(
                "Service",
                key,
                f"{text(place)} belongs to Service {self.owners[place]}, which is older; not served for this one",
            )
            for place in sorted(place for place, claims in self._claims.items() if len(claims) > 1)
            for key in sorted(self._claims[place])
            if key != self.owners[place]
        )

    def source(self, address: str) -> str:
        """Return the node's own address of the family of ``address``, "" where it has none."""
        return next((own for own in self.facts.addresses if is_ipv6(own) == is_ipv6(address)), "")

    def address(self, address: str) -> str | None:
        """Return the source wanted for a service address, None for an address that is not wanted on kube-dummy-if."""
        return self.source(address) if address in self._on_dummy else None

    def wanted(self) -> Wanted:
        """Return all that the kernel should hold."""
        addresses = {address: self.source(address) for address in self._on_dummy}
        return Wanted(self.services, addresses, self.masquerade)

    def update(self, view: ClusterView, dirty: Dirty) -> set[ServiceId]:
        """Take in all that is dirty; return the places whose virtual service may have changed."""
        return self.reclaim(view, self.dirty_services(view, dirty))

    def dirty_services(self, view: ClusterView, dirty: Dirty) -> set[str]:
        """Return the keys of the Services whose claims have to be made anew: all of them when the node has changed."""
        facts = node_facts(view.get(Node, self.node))
        everything = dirty.everything or facts != self.facts
        self.facts = facts
        if everything:
            self._slices.reset(view)
            return set(self._places) | {service.key for service in view.each(Service)}
        return self._slices.dirty_services(view, dirty)

    def reclaim(self, view: ClusterView, keys: Iterable[str]) -> set[ServiceId]:
        """Make the claims of some Services anew; return the places whose virtual service may have changed."""
        touched: set[ServiceId] = set()
        for key in keys:
            touched |= self._reclaim(key, self._claims_of(view, key))
        for place in touched:
            self._settle(place)
        return touched

    def _claims_of(self, view: ClusterView, key: str) -> dict[ServiceId, Claim]:
        service = view.get(Service, key)
        if service is None or not is_served(service):
            return {}
        return claims(service, view.slices_of(key), self.facts)

    def _reclaim(self, key: str, new: Mapping[ServiceId, Claim]) -> set[ServiceId]:
        """Replace the claims of one Service; return the places where they differ from before."""
        touched = {place for place in self._places.get(key, ()) if place not in new}
        for place in touched:
            del self._claims[place][key]
        for place, claim in new.items():
            at_place = self._claims.setdefault(place, {})
            if at_place.get(key) != claim:
                at_place[key] = claim
                touched.add(place)
        if new:
            self._places[key] = frozenset(new)
        else:
            self._places.pop(key, None)
        return touched

    def _settle(self, place: ServiceId) -> None:
        """Let the oldest claim own a place."""
        at_place = self._claims[place]
        on_dummy = self._on_dummy.setdefault(place.address, set())
        on_dummy.discard(place)
        if at_place:
            owner = min(at_place, key=lambda key: at_place[key].rank)
            self.owners[place], self.services[place] = owner, at_place[owner].service
            if at_place[owner].on_dummy:
                on_dummy.add(place)
        else:
            del self._claims[place]
            self.owners.pop(place, None)
            self.services.pop(place, None)
        if not on_dummy:
            del self._on_dummy[place.address]


def is_served(service: Service) -> bool:
    """Return whether the proxy serves a Service at all: not when it is headless or another's."""
    if service.type == "ExternalName" or service.headless:
        return False
    return service.proxy_name is None or service.proxy_name == PROXY_NAME


def claims(service: Service, slices: Sequence[EndpointSlice], facts: NodeFacts) -> dict[ServiceId, Claim]:
    """Return what a Service wants: a virtual service per cluster IP and port, and per node address and node port.

    A node port is served in each family in which the Service has a cluster IP and the node an address.
    """
    rank = (service.created, service.key)
    made: dict[ServiceId, Claim] = {}
    for port in service.ports:
        servers = {ipv6: endpoints(slices, port, ipv6=ipv6) for ipv6 in {is_ipv6(ip) for ip in service.cluster_ips}}
        for address in service.cluster_ips:
            virtual = VirtualService(ROUND_ROBIN, servers[is_ipv6(address)])
            made.setdefault(ServiceId(port.protocol, address, port.port), Claim(rank, virtual, on_dummy=True))
        for address in facts.addresses if port.node_port else ():
            if is_ipv6(address) in servers:
                virtual = VirtualService(ROUND_ROBIN, servers[is_ipv6(address)])
                made.setdefault(ServiceId(port.protocol, address, port.node_port), Claim(rank, virtual, on_dummy=False))
    return made


def endpoints(slices: Sequence[EndpointSlice], port: ServicePort, *, ipv6: bool) -> dict[ServerId, Server]:
    """Return the real servers of a Service port in one family, ordered by address and port.

    The endpoints that are ready, or else those that are terminating and still serving. Only the first address of an
    endpoint counts: the API calls them fungible.
    """
    ready: set[ServerId] = set()
    draining: set[ServerId] = set()
    address_type = "IPv6" if ipv6 else "IPv4"
    for piece in slices:
        if piece.address_type != address_type:
            continue
        for number in [its.port for its in piece.ports if (its.name, its.protocol) == (port.name, port.protocol)]:
            for endpoint in piece.endpoints:
                if endpoint.ready and not endpoint.terminating:
                    ready.add(ServerId(endpoint.addresses[0], number))
                elif endpoint.serving and endpoint.terminating:
                    draining.add(ServerId(endpoint.addresses[0], number))
    return dict.fromkeys(sorted(ready or draining), MASQUERADED)


def node_facts(node: Node | None) -> NodeFacts:
    """Return the best address of each family (InternalIP before ExternalIP, IPv4 first) and the pod CIDRs."""
    if node is None:
        return NO_FACTS
    ranked = [its.address for kind in ("InternalIP", "ExternalIP") for its in node.addresses if its.type == kind]
    best = [next((a for a in ranked if is_ipv6(a) == ipv6), "") for ipv6 in (False, True)]
    return NodeFacts(tuple(filter(None, best)), node.pod_cidrs)


def is_ipv6(address: str) -> bool:
    """Return whether a canonical address or CIDR is IPv6."""
    return ":" in address


def text(place: ServiceId) -> str:
    """Return a place as people write it: ``10.96.0.10:53/UDP``, ``[fd00::1]:80/TCP``."""
    address = f"[{place.address}]" if is_ipv6(place.address) else place.address
    return f"{address}:{place.port}/{place.protocol}"
