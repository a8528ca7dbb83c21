"""IPVS messages byte by byte, and back."""

import contextlib
import struct
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

from hypothesis import given
from hypothesis import strategies as st

from kube_router.core import nlmsg
from kube_router.plugins.proxy import ipvs
from kube_router.plugins.proxy.model import Server, ServerId, ServiceId, Settings

PACKER = ipvs.Packer(0x1B)
WEB = ServiceId("TCP", "10.96.0.10", 80)

addresses = st.one_of(
    st.integers(0, 2**32 - 1).map(lambda n: str(IPv4Address(n))),
    st.integers(0, 2**128 - 1).map(lambda n: str(IPv6Address(n))),
)
ports = st.integers(0, 65535)
services = st.builds(ServiceId, st.sampled_from(sorted(ipvs.PROTOCOLS)), addresses, ports)
server_ids = st.builds(ServerId, addresses, ports)
servers = st.builds(Server, st.integers(0, 65535), st.sampled_from(sorted(ipvs.METHODS)))


def attr(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


KEY = (
    attr(1, struct.pack("=H", 2))
    + attr(2, struct.pack("=H", 6))
    + attr(3, bytes([10, 96, 0, 10]) + bytes(12))
    + attr(4, b"\x00\x50")
)


def test_a_new_service_carries_its_key_and_all_settings() -> None:
    settings = Settings("rr", flags=1, timeout_s=600, netmask=0xFFFFFF00)
    rest = (
        attr(6, b"rr\0")
        + attr(7, struct.pack("=II", 1, 0xFFFFFFFF))
        + attr(8, struct.pack("=I", 600))
        + attr(9, b"\xff\xff\xff\x00")
    )
    body = bytes([1, 1, 0, 0]) + attr(0x8001, KEY + rest)
    expected = struct.pack("=IHHII", 16 + len(body), 0x1B, 1, 0, 0) + body
    assert PACKER.service(ipvs.NEW_SERVICE, WEB, settings) == expected


def test_a_removed_service_carries_its_key_only() -> None:
    body = bytes([3, 1, 0, 0]) + attr(0x8001, KEY)
    expected = struct.pack("=IHHII", 16 + len(body), 0x1B, 1, 0, 0) + body
    assert PACKER.service(ipvs.DEL_SERVICE, WEB) == expected


def test_a_new_server_carries_the_service_s_key_and_all_its_own() -> None:
    dest = (
        attr(1, bytes([10, 244, 1, 2]) + bytes(12))
        + attr(2, b"\x1f\x90")
        + attr(3, struct.pack("=I", 2))
        + attr(4, struct.pack("=I", 7))
        + attr(5, bytes(4))
        + attr(6, bytes(4))
        + attr(11, struct.pack("=H", 2))
    )
    body = bytes([5, 1, 0, 0]) + attr(0x8001, KEY) + attr(0x8002, dest)
    expected = struct.pack("=IHHII", 16 + len(body), 0x1B, 1, 0, 0) + body
    assert PACKER.dest(ipvs.NEW_DEST, WEB, ServerId("10.244.1.2", 8080), Server(7, "tunnel")) == expected


def test_the_full_netmask_is_a_mask_for_ipv4_and_a_prefix_length_for_ipv6() -> None:
    assert PACKER.service(ipvs.NEW_SERVICE, WEB, Settings()).endswith(attr(9, b"\xff\xff\xff\xff"))
    six = ServiceId("TCP", "fd00::1", 80)
    assert PACKER.service(ipvs.NEW_SERVICE, six, Settings()).endswith(attr(9, struct.pack("=I", 128)))


@given(services, st.sampled_from(["rr", "wlc", "mh", "a-name-of-15-xx"]), st.integers(0, 63), st.integers(0, 2**31))
def test_what_is_packed_is_parsed_as_it_was(id: ServiceId, scheduler: str, flags: int, timeout_s: int) -> None:
    persistent = bool(flags & ipvs.SVC_F_PERSISTENT)
    settings = Settings(
        scheduler, flags, timeout_s if persistent else 0, netmask=24 if ":" in id.address else 0xFFFF0000
    )
    body = memoryview(PACKER.service(ipvs.NEW_SERVICE, id, settings))[16:]
    assert ipvs.parse_service(body) == (id, settings._replace(flags=flags & ~ipvs.SVC_F_HASHED))


@given(services, server_ids, servers)
def test_a_server_is_parsed_as_it_was_packed(id: ServiceId, server: ServerId, settings: Server) -> None:
    message = PACKER.dest(ipvs.NEW_DEST, id, server, settings)
    assert nlmsg.HEADER.unpack_from(message)[0] == len(message)
    assert ipvs.parse_dest(memoryview(message)[16:], nlmsg.AF_INET) == (server, settings)


@given(st.binary(max_size=120))
def test_an_answer_that_is_none_is_malformed_and_nothing_else(data: bytes) -> None:
    parsers: tuple[Callable[[memoryview], object], ...] = (
        ipvs.parse_service,
        lambda view: ipvs.parse_dest(view, nlmsg.AF_INET),
        ipvs.parse_config,
        ipvs.parse_info,
    )
    for kind in (ipvs.ATTR_SERVICE, ipvs.ATTR_DEST):
        for parse in parsers:
            with contextlib.suppress(nlmsg.Malformed):
                parse(memoryview(bytes(4) + nlmsg.nested(kind, data)))


def test_a_service_with_a_firewall_mark_is_left_out() -> None:
    body = bytes(4) + nlmsg.nested(1, nlmsg.u16(1, 2), nlmsg.u32(5, 77))
    assert ipvs.parse_service(memoryview(body)) is None


# -- /proc/net/ip_vs ---------------------------------------------------------------------------------------------------

PROC = """\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  0A60000A:0050 rr  persistent 600 FFFFFFFF
  -> 0AF40102:1F90      Masq    1      0          12
  -> 0AF40202:1F90      Route   0      3          0
UDP  [fd00:0096:0000:0000:0000:0000:0000:000a]:0035 wrr
  -> [fd00:0244:0000:0000:0000:0000:0000:0002]:0035      Tunnel  2      0          0
FWM  0000004D rr
  -> 0A000001:0050      Route   1      0          0
SCTP  0A60000A:0F1C mh ops
"""
PROC_TABLE = {
    WEB: {ServerId("10.244.1.2", 8080): Server(1, "masq"), ServerId("10.244.2.2", 8080): Server(0, "route")},
    ServiceId("UDP", "fd00:96::a", 53): {ServerId("fd00:244::2", 53): Server(2, "tunnel")},
    ServiceId("SCTP", "10.96.0.10", 3868): {},
}


def test_the_table_in_proc_is_read_with_firewall_marks_left_out() -> None:
    assert ipvs.parse_proc(PROC.splitlines()) == (PROC_TABLE, frozenset())


def test_a_server_line_that_is_not_understood_makes_its_service_doubtful() -> None:
    table = ipvs.parse_proc(PROC.replace("Route   0 ", "Bypass  0 ").splitlines())
    assert table.doubtful == {WEB}


def test_a_service_line_that_is_not_understood_is_missing_with_its_servers() -> None:
    table = ipvs.parse_proc(PROC.replace("UDP  [fd00", "UDP  [fg00").splitlines())
    assert (
        table.servers.keys() - table.doubtful
        == PROC_TABLE.keys() - {ServiceId("UDP", "fd00:96::a", 53)} - table.doubtful
    )
    assert ServiceId("UDP", "fd00:96::a", 53) not in table.servers


def test_a_service_that_is_listed_twice_is_doubtful() -> None:
    assert ipvs.parse_proc((PROC + PROC).splitlines()).doubtful == PROC_TABLE.keys()


@given(st.lists(st.one_of(st.text(), st.sampled_from(PROC.splitlines())), max_size=12))
def test_no_text_in_proc_is_a_crash(lines: list[str]) -> None:
    ipvs.parse_proc(lines)
