"""Kernel → actual: IPVS, kube-dummy-if and our nftables table, read (I/O).

Services come by one netlink dump, their servers by one read of /proc/net/ip_vs. The two are compared: where the file
lacks a service, or has a line that is not understood, the servers are dumped by netlink, a dump for each such service.
"""

import errno

from kube_router.core import nfnl
from kube_router.core.netlink import NETLINK_NETFILTER, NETLINK_ROUTE, Netlink
from kube_router.events.errors import KernelError
from kube_router.plugins.proxy import host, ipvs, nfset, render, rtnetlink
from kube_router.plugins.proxy.model import NO_ROUTE, Server, ServerId, ServiceId, VirtualService


def services() -> dict[ServiceId, VirtualService]:
    """Return all virtual services that have an address, foreign ones too."""
    with host.ipvs_link() as (link, packer):
        found = dict(filter(None, map(ipvs.parse_service, link.dump(packer.get_services()))))
        table = ipvs.parse_proc(host.read_ip_vs())
        servers = {id: its for id, its in table.servers.items() if id not in table.doubtful}
        for id in found.keys() - servers.keys():
            servers[id] = _servers(link, packer, id)
    return {id: VirtualService(settings, servers[id]) for id, settings in found.items()}


def _servers(link: Netlink, packer: ipvs.Packer, id: ServiceId) -> dict[ServerId, Server]:
    family, _ = ipvs.packed(id.address)
    try:
        bodies = link.dump(packer.get_dests(id))
    except KernelError as e:
        if e.errno != errno.ESRCH:
            raise
        return {}  # it was removed since it was listed
    return dict(ipvs.parse_dest(body, family) for body in bodies)


def table() -> tuple[str, set[ServiceId]]:
    """Return the stamp of the rules in our table, "" where they are not whole, and what is in its sets."""
    owned: set[ServiceId] = set()
    with Netlink(NETLINK_NETFILTER) as link:
        rules = _dump(link, nfset.get_rules(render.TABLE, render.CHAIN))
        for name in render.SETS:
            owned |= nfset.parse_elements(_dump(link, nfnl.get_elements(render.TABLE, name)))
    return render.stamp_of(nfset.parse_comments(rules, render.TABLE, render.CHAIN)), owned


def _dump(link: Netlink, request: bytes) -> list[memoryview]:
    """Return a dump, nothing of what is not there."""
    try:
        return link.dump(request)
    except KernelError as e:
        if e.errno != errno.ENOENT:
            raise
        return []


def addresses() -> dict[str, str]:
    """Return the addresses on kube-dummy-if with the source of their local route."""
    index = host.interface_index(rtnetlink.DUMMY)
    found: dict[str, str] = {}
    if index:
        with Netlink(NETLINK_ROUTE) as link:
            for family in host.FAMILIES:
                found |= _addresses(link, family, index)
    return found


def _addresses(link: Netlink, family: int, index: int) -> dict[str, str]:
    listed = rtnetlink.parse_addresses(link.dump(rtnetlink.get_addresses(family, index)), family, index)
    # Without a route the kernel answers a filtered dump of IPv4 with ENOENT.
    routes = rtnetlink.parse_routes(_dump(link, rtnetlink.get_local_routes(family, index)), family, index)
    sources: dict[str, str] = {}
    for route in routes:
        sources.setdefault(route.address, route.source)
    return {address: sources.get(address, NO_ROUTE) for address, _ in listed}
