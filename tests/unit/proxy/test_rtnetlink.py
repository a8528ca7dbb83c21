"""Addresses and local routes as rtnetlink bytes, and back."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from kube_router.core import nlmsg
from kube_router.plugins.proxy import rtnetlink


def attr(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def test_an_ipv4_route_is_the_kernel_s_own_with_another_source() -> None:
    vip, node = bytes([10, 96, 0, 10]), bytes([192, 0, 2, 1])
    body = (
        struct.pack("=BBBBBBBBI", 2, 32, 0, 0, 255, 2, 254, 2, 0)
        + attr(1, vip)
        + attr(4, struct.pack("=I", 7))
        + attr(15, struct.pack("=I", 255))
        + attr(7, node)
    )
    expected = struct.pack("=IHHII", 16 + len(body), 24, 0x501, 0, 0) + body
    assert rtnetlink.set_source("10.96.0.10", "192.0.2.1", 7) == expected


def test_an_ipv4_route_without_a_wanted_source_has_the_address_itself() -> None:
    message = memoryview(rtnetlink.set_source("10.96.0.10", "", 7))[16:]
    assert rtnetlink.parse_routes([message], nlmsg.AF_INET, 7) == [rtnetlink.Route("10.96.0.10", "", 0)]
    assert bytes(nlmsg.attributes(message, 12)[rtnetlink.RTA_PREFSRC]) == bytes([10, 96, 0, 10])


def test_an_ipv6_route_of_ours_can_be_told_from_the_kernel_s_by_its_protocol() -> None:
    message = memoryview(rtnetlink.set_source("fd00:96::10", "fd00::1", 7))[16:]
    assert message[5] == 75
    assert rtnetlink.parse_routes([message], nlmsg.AF_INET6, 7) == [rtnetlink.Route("fd00:96::10", "fd00::1", 1024)]


def test_an_ipv6_address_is_added_without_duplicate_detection() -> None:
    message = memoryview(rtnetlink.add_address("fd00:96::10", 7))[16:]
    assert nlmsg.number(nlmsg.attributes(message, 8)[rtnetlink.IFA_FLAGS]) == rtnetlink.IFA_F_NODAD
    assert rtnetlink.IFA_FLAGS not in nlmsg.attributes(memoryview(rtnetlink.add_address("10.96.0.10", 7))[16:], 8)


def test_of_a_dump_only_this_interface_s_addresses_count_and_no_link_local_ones() -> None:
    bodies = [
        memoryview(struct.pack("=BBBBI", 10, 64, 0, 253, 7) + attr(1, b"\xfe\x80" + bytes(13) + b"\x01")),
        memoryview(struct.pack("=BBBBI", 10, 128, 0, 0, 7) + attr(1, b"\xfd" + bytes(14) + b"\x01")),
        memoryview(struct.pack("=BBBBI", 10, 128, 0, 0, 8) + attr(1, b"\xfd" + bytes(14) + b"\x02")),
    ]
    assert rtnetlink.parse_addresses(bodies, nlmsg.AF_INET6, 7) == [("fd00::1", 7)]
    assert rtnetlink.parse_addresses(bodies, nlmsg.AF_INET6) == [("fd00::1", 7), ("fd00::2", 8)]
    assert rtnetlink.parse_addresses(bodies, nlmsg.AF_INET) == []


def test_the_route_with_the_lowest_metric_comes_first() -> None:
    ours = memoryview(rtnetlink.set_source("fd00:96::10", "fd00::1", 7))[16:]
    kernels = memoryview(
        struct.pack("=BBBBBBBBI", 10, 128, 0, 0, 255, 2, 0, 2, 0)
        + attr(1, b"\xfd\x00\x00\x96" + bytes(11) + b"\x10")
        + attr(4, struct.pack("=I", 7))
    )
    assert [route.source for route in rtnetlink.parse_routes([ours, kernels], nlmsg.AF_INET6, 7)] == ["", "fd00::1"]


@given(st.binary(min_size=12, max_size=100))
def test_no_bytes_are_a_crash(data: bytes) -> None:
    for parse in (rtnetlink.parse_routes, rtnetlink.parse_addresses):
        try:
            parse([memoryview(data)], nlmsg.AF_INET, 7)
        except nlmsg.Malformed:
            continue
