"""Bytes of routes, rules, devices, neighbours and FOU ports, written out where the kernel's headers fix them."""

import struct
from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube_router.core import nlmsg
from kube_router.plugins.routing import fou, rtlink, rtnetlink
from kube_router.plugins.routing.model import (
    VXLAN,
    VXLAN6,
    AddRoute,
    Device,
    Forward,
    FouPort,
    Hop,
    Neighbour,
    RemoveRoute,
    Route,
    RouteId,
    Rule,
    SetRoute,
    Tunnel,
    is_own_link,
    tunnel_hop,
    tunnel_name,
    vxlan,
    vxlan_entries,
    vxlan_gateway,
    vxlan_hop,
    vxlan_mac,
)

INDEXES = {"eth0": 2, "eth1": 3, "tun-f9292b96ff7": 9}
NAMES = {index: name for name, index in INDEXES.items()}
ROUTES = {
    RouteId("10.244.2.0/24"): Route((Hop("10.0.0.2", "eth0"),), "10.0.0.1"),
    RouteId("10.244.3.0/24"): Route((Hop("", "tun-f9292b96ff7"),)),
    RouteId("10.0.2.2/32", 77): Route((Hop("10.0.2.2", "eth1", True),)),
    RouteId("10.244.4.0/24"): Route((Hop("10.0.0.2", "eth0"), Hop("10.0.9.3", "eth1", True))),
    RouteId("10.244.5.0/24"): Route((Hop("fd00::2", "eth0"),)),
    RouteId("10.244.6.0/24"): Route((Hop("10.0.0.2", "eth0"), Hop("fd00::2", "eth0"))),
    RouteId("0.0.0.0/0"): Route((Hop("10.0.0.2", "eth0"),)),
    RouteId("fd00:244:2::/64"): Route((Hop("fe80::1", "eth1"),), "fd00::1"),
    RouteId("fd00:244:3::/64"): Route((Hop("fd00::2", "eth0"), Hop("fd00::3", "eth1"))),
    RouteId("::/0"): Route((Hop("fd00::2", "eth0"),)),
}


def packer() -> rtnetlink.RoutePacker:
    return rtnetlink.RoutePacker(INDEXES.__getitem__)


def body(message: bytes) -> memoryview:
    return memoryview(message)[16:]


def test_the_names_and_macs_of_the_overlay_depend_on_the_address_alone() -> None:
    assert tunnel_name("10.0.2.2") == "tun-f9292b96ff7"
    assert tunnel_hop("10.0.2.2") == Hop("", "tun-f9292b96ff7")
    assert tunnel_hop("fd00:2::2") == Hop("fe80::1", "tun-a7b666fe782")
    assert vxlan_mac("10.0.2.2") == "0a:5c:0a:00:02:02"
    assert vxlan_mac("fd00:2::2") == "0e:a7:b6:66:fe:78"
    assert vxlan_hop("10.0.2.2") == Hop("10.0.2.2", VXLAN, onlink=True)
    assert vxlan_hop("fd00:2::2") == Hop("fe80::a7b6:66fe:7827:83df", VXLAN6)
    assert vxlan_entries("10.0.2.2") == (
        Neighbour(VXLAN, "10.0.2.2"),
        Forward(VXLAN, "0a:5c:0a:00:02:02"),
        "0a:5c:0a:00:02:02",
    )
    assert vxlan_gateway("fd00:2::2") == "fe80::a7b6:66fe:7827:83df"


@pytest.mark.parametrize("name", ["kube-bridge", "kube-dummy-if", "kube-vxlan", "kube-vxlan6", "tun-0123456789a"])
def test_links_of_ours_are_known_by_name(name: str) -> None:
    assert is_own_link(name)


@pytest.mark.parametrize("name", ["eth0", "tun0", "tun-0123456789", "tun-0123456789ab", "tun-0123456789x", "vxlan0"])
def test_other_links_are_not_ours(name: str) -> None:
    assert not is_own_link(name)


def test_a_route_is_added_with_our_protocol_and_metric_and_never_over_another() -> None:
    message = packer().message(AddRoute(RouteId("10.244.2.0/24"), Route((Hop("10.0.0.2", "eth0"),), "10.0.0.1")))
    assert message == (
        struct.pack("=IHHII", 68, 24, 0x1 | 0x200 | 0x400, 0, 0)  # NLM_F_REQUEST, EXCL, CREATE
        + struct.pack("=BBBBBBBBI", 2, 24, 0, 0, 254, 75, 0, 1, 0)
        + struct.pack("=HH4B", 8, 1, 10, 244, 2, 0)
        + struct.pack("=HHI", 8, 6, 75)
        + struct.pack("=HH4B", 8, 7, 10, 0, 0, 1)
        + struct.pack("=HHI", 8, 4, 2)
        + struct.pack("=HH4B", 8, 5, 10, 0, 0, 2)
    )


def test_equal_hops_are_one_attribute_of_an_ipv6_route_too() -> None:
    hops = Hop("fd00::2", "eth0"), Hop("fd00::3", "eth1")
    message = packer().message(SetRoute(RouteId("fd00:244::/64", 77), Route(hops)))
    assert message == (
        struct.pack("=IHHII", 116, 24, 0x1 | 0x100 | 0x400, 0, 0)  # NLM_F_REQUEST, REPLACE, CREATE
        + struct.pack("=BBBBBBBBI", 10, 64, 0, 0, 77, 75, 0, 1, 0)
        + struct.pack("=HH", 20, 1)
        + IPv6Address("fd00:244::").packed
        + struct.pack("=HHI", 8, 6, 75)
        + struct.pack("=HH", 60, 9)
        + struct.pack("=HBBiHH", 28, 0, 0, 2, 20, 5)
        + IPv6Address("fd00::2").packed
        + struct.pack("=HBBiHH", 28, 0, 0, 3, 20, 5)
        + IPv6Address("fd00::3").packed
    )


def test_a_route_is_removed_by_protocol_and_metric_alone() -> None:
    assert packer().message(RemoveRoute(RouteId("10.244.2.0/24"))) == (
        struct.pack("=IHHII", 44, 25, 0x1, 0, 0)
        + struct.pack("=BBBBBBBBI", 2, 24, 0, 0, 254, 75, 255, 0, 0)
        + struct.pack("=HH4B", 8, 1, 10, 244, 2, 0)
        + struct.pack("=HHI", 8, 6, 75)
    )


def test_what_is_packed_is_read_back() -> None:
    made = packer()
    bodies = [body(made.message(AddRoute(*item))) for item in ROUTES.items()]
    assert rtnetlink.parse_routes(bodies, NAMES) == ROUTES
    assert [rtnetlink.route_id(one) for one in bodies] == [(id, True) for id in ROUTES]


def test_routes_with_another_protocol_metric_or_table_are_not_ours() -> None:
    def route(table: int = 254, protocol: int = 75, metric: int = 75, tos: int = 0) -> memoryview:
        header = rtnetlink.RTMSG.pack(2, 24, 0, tos, table, protocol, 0, 1, 0)
        attributes = nlmsg.attr(1, bytes([10, 244, 2, 0])), nlmsg.u32(6, metric), nlmsg.u32(4, 2)
        return memoryview(header + b"".join(attributes))

    assert len(rtnetlink.parse_routes([route()], NAMES)) == 1
    others = [route(table=255), route(table=99), route(protocol=3), route(metric=0), route(tos=4)]
    assert rtnetlink.parse_routes(others, NAMES) == {}


def test_a_route_of_ours_that_was_made_a_blackhole_has_no_hops() -> None:
    header = rtnetlink.RTMSG.pack(2, 24, 0, 0, 254, 75, 0, 6, 0)
    blackhole = memoryview(header + nlmsg.attr(1, bytes([10, 244, 2, 0])) + nlmsg.u32(6, 75))
    assert rtnetlink.parse_routes([blackhole], NAMES) == {RouteId("10.244.2.0/24"): Route(())}


def test_a_hop_through_an_interface_that_is_gone_names_it_as_ip_does() -> None:
    message = packer().message(AddRoute(RouteId("10.244.2.0/24"), Route((Hop("10.0.0.2", "eth0"),))))
    assert rtnetlink.parse_routes([body(message)], {}) == {
        RouteId("10.244.2.0/24"): Route((Hop("10.0.0.2", "if2"),))
    }  # fmt: skip


def test_a_rule_is_packed_and_read_back_and_others_are_not_ours() -> None:
    rules = {Rule("10.244.1.0/24"), Rule("fd00:244:1::/64"), Rule("10.244.9.0/24", 99)}
    message = rtnetlink.add_rule(Rule("10.244.1.0/24"))
    assert message == (
        struct.pack("=IHHII", 52, 32, 0x1 | 0x200 | 0x400, 0, 0)
        + struct.pack("=BBBBBBBBI", 2, 0, 24, 0, 77, 0, 0, 1, 0)
        + struct.pack("=HH4B", 8, 2, 10, 244, 1, 0)
        + struct.pack("=HHI", 8, 6, 32700)
        + struct.pack("=HHBxxx", 5, 21, 75)
    )

    def listed(rule: Rule) -> memoryview:
        return memoryview(bytes(body(rtnetlink.add_rule(rule))) + nlmsg.u32(15, rule.table))

    assert rtnetlink.parse_rules(map(listed, rules)) == rules
    other = bytes(listed(Rule("10.244.1.0/24"))).replace(struct.pack("=HHB", 5, 21, 75), struct.pack("=HHB", 5, 21, 3))
    assert rtnetlink.parse_rules([memoryview(other)]) == set()


TUNNELS = {
    tunnel_name("10.0.2.2"): Tunnel("ipip", "10.0.0.1", "10.0.2.2", 0, 1480),
    tunnel_name("10.0.3.2"): Tunnel("fou", "10.0.0.1", "10.0.3.2", 5555, 1468),
    tunnel_name("fd00::2"): Tunnel("ip6tnl", "fd00::1", "fd00::2", 0, 1460),
    tunnel_name("fd00::3"): Tunnel("fou6", "fd00::1", "fd00::3", 5555, 1448),
    VXLAN: vxlan("10.0.0.1", mtu=1450),
    VXLAN6: vxlan("fd00::1", port=8472, mtu=1430),
}


@pytest.mark.parametrize("name", TUNNELS)
def test_a_device_is_packed_and_read_back(name: str) -> None:
    first, *rest = rtlink.add_device(name, TUNNELS[name])
    assert rtlink.parse_link(body(first)) == rtlink.Link(
        0, name, TUNNELS[name].mtu, True, Device(TUNNELS[name], marked=False)
    )
    assert len(rest) == 1
    assert b"kube-router\0" in rest[0]


def test_the_port_of_a_vxlan_is_named_when_it_is_made_and_never_again() -> None:
    port = struct.pack("!H", 4789)
    assert port in rtlink.add_device(VXLAN, TUNNELS[VXLAN])[0]
    assert not any(port in message for message in rtlink.set_device(VXLAN, TUNNELS[VXLAN], new_mac=True))


def test_a_mac_is_set_only_where_it_is_new() -> None:
    mac = bytes.fromhex("0a5c0a000001")
    assert any(mac in message for message in rtlink.set_device(VXLAN, TUNNELS[VXLAN], new_mac=True))
    assert not any(mac in message for message in rtlink.set_device(VXLAN, TUNNELS[VXLAN], new_mac=False))


def test_a_link_of_another_name_or_kind_or_network_is_none_of_ours() -> None:
    name = tunnel_name("10.0.2.2")
    of_other_name = rtlink.add_device("tun0", TUNNELS[name])[0]
    of_other_kind = rtlink.add_device(name, TUNNELS[name])[0].replace(b"ipip", b"gre\0")
    vni, other = struct.pack("=HHI", 8, 1, 75), struct.pack("=HHI", 8, 1, 76)
    of_other_network = rtlink.add_device(VXLAN, TUNNELS[VXLAN])[0].replace(vni, other)
    for message in (of_other_name, of_other_kind, of_other_network):
        assert rtlink.parse_link(body(message)).device is None


def test_addresses_that_are_not_global_or_temporary_are_left_out() -> None:
    def listed(family: int, bits: int, flags: int, scope: int, raw: bytes) -> memoryview:
        return memoryview(rtlink.IFADDR.pack(family, bits, flags, scope, 2) + nlmsg.attr(1, raw))

    global6 = IPv6Address("fd00::1").packed
    assert rtlink.parse_addresses(
        [
            listed(2, 24, 0, 0, bytes([10, 0, 0, 1])),
            listed(2, 24, 1, 0, bytes([10, 0, 0, 2])),
            listed(2, 8, 0, 254, bytes([127, 0, 0, 1])),
            listed(10, 64, 0, 0, global6),
            listed(10, 64, 1, 0, global6),
            listed(10, 64, 0, 253, IPv6Address("fe80::1").packed),
        ]
    ) == [(2, "10.0.0.1/24"), (2, "10.0.0.2/24"), (2, "fd00::1/64")]


def test_neighbours_and_forwards_are_packed_and_read_back() -> None:
    devices = {9: VXLAN}
    neighbours = {Neighbour(VXLAN, "10.0.2.2"): "0a:5c:0a:00:02:02", Neighbour(VXLAN, "fe80::5"): "0e:01:02:03:04:05"}
    bodies = [body(rtlink.set_neighbour(*item, 9)) for item in neighbours.items()]
    assert rtlink.parse_neighbours(bodies, devices) == neighbours
    assert rtlink.parse_neighbours(bodies, {8: VXLAN}) == {}
    forwards = {Forward(VXLAN, "0a:5c:0a:00:02:02"): "10.0.2.2", Forward(VXLAN, "0e:01:02:03:04:05"): "fd00::2"}
    bodies = [body(rtlink.set_forward(*item, 9)) for item in forwards.items()]
    assert rtlink.parse_forwards(bodies, devices) == forwards


def test_ports_that_take_gue_are_read_back_and_others_are_not() -> None:
    ports = {FouPort(5555), FouPort(5555, 6), FouPort(6666)}
    bodies = [body(fou.add_port(30, port)) for port in ports]
    assert fou.parse_ports(bodies) == ports
    plain = fou.add_port(30, FouPort(7777)).replace(struct.pack("=HHB", 5, 4, 2), struct.pack("=HHB", 5, 4, 1))
    assert fou.parse_ports([body(plain)]) == set()


@pytest.mark.parametrize("text", ["::", "::1", "fd00::", "1:2:3::", "1:2:3:4:5:6:7:8", "fd00::1:0:0:1", "a:b:c:d::1"])
def test_addresses_are_canonical_both_ways(text: str) -> None:
    assert rtnetlink.packed(text) == IPv6Address(text).packed
    assert rtnetlink.unpacked(IPv6Address(text).packed) == text
    assert rtnetlink.packed("::ffff:10.0.0.1") == IPv6Address("::ffff:10.0.0.1").packed


@given(st.binary(min_size=16, max_size=16))
def test_any_ipv6_address_survives(raw: bytes) -> None:
    assert rtnetlink.unpacked(raw) == str(IPv6Address(raw))
    assert rtnetlink.packed(str(IPv6Address(raw))) == raw


@given(st.integers(0, 9), st.data())
def test_a_broken_route_is_refused_or_read_but_never_crashes(which: int, data: st.DataObject) -> None:
    message = bytearray(body(packer().message(AddRoute(*list(ROUTES.items())[which]))))
    for _ in range(data.draw(st.integers(1, 4))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    broken = memoryview(bytes(message))
    for read in (
        lambda: rtnetlink.parse_routes([broken], NAMES),
        lambda: rtnetlink.route_id(broken),
        lambda: rtnetlink.parse_gateway(broken, NAMES),
    ):
        try:
            read()
        except nlmsg.Malformed:
            continue


@given(st.sampled_from(sorted(TUNNELS)), st.data())
def test_a_broken_link_is_refused_or_read_but_never_crashes(name: str, data: st.DataObject) -> None:
    message = bytearray(body(rtlink.add_device(name, TUNNELS[name])[0]))
    for _ in range(data.draw(st.integers(1, 4))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    broken = memoryview(bytes(message))
    for read in (
        lambda: rtlink.parse_link(broken),
        lambda: rtlink.parse_address(broken),
        lambda: rtlink.parse_neighbours([broken], {2: VXLAN}),
        lambda: rtlink.parse_forwards([broken], {2: VXLAN}),
        lambda: rtnetlink.parse_rule(broken),
        lambda: fou.parse_ports([broken]),
    ):
        try:
            read()
        except nlmsg.Malformed:
            continue
