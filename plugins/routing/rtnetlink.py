"""Routes and rules as rtnetlink bytes and back (pure).

Routes come by the ten thousand, and share their next hops: the attributes of a route are packed once, and what comes
back is told apart by the bytes that it shares with the others.

A route is added with NLM_F_EXCL, so that one which somebody else made with the same metric is never replaced, and
deleted by protocol and metric, so that no other is hit. IPv6 in the kernel has a route for each of several next hops
(*siblings*); it takes and gives them as one, as IPv4's RTA_MULTIPATH. A gateway of another family than the route
(RFC 8950) is RTA_VIA, any other RTA_GATEWAY.
"""

import struct
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv6Address
from typing import NamedTuple

from kube_router.core import nlmsg
from kube_router.core.nlmsg import AF_INET, AF_INET6, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST
from kube_router.plugins.routing.model import (
    MAIN,
    METRIC,
    OVERLAY_TABLE,
    PROTOCOL,
    RULE_PRIORITY,
    AddRoute,
    Hop,
    RemoveRoute,
    Route,
    RouteId,
    RouteStep,
    Rule,
)

RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_MULTIPATH, RTA_TABLE, RTA_VIA = 1, 4, 5, 6, 7, 9, 15, 18
RTN_UNICAST, RTNH_F_ONLINK, RTM_F_CLONED = 1, 4, 0x200
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK, RT_SCOPE_NOWHERE = 0, 253, 255
FRA_SRC, FRA_PRIORITY, FRA_TABLE, FRA_PROTOCOL, FR_ACT_TO_TBL = 2, 6, 15, 21, 1
TABLES = (MAIN, OVERLAY_TABLE)

EVERY_PROTOCOL = 0  # RTPROT_UNSPEC: a dump of all
PROTOCOL_AT = 5  # in an rtmsg
RTMSG = struct.Struct("=BBBBBBBBI")
RULE = struct.Struct("=BBBBBBBBI")
_NEXTHOP = struct.Struct("=HBBi")
_WORDS6 = struct.Struct("!8H")
# nlmsghdr, rtmsg and RTA_DST in one.
_ROUTE4, _ROUTE6 = struct.Struct("=IHHIIBBBBBBBBIHH4s"), struct.Struct("=IHHIIBBBBBBBBIHH16s")
_OURS = nlmsg.U32.pack(METRIC)
_decode_route = nlmsg.Decoder(
    RTMSG.size, RTA_DST, RTA_PRIORITY, RTA_OIF, RTA_GATEWAY, RTA_PREFSRC, RTA_MULTIPATH, RTA_VIA
)
_decode_rule = nlmsg.Decoder(RULE.size, FRA_SRC, FRA_PRIORITY, FRA_TABLE, FRA_PROTOCOL)

Names = Mapping[int, str]


# -- addresses ---------------------------------------------------------------------------------------------------------


def packed(address: str) -> bytes:
    """Return a canonical address as bytes, 4 or 16."""
    if ":" not in address:
        return bytes(map(int, address.split(".")))
    head, gap, tail = address.partition("::")
    left, right = head.split(":") if head else [], tail.split(":") if tail else []
    if "." in tail:  # ::ffff:10.0.0.1, as Python 3.13 writes it
        return IPv6Address(address).packed
    zeros = [0] * (8 - len(left) - len(right)) if gap else []
    return _WORDS6.pack(*(int(word, 16) for word in left), *zeros, *(int(word, 16) for word in right))


def unpacked(raw: bytes) -> str:
    """Return the canonical text of packed bytes. Raises ``Malformed`` where they are no address."""
    if len(raw) == 4:
        return "%d.%d.%d.%d" % tuple(raw)  # noqa: UP031 - half the time of an f-string
    if len(raw) != 16:
        raise nlmsg.Malformed(f"an address of {len(raw)} bytes")
    words = _WORDS6.unpack(raw)
    if words[4:] == (0, 0, 0, 0) and words[0] and words[1] and words[2]:  # most prefixes are of this form
        return ("%x:%x:%x:%x::" if words[3] else "%x:%x:%x::") % words[: 4 if words[3] else 3]
    return str(IPv6Address(raw))


# -- routes ------------------------------------------------------------------------------------------------------------


class RoutePacker:
    """Packs the requests for routes. ``index`` tells the number of an interface, and raises where there is none."""

    def __init__(self, index: Callable[[str], int]) -> None:
        self._index = index
        self._tails: dict[tuple[bool, Route], tuple[int, int, bytes]] = {}

    def message(self, step: RouteStep) -> bytes:
        """Return the request of one step. Raises what ``index`` raises."""
        destination, table = step.id
        network, _, bits = destination.partition("/")
        if isinstance(step, RemoveRoute):
            return _message(RTM_DELROUTE, NLM_F_REQUEST, network, int(bits), table, _REMOVAL)
        tail = self._tails.get((":" in network, step.route)) or self._learn(":" in network, step.route)
        flags = _ADD if isinstance(step, AddRoute) else _SET
        return _message(RTM_NEWROUTE, flags, network, int(bits), table, tail)

    def _learn(self, is6: bool, route: Route) -> tuple[int, int, bytes]:
        """Return scope, flags and the attributes behind the destination."""
        attributes = [nlmsg.u32(RTA_PRIORITY, METRIC)]
        if route.source:
            attributes.append(nlmsg.attr(RTA_PREFSRC, packed(route.source)))
        scope, flags = RT_SCOPE_UNIVERSE, 0
        if len(route.hops) == 1:
            (hop,) = route.hops
            scope = RT_SCOPE_LINK if not hop.via and not is6 else RT_SCOPE_UNIVERSE
            flags = RTNH_F_ONLINK if hop.onlink else 0
            attributes += [nlmsg.u32(RTA_OIF, self._index(hop.device)), _gateway(is6, hop.via)]
        else:
            hops = b"".join(self._next_hop(is6, hop) for hop in route.hops)
            attributes.append(nlmsg.attr(RTA_MULTIPATH, hops))
        tail = self._tails[is6, route] = scope, flags, b"".join(attributes)
        return tail

    def _next_hop(self, is6: bool, hop: Hop) -> bytes:
        gateway = _gateway(is6, hop.via)
        flags = RTNH_F_ONLINK if hop.onlink else 0
        return _NEXTHOP.pack(_NEXTHOP.size + len(gateway), flags, 0, self._index(hop.device)) + gateway


_ADD, _SET = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE
_REMOVAL = RT_SCOPE_NOWHERE, 0, nlmsg.u32(RTA_PRIORITY, METRIC)


def _message(kind: int, flags: int, network: str, bits: int, table: int, tail: tuple[int, int, bytes]) -> bytes:
    scope, route_flags, attributes = tail
    raw = packed(network)
    form, family, size = (_ROUTE6, AF_INET6, 20) if len(raw) == 16 else (_ROUTE4, AF_INET, 8)
    type_ = RTN_UNICAST if kind == RTM_NEWROUTE else 0
    return form.pack(
        form.size + len(attributes), kind, flags, 0, 0,
        family, bits, 0, 0, table, PROTOCOL, scope, type_, route_flags,
        size, RTA_DST, raw,
    ) + attributes  # fmt: skip


def _gateway(is6: bool, via: str) -> bytes:
    if not via:
        return b""
    if (":" in via) == is6:
        return nlmsg.attr(RTA_GATEWAY, packed(via))
    return nlmsg.attr(RTA_VIA, nlmsg.U16.pack(AF_INET6 if ":" in via else AF_INET) + packed(via))


def get_routes(family: int, protocol: int = PROTOCOL) -> bytes:
    """Return the request for all routes of a protocol, ours unless told, in whatever table."""
    return nlmsg.message(RTM_GETROUTE, 0, RTMSG.pack(family, 0, 0, 0, 0, protocol, 0, 0, 0))


def parse_routes(bodies: Iterable[memoryview], names: Names) -> dict[RouteId, Route]:
    """Return our routes of a dump; ``names`` are those of the interfaces. Old kernels do not filter the dump."""
    found: dict[RouteId, Route] = {}
    known: dict[tuple[object, ...], Route] = {}
    for body in bodies:
        family, bits, _, tos, table, protocol, _, type_, flags = RTMSG.unpack_from(body)
        if protocol != PROTOCOL or table not in TABLES or tos:
            continue
        destination, metric, *rest = _decode_route(body)
        if metric != _OURS:
            continue
        key = (family, type_, flags & RTNH_F_ONLINK, *rest)
        route = known.get(key)
        if route is None:
            route = known[key] = _route(type_, bool(flags & RTNH_F_ONLINK), tuple(rest), names)
        found.setdefault(RouteId(f"{_network(family, destination)}/{bits}", table), route)
    return found


def route_id(body: memoryview) -> tuple[RouteId, bool]:
    """Return which route a notification is about, and whether it has our protocol or our metric."""
    family, bits, _, _, table, protocol, *_ = RTMSG.unpack_from(body)
    destination, metric, *_ = _decode_route(body)
    return RouteId(f"{_network(family, destination)}/{bits}", table), protocol == PROTOCOL or metric == _OURS


def _route(type_: int, onlink: bool, rest: nlmsg.Fields, names: Names) -> Route:
    oif, gateway, source, multipath, via = rest
    if type_ != RTN_UNICAST:
        return Route(())
    if multipath is not None:
        hops = tuple(sorted(_hops(multipath, names)))
    else:
        device = _name(nlmsg.number(memoryview(oif)) if oif is not None else 0, names)
        hops = (Hop(_via(gateway, via), device, onlink),)
    return Route(hops, unpacked(source) if source is not None else "")


def _hops(multipath: bytes, names: Names) -> Iterable[Hop]:
    data, offset = memoryview(multipath), 0
    while offset + _NEXTHOP.size <= len(data):
        length, flags, _, index = _NEXTHOP.unpack_from(data, offset)
        if length < _NEXTHOP.size or offset + length > len(data):
            raise nlmsg.Malformed(f"a next hop says {length} bytes of {len(data) - offset}")
        found = nlmsg.attributes(data[: offset + length], offset + _NEXTHOP.size)
        gateway, via = (bytes(found[kind]) if kind in found else None for kind in (RTA_GATEWAY, RTA_VIA))
        yield Hop(_via(gateway, via), _name(index, names), bool(flags & RTNH_F_ONLINK))
        offset += length + 3 & ~3


def _via(gateway: bytes | None, via: bytes | None) -> str:
    if gateway is not None:
        return unpacked(gateway)
    return unpacked(via[2:]) if via is not None else ""


def _name(index: int, names: Names) -> str:
    return names.get(index) or f"if{index}"  # as ip(8) calls one that is gone


class Gateway(NamedTuple):
    """A route of the main table through a gateway. ``protocol`` tells whose it is; of several hops it is the first."""

    destination: str
    via: str
    device: str
    metric: int
    protocol: int


def get_main_routes(family: int) -> bytes:
    """Return the request for the routes of the main table, whoever made them."""
    return nlmsg.message(RTM_GETROUTE, 0, RTMSG.pack(family, 0, 0, 0, MAIN, 0, 0, RTN_UNICAST, 0))


def parse_gateways(bodies: Iterable[memoryview], names: Names) -> list[Gateway]:
    """Return the routes of the main table that lead through a gateway and are none of ours, which may be many."""
    others = (body for body in bodies if body[PROTOCOL_AT] != PROTOCOL)
    return [found for body in others if (found := parse_gateway(body, names)) is not None]


def parse_gateway(body: memoryview, names: Names) -> Gateway | None:
    """Return the route of a dump or a notification, ``None`` for one that is none of the main table with a gateway."""
    family, bits, _, tos, table, protocol, _, type_, flags = RTMSG.unpack_from(body)
    if table != MAIN or tos or type_ != RTN_UNICAST or flags & RTM_F_CLONED:
        return None
    destination, priority, oif, gateway, _, multipath, via = _decode_route(body)
    if gateway is None and multipath is None and via is None:
        return None
    hops = _route(type_, False, (oif, gateway, None, multipath, via), names).hops
    hop = next((hop for hop in hops if hop.via), None)
    if hop is None:
        return None
    metric = nlmsg.number(memoryview(priority)) if priority is not None else 0
    return Gateway(f"{_network(family, destination)}/{bits}", hop.via, hop.device, metric, protocol)


def _network(family: int, destination: bytes | None) -> str:
    """Return a route's destination as text; the default route has none."""
    return unpacked(destination or bytes(16 if family == AF_INET6 else 4))


# -- rules -------------------------------------------------------------------------------------------------------------


def add_rule(rule: Rule) -> bytes:
    """Return the request that adds a rule; EEXIST where it is already there."""
    return nlmsg.message(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, *_rule(rule))


def delete_rule(rule: Rule) -> bytes:
    return nlmsg.message(RTM_DELRULE, 0, *_rule(rule))


def _rule(rule: Rule) -> tuple[bytes, ...]:
    network, _, bits = rule.source.partition("/")
    raw = packed(network)
    header = RULE.pack(AF_INET6 if len(raw) == 16 else AF_INET, 0, int(bits), 0, rule.table, 0, 0, FR_ACT_TO_TBL, 0)
    protocol = nlmsg.attr(FRA_PROTOCOL, bytes([PROTOCOL]))
    return header, nlmsg.attr(FRA_SRC, raw), nlmsg.u32(FRA_PRIORITY, RULE_PRIORITY), protocol


def get_rules(family: int) -> bytes:
    return nlmsg.message(RTM_GETRULE, 0, RULE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0))


def parse_rules(bodies: Iterable[memoryview]) -> set[Rule]:
    """Return our rules of a dump."""
    return {rule for body in bodies if (rule := parse_rule(body)) is not None}


def parse_rule(body: memoryview) -> Rule | None:
    """Return the rule if it is ours: by its protocol, where it stands and what it does."""
    _, to_bits, bits, tos, _, _, _, action, flags = RULE.unpack_from(body)
    source, priority, table, protocol = _decode_rule(body)
    if protocol != bytes([PROTOCOL]) or priority != nlmsg.U32.pack(RULE_PRIORITY) or source is None or table is None:
        return None
    if to_bits or tos or action != FR_ACT_TO_TBL or flags:
        return None
    return Rule(f"{unpacked(source)}/{bits}", nlmsg.number(memoryview(table)))
