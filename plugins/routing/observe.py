"""Kernel → actual: our routes, rules, devices and what hangs on them (I/O).

Routes are filtered by the kernel, so a node with a full table of somebody else's pays nothing for it. FOU is asked only
where its module is there or one of our devices uses it: asking loads it.
"""

import errno
from pathlib import Path

from kube_router.core.netlink import NETLINK_GENERIC, NETLINK_ROUTE, Netlink
from kube_router.core.nlmsg import AF_INET, AF_INET6
from kube_router.events.errors import KernelError
from kube_router.plugins.routing import fou, rtlink, rtnetlink
from kube_router.plugins.routing.model import VXLAN, VXLAN6, Actual, Device, Forward, FouPort, Neighbour, Route, RouteId

FAMILIES = (AF_INET, AF_INET6)
FOU_MODULE = Path("/sys/module/fou")


def actual() -> Actual:
    """Return what of ours the kernel holds. Raises ``KernelError``."""
    with Netlink(NETLINK_ROUTE) as link:
        links = [rtlink.parse_link(body) for body in link.dump(rtlink.get_links())]
        devices = {its.name: its.device for its in links if its.device is not None}
        vxlans = {its.ifindex: its.name for its in links if its.device is not None and its.name in (VXLAN, VXLAN6)}
        found = Actual(routes(link, {its.ifindex: its.name for its in links}), devices)
        for family in FAMILIES:
            found.rules |= rtnetlink.parse_rules(link.dump_known(rtnetlink.get_rules(family)))
        if vxlans:
            found.neighbours, found.forwards = _entries(link, vxlans)
    found.fou_ports, found.foreign_fou_ports = _fou_ports(devices)
    return found


def routes(link: Netlink, names: rtnetlink.Names) -> dict[RouteId, Route]:
    """Return our routes of both families; ``names`` are those of the interfaces."""
    found: dict[RouteId, Route] = {}
    for family in FAMILIES:
        found |= rtnetlink.parse_routes(link.dump_known(rtnetlink.get_routes(family)), names)
    return found


def interface_names(link: Netlink) -> dict[int, str]:
    """Return the names of all interfaces by their number."""
    return {its.ifindex: its.name for its in map(rtlink.parse_link, link.dump(rtlink.get_links()))}


def fou_ports(link: Netlink) -> set[FouPort]:
    """Return the ports that take GUE packets. Raises ``KernelError`` ENOENT where the kernel has no FOU."""
    return fou.parse_ports(link.dump(fou.get_ports(link.family(fou.FAMILY))))


def _fou_ports(devices: dict[str, Device]) -> tuple[set[FouPort], frozenset[FouPort]]:
    """Return the GUE ports that our devices send to, which are ours too, and all others."""
    used = {
        FouPort(its.tunnel.port, 6 if its.tunnel.kind == "fou6" else 4)
        for its in devices.values()
        if its.tunnel.kind in ("fou", "fou6")
    }
    if not used and not FOU_MODULE.exists():
        return set(), frozenset()
    try:
        with Netlink(NETLINK_GENERIC) as link:
            ports = fou_ports(link)
    except KernelError as e:
        if e.errno != errno.ENOENT:
            raise
        return set(), frozenset()
    return ports & used, frozenset(ports - used)


def _entries(link: Netlink, vxlans: dict[int, str]) -> tuple[dict[Neighbour, str], dict[Forward, str]]:
    neighbours: dict[Neighbour, str] = {}
    forwards: dict[Forward, str] = {}
    for family in FAMILIES:
        neighbours |= rtlink.parse_neighbours(link.dump_known(rtlink.get_neighbours(family)), vxlans)
    for ifindex in vxlans:
        forwards |= rtlink.parse_forwards(link.dump_known(rtlink.get_forwards(ifindex)), vxlans)
    return neighbours, forwards
