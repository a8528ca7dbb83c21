"""What kube-router (Go) left in rtnetlink, recognised in dumps, and the requests that delete it (pure).

A request to delete carries what the dump told of the thing, octet for octet: so it is that one which goes, and none
that is like it. Recognised are

routes   of the main table with protocol 17, to a CIDR that the caller names or through a tunnel; of table 77 through a
         tunnel
rules    "from CIDR lookup 77", and nothing else said
tunnels  ipip or ip6tnl, in GUE or not, named tun- and eleven hexadecimal digits

but none that carries our mark: protocol 75, or the alias. A tunnel that we have adopted has it, and still has its
routes. Protocol 17 is mrouted's by its number, and that makes no unicast routes; still, one of it to somewhere else may
be anybody's.
"""

from collections.abc import Collection, Iterable

from kube_router.core import nlmsg
from kube_router.plugins.routing.model import MAIN, OVERLAY_TABLE, PROTOCOL, TUNNEL_NAME
from kube_router.plugins.routing.rtlink import Link
from kube_router.plugins.routing.rtnetlink import (
    FR_ACT_TO_TBL,
    FRA_PRIORITY,
    FRA_PROTOCOL,
    FRA_SRC,
    FRA_TABLE,
    RTA_DST,
    RTA_MULTIPATH,
    RTA_OIF,
    RTA_TABLE,
    RTM_DELROUTE,
    RTM_DELRULE,
    RTMSG,
    RTN_UNICAST,
    RULE,
    unpacked,
)

ITS_PROTOCOL = 17
RTPROT_RA = 9
FRA_SUPPRESS_PREFIXLEN = 14

_RULE_SAYS = frozenset({FRA_SRC, FRA_PRIORITY, FRA_TABLE, FRA_SUPPRESS_PREFIXLEN, FRA_PROTOCOL})
_NO_SUPPRESSION = b"\xff" * 4


def is_tunnel(link: Link) -> bool:
    """Whether it is a tunnel by name and kind: its, ours, or one of its that we have adopted."""
    return link.device is not None and TUNNEL_NAME.fullmatch(link.name) is not None and bool(link.device.tunnel.remote)


def is_its_tunnel(link: Link) -> bool:
    """Whether it is one of its tunnels that nobody has adopted."""
    return is_tunnel(link) and link.device is not None and not link.device.marked


def its_routes(bodies: Iterable[memoryview], cidrs: Collection[str], tunnels: Collection[int]) -> list[bytes]:
    """Return the requests that delete its routes of a dump; ``tunnels`` are the indices of all tunnels."""
    its = (body for body in bodies if _is_its_route(body, cidrs, tunnels))
    return [nlmsg.message(RTM_DELROUTE, 0, bytes(body)) for body in its]


def _is_its_route(body: memoryview, cidrs: Collection[str], tunnels: Collection[int]) -> bool:
    _, bits, _, _, table, protocol, _, type_, _ = RTMSG.unpack_from(body)
    if type_ != RTN_UNICAST or protocol == PROTOCOL:
        return False
    its = nlmsg.attributes(body, RTMSG.size)
    if RTA_MULTIPATH in its or RTA_DST not in its:
        return False
    table = nlmsg.number(its[RTA_TABLE]) if RTA_TABLE in its else table  # of more than a byte
    through_tunnel = RTA_OIF in its and nlmsg.number(its[RTA_OIF]) in tunnels
    if table != MAIN or protocol != ITS_PROTOCOL:
        return table == OVERLAY_TABLE and through_tunnel
    return through_tunnel or f"{unpacked(bytes(its[RTA_DST]))}/{bits}" in cidrs


def has_its_routes(bodies: Iterable[memoryview]) -> bool:
    """Whether a dump holds a route of its in the main table, to wherever."""
    heads = (RTMSG.unpack_from(body) for body in bodies)
    return any(
        (table, protocol, type_) == (MAIN, ITS_PROTOCOL, RTN_UNICAST) for *_, table, protocol, _, type_, _ in heads
    )


def its_rules(bodies: Iterable[memoryview]) -> list[bytes]:
    """Return the requests that delete its rules of a dump."""
    return [nlmsg.message(RTM_DELRULE, 0, bytes(body)) for body in bodies if _is_its_rule(body)]


def _is_its_rule(body: memoryview) -> bool:
    _, to_bits, bits, tos, _, _, _, action, flags = RULE.unpack_from(body)
    its = nlmsg.attributes(body, RULE.size)
    if to_bits or tos or flags or not bits or action != FR_ACT_TO_TBL or not its.keys() <= _RULE_SAYS:
        return False
    protocol = nlmsg.number(its[FRA_PROTOCOL]) if FRA_PROTOCOL in its else 0
    if protocol == PROTOCOL or bytes(its.get(FRA_SUPPRESS_PREFIXLEN, _NO_SUPPRESSION)) != _NO_SUPPRESSION:
        return False
    return nlmsg.number(its[FRA_TABLE]) == OVERLAY_TABLE


def advertised(bodies: Iterable[memoryview]) -> set[int]:
    """Return the interfaces through which a router advertised the default route of a dump."""
    found = set()
    for body in bodies:
        _, bits, _, _, table, protocol, _, _, _ = RTMSG.unpack_from(body)
        if bits == 0 and table == MAIN and protocol == RTPROT_RA:
            its = nlmsg.attributes(body, RTMSG.size)
            if RTA_OIF in its:
                found.add(nlmsg.number(its[RTA_OIF]))
    return found
