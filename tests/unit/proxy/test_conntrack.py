"""UDP flows are found by both their ends, and deleted by what names them."""

from hypothesis import given
from hypothesis import strategies as st

from kube_router.core import ctnetlink, nlmsg
from kube_router.plugins.proxy import conntrack
from kube_router.plugins.proxy.model import ServerId, ServiceId

DNS, DNS6 = ServiceId("UDP", "10.96.0.10", 53), ServiceId("UDP", "fd00:96::a", 53)
SERVER, SERVER6 = ServerId("10.244.1.2", 5353), ServerId("fd00:244::2", 5353)
CLIENT = bytes([192, 0, 2, 2])


def tuple4(kind: int, ends: tuple[bytes, bytes], ports: tuple[int, int], proto: int = 17) -> bytes:
    return nlmsg.nested(
        kind,
        nlmsg.nested(1, nlmsg.attr(1, ends[0]), nlmsg.attr(2, ends[1])),
        nlmsg.nested(
            2,
            nlmsg.attr(1, bytes([proto])),
            nlmsg.attr(2, ports[0].to_bytes(2, "big")),
            nlmsg.attr(3, ports[1].to_bytes(2, "big")),
        ),
    )


def flow(*, to: tuple[bytes, int], answered_by: tuple[bytes, int], proto: int = 17) -> memoryview:
    return memoryview(
        bytes([2, 0, 0, 0])
        + tuple4(ctnetlink.CTA_TUPLE_ORIG, (CLIENT, to[0]), (40000, to[1]), proto)
        + tuple4(ctnetlink.CTA_TUPLE_REPLY, (answered_by[0], CLIENT), (answered_by[1], 40000), proto)
        + nlmsg.be32(ctnetlink.CTA_ID, 0xABCD)
    )


VIP, POD = bytes([10, 96, 0, 10]), bytes([10, 244, 1, 2])


def test_a_flow_of_the_service_that_the_server_answered_is_deleted_by_tuple_and_id() -> None:
    (request,) = conntrack.delete_flows([flow(to=(VIP, 53), answered_by=(POD, 5353))], 2, {(DNS, SERVER)})
    expected = nlmsg.message(
        ctnetlink.CT_DELETE,
        0,
        bytes([2, 0, 0, 0]),
        tuple4(ctnetlink.CTA_TUPLE_ORIG, (CLIENT, VIP), (40000, 53)),
        nlmsg.be32(ctnetlink.CTA_ID, 0xABCD),
    )
    assert request == expected


def test_flows_that_differ_in_one_thing_are_left_alone() -> None:
    flows = [
        flow(to=(VIP, 54), answered_by=(POD, 5353)),
        flow(to=(CLIENT, 53), answered_by=(POD, 5353)),
        flow(to=(VIP, 53), answered_by=(POD, 5354)),
        flow(to=(VIP, 53), answered_by=(VIP, 5353)),
        flow(to=(VIP, 53), answered_by=(POD, 5353), proto=6),
    ]
    assert conntrack.delete_flows(flows, 2, {(DNS, SERVER), (DNS6, SERVER6)}) == []


def test_one_service_is_named_in_the_dump_s_filter_and_several_are_not() -> None:
    one = nlmsg.attributes(memoryview(conntrack.get_flows(2, {DNS})), 20)
    assert VIP in bytes(one[ctnetlink.CTA_TUPLE_ORIG])
    assert nlmsg.number(nlmsg.attributes(one[ctnetlink.CTA_FILTER])[1]) == 0b101010
    both = nlmsg.attributes(memoryview(conntrack.get_flows(2, {DNS, DNS._replace(port=54)})), 20)
    assert VIP not in bytes(both[ctnetlink.CTA_TUPLE_ORIG])
    assert nlmsg.number(nlmsg.attributes(both[ctnetlink.CTA_FILTER])[1]) == 0b001000


@given(st.binary(min_size=4, max_size=100))
def test_no_bytes_are_a_crash(data: bytes) -> None:
    try:
        conntrack.delete_flows([memoryview(data), memoryview(b"\2\0\0\0" + data)], 2, {(DNS, SERVER)})
    except nlmsg.Malformed:
        return
