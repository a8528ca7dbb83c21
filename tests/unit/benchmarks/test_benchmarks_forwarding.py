"""What the benchmark's sender sends."""

import socket
import struct

from benchmarks.forwarding import ACK, SYN, Segment

SOURCE, DESTINATION = socket.inet_aton("10.244.0.2"), socket.inet_aton("10.244.0.3")


def test_a_segment_is_tcp_over_ipv4_with_its_checksum() -> None:
    packet = Segment(2048, 443, SYN | ACK, seq=7, ack=9).packet(SOURCE, DESTINATION)
    assert len(packet) == 40
    assert (packet[0], packet[9], packet[12:16], packet[16:20]) == (0x45, 6, SOURCE, DESTINATION)
    assert struct.unpack(">HHIIBB", packet[20:34]) == (2048, 443, 7, 9, 0x50, 0x12)
    words = struct.unpack(">16H", SOURCE + DESTINATION + struct.pack(">HH", 6, 20) + packet[20:])
    total = sum(words)
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF  # what adds up to nothing is right (RFC 1071)
