"""The node's own links and addresses, and the gateways it reaches the rest by, as plans need them (I/O).

What is ours is left out, and what kube-router (Go) left behind, which goes when ours is in place: a fact that a plan
makes would come back into the next plan.
"""

from kube_router.core.netlink import NETLINK_ROUTE, Netlink
from kube_router.core.nlmsg import AF_INET, AF_INET6
from kube_router.plugins.routing import rtlink, rtnetlink
from kube_router.plugins.routing.facts import GATEWAYS_MAX, Gateway, Host, Link
from kube_router.plugins.routing.model import PROTOCOL, is_own_link

FAMILIES = (AF_INET, AF_INET6)
PROTOCOL_OF_GO = 17


def read_host(node: str) -> Host:
    """Return the interfaces that have a global address and are none of ours, up or not. Raises ``KernelError``.

    Sorted by name, and an interface's addresses as text: what comes in the kernel's order would change without a cause.
    """
    with Netlink(NETLINK_ROUTE) as link:
        links = {its.ifindex: its for its in map(rtlink.parse_link, link.dump(rtlink.get_links()))}
        addresses: dict[int, list[str]] = {}
        for family in FAMILIES:
            for ifindex, address in rtlink.parse_addresses(link.dump_known(rtlink.get_addresses(family))):
                addresses.setdefault(ifindex, []).append(address)
        names = {ifindex: its.name for ifindex, its in links.items()}
        gateways = _gateways(link, names)
    found = [
        Link(name=its.name, mtu=its.mtu, addresses=tuple(sorted(addresses[ifindex])), up=its.up)
        for ifindex, its in links.items()
        if ifindex in addresses and not is_own_link(its.name)
    ]
    return Host(name=node, links=tuple(sorted(found, key=lambda its: its.name)), gateways=gateways)


def _gateways(link: Netlink, names: rtnetlink.Names) -> tuple[Gateway, ...]:
    """Return the routes through gateways, the most specific first, of each destination the one that counts."""
    found: dict[str, rtnetlink.Gateway] = {}
    for family in FAMILIES:
        for its in rtnetlink.parse_gateways(link.dump_known(rtnetlink.get_main_routes(family)), names):
            if its.protocol in (PROTOCOL, PROTOCOL_OF_GO) or is_own_link(its.device):
                continue
            if its.destination not in found or its.metric < found[its.destination].metric:
                found[its.destination] = its
    best = sorted(found.values(), key=lambda its: (-_length(its), its.destination))
    if len(best) > GATEWAYS_MAX:  # another routing daemon's; the default routes serve more than any of those
        defaults = [its for its in best if not _length(its)]
        best = [its for its in best if _length(its)][: GATEWAYS_MAX - len(defaults)] + defaults
    return tuple(Gateway(destination=its.destination, via=its.via, device=its.device) for its in best)


def _length(gateway: rtnetlink.Gateway) -> int:
    return int(gateway.destination.partition("/")[2])
