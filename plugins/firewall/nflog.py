"""Denied packets as the kernel hands them over: nfnetlink_log's messages, and what an IP packet says of itself (pure).

The chains that deny log to a group; whoever has bound the group gets the beginning of each packet and the rule's
prefix, which names the direction. What cannot be read is no packet: a log is no place to fail. Constants are those of
linux/netfilter/nfnetlink_log.h.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from kube_router.core import nlmsg
from kube_router.core.nfnl import NFGEN
from kube_router.plugins.firewall.fixed import LOG_PREFIX, NFLOG_GROUP, SNAPLEN
from kube_router.plugins.firewall.model import Direction

_SUBSYSTEM = 4 << 8  # NFNL_SUBSYS_ULOG
NFULNL_MSG_PACKET, NFULNL_MSG_CONFIG = _SUBSYSTEM | 0, _SUBSYSTEM | 1
NFULA_PAYLOAD, NFULA_PREFIX = 9, 10
NFULA_CFG_CMD, NFULA_CFG_MODE, NFULA_CFG_QTHRESH = 1, 2, 5
NFULNL_CFG_CMD_BIND, NFULNL_COPY_PACKET = 1, 2

_TCP, _UDP, _SCTP, _ICMP, _ICMPV6 = 6, 17, 132, 1, 58
PROTOCOLS: Mapping[int, str] = {
    _ICMP: "ICMP",
    4: "IPIP",
    _TCP: "TCP",
    _UDP: "UDP",
    41: "IPv6",
    47: "GRE",
    50: "ESP",
    _ICMPV6: "ICMPv6",
    _SCTP: "SCTP",
}
_EXTENSIONS = frozenset({0, 43, 60})  # hop-by-hop options, routing, destination options: length in eight bytes
_FRAGMENT, _AUTHENTICATION = 44, 51
EXTENSIONS_MAX = 8
_DIRECTIONS: Mapping[str, Direction] = {prefix.strip(): direction for direction, prefix in LOG_PREFIX.items()}
_MODE = struct.Struct("!IBx")


class Packet(NamedTuple):
    """A denied packet. ``port`` is the destination's. None for what it has not, or where it was cut before that."""

    direction: Direction
    protocol: str
    source: str
    destination: str
    source_port: int | None = None
    port: int | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None


def bind() -> bytes:
    """Return the request that gives the group to a socket, with the beginning of each packet, told of at once."""
    return nlmsg.message(
        NFULNL_MSG_CONFIG,
        nlmsg.NLM_F_ACK,
        bytes(2) + NFLOG_GROUP.to_bytes(2, "big"),  # nfgenmsg, with the group where other requests have nothing
        nlmsg.attr(NFULA_CFG_CMD, bytes([NFULNL_CFG_CMD_BIND])),
        nlmsg.attr(NFULA_CFG_MODE, _MODE.pack(SNAPLEN, NFULNL_COPY_PACKET)),
        nlmsg.be32(NFULA_CFG_QTHRESH, 1),
    )


def packets(datagram: bytes) -> Iterator[Packet]:
    """Yield those packets of a datagram that a rule of ours logged. What is damaged ends it."""
    try:
        messages = nlmsg.split(memoryview(datagram))
    except nlmsg.Malformed:
        return
    for kind, _, _, body in messages:
        if kind == NFULNL_MSG_PACKET and (packet := parse(body)) is not None:
            yield packet


def parse(body: memoryview) -> Packet | None:
    """Return the packet in a message, None for one that no rule of ours logged or that is no IP packet."""
    try:
        attributes = nlmsg.attributes(body, NFGEN.size)
        direction = _DIRECTIONS.get(nlmsg.string(attributes[NFULA_PREFIX]).strip())
        payload = bytes(attributes[NFULA_PAYLOAD])
    except nlmsg.Malformed:
        return None
    return _packet(direction, payload) if direction is not None and payload else None


def owner(table: Iterable[str]) -> int | None:
    """Return the netlink port, mostly the process id, of who has the group, from /proc/net/netfilter/nfnetlink_log."""
    for line in table:
        words = line.split()
        if len(words) > 1 and words[0] == str(NFLOG_GROUP) and words[1].isdecimal():
            return int(words[1])
    return None


def _packet(direction: Direction, data: bytes) -> Packet | None:
    version = data[0] >> 4
    if version == 4 and len(data) >= 20 and (offset := (data[0] & 0xF) * 4) >= 20:
        source, destination = str(IPv4Address(data[12:16])), str(IPv4Address(data[16:20]))
        protocol, is_first = data[9], not int.from_bytes(data[6:8], "big") & 0x1FFF
    elif version == 6 and len(data) >= 40:
        source, destination = str(IPv6Address(data[8:24])), str(IPv6Address(data[24:40]))
        protocol, offset, is_first = _upper_layer(data)
    else:
        return None
    packet = Packet(direction, PROTOCOLS.get(protocol, str(protocol)), source, destination)
    rest = data[offset : offset + 4] if is_first else b""
    if protocol in (_TCP, _UDP, _SCTP) and len(rest) == 4:
        return packet._replace(source_port=int.from_bytes(rest[:2], "big"), port=int.from_bytes(rest[2:], "big"))
    if protocol in (_ICMP, _ICMPV6) and len(rest) >= 2:
        return packet._replace(icmp_type=rest[0], icmp_code=rest[1])
    return packet


def _upper_layer(data: bytes) -> tuple[int, int, bool]:
    """Return the protocol behind IPv6's extension headers, where it begins, and whether this fragment holds it."""
    protocol, offset = data[6], 40
    for _ in range(EXTENSIONS_MAX):
        if protocol in _EXTENSIONS and len(data) >= offset + 2:
            protocol, offset = data[offset], offset + (data[offset + 1] + 1) * 8
        elif protocol == _AUTHENTICATION and len(data) >= offset + 2:
            protocol, offset = data[offset], offset + (data[offset + 1] + 2) * 4
        elif protocol == _FRAGMENT and len(data) >= offset + 4:
            if int.from_bytes(data[offset + 2 : offset + 4], "big") >> 3:
                return data[offset], offset + 8, False  # what follows is the middle of something
            protocol, offset = data[offset], offset + 8
        else:
            break
    return protocol, offset, True
