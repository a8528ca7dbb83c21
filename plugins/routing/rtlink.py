"""Interfaces, their addresses and neighbours as rtnetlink bytes and back (pure).

A request that makes a tunnel and one that changes it carry the same attributes: what the second leaves out the kernel
takes for zero. A vxlan's port is the exception, for it cannot be changed and may not be named again.

The kernel calls a tunnel in GUE by the tunnel's own kind; the encapsulation is among its attributes.
"""

import struct
from collections.abc import Iterable
from typing import NamedTuple

from kube_router.core import nlmsg
from kube_router.core.nlmsg import AF_INET, AF_INET6, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE
from kube_router.plugins.routing.model import (
    ALIAS,
    TUNNEL_NAME,
    VNI,
    VXLAN,
    VXLAN6,
    Device,
    Forward,
    Neighbour,
    Tunnel,
)
from kube_router.plugins.routing.rtnetlink import packed, unpacked

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
AF_BRIDGE = 7
IFF_UP = 1
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINKINFO, IFLA_IFALIAS, IFLA_EXT_MASK = 1, 3, 4, 18, 20, 29
IFLA_INFO_KIND, IFLA_INFO_DATA, RTEXT_FILTER_SKIP_STATS = 1, 2, 8
IFLA_IPTUN_LOCAL, IFLA_IPTUN_REMOTE, IFLA_IPTUN_TTL, IFLA_IPTUN_FLAGS, IFLA_IPTUN_PROTO = 2, 3, 4, 8, 9
IFLA_IPTUN_PMTUDISC, IFLA_IPTUN_ENCAP_TYPE, IFLA_IPTUN_ENCAP_FLAGS = 10, 15, 16
IFLA_IPTUN_ENCAP_SPORT, IFLA_IPTUN_ENCAP_DPORT = 17, 18
TUNNEL_ENCAP_NONE, TUNNEL_ENCAP_GUE, TUNNEL_ENCAP_FLAG_CSUM6 = 0, 2, 2
IP6_TNL_F_IGN_ENCAP_LIMIT, IPPROTO_IPV6, TTL = 1, 41, 64
IFLA_VXLAN_ID, IFLA_VXLAN_LOCAL, IFLA_VXLAN_TTL, IFLA_VXLAN_LEARNING = 1, 4, 5, 7
IFLA_VXLAN_PORT, IFLA_VXLAN_LOCAL6 = 15, 17
IFA_ADDRESS, IFA_LOCAL, IFA_F_TEMPORARY, RT_SCOPE_UNIVERSE = 1, 2, 1, 0
NDA_DST, NDA_LLADDR, NUD_PERMANENT, NUD_NOARP, NTF_SELF = 1, 2, 0x80, 0x40, 2

IFINFO = struct.Struct("=BxHiII")
IFADDR = struct.Struct("=BBBBI")
NDMSG = struct.Struct("=BxxxiHBB")
KERNEL_KINDS = {"ipip": "ipip", "fou": "ipip", "ip6tnl": "ip6tnl", "fou6": "ip6tnl", "vxlan": "vxlan"}
_decode_address = nlmsg.Decoder(IFADDR.size, IFA_LOCAL, IFA_ADDRESS)
_decode_neighbour = nlmsg.Decoder(NDMSG.size, NDA_DST, NDA_LLADDR)


# -- links -------------------------------------------------------------------------------------------------------------


class Link(NamedTuple):
    """An interface. ``device`` is what it is as one of ours, ``None`` for all others."""

    ifindex: int
    name: str
    mtu: int
    up: bool
    device: Device | None = None


def get_links() -> bytes:
    mask = nlmsg.u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
    return nlmsg.message(RTM_GETLINK, 0, IFINFO.pack(0, 0, 0, 0, 0), mask)


def parse_link(body: memoryview) -> Link:
    """Return the interface of a dump or a notification."""
    _, _, index, flags, _ = IFINFO.unpack_from(body)
    found = nlmsg.attributes(body, IFINFO.size)
    name, up = nlmsg.string(found[IFLA_IFNAME]), bool(flags & IFF_UP)
    mtu = nlmsg.number(found[IFLA_MTU]) if IFLA_MTU in found else 0
    tunnel = _parse_tunnel(found, mtu) if _may_be_ours(name) and IFLA_LINKINFO in found else None
    if tunnel is None:
        return Link(index, name, mtu, up)
    marked = IFLA_IFALIAS in found and nlmsg.string(found[IFLA_IFALIAS]) == ALIAS
    return Link(index, name, mtu, up, Device(tunnel, up, marked))


def _may_be_ours(name: str) -> bool:
    return name in (VXLAN, VXLAN6) or TUNNEL_NAME.fullmatch(name) is not None


def add_device(name: str, tunnel: Tunnel) -> tuple[bytes, ...]:
    """Return the requests that make a device, up; EEXIST where one of this name or these ends is.

    The alias takes a second one: the kernel ignores it in the request that makes the device.
    """
    data = _vxlan(tunnel, new=True) if tunnel.kind == "vxlan" else _iptunnel(tunnel)
    header = IFINFO.pack(0, 0, 0, IFF_UP, IFF_UP)
    attributes = [nlmsg.text(IFLA_IFNAME, name), *_settings(tunnel), _linkinfo(tunnel, data)]
    alias = nlmsg.text(IFLA_IFNAME, name), nlmsg.text(IFLA_IFALIAS, ALIAS)
    return (
        nlmsg.message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, header, *attributes),
        nlmsg.message(RTM_NEWLINK, 0, IFINFO.pack(0, 0, 0, 0, 0), *alias),
    )


def set_device(name: str, tunnel: Tunnel, *, new_mac: bool) -> tuple[bytes, ...]:
    """Return the requests that change a device in place, and mark it and set it up.

    A vxlan refuses its MTU together with what is its own. ip6tnl changes the MTU behind IPv6's back when its own are
    set, and what is then set but equal is not told to IPv6 either: so another MTU comes in between.
    """
    data = _vxlan(tunnel, new=False) if tunnel.kind == "vxlan" else _iptunnel(tunnel)
    its = nlmsg.text(IFLA_IFNAME, name)
    messages = [nlmsg.message(RTM_NEWLINK, 0, IFINFO.pack(0, 0, 0, 0, 0), its, _linkinfo(tunnel, data))]
    if KERNEL_KINDS[tunnel.kind] == "ip6tnl" and tunnel.mtu:
        other = nlmsg.u32(IFLA_MTU, tunnel.mtu + 1)
        messages.append(nlmsg.message(RTM_NEWLINK, 0, IFINFO.pack(0, 0, 0, 0, 0), its, other))
    settings = _settings(tunnel if new_mac else tunnel._replace(mac=""))
    alias = nlmsg.text(IFLA_IFALIAS, ALIAS)
    messages.append(nlmsg.message(RTM_NEWLINK, 0, IFINFO.pack(0, 0, 0, IFF_UP, IFF_UP), its, alias, *settings))
    return tuple(messages)


def rename(index: int, name: str) -> bytes:
    """Return the request that renames an interface, up or not; kernels before 6.2 say EBUSY where it is up."""
    return nlmsg.message(RTM_NEWLINK, 0, IFINFO.pack(0, 0, index, 0, 0), nlmsg.text(IFLA_IFNAME, name))


def set_up(index: int, *, up: bool = True) -> bytes:
    return nlmsg.message(RTM_NEWLINK, 0, IFINFO.pack(0, 0, index, IFF_UP if up else 0, IFF_UP))


def set_mtu(index: int, mtu: int) -> bytes:
    return nlmsg.message(RTM_NEWLINK, 0, IFINFO.pack(0, 0, index, 0, 0), nlmsg.u32(IFLA_MTU, mtu))


def add_bridge(name: str, mtu: int) -> bytes:
    """Return the request that makes a bridge, up; ``mtu`` 0 leaves it to the kernel."""
    kind = nlmsg.nested(IFLA_LINKINFO, nlmsg.attr(IFLA_INFO_KIND, b"bridge"))
    sized = (nlmsg.u32(IFLA_MTU, mtu),) if mtu else ()
    header = IFINFO.pack(0, 0, 0, IFF_UP, IFF_UP)
    return nlmsg.message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, header, nlmsg.text(IFLA_IFNAME, name), *sized, kind)


def delete_device(name: str) -> bytes:
    return nlmsg.message(RTM_DELLINK, 0, IFINFO.pack(0, 0, 0, 0, 0), nlmsg.text(IFLA_IFNAME, name))


def _settings(tunnel: Tunnel) -> list[bytes]:
    mtu = [nlmsg.u32(IFLA_MTU, tunnel.mtu)] if tunnel.mtu else []
    return [*mtu, nlmsg.attr(IFLA_ADDRESS, _mac(tunnel.mac))] if tunnel.mac else mtu


def _linkinfo(tunnel: Tunnel, data: list[bytes]) -> bytes:
    kind = nlmsg.attr(IFLA_INFO_KIND, KERNEL_KINDS[tunnel.kind].encode())
    return nlmsg.nested(IFLA_LINKINFO, kind, nlmsg.nested(IFLA_INFO_DATA, *data))


def _iptunnel(tunnel: Tunnel) -> list[bytes]:
    data = [
        nlmsg.attr(IFLA_IPTUN_LOCAL, packed(tunnel.local)),
        nlmsg.attr(IFLA_IPTUN_REMOTE, packed(tunnel.remote)),
        nlmsg.attr(IFLA_IPTUN_TTL, bytes([TTL])),
    ]
    if KERNEL_KINDS[tunnel.kind] == "ip6tnl":
        # Without the limit's option there are eight bytes more for pods, and no router that drops what has options.
        data.append(nlmsg.u32(IFLA_IPTUN_FLAGS, IP6_TNL_F_IGN_ENCAP_LIMIT))
        data.append(nlmsg.attr(IFLA_IPTUN_PROTO, bytes([IPPROTO_IPV6])))
    else:
        data.append(nlmsg.attr(IFLA_IPTUN_PMTUDISC, b"\1"))
    gue = tunnel.kind in ("fou", "fou6")
    # UDP over IPv6 without a checksum is dropped by whoever was not told.
    flags = TUNNEL_ENCAP_FLAG_CSUM6 if tunnel.kind == "fou6" else 0
    data.append(nlmsg.u16(IFLA_IPTUN_ENCAP_TYPE, TUNNEL_ENCAP_GUE if gue else TUNNEL_ENCAP_NONE))
    data.append(nlmsg.u16(IFLA_IPTUN_ENCAP_FLAGS, flags))
    data.append(nlmsg.be16(IFLA_IPTUN_ENCAP_SPORT, 0))  # chosen by flow, so that the network can spread them
    data.append(nlmsg.be16(IFLA_IPTUN_ENCAP_DPORT, tunnel.port if gue else 0))
    return data


def _vxlan(tunnel: Tunnel, *, new: bool) -> list[bytes]:
    local = IFLA_VXLAN_LOCAL6 if ":" in tunnel.local else IFLA_VXLAN_LOCAL
    data = [
        nlmsg.u32(IFLA_VXLAN_ID, VNI),
        nlmsg.attr(local, packed(tunnel.local)),
        nlmsg.attr(IFLA_VXLAN_LEARNING, b"\0"),  # what is not in the table was never told, and is nobody's
    ]
    return [*data, nlmsg.be16(IFLA_VXLAN_PORT, tunnel.port)] if new else data


def _parse_tunnel(found: nlmsg.Attrs, mtu: int) -> Tunnel | None:
    info = nlmsg.attributes(found[IFLA_LINKINFO])
    kind = nlmsg.string(info[IFLA_INFO_KIND]) if IFLA_INFO_KIND in info else ""
    data = nlmsg.attributes(info[IFLA_INFO_DATA]) if IFLA_INFO_DATA in info else nlmsg.Attrs()
    if kind == "vxlan":
        if IFLA_VXLAN_ID in data and nlmsg.number(data[IFLA_VXLAN_ID]) != VNI:
            return None
        local = next((unpacked(bytes(data[k])) for k in (IFLA_VXLAN_LOCAL, IFLA_VXLAN_LOCAL6) if k in data), "")
        port = int.from_bytes(data[IFLA_VXLAN_PORT], "big")
        return Tunnel(kind, local, "", port, mtu, bytes(found[IFLA_ADDRESS]).hex(":"))
    if kind not in ("ipip", "ip6tnl"):
        return None
    local, remote = (
        unpacked(bytes(data[k])) if k in data else "" for k in (IFLA_IPTUN_LOCAL, IFLA_IPTUN_REMOTE)
    )  # fmt: skip
    gue = nlmsg.number(data[IFLA_IPTUN_ENCAP_TYPE]) if IFLA_IPTUN_ENCAP_TYPE in data else TUNNEL_ENCAP_NONE
    if gue == TUNNEL_ENCAP_NONE:
        return Tunnel(kind, local, remote, 0, mtu)
    port = int.from_bytes(data[IFLA_IPTUN_ENCAP_DPORT], "big")
    return Tunnel("fou" if kind == "ipip" else "fou6", local, remote, port, mtu)


# -- addresses ---------------------------------------------------------------------------------------------------------


def get_addresses(family: int) -> bytes:
    return nlmsg.message(RTM_GETADDR, 0, IFADDR.pack(family, 0, 0, 0, 0))


def parse_addresses(bodies: Iterable[memoryview]) -> list[tuple[int, str]]:
    """Return (interface, address with prefix length) of the global addresses of a dump."""
    return [found for body in bodies if (found := parse_address(body)) is not None]


def parse_address(body: memoryview) -> tuple[int, str] | None:
    """Return interface and address with prefix length, ``None`` for one that is not global or changes by itself."""
    family, bits, flags, scope, index = IFADDR.unpack_from(body)
    if family == AF_INET6 and flags & IFA_F_TEMPORARY:
        return None  # of the privacy extensions
    local, remote = _decode_address(body)  # of a point-to-point link the second is the other end's
    raw = local or remote
    return (index, f"{unpacked(raw)}/{bits}") if scope == RT_SCOPE_UNIVERSE and raw is not None else None


# -- neighbours and forwards -------------------------------------------------------------------------------------------


def set_neighbour(neighbour: Neighbour, mac: str, index: int) -> bytes:
    family, raw = _family(neighbour.address)
    header = NDMSG.pack(family, index, NUD_PERMANENT, 0, 0)
    flags = NLM_F_CREATE | NLM_F_REPLACE
    return nlmsg.message(RTM_NEWNEIGH, flags, header, nlmsg.attr(NDA_DST, raw), nlmsg.attr(NDA_LLADDR, _mac(mac)))


def delete_neighbour(neighbour: Neighbour, index: int) -> bytes:
    family, raw = _family(neighbour.address)
    return nlmsg.message(RTM_DELNEIGH, 0, NDMSG.pack(family, index, 0, 0, 0), nlmsg.attr(NDA_DST, raw))


def get_neighbours(family: int) -> bytes:
    return nlmsg.message(RTM_GETNEIGH, 0, NDMSG.pack(family, 0, 0, 0, 0))


def parse_neighbours(bodies: Iterable[memoryview], devices: dict[int, str]) -> dict[Neighbour, str]:
    """Return the permanent entries on these devices."""
    found = {}
    for body in bodies:
        _, index, state, _, _ = NDMSG.unpack_from(body)
        if index in devices and state & NUD_PERMANENT:
            address, mac = _decode_neighbour(body)
            if address is not None and mac is not None:
                found[Neighbour(devices[index], unpacked(address))] = mac.hex(":")
    return found


def set_forward(forward: Forward, remote: str, index: int) -> bytes:
    header = NDMSG.pack(AF_BRIDGE, index, NUD_PERMANENT | NUD_NOARP, NTF_SELF, 0)
    mac, to = nlmsg.attr(NDA_LLADDR, _mac(forward.mac)), nlmsg.attr(NDA_DST, packed(remote))
    return nlmsg.message(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, header, mac, to)


def delete_forward(forward: Forward, index: int) -> bytes:
    header = NDMSG.pack(AF_BRIDGE, index, 0, NTF_SELF, 0)
    return nlmsg.message(RTM_DELNEIGH, 0, header, nlmsg.attr(NDA_LLADDR, _mac(forward.mac)))


def get_forwards(index: int) -> bytes:
    return nlmsg.message(RTM_GETNEIGH, 0, NDMSG.pack(AF_BRIDGE, index, 0, 0, 0))


def parse_forwards(bodies: Iterable[memoryview], devices: dict[int, str]) -> dict[Forward, str]:
    """Return the entries that send to one node, on these devices."""
    found = {}
    for body in bodies:
        family, index, _, flags, _ = NDMSG.unpack_from(body)
        if family == AF_BRIDGE and index in devices and flags & NTF_SELF:
            remote, mac = _decode_neighbour(body)
            if remote is not None and mac is not None:
                found[Forward(devices[index], mac.hex(":"))] = unpacked(remote)
    return found


def _family(address: str) -> tuple[int, bytes]:
    raw = packed(address)
    return (AF_INET6 if len(raw) == 16 else AF_INET), raw


def _mac(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))
