"""What kube-router (Go) left in rtnetlink, recognised in dumps, and the requests that delete it; links besides (pure).

A request to delete carries what the dump told of the thing, octet for octet: so it is that one which goes, and none
that is like it. Recognised are

routes   of the main table with protocol 17, to a CIDR that the caller names or through one of its tunnels; of table 77
         through one of its tunnels
rules    "from CIDR lookup 77", and nothing else said
tunnels  ipip or ip6tnl named tun- and eleven hexadecimal digits

but none that carries our mark: protocol 75, or the alias. Protocol 17 is mrouted's by its number, and that makes no
unicast routes; still, a route of it to somewhere else may be anybody's.
"""

import struct
from collections.abc import Collection, Iterable
from ipaddress import ip_address
from typing import NamedTuple

from kube_router.core import nlmsg
from kube_router.plugins.routing.model import ALIAS, BRIDGE, MAIN, OVERLAY_TABLE, PROTOCOL, TUNNEL_NAME

ITS_PROTOCOL = 17
ITS_KINDS = ("ipip", "ip6tnl")

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_DELROUTE, RTM_GETROUTE, RTM_DELRULE, RTM_GETRULE = 25, 26, 33, 34
IFLA_IFNAME, IFLA_MTU, IFLA_LINKINFO, IFLA_IFALIAS, IFLA_INFO_KIND, IFF_UP = 3, 4, 18, 20, 1, 1
RTA_DST, RTA_OIF, RTA_MULTIPATH, RTA_TABLE = 1, 4, 9, 15
FRA_SRC, FRA_PRIORITY, FRA_TABLE, FRA_SUPPRESS_PREFIXLEN, FRA_PROTOCOL = 2, 6, 15, 14, 21
RTN_UNICAST = FR_ACT_TO_TBL = 1
RTPROT_RA = 9

_LINK = struct.Struct("=BxHiII")
_ROUTE = struct.Struct("=BBBBBBBBI")  # rtmsg; fib_rule_hdr is laid out alike
_RULE_SAYS = frozenset({FRA_SRC, FRA_PRIORITY, FRA_TABLE, FRA_SUPPRESS_PREFIXLEN, FRA_PROTOCOL})
_NO_SUPPRESSION = b"\xff" * 4


class Link(NamedTuple):
    """An interface: its index, and what it is. ``kind`` is "" for hardware."""

    number: int
    name: str
    kind: str
    alias: str
    mtu: int
    is_up: bool

    @property
    def is_its_tunnel(self) -> bool:
        return self.kind in ITS_KINDS and self.alias != ALIAS and TUNNEL_NAME.fullmatch(self.name) is not None


# -- links -------------------------------------------------------------------------------------------------------------


def get_links() -> bytes:
    return nlmsg.message(RTM_GETLINK, 0, _LINK.pack(0, 0, 0, 0, 0))


def parse_links(bodies: Iterable[memoryview]) -> list[Link]:
    """Return the interfaces of a dump."""
    found = []
    for body in bodies:
        _, _, index, flags, _ = _LINK.unpack_from(body)
        its = nlmsg.attributes(body, _LINK.size)
        info = nlmsg.attributes(its[IFLA_LINKINFO]) if IFLA_LINKINFO in its else nlmsg.Attrs()
        kind = nlmsg.string(info[IFLA_INFO_KIND]) if IFLA_INFO_KIND in info else ""
        alias = nlmsg.string(its[IFLA_IFALIAS]) if IFLA_IFALIAS in its else ""
        mtu = nlmsg.number(its[IFLA_MTU]) if IFLA_MTU in its else 0
        found.append(Link(index, nlmsg.string(its[IFLA_IFNAME]), kind, alias, mtu, bool(flags & IFF_UP)))
    return found


def add_bridge(mtu: int) -> bytes:
    """Return the request that makes kube-bridge, up; ``mtu`` 0 leaves it to the kernel."""
    kind = nlmsg.nested(IFLA_LINKINFO, nlmsg.attr(IFLA_INFO_KIND, b"bridge"))
    sized = (nlmsg.u32(IFLA_MTU, mtu),) if mtu else ()
    flags = nlmsg.NLM_F_CREATE | nlmsg.NLM_F_EXCL
    header = _LINK.pack(0, 0, 0, IFF_UP, IFF_UP)
    return nlmsg.message(RTM_NEWLINK, flags, header, nlmsg.text(IFLA_IFNAME, BRIDGE), *sized, kind)


def set_up(index: int) -> bytes:
    return nlmsg.message(RTM_NEWLINK, 0, _LINK.pack(0, 0, index, IFF_UP, IFF_UP))


def set_mtu(index: int, mtu: int) -> bytes:
    return nlmsg.message(RTM_NEWLINK, 0, _LINK.pack(0, 0, index, 0, 0), nlmsg.u32(IFLA_MTU, mtu))


def delete_link(index: int) -> bytes:
    return nlmsg.message(RTM_DELLINK, 0, _LINK.pack(0, 0, index, 0, 0))


# -- routes and rules --------------------------------------------------------------------------------------------------


def get_routes(family: int) -> bytes:
    return nlmsg.message(RTM_GETROUTE, 0, _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0))


def get_rules(family: int) -> bytes:
    return nlmsg.message(RTM_GETRULE, 0, _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0))


def its_routes(bodies: Iterable[memoryview], cidrs: Collection[str], tunnels: Collection[int]) -> list[bytes]:
    """Return the requests that delete its routes of a dump; ``tunnels`` are the indices of its tunnels."""
    return [
        nlmsg.message(RTM_DELROUTE, 0, bytes(body)) for body in bodies if _is_its_route(body, cidrs, tunnels)
    ]  # fmt: skip


def _is_its_route(body: memoryview, cidrs: Collection[str], tunnels: Collection[int]) -> bool:
    _, bits, _, _, _, protocol, _, kind, _ = _ROUTE.unpack_from(body)
    its = nlmsg.attributes(body, _ROUTE.size)
    if kind != RTN_UNICAST or protocol == PROTOCOL or RTA_MULTIPATH in its or RTA_DST not in its:
        return False
    table = nlmsg.number(its[RTA_TABLE]) if RTA_TABLE in its else body[4]
    through_tunnel = RTA_OIF in its and nlmsg.number(its[RTA_OIF]) in tunnels
    if table != MAIN or protocol != ITS_PROTOCOL:
        return table == OVERLAY_TABLE and through_tunnel
    return through_tunnel or f"{ip_address(bytes(its[RTA_DST]))}/{bits}" in cidrs


def its_rules(bodies: Iterable[memoryview]) -> list[bytes]:
    """Return the requests that delete its rules of a dump."""
    return [nlmsg.message(RTM_DELRULE, 0, bytes(body)) for body in bodies if _is_its_rule(body)]


def _is_its_rule(body: memoryview) -> bool:
    _, to_bits, from_bits, tos, _, _, _, action, flags = _ROUTE.unpack_from(body)
    its = nlmsg.attributes(body, _ROUTE.size)
    if to_bits or tos or flags or not from_bits or action != FR_ACT_TO_TBL or not its.keys() <= _RULE_SAYS:
        return False
    protocol = nlmsg.number(its[FRA_PROTOCOL]) if FRA_PROTOCOL in its else 0
    if protocol == PROTOCOL or bytes(its.get(FRA_SUPPRESS_PREFIXLEN, _NO_SUPPRESSION)) != _NO_SUPPRESSION:
        return False
    return nlmsg.number(its[FRA_TABLE]) == OVERLAY_TABLE


def advertised(bodies: Iterable[memoryview]) -> set[int]:
    """Return the interfaces through which a router advertised the default route of a dump."""
    found = set()
    for body in bodies:
        _, bits, _, _, table, protocol, _, _, _ = _ROUTE.unpack_from(body)
        if bits == 0 and table == MAIN and protocol == RTPROT_RA:
            its = nlmsg.attributes(body, _ROUTE.size)
            if RTA_OIF in its:
                found.add(nlmsg.number(its[RTA_OIF]))
    return found
