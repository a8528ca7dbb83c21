"""NFLOG's messages as this kernel sends them, and any other bytes."""

import socket
import struct
from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from kube_router.core import nlmsg
from kube_router.plugins.firewall import nflog
from kube_router.plugins.firewall.nflog import Packet

TCP_SYN = bytes.fromhex(
    "4500003c1c4640004006b1e60a0101020a010103"  # IPv4, protocol 6, 10.1.1.2 → 10.1.1.3
    "d4311538000000000000000000000000"  # 54321 → 5432
)


def message(payload: bytes, prefix: str = "netpol-ingress ") -> memoryview:
    header = bytes([2, 0]) + (100).to_bytes(2, "big")
    attributes = nlmsg.text(nflog.NFULA_PREFIX, prefix) + nlmsg.attr(nflog.NFULA_PAYLOAD, payload)
    return memoryview(header + attributes)


def ipv6(next_header: int, rest: bytes) -> bytes:
    source, destination = ip_address("fd00::1").packed, ip_address("fd00::2").packed
    return struct.pack("!IHBB", 6 << 28, len(rest), next_header, 64) + source + destination + rest


def test_the_group_is_bound_with_three_requests() -> None:
    bind, mode, threshold = (message[16:] for message in nflog.bind())
    assert bind == bytes.fromhex("000000640500010001000000")
    assert mode == bytes.fromhex("000000640a0002000000008002000000")
    assert threshold == bytes.fromhex("000000640800050000000001")


def test_a_tcp_packet_is_read() -> None:
    assert nflog.parse(message(TCP_SYN)) == Packet("ingress", "TCP", "10.1.1.2", "10.1.1.3", 54321, 5432)


def test_the_prefix_names_the_direction_and_others_packets_are_not_ours() -> None:
    found = nflog.parse(message(TCP_SYN, "netpol-egress "))
    assert found is not None
    assert found.direction == "egress"
    assert nflog.parse(message(TCP_SYN, "DROP: ")) is None


def test_icmp_and_unknown_protocols_have_no_ports() -> None:
    icmp = TCP_SYN[:9] + b"\x01" + TCP_SYN[10:]
    assert nflog.parse(message(icmp)) == Packet("ingress", "ICMP", "10.1.1.2", "10.1.1.3")
    gre = TCP_SYN[:9] + bytes([47]) + TCP_SYN[10:]
    assert nflog.parse(message(gre)) == Packet("ingress", "47", "10.1.1.2", "10.1.1.3")


def test_a_later_fragment_has_no_ports() -> None:
    fragment = TCP_SYN[:6] + b"\x00\x10" + TCP_SYN[8:]
    assert nflog.parse(message(fragment)) == Packet("ingress", "TCP", "10.1.1.2", "10.1.1.3")


def test_ipv6_ports_are_found_behind_extension_headers() -> None:
    ports = struct.pack("!HH", 1000, 53) + bytes(4)
    hop_by_hop = bytes([44, 1]) + bytes(14)  # then a fragment header
    first = bytes([17, 0, 0, 1]) + bytes(4)  # offset 0, more to come; then UDP
    assert nflog.parse(message(ipv6(17, ports))) == Packet("ingress", "UDP", "fd00::1", "fd00::2", 1000, 53)
    packet = nflog.parse(message(ipv6(0, hop_by_hop + first + ports)))
    assert packet == Packet("ingress", "UDP", "fd00::1", "fd00::2", 1000, 53)
    later = bytes([17, 0, 0, 8]) + bytes(4)
    assert nflog.parse(message(ipv6(44, later + ports))) == Packet("ingress", "UDP", "fd00::1", "fd00::2")


def test_a_packet_that_was_cut_short_tells_what_is_left() -> None:
    assert nflog.parse(message(TCP_SYN[:22])) == Packet("ingress", "TCP", "10.1.1.2", "10.1.1.3")
    assert nflog.parse(message(TCP_SYN[:12])) is None
    assert nflog.parse(memoryview(bytes(4))) is None


@given(st.binary(max_size=160), st.sampled_from(["netpol-ingress ", "netpol-egress ", "x"]))
def test_no_payload_raises(payload: bytes, prefix: str) -> None:
    packet = nflog.parse(message(payload, prefix))
    if packet is not None:
        family = socket.AF_INET6 if ":" in packet.source else socket.AF_INET
        assert socket.inet_pton(family, packet.source)


@given(st.binary(max_size=160))
def test_no_message_raises(data: bytes) -> None:
    nflog.parse(memoryview(data))
