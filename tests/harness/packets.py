"""IP packets as bytes, each with a number of its own by which it is known again, and what comes of them (pure).

The number is the source port, or an echo request's identifier; so at most 65535 packets of a kind are told apart.
"""

import struct
from ipaddress import ip_address
from typing import NamedTuple

from doubles.nftables import Packet

NUMBERS = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58, "sctp": 132}
ECHO_REQUEST = {"icmp": 8, "icmpv6": 128}
DESTINATION_UNREACHABLE = {1: 3, 58: 1}
FLAGS = {"fin": 0x01, "syn": 0x02, "rst": 0x04, "ack": 0x10}


class Seen(NamedTuple):
    """A packet that arrived: the number of ours that it is (``accept``) or that it answers (``reset``, ``reject``)."""

    what: str
    number: int


def written(packet: Packet, number: int) -> bytes:
    """Return the bytes of a packet: a TCP SYN, an SCTP INIT, a datagram, an echo request."""
    source, destination = ip_address(packet.source).packed, ip_address(packet.destination).packed
    protocol = NUMBERS[packet.protocol]
    if packet.protocol == "sctp":
        init = struct.pack("!BBHIIHHI", 1, 0, 20, 1, 65535, 1, 1, 1)
        segment = _with_crc(struct.pack("!HHII", number, packet.port, 0, 0) + init)
    else:
        pseudo = source + destination + struct.pack("!IHBB", 0, 0, 0, protocol)
        segment, at = _segment(packet, number)
        whole = segment if packet.protocol == "icmp" else pseudo + segment + struct.pack("!I", len(segment))
        segment = segment[:at] + struct.pack("!H", _checksum(whole) or 0xFFFF) + segment[at + 2 :]
    if len(source) == 16:
        return struct.pack("!IHBB", 6 << 28, len(segment), protocol, 64) + source + destination + segment
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), number, 0, 64, protocol, 0) + source + destination
    return header[:10] + struct.pack("!H", _checksum(header)) + header[12:] + segment


def _segment(packet: Packet, number: int) -> tuple[bytes, int]:
    """Return what IP carries, without its checksum, and where that belongs."""
    if packet.protocol == "tcp":
        flags = sum(FLAGS[name] for name in packet.flags)
        return struct.pack("!HHIIBBHHH", number, packet.port, 1, 0, 5 << 4, flags, 65535, 0, 0), 16
    if packet.protocol == "udp":
        return struct.pack("!HHHH", number, packet.port, 8, 0), 6
    assert packet.icmp_type == "echo-request"
    return struct.pack("!BBHHH", ECHO_REQUEST[packet.protocol], 0, 0, number, 1), 2


def _checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _with_crc(segment: bytes) -> bytes:
    """Return an SCTP packet with its CRC32c, which stands there with the least significant byte first."""
    crc = 0xFFFFFFFF
    for byte in segment:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return segment[:8] + struct.pack("<I", crc ^ 0xFFFFFFFF) + segment[12:]


def seen(data: bytes) -> Seen | None:
    """Return what a packet that arrived tells; None for what has nothing to do with ours."""
    if not data:
        return None
    six = data[0] >> 4 == 6
    protocol, segment = (data[6], data[40:]) if six else (data[9], data[(data[0] & 15) * 4 :])
    if len(segment) < 8:
        return None
    if protocol == NUMBERS["tcp"] and segment[13] & FLAGS["rst"]:
        return Seen("reset", int.from_bytes(segment[2:4], "big"))
    if protocol in DESTINATION_UNREACHABLE and segment[0] == DESTINATION_UNREACHABLE[protocol]:
        inner = seen(segment[8:])
        return Seen("reject", inner.number) if inner is not None else None
    return carried(protocol, segment)


def carried(protocol: int, segment: bytes) -> Seen | None:
    """Return which of our packets this is, of what IP carried."""
    if protocol in (NUMBERS["icmp"], NUMBERS["icmpv6"]):
        is_ours = segment[0] in ECHO_REQUEST.values()
        return Seen("accept", int.from_bytes(segment[4:6], "big")) if is_ours else None
    if protocol in NUMBERS.values():
        return Seen("accept", int.from_bytes(segment[0:2], "big"))
    return None
