"""NFLOG's messages as this kernel sends them, and any other bytes."""

import socket
import struct
from ipaddress import ip_address

import pytest
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


# Messages as Linux 6.18 sent them.
CAPTURED = {
    "TCP": (
        "02000064080001000800030013000a006e6574706f6c2d656772657373200000080005000000000108000b0000000000"
        "08000e0000000000400009004500003c33fd4000400608bd7f0000017f000001c57200639b1e44c400000000a002ffd7"
        "fe3000000204ffd70402080a5df20168000000000103030a",
        Packet("egress", "TCP", "127.0.0.1", "127.0.0.1", 50546, 99),
    ),
    "UDP": (
        "02000064080001000800030013000a006e6574706f6c2d656772657373200000080005000000000108000b0000000000"
        "08000e0000000000210009004500001d40a140004011fc2c7f0000017f000001bd5300630009fe1c78000000",
        Packet("egress", "UDP", "127.0.0.1", "127.0.0.1", 48467, 99),
    ),
    "SCTP": (
        "02000064080001000800030014000a006e6574706f6c2d696e67726573732000080005000000000108000b0000000000"
        "08000e00000000002800090045000024cc74400040846fdf7f0000017f00000103e807d0000000070000000001000004",
        Packet("ingress", "SCTP", "127.0.0.1", "127.0.0.1", 1000, 2000),
    ),
    "GRE": (
        "02000064080001000800030014000a006e6574706f6c2d696e67726573732000080005000000000108000b0000000000"
        "08000e00000000001c000900450000188da04000402faf147f0000017f00000100000800",
        Packet("ingress", "GRE", "127.0.0.1", "127.0.0.1"),
    ),
    "ICMP echo": (
        "02000064080001000800030014000a006e6574706f6c2d696e67726573732000080005000000000108000b0000000000"
        "08000e0000000000200009004500001c5cbe40004001e0207f0000017f0000010800000000010001",
        Packet("ingress", "ICMP", "127.0.0.1", "127.0.0.1", icmp_type=8, icmp_code=0),
    ),
    "TCP over IPv6": (
        "0a0000640800010086dd030013000a006e6574706f6c2d656772657373200000080005000000000108000b0000000000"
        "08000e000000000054000900600115830028064000000000000000000000000000000001000000000000000000000000"
        "00000001dc6e0063ca4525ca00000000a002ffc4003000000204ffc40402080a61a3718f000000000103030a",
        Packet("egress", "TCP", "::1", "::1", 56430, 99),
    ),
    "ICMPv6 echo": (
        "0a0000640800010086dd030014000a006e6574706f6c2d696e67726573732000080005000000000108000b0000000000"
        "08000e000000000034000900600a127200083a4000000000000000000000000000000001000000000000000000000000"
        "0000000180007fb900010001",
        Packet("ingress", "ICMPv6", "::1", "::1", icmp_type=128, icmp_code=0),
    ),
    "UDP behind destination options": (
        "0a0000640800010086dd030013000a006e6574706f6c2d656772657373200000080005000000000108000b0000000000"
        "08000e00000000003d000900600013a300113c4000000000000000000000000000000001000000000000000000000000"
        "000000011100010400000000bec400630009c8b278000000",
        Packet("egress", "UDP", "::1", "::1", 48836, 99),
    ),
}


@pytest.mark.parametrize(("message", "packet"), CAPTURED.values(), ids=CAPTURED)
def test_what_the_kernel_sends_is_read(message: str, packet: Packet) -> None:
    body = bytes.fromhex(message)
    assert nflog.parse(memoryview(body)) == packet
    header = nlmsg.HEADER.pack(16 + len(body), nflog.NFULNL_MSG_PACKET, 0, 0, 0)
    done = nlmsg.HEADER.pack(20, nlmsg.NLMSG_DONE, 2, 0, 0) + bytes(4)
    assert list(
        nflog.packets(header + body + bytes(-len(body) % 4) + header + body + bytes(-len(body) % 4) + done)
    ) == [
        packet,
        packet,
    ]


def test_the_group_is_bound_with_one_request() -> None:
    assert nflog.bind() == bytes.fromhex(
        "30000000"
        "0104"
        "0500"
        "00000000"
        "00000000"  # NFULNL_MSG_CONFIG, a request to be acknowledged
        "00000064"  # group 100
        "0500010001000000"  # bind
        "0a0002000000008002000000"  # copy 128 bytes of each packet
        "0800050000000001"  # tell of each at once
    )


def test_who_has_the_group_is_read_from_the_kernel_s_table() -> None:
    table = ["    5   4711     0 2   128    100  1", "  100   2475     0 2   128    100  1"]
    assert nflog.owner(table) == 2475
    assert nflog.owner(table[:1]) is None
    assert nflog.owner(["", "100", "100 x", "group port"]) is None


def test_a_tcp_packet_is_read() -> None:
    assert nflog.parse(message(TCP_SYN)) == Packet("ingress", "TCP", "10.1.1.2", "10.1.1.3", 54321, 5432)


def test_the_prefix_names_the_direction_and_others_packets_are_not_ours() -> None:
    found = nflog.parse(message(TCP_SYN, "netpol-egress "))
    assert found is not None
    assert found.direction == "egress"
    assert nflog.parse(message(TCP_SYN, "DROP: ")) is None


def test_a_protocol_without_ports_has_none_and_one_without_a_name_its_number() -> None:
    icmp = TCP_SYN[:9] + b"\x01" + TCP_SYN[10:20] + b"\x03\x01"
    packet = Packet("ingress", "ICMP", "10.1.1.2", "10.1.1.3", icmp_type=3, icmp_code=1)
    assert nflog.parse(message(icmp)) == packet
    assert nflog.parse(message(icmp[:21])) == packet._replace(icmp_type=None, icmp_code=None)
    other = TCP_SYN[:9] + bytes([253]) + TCP_SYN[10:]
    assert nflog.parse(message(other)) == Packet("ingress", "253", "10.1.1.2", "10.1.1.3")


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
    authenticated = bytes([6, 4]) + bytes(22)
    packet = nflog.parse(message(ipv6(51, authenticated + ports)))
    assert packet == Packet("ingress", "TCP", "fd00::1", "fd00::2", 1000, 53)


def test_what_lies_in_the_middle_of_a_fragmented_packet_is_not_taken_for_a_header() -> None:
    later = bytes([60, 0, 0, 8]) + bytes(4)  # destination options began in the first fragment
    looks_like_options = bytes([6, 0]) + bytes(6) + struct.pack("!HH", 1, 2)
    packet = nflog.parse(message(ipv6(44, later + looks_like_options)))
    assert packet == Packet("ingress", "60", "fd00::1", "fd00::2")


def test_no_more_than_a_few_extension_headers_are_followed() -> None:
    chain = b"".join(bytes([60, 0]) + bytes(6) for _ in range(nflog.EXTENSIONS_MAX + 1))
    assert nflog.parse(message(ipv6(60, chain))) == Packet("ingress", "60", "fd00::1", "fd00::2")


def test_a_packet_that_was_cut_short_tells_what_is_left() -> None:
    assert nflog.parse(message(TCP_SYN[:22])) == Packet("ingress", "TCP", "10.1.1.2", "10.1.1.3")
    assert nflog.parse(message(TCP_SYN[:12])) is None
    assert nflog.parse(message(b"\x44" + TCP_SYN[1:])) is None  # a header of 16 bytes
    assert nflog.parse(memoryview(bytes(4))) is None


@given(st.binary(max_size=160), st.sampled_from(["netpol-ingress ", "netpol-egress ", "x"]))
def test_no_payload_raises(payload: bytes, prefix: str) -> None:
    packet = nflog.parse(message(payload, prefix))
    if packet is not None:
        family = socket.AF_INET6 if ":" in packet.source else socket.AF_INET
        assert socket.inet_pton(family, packet.source)


headers = st.sampled_from([0, 4, 6, 17, 41, 43, 44, 47, 50, 51, 58, 60, 132, 255])


@given(st.lists(st.tuples(headers, st.integers(0, 3), st.binary(min_size=6, max_size=6)), max_size=12), headers)
def test_no_chain_of_extension_headers_raises(chain: list[tuple[int, int, bytes]], first: int) -> None:
    data = b"".join(bytes([kind, length]) + rest for kind, length, rest in chain)
    packet = nflog.parse(message(ipv6(first, data)))
    assert packet is not None
    assert (packet.source, packet.destination) == ("fd00::1", "fd00::2")


@given(st.binary(max_size=160))
def test_no_message_and_no_datagram_raises(data: bytes) -> None:
    nflog.parse(memoryview(data))
    list(nflog.packets(data))


@given(st.sampled_from([text for text, _ in CAPTURED.values()]), st.integers(0, 200), st.binary(max_size=8))
def test_no_damage_to_a_real_message_raises(captured: str, at: int, new: bytes) -> None:
    body = bytes.fromhex(captured)
    nflog.parse(memoryview(body[:at] + new + body[at + len(new) :]))
    nflog.parse(memoryview(body[:at]))
