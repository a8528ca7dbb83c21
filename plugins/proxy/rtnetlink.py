"""Service addresses on kube-dummy-if and their local routes, as rtnetlink bytes and back (pure).

An address of the node makes the kernel add a local route whose preferred source is the address itself. A connection
from the node to a service would then come *from* the service's address, which no backend can answer. So the local route
is replaced by one with the node's own address as source.

For IPv4 one replace does it. For IPv6 the kernel's own route has metric 0, which no request can name (0 means 1024),
and comes first: ours is added beside it and the kernel's is then deleted. Ours carries our own protocol number, so that
deleting "the one of protocol kernel" never hits it. The kernel adds its own from a work queue, a moment after the
address: ``kernel.py`` waits for it.
"""

import struct
from collections.abc import Iterable
from typing import NamedTuple

from kube_router.core import nlmsg
from kube_router.plugins.proxy.ipvs import packed, unpacked

DUMMY = "kube-dummy-if"
OUR_PROTOCOL = 75  # as the routing plugin's: what carries it is ours

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
IFLA_IFNAME, IFLA_LINKINFO, IFLA_INFO_KIND, IFF_UP = 3, 18, 1, 1
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS, IFA_F_NODAD = 1, 2, 8, 2
RTA_DST, RTA_OIF, RTA_PRIORITY, RTA_PREFSRC, RTA_TABLE = 1, 4, 6, 7, 15
RT_TABLE_LOCAL, RTN_LOCAL, RTPROT_KERNEL = 255, 2, 2
RT_SCOPE_LINK, RT_SCOPE_HOST = 253, 254
METRIC6 = 1024

_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=BBBBBBBBI")
_decode_address = nlmsg.Decoder(_ADDRESS.size, IFA_LOCAL, IFA_ADDRESS)
_decode_route = nlmsg.Decoder(_ROUTE.size, RTA_DST, RTA_OIF, RTA_PREFSRC, RTA_PRIORITY)


class Route(NamedTuple):
    """A local route to one address. ``source`` is "" without a preferred source."""

    address: str
    source: str
    metric: int


def add_dummy(name: str = DUMMY) -> bytes:
    kind = nlmsg.nested(IFLA_LINKINFO, nlmsg.attr(IFLA_INFO_KIND, b"dummy"))
    flags = nlmsg.NLM_F_CREATE | nlmsg.NLM_F_EXCL
    return nlmsg.message(
        RTM_NEWLINK, flags, _LINK.pack(0, 0, 0, IFF_UP, IFF_UP), nlmsg.text(IFLA_IFNAME, name), kind
    )  # fmt: skip


def set_up(index: int) -> bytes:
    return nlmsg.message(RTM_NEWLINK, 0, _LINK.pack(0, 0, index, IFF_UP, IFF_UP))


def get_link(index: int) -> bytes:
    return nlmsg.message(RTM_GETLINK, 0, _LINK.pack(0, 0, index, 0, 0))


def is_up(body: memoryview) -> bool:
    """Return whether the interface in the answer to ``get_link`` is up."""
    return bool(_LINK.unpack_from(body)[3] & IFF_UP)


def delete_link(index: int) -> bytes:
    return nlmsg.message(RTM_DELLINK, 0, _LINK.pack(0, 0, index, 0, 0))


def add_address(address: str, index: int) -> bytes:
    """Return the request that adds the address; EEXIST where it is already there."""
    return nlmsg.message(RTM_NEWADDR, nlmsg.NLM_F_CREATE | nlmsg.NLM_F_EXCL, *_address(address, index))


def delete_address(address: str, index: int) -> bytes:
    return nlmsg.message(RTM_DELADDR, 0, *_address(address, index))


def _raw(address: str) -> tuple[int, bytes, int]:
    family, raw = packed(address)
    return (family, raw, 128) if family == nlmsg.AF_INET6 else (family, raw[:4], 32)


def _address(address: str, index: int) -> tuple[bytes, ...]:
    family, raw, bits = _raw(address)
    # Nobody else has a service address by right, and detecting duplicates would take a second.
    flags = (nlmsg.u32(IFA_FLAGS, IFA_F_NODAD),) if family == nlmsg.AF_INET6 else ()
    header = _ADDRESS.pack(family, bits, 0, RT_SCOPE_LINK, index)
    return header, nlmsg.attr(IFA_LOCAL, raw), nlmsg.attr(IFA_ADDRESS, raw), *flags


def set_source(address: str, source: str, index: int) -> bytes:
    """Return the request that makes this the local route's source; "" is as the kernel itself would have it."""
    family, raw, bits = _raw(address)
    attributes = [nlmsg.attr(RTA_DST, raw), nlmsg.u32(RTA_OIF, index), nlmsg.u32(RTA_TABLE, RT_TABLE_LOCAL)]
    if family == nlmsg.AF_INET6:
        protocol = OUR_PROTOCOL
        attributes.append(nlmsg.u32(RTA_PRIORITY, METRIC6))
    else:
        protocol, source = RTPROT_KERNEL, source or address
    if source:
        attributes.append(nlmsg.attr(RTA_PREFSRC, _raw(source)[1]))
    header = _ROUTE.pack(family, bits, 0, 0, RT_TABLE_LOCAL, protocol, RT_SCOPE_HOST, RTN_LOCAL, 0)
    return nlmsg.message(RTM_NEWROUTE, nlmsg.NLM_F_CREATE | nlmsg.NLM_F_REPLACE, header, *attributes)


def delete_route(address: str, index: int, *, protocol: int = 0) -> bytes:
    """Return the request that deletes the local route with the lowest metric, of this protocol where one is given."""
    family, raw, bits = _raw(address)
    header = _ROUTE.pack(family, bits, 0, 0, RT_TABLE_LOCAL, protocol, RT_SCOPE_HOST, RTN_LOCAL, 0)
    attributes = (nlmsg.attr(RTA_DST, raw), nlmsg.u32(RTA_OIF, index), nlmsg.u32(RTA_TABLE, RT_TABLE_LOCAL))
    return nlmsg.message(RTM_DELROUTE, 0, header, *attributes)


def get_addresses(family: int, index: int = 0) -> bytes:
    return nlmsg.message(RTM_GETADDR, 0, _ADDRESS.pack(family, 0, 0, 0, index))


def get_local_routes(family: int, index: int) -> bytes:
    header = _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, RTN_LOCAL, 0)
    return nlmsg.message(
        RTM_GETROUTE, 0, header, nlmsg.u32(RTA_TABLE, RT_TABLE_LOCAL), nlmsg.u32(RTA_OIF, index)
    )  # fmt: skip


def parse_addresses(bodies: Iterable[memoryview], family: int, index: int = 0) -> list[tuple[str, int]]:
    """Return (address, interface) of a dump, but for link-local IPv6; old kernels do not filter it."""
    found = []
    for body in bodies:
        got, _, _, scope, at = _ADDRESS.unpack_from(body)
        if got != family or (index and at != index) or (family == nlmsg.AF_INET6 and scope == RT_SCOPE_LINK):
            continue
        local, remote = _decode_address(body)
        raw = local or remote
        if raw is not None:
            found.append((unpacked(family, raw), at))
    return found


def parse_routes(bodies: Iterable[memoryview], family: int, index: int) -> list[Route]:
    """Return the local routes through this interface, those that count first."""
    through = nlmsg.U32.pack(index)
    found = []
    for body in bodies:
        got, bits, _, _, table, _, _, kind, _ = _ROUTE.unpack_from(body)
        if got != family or table != RT_TABLE_LOCAL or kind != RTN_LOCAL or bits != (128 if family == 10 else 32):
            continue
        destination, interface, source, priority = _decode_route(body)
        if destination is None or interface != through:
            continue
        metric = nlmsg.number(memoryview(priority)) if priority else 0
        wanted = "" if source is None or source == destination else unpacked(family, source)
        found.append(Route(unpacked(family, destination), wanted, metric))
    return sorted(found, key=lambda route: route.metric)
