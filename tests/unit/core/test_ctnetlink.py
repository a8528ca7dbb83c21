"""Flows of every protocol are read, and deleted by what names them."""

import pytest
from harness.netns import run_in_new, sh
from hypothesis import given
from hypothesis import strategies as st

from kube_router.core import ctnetlink, nlmsg
from kube_router.core.ctnetlink import Direction, Flow
from kube_router.core.netlink import NETLINK_NETFILTER, Netlink

CLIENT, VIP, POD = bytes([192, 0, 2, 2]), bytes([10, 96, 0, 10]), bytes([10, 244, 1, 2])
CLIENT6, POD6 = bytes.fromhex("20010db8000000000000000000000002"), bytes.fromhex("fd000244000000000000000000000002")


def direction(kind: int, ends: tuple[bytes, bytes], *proto: bytes) -> bytes:
    first = 1 if len(ends[0]) == 4 else 3
    addresses = nlmsg.nested(1, nlmsg.attr(first, ends[0]), nlmsg.attr(first + 1, ends[1]))
    return nlmsg.nested(kind, addresses, nlmsg.nested(2, *proto))


def ports(number: int, source: int, destination: int) -> list[bytes]:
    return [
        nlmsg.attr(1, bytes([number])),
        nlmsg.attr(2, source.to_bytes(2, "big")),
        nlmsg.attr(3, destination.to_bytes(2, "big")),
    ]


def body(family: int, *attributes: bytes) -> memoryview:
    return memoryview(bytes([family, 0, 0, 0]) + b"".join(attributes))


def value(attribute: bytes) -> bytes:
    return attribute[4:]


def test_a_flow_to_a_service_tells_both_directions_id_and_zone() -> None:
    original = direction(1, (CLIENT, VIP), *ports(132, 40000, 80))
    reply = direction(2, (POD, CLIENT), *ports(132, 8080, 40000))
    zone = nlmsg.attr(18, b"\0\7")
    (flow,) = ctnetlink.parse_flows([body(2, original, reply, nlmsg.be32(12, 0xABCD), zone)], 2)
    assert flow == Flow(
        2,
        Direction(132, CLIENT, VIP, 40000, 80),
        Direction(132, POD, CLIENT, 8080, 40000),
        value(original),
        b"\0\0\xab\xcd",
        b"\0\7",
    )
    assert flow.protocol == ctnetlink.SCTP
    assert ctnetlink.delete_flow(flow) == nlmsg.message(
        0x102, 0, bytes([2, 0, 0, 0]), original, nlmsg.be32(12, 0xABCD), zone
    )


def test_an_icmp_flow_has_ports_of_0_and_all_else() -> None:
    proto = [nlmsg.attr(1, b"\x3a"), nlmsg.attr(7, b"\0\1"), nlmsg.attr(8, b"\x80"), nlmsg.attr(9, b"\0")]
    original, reply = direction(1, (CLIENT6, POD6), *proto), direction(2, (POD6, CLIENT6), *proto)
    (flow,) = ctnetlink.parse_flows([body(10, original, reply)], 10)
    assert (flow.original, flow.id, flow.zone) == (Direction(58, CLIENT6, POD6, 0, 0), None, None)
    assert ctnetlink.delete_flow(flow) == nlmsg.message(0x102, 0, bytes([10, 0, 0, 0]), original)


def test_a_flow_that_another_brought_about_tells_by_whose_tuple() -> None:
    original, reply = direction(1, (CLIENT, POD), *ports(6, 40001, 2000)), direction(2, (POD, CLIENT), *ports(6, 20, 1))
    master = direction(14, (CLIENT, POD), *ports(6, 40000, 21))
    (flow,) = ctnetlink.parse_flows([body(2, original, reply, master)], 2)
    assert flow.raw_master == value(direction(1, (CLIENT, POD), *ports(6, 40000, 21)))


def test_what_is_no_flow_of_the_family_is_passed_over() -> None:
    original, reply = direction(1, (CLIENT, POD), *ports(6, 1, 2)), direction(2, (POD, CLIENT), *ports(6, 2, 1))
    bodies = [
        body(10, original, reply),
        body(2, original),
        body(2, reply),
        body(2, nlmsg.nested(1), reply),
        body(2, original, direction(2, (POD6, CLIENT6), *ports(6, 2, 1))),
        body(2, direction(1, (CLIENT, POD)), reply),
        body(2),
    ]
    assert list(ctnetlink.parse_flows(bodies, 2)) == []


def test_a_dump_of_everything_has_no_filter_and_one_of_a_protocol_names_it() -> None:
    assert ctnetlink.get_flows(10) == nlmsg.message(0x101, 0, bytes([10, 0, 0, 0]))
    filtered = nlmsg.attributes(memoryview(ctnetlink.get_flows(2, protocol=6)), 20)
    assert nlmsg.number(nlmsg.attributes(filtered[25])[1]) == 0b001000
    assert bytes(nlmsg.attributes(nlmsg.attributes(filtered[1])[2])[1]) == b"\6"


@given(st.binary(max_size=120), st.sampled_from([2, 10]))
def test_no_bytes_are_a_crash(data: bytes, family: int) -> None:
    original, reply = direction(1, (CLIENT, POD), *ports(6, 1, 2)), direction(2, (POD, CLIENT), *ports(6, 2, 1))
    damaged = [body(family, data), body(family, nlmsg.nested(1, data), reply), body(family, original, data)]
    for one in damaged:
        try:
            list(ctnetlink.parse_flows([one], family))
        except nlmsg.Malformed:
            continue


PLANTED = """
conntrack -I -p tcp -s 192.0.2.2 -d 10.96.0.10 --sport 40000 --dport 80 -r 10.244.1.2 -q 192.0.2.2 \
--reply-port-src 8080 --reply-port-dst 40000 --state ESTABLISHED -t 300
conntrack -I -p sctp -s 192.0.2.2 -d 10.244.1.2 --sport 40001 --dport 132 --state ESTABLISHED -t 300 \
--orig-vtag 1 --reply-vtag 2
conntrack -I -p udp -s 2001:db8::2 -d fd00:244::2 --sport 40002 --dport 53 -t 300
conntrack -I -p icmp -s 192.0.2.2 -d 10.244.1.2 --icmp-type 8 --icmp-code 0 --icmp-id 7 -t 300
conntrack -I -p udp -s 192.0.2.2 -d 10.244.1.2 --sport 40003 --dport 53 -t 300 -w 7
"""


@pytest.mark.root
def test_the_kernel_s_flows_are_read_and_one_deleted_leaves_the_others() -> None:
    def inside() -> None:
        sh(PLANTED)
        with Netlink(NETLINK_NETFILTER) as link:
            flows = list(ctnetlink.parse_flows(link.dump(ctnetlink.get_flows(2)), 2))
            assert {(f.original, f.reply.source, f.reply.source_port, f.zone) for f in flows} == {
                (Direction(6, CLIENT, VIP, 40000, 80), POD, 8080, None),
                (Direction(132, CLIENT, POD, 40001, 132), POD, 132, None),
                (Direction(1, CLIENT, POD, 0, 0), POD, 0, None),
                (Direction(17, CLIENT, POD, 40003, 53), POD, 53, b"\0\7"),
            }
            (flow6,) = ctnetlink.parse_flows(link.dump(ctnetlink.get_flows(10)), 10)
            assert flow6.original == Direction(17, CLIENT6, POD6, 40002, 53)
            (only,) = ctnetlink.parse_flows(link.dump(ctnetlink.get_flows(2, protocol=132)), 2)
            assert only.protocol == ctnetlink.SCTP
            ended = [flow for flow in flows if flow.protocol != ctnetlink.TCP]
            assert link.write([ctnetlink.delete_flow(flow) for flow in ended]) == []
            assert [f.protocol for f in ctnetlink.parse_flows(link.dump(ctnetlink.get_flows(2)), 2)] == [6]
            again = flows[0]._replace(id=b"\0\0\0\1")
            (failure,) = link.write([ctnetlink.delete_flow(again)])
            assert failure.errno == 2

    run_in_new(inside)
