"""How a node gets packets to a next hop: on a link, through the overlay, by a gateway, or not at all (pure).

A next hop in the prefix of one of the node's links is reached there. Another *node* is reached through the overlay
where there is one: the network between the nodes knows nothing of pods. Where there is none it is left to the network,
whose routes the node follows anyway. A next hop that is no node (an external peer's) never gets a tunnel: nobody at its
end would take packets out of it. It is reached by the gateway that the node's own routes name for it, as BGP's
recursive lookup has it (RFC 4271 section 5.1.3).

An interface that is down leads nowhere. While this node's own address is on none that is up (a cable was pulled, an
address is being changed), that another node is off its links says nothing about where that node is: no tunnel is made.
"""

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface, ip_network
from typing import NamedTuple

from kube_router.plugins.routing.facts import Host, Link
from kube_router.plugins.routing.model import Hop, tunnel_hop, vxlan_hop
from kube_router.plugins.routing.settings import RoutingOptions

Address = IPv4Address | IPv6Address


class Reached(NamedTuple):
    """A next hop's hop, or in words why it has none. ``overlay``: it goes through a tunnel of ours.

    ``is_meant``: that it has none is what the operator asked for.
    """

    hop: Hop | None
    why: str = ""
    overlay: bool = False
    is_meant: bool = False


class Reach:
    """The node's surroundings: its links, its gateways, and who else is a node."""

    def __init__(self, host: Host, options: RoutingOptions, nodes: Mapping[str, str], own: Iterable[str]) -> None:
        """``nodes`` are the other nodes' names by address, ``own`` the addresses of this one."""
        self._options, self._nodes, self._own = options, nodes, frozenset(own)
        up = [(ip_interface(address), link.name) for link in host.links if link.up for address in link.addresses]
        self._links = [(address.network, name) for address, name in up]
        self._at_home = {address.version for address, _ in up if str(address.ip) in self._own}
        self._own |= {address.partition("/")[0] for link in host.links for address in link.addresses}
        self._gateways = [(one, ip_network(one.destination)) for one in host.gateways]
        self._known: dict[str, Reached] = {}

    def __call__(self, next_hop: str) -> Reached:
        """Return how a next hop is reached."""
        found = self._known.get(next_hop)
        if found is None:
            found = self._known[next_hop] = self._reach(next_hop)
        return found

    def _reach(self, next_hop: str) -> Reached:
        if next_hop in self._own:
            return Reached(None, "it is an address of this node")
        address = ip_address(next_hop)
        device = next((name for network, name in self._links if address in network), "")
        options, is_node = self._options, next_hop in self._nodes
        if is_node and options.enable_overlay and (options.overlay_type == "full" or not device):
            if address.version not in self._at_home:
                return Reached(None, f"no IPv{address.version} address of this node is on an interface that is up")
            hop = vxlan_hop(next_hop) if options.overlay_encap == "vxlan" else tunnel_hop(next_hop)
            return Reached(hop, overlay=True)
        if device:
            return Reached(Hop(next_hop, device))
        if is_node:
            name = self._nodes[next_hop]
            return Reached(
                None, f"node {name} is in another subnet and --enable-overlay=false: left to the network", is_meant=True
            )
        return self._by_gateway(address)

    def _by_gateway(self, address: Address) -> Reached:
        for gateway, network in self._gateways:  # the most specific first
            if address in network and ip_address(gateway.via).version == address.version:
                return Reached(Hop(gateway.via, gateway.device))
        return Reached(None, "no link and no gateway of this node leads there")


def link_of(host: Host, address: str) -> Link | None:
    """Return the link that has an address."""
    return next((link for link in host.links if any(a.partition("/")[0] == address for a in link.addresses)), None)
