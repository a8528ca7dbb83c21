"""The cluster as routing sees it → what the kernel of this node should hold (pure).

All is made anew whenever a Node or the host's own facts change. Routes come by the thousand: each is made from its
``Route`` object alone, and only those that are dirty; the few sets of next hops that occur are translated once. Tunnels
stand for the next hops that some route uses, so a route that is the first or last to use one changes more than itself
(``take`` says so).
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_interface
from typing import NamedTuple

from kube_router.core.view import ClusterView, Dirty
from kube_router.events.errors import Problem
from kube_router.events.faults import Faults
from kube_router.events.model import Node
from kube_router.plugins.routing import annotations, facts, values
from kube_router.plugins.routing.bgp.model import Family, Prefix
from kube_router.plugins.routing.model import (
    BRIDGE,
    MAIN,
    OVERLAY_TABLE,
    VXLAN_PORT,
    Forward,
    FouPort,
    Neighbour,
    Route,
    RouteId,
    Rule,
    Tunnel,
    Wanted,
    host_prefix,
    tunnel_hop,
    tunnel_name,
    vxlan,
    vxlan_entries,
    vxlan_hop,
    vxlan_name,
)
from kube_router.plugins.routing.reach import Reach, Reached, link_of
from kube_router.plugins.routing.settings import RoutingOptions

LOOPBACK = "lo"

# What an encapsulation adds to a packet, in octets: outer IP header, and UDP and GUE or VXLAN headers.
OVERHEAD = {
    ("ipip", 4): 20, ("ipip", 6): 40,
    ("fou", 4): 32, ("fou", 6): 52,
    ("vxlan", 4): 50, ("vxlan", 6): 70,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What of the cluster is no route: whose addresses are whose, and what follows for this node."""

    reach: Reach
    own: Mapping[Family, str] = field(default_factory=dict)  # this node's best address by family
    pods: tuple[str, ...] = ()  # its pod CIDRs
    links: tuple[str, ...] = ()  # interfaces that have its addresses
    mtu: int = 0  # of the link with its primary address, 0 where that is not known
    all_pods: frozenset[str] = frozenset()
    all_nodes: frozenset[str] = frozenset()
    devices: frozenset[str] = frozenset({BRIDGE})  # interfaces that the plans look at
    at_home: frozenset[str] = frozenset()  # networks that this node is on itself: nobody needs to tell of them


class Translated(NamedTuple):
    """What becomes of routes with certain next hops: which of them are overlaid, and which lead nowhere."""

    route: Route | None
    overlaid: tuple[str, ...] = ()
    stranded: tuple[str, ...] = ()


NOWHERE = Translated(None)


class Cluster:
    """What the kernel should hold, kept up with the view. ``wanted`` is right after ``begin`` and ``take`` of all."""

    def __init__(self, node: str, options: RoutingOptions, *, cni_cidrs: tuple[str, ...] = ()) -> None:
        self._node, self._options, self._cni_cidrs = node, options, cni_cidrs
        self.surroundings = Surroundings(Reach(facts.Host(name=node), options, {}, ()))
        self._routes: dict[RouteId, Route] = {}  # these four are what ``wanted`` holds
        self._devices: dict[str, Tunnel] = {}
        self._neighbours: dict[Neighbour, str] = {}
        self._forwards: dict[Forward, str] = {}
        self._translated: dict[tuple[Family, tuple[str, ...]], Translated] = {}
        self._overlaid: Counter[str] = Counter()  # how many routes use each next hop of the overlay
        self._reached: set[str] = set()  # those of them for which ``wanted`` holds what they need
        self._uses: dict[str, tuple[str, ...]] = {}  # next hops of the overlay by prefix
        self._stranded: dict[str, set[str]] = {}  # prefixes by the next hop that cannot be reached
        self._stranding: dict[str, tuple[str, ...]] = {}  # and the other way round
        self.wanted = self._begin_anew()

    # -- taking in -----------------------------------------------------------------------------------------------------

    def update(self, view: ClusterView, dirty: Dirty) -> None:
        """Take in all that is dirty."""
        if dirty.everything or any(ref.resource in ("nodes", "hosts") for ref in dirty.refs):
            self.begin(view)
            self.take(view, [route.name for route in view.each(facts.Route)])
        else:
            self.take(view, [ref.key for ref in dirty.refs if ref.resource == "routes"])

    def begin(self, view: ClusterView) -> None:
        """Take in all but the routes, and forget those: they are to be taken in anew."""
        self.surroundings = self._look_around(view)
        self._translated.clear()
        self._overlaid.clear()
        self._uses.clear()
        self._stranded.clear()
        self._stranding.clear()
        self._reached.clear()
        self.wanted = self._begin_anew()

    def take(self, view: ClusterView, prefixes: Iterable[str]) -> bool:
        """Take in some routes; return whether more than routes has changed by it."""
        touched: set[str] = set()
        for prefix in prefixes:
            touched |= self._take_route(prefix, view.get(facts.Route, prefix))
        came = sorted(hop for hop in touched - self._reached if self._overlaid[hop])
        went = [hop for hop in touched & self._reached if not self._overlaid[hop]]
        for hop in came:
            self._add_overlay(hop)
        for hop in went:
            self._remove_overlay(hop)
        if came or went:
            self.wanted = replace(self.wanted, fou_ports=self._fou_ports())
        return bool(came or went)

    def _take_route(self, prefix: str, route: facts.Route | None) -> set[str]:
        """Take in one; return the next hops of the overlay that it used or uses."""
        touched = set(self._uses.pop(prefix, ()))
        for hop in touched:
            self._overlaid[hop] -= 1
        for hop in self._stranding.pop(prefix, ()):
            self._stranded[hop].discard(prefix)
        if prefix in self.surroundings.at_home:
            route = None
        made = self._translate(values.family(prefix), route.next_hops) if route is not None else NOWHERE
        if made.overlaid:
            self._uses[prefix] = made.overlaid
            self._overlaid.update(made.overlaid)
            touched.update(made.overlaid)
        if made.stranded:
            self._stranding[prefix] = made.stranded
            for hop in made.stranded:
                self._stranded.setdefault(hop, set()).add(prefix)
        if made.route is None:
            self._routes.pop(RouteId(prefix, MAIN), None)
        else:
            self._routes[RouteId(prefix, MAIN)] = made.route
        return touched

    def _translate(self, family: Family, next_hops: tuple[str, ...]) -> Translated:
        made = self._translated.get((family, next_hops))
        if made is None:
            reached = {hop: self.surroundings.reach(hop) for hop in next_hops}
            made = self._translated[family, next_hops] = Translated(
                self._route(family, reached.values()),
                overlaid=tuple(hop for hop, how in reached.items() if how.overlay),
                stranded=tuple(hop for hop, how in reached.items() if how.hop is None),
            )
        return made

    def _route(self, family: Family, reached: Iterable[Reached]) -> Route | None:
        hops = tuple(sorted({how.hop for how in reached if how.hop is not None}))
        if not hops:
            return None
        # Through a tunnel the node's own packets need its address: the tunnel has none to choose from.
        overlaid = any(how.overlay for how in reached)
        return Route(hops, self.surroundings.own.get(family, "") if overlaid else "")

    # -- all but the routes --------------------------------------------------------------------------------------------

    def _look_around(self, view: ClusterView) -> Surroundings:
        nodes = sorted(view.each(Node), key=lambda node: node.name)
        host = view.get(facts.Host, self._node) or facts.Host(name=self._node)
        own = next((node for node in nodes if node.name == self._node), None)
        others = {each.address: node.name for node in nodes if node is not own for each in node.addresses}
        mine = [each.address for each in own.addresses] if own is not None else []
        best = {family: annotations.best_address(own, family) for family in Family} if own is not None else {}
        best = {family: address for family, address in best.items() if address}
        primary = annotations.primary_address(own) if own is not None else ""
        link = link_of(host, primary)
        pods = {node.name: tuple(map(str, self._pods(node))) for node in nodes}
        return Surroundings(
            Reach(host, self._options, others, mine),
            own=best,
            pods=pods.get(self._node, ()),
            links=tuple(dict.fromkeys(found.name for a in mine if (found := link_of(host, a)) is not None)),
            mtu=_mtu_through(link, host),
            all_pods=frozenset(cidr for cidrs in pods.values() for cidr in cidrs),
            all_nodes=frozenset(others) | frozenset(mine),
            devices=frozenset({BRIDGE, *(each.name for each in host.links), *(each.device for each in host.gateways)}),
            # A route of ours would win over the link's own where that has a higher metric: IPv6's always has.
            at_home=frozenset(
                str(ip_interface(a).network) for each in host.links if each.up for a in each.addresses
            ).union(pods.get(self._node, ())),
        )

    def _pods(self, node: Node) -> tuple[Prefix, ...]:
        cni = self._cni_cidrs if node.name == self._node else ()
        return annotations.pod_cidrs(node, Faults("Node", node.name), cni=cni)  # faults are config.py's to tell

    def _begin_anew(self) -> Wanted:
        """Return what is wanted without any route."""
        self._routes, self._devices, self._neighbours, self._forwards = {}, {}, {}, {}
        rules = frozenset(Rule(cidr, OVERLAY_TABLE) for cidr in self.surroundings.pods)
        return Wanted(
            routes=self._routes,
            devices=self._devices,
            neighbours=self._neighbours,
            forwards=self._forwards,
            rules=rules if self._options.enable_overlay else frozenset(),
        )

    def _add_overlay(self, next_hop: str) -> None:
        """Want what the overlay needs to reach a next hop."""
        local = self.surroundings.own.get(values.family(next_hop), "")
        if self._options.overlay_encap == "vxlan":
            self._devices[vxlan_name(next_hop)] = vxlan(local, port=VXLAN_PORT, mtu=self._mtu(next_hop))
            neighbour, forward, mac = vxlan_entries(next_hop)
            self._neighbours[neighbour], self._forwards[forward] = mac, next_hop
            hop = vxlan_hop(next_hop)
        else:
            self._devices[tunnel_name(next_hop)] = self._tunnel(local, next_hop)
            hop = tunnel_hop(next_hop)
        self._routes[RouteId(host_prefix(next_hop), OVERLAY_TABLE)] = Route((hop,), local)
        self._reached.add(next_hop)

    def _remove_overlay(self, next_hop: str) -> None:
        """Want it no longer; a vxlan device goes with the last next hop of its family."""
        self._reached.discard(next_hop)
        del self._routes[RouteId(host_prefix(next_hop), OVERLAY_TABLE)]
        if self._options.overlay_encap != "vxlan":
            del self._devices[tunnel_name(next_hop)]
            return
        neighbour, forward, _ = vxlan_entries(next_hop)
        del self._neighbours[neighbour], self._forwards[forward]
        if not any(values.family(hop) is values.family(next_hop) for hop in self._reached):
            del self._devices[vxlan_name(next_hop)]

    def _fou_ports(self) -> frozenset[FouPort]:
        """Return the ports that the other ends of FOU tunnels send to."""
        if self._options.overlay_encap != "fou":
            return frozenset()
        families = {6 if values.family(hop) is Family.IPV6 else 4 for hop in self._reached}
        return frozenset(FouPort(self._options.overlay_encap_port, family) for family in families)

    def _tunnel(self, local: str, remote: str) -> Tunnel:
        mtu, v6 = self._mtu(remote), ":" in remote
        if self._options.overlay_encap == "fou":
            return Tunnel("fou6" if v6 else "fou", local, remote, self._options.overlay_encap_port, mtu)
        return Tunnel("ip6tnl" if v6 else "ipip", local, remote, 0, mtu)

    def _mtu(self, address: str) -> int:
        mtu = self.surroundings.mtu
        return mtu - OVERHEAD[self._options.overlay_encap, ip_address(address).version] if mtu else 0

    # -- what follows from it ------------------------------------------------------------------------------------------

    @property
    def pod_mtu(self) -> int:
        """The MTU of kube-bridge and of pods: what fits through the overlay where there is one; 0: not known."""
        mtu, own = self.surroundings.mtu, self.surroundings.own
        if not mtu or not self._options.auto_mtu:
            return 0
        if not self._options.enable_overlay:
            return mtu
        return mtu - max((OVERHEAD[self._options.overlay_encap, 4 if f is Family.IPV4 else 6] for f in own), default=0)

    @property
    def host_side(self) -> tuple[object, ...]:
        """What the host's settings depend on: links, pods, MTU, families."""
        return self.surroundings.links, self.surroundings.pods, self.pod_mtu, self.families

    @property
    def families(self) -> frozenset[Family]:
        """The families this node routes for."""
        return frozenset(self.surroundings.own) | {values.family(cidr) for cidr in self.surroundings.pods}

    @property
    def egress(self) -> dict[str, list[str]]:
        """What is not masqueraded when pods send to it, by the names of the sets (nftables.py)."""
        around, found = self.surroundings, dict[str, list[str]]()
        for name, members in (("pods", around.all_pods), ("nodes", around.all_nodes)):
            found |= {f"{name}4": [], f"{name}6": []}
            for member in sorted(members):
                found[f"{name}6" if ":" in member else f"{name}4"].append(member)
        return found

    @property
    def devices(self) -> frozenset[str]:
        """The interfaces that routes go through."""
        return frozenset(hop.device for made in self._translated.values() if made.route for hop in made.route.hops)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """One for each next hop of learned routes that cannot be reached."""
        problems = []
        for next_hop, prefixes in sorted(self._stranded.items()):
            how = self.surroundings.reach(next_hop)
            if prefixes and not how.is_meant:
                first, more = min(prefixes), f" and {len(prefixes) - 1} more" if len(prefixes) > 1 else ""
                problems.append(Problem("Route", first, f"next hop {next_hop}: {how.why}; not installed{more}"))
        return tuple(problems)


def _mtu_through(link: facts.Link | None, host: facts.Host) -> int:
    """Return the MTU of what leaves by a link, 0 where it is not known; what is on loopback leaves by any other."""
    if link is None or link.name != LOOPBACK:
        return link.mtu if link is not None else 0
    return min((each.mtu for each in host.links if each.up and each.name != LOOPBACK), default=0)
