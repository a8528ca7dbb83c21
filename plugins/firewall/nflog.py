"""Denied packets as the kernel hands them over: nfnetlink_log's messages, and what an IP packet says of itself (pure).

The chains that deny log to a group; whoever has bound the group gets the beginning of each packet and the rule's
prefix, which names the direction. What cannot be read is no packet: a log is no place to fail. Constants are those of
linux/netfilter/nfnetlink_log.h.
"""

import struct
from collections.abc import Mapping
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

PROTOCOLS: Mapping[int, str] = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6", 132: "SCTP"}
_WITH_PORTS = frozenset({6, 17, 132})
_EXTENSIONS = frozenset({0, 43, 60})  # hop-by-hop options, routing, destination options: length in eight bytes
_FRAGMENT, _AUTHENTICATION = 44, 51
EXTENSIONS_MAX = 8
_DIRECTIONS: Mapping[str, Direction] = {prefix.strip(): direction for direction, prefix in LOG_PREFIX.items()}
_MODE = struct.Struct("!IBx")


class Packet(NamedTuple):
    """A denied packet. ``port`` is the destination's; None without ports, or where the packet was cut before them."""

    direction: Direction
    protocol: str
    source: str
    destination: str
    source_port: int | None = None
    port: int | None = None


def bind() -> tuple[bytes, ...]:
    """Return the requests that give the group to a socket: bind, copy the packet's beginning, tell of each at once."""
    mode = _MODE.pack(SNAPLEN, NFULNL_COPY_PACKET)
    return (
        _config(nlmsg.attr(NFULA_CFG_CMD, bytes([NFULNL_CFG_CMD_BIND]))),
        _config(nlmsg.attr(NFULA_CFG_MODE, mode)),
        _config(nlmsg.be32(NFULA_CFG_QTHRESH, 1)),
    )


def _config(attribute: bytes) -> bytes:
    # nfgenmsg, with the group where other requests have nothing, in network byte order.
    header = bytes(2) + NFLOG_GROUP.to_bytes(2, "big")
    return nlmsg.message(NFULNL_MSG_CONFIG, nlmsg.NLM_F_ACK, header, attribute)


def parse(body: memoryview) -> Packet | None:
    """Return the packet in a message, None for one that no rule of ours logged or that is no IP packet."""
    try:
        attributes = nlmsg.attributes(body, NFGEN.size)
        direction = _DIRECTIONS.get(nlmsg.string(attributes[NFULA_PREFIX]).strip())
        payload = bytes(attributes[NFULA_PAYLOAD])
        return _packet(direction, payload) if direction is not None and payload else None
    except (nlmsg.Malformed, struct.error, IndexError, ValueError):
        return None


def _packet(direction: Direction, data: bytes) -> Packet | None:
    if data[0] >> 4 == 4 and len(data) >= 20:
        source, destination = str(IPv4Address(data[12:16])), str(IPv4Address(data[16:20]))
        is_first = not int.from_bytes(data[6:8], "big") & 0x1FFF
        protocol, offset = data[9], (data[0] & 0xF) * 4
    elif data[0] >> 4 == 6 and len(data) >= 40:
        source, destination = str(IPv6Address(data[8:24])), str(IPv6Address(data[24:40]))
        protocol, offset, is_first = _upper_layer(data)
    else:
        return None
    name = PROTOCOLS.get(protocol, str(protocol))
    if protocol not in _WITH_PORTS or not is_first or len(data) < offset + 4:
        return Packet(direction, name, source, destination)
    return Packet(direction, name, source, destination, *struct.unpack_from("!HH", data, offset))


def _upper_layer(data: bytes) -> tuple[int, int, bool]:
    """Return the protocol behind IPv6's extension headers, where it begins, and whether this fragment holds it."""
    protocol, offset, is_first = data[6], 40, True
    for _ in range(EXTENSIONS_MAX):
        if protocol in _EXTENSIONS and len(data) >= offset + 2:
            protocol, offset = data[offset], offset + (data[offset + 1] + 1) * 8
        elif protocol == _AUTHENTICATION and len(data) >= offset + 2:
            protocol, offset = data[offset], offset + (data[offset + 1] + 2) * 4
        elif protocol == _FRAGMENT and len(data) >= offset + 4:
            is_first = is_first and not int.from_bytes(data[offset + 2 : offset + 4], "big") >> 3
            protocol, offset = data[offset], offset + 8
        else:
            break
    return protocol, offset, is_first
