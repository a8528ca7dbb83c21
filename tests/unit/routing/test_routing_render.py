"""Each object and each step is the command that one would type for it."""

import pytest

from kube_router.plugins.routing import render
from kube_router.plugins.routing.model import (
    VXLAN,
    AddDevice,
    AddFouPort,
    AddRoute,
    AddRule,
    FouPort,
    Hop,
    RemoveDevice,
    RemoveForward,
    RemoveFouPort,
    RemoveNeighbour,
    RemoveRoute,
    RemoveRule,
    RenameDevice,
    Route,
    RouteId,
    Rule,
    SetDevice,
    SetForward,
    SetNeighbour,
    SetRoute,
    Step,
    Tunnel,
    Wanted,
    vxlan,
    vxlan_entries,
    vxlan_hop,
)

NET, NET6 = RouteId("10.244.2.0/24"), RouteId("fd00:244:2::/64")
DIRECT = Route((Hop("10.0.0.2", "eth0"),), "10.0.0.1")
EQUAL = Route((Hop("10.0.0.2", "eth0"), Hop("10.0.9.3", "eth1")))
NEIGHBOUR, FORWARD, MAC = vxlan_entries("10.0.2.2")
STEPS: list[tuple[Step, str]] = [
    (AddRoute(NET, DIRECT), "ip route add 10.244.2.0/24 via 10.0.0.2 dev eth0 proto 75 metric 75 src 10.0.0.1"),
    (
        SetRoute(NET, EQUAL),
        "ip route replace 10.244.2.0/24 proto 75 metric 75 nexthop via 10.0.0.2 dev eth0 nexthop via 10.0.9.3 dev eth1",
    ),
    (
        AddRoute(NET, Route((Hop("fd00::2", "eth0"),))),
        "ip route add 10.244.2.0/24 via inet6 fd00::2 dev eth0 proto 75 metric 75",
    ),
    (
        AddRoute(NET6, Route((Hop("fd00::2", "eth0"),))),
        "ip route add fd00:244:2::/64 via fd00::2 dev eth0 proto 75 metric 75",
    ),
    (
        AddRoute(RouteId("10.0.2.2/32", 77), Route((vxlan_hop("10.0.2.2"),))),
        "ip route add 10.0.2.2/32 via 10.0.2.2 dev kube-vxlan onlink table 77 proto 75 metric 75",
    ),
    (RemoveRoute(NET), "ip route del 10.244.2.0/24 proto 75 metric 75"),
    (RemoveRoute(RouteId("10.0.2.2/32", 77)), "ip route del 10.0.2.2/32 table 77 proto 75 metric 75"),
    (AddRule(Rule("10.244.1.0/24")), "ip rule add from 10.244.1.0/24 lookup 77 priority 32700 protocol 75"),
    (RemoveRule(Rule("fd00:244:1::/64")), "ip -6 rule del from fd00:244:1::/64 lookup 77 priority 32700 protocol 75"),
    (
        AddDevice("tun-f9292b96ff7", Tunnel("ipip", "10.0.0.1", "10.0.2.2", 0, 1480)),
        "ip link add name tun-f9292b96ff7 mtu 1480 type ipip local 10.0.0.1 remote 10.0.2.2 ttl 64",
    ),
    (
        SetDevice("tun-f9292b96ff7", Tunnel("fou", "10.0.0.1", "10.0.2.2", 5555)),
        "ip link change name tun-f9292b96ff7 type ipip local 10.0.0.1 remote 10.0.2.2 ttl 64 encap gue "
        "encap-dport 5555",
    ),
    (
        AddDevice("tun-a7b666fe782", Tunnel("fou6", "fd00:1::2", "fd00:2::2", 5555, 1448)),
        "ip link add name tun-a7b666fe782 mtu 1448 type ip6tnl mode ip6ip6 encaplimit none local fd00:1::2 "
        "remote fd00:2::2 ttl 64 encap gue encap-dport 5555",
    ),
    (
        AddDevice(VXLAN, vxlan("10.0.0.1", mtu=1450)),
        "ip link add name kube-vxlan mtu 1450 address 0a:5c:0a:00:00:01 type vxlan id 75 local 10.0.0.1 dstport 4789 "
        "nolearning",
    ),
    (RenameDevice("tun-00000000000", "tun-f9292b96ff7"), "ip link set tun-00000000000 name tun-f9292b96ff7"),
    (RemoveDevice(VXLAN), "ip link del kube-vxlan"),
    (
        SetNeighbour(NEIGHBOUR, MAC),
        "ip neighbour replace 10.0.2.2 lladdr 0a:5c:0a:00:02:02 dev kube-vxlan nud permanent",
    ),
    (RemoveNeighbour(NEIGHBOUR), "ip neighbour del 10.0.2.2 dev kube-vxlan"),
    (
        SetForward(FORWARD, "10.0.2.2"),
        "bridge fdb replace 0a:5c:0a:00:02:02 dev kube-vxlan dst 10.0.2.2 self permanent",
    ),
    (RemoveForward(FORWARD), "bridge fdb del 0a:5c:0a:00:02:02 dev kube-vxlan self"),
    (AddFouPort(FouPort(5555)), "ip fou add port 5555 gue"),
    (RemoveFouPort(FouPort(5555, 6)), "ip fou del port 5555 gue -6"),
]


@pytest.mark.parametrize(("step", "command"), STEPS)
def test_a_step_is_the_command_that_does_it(step: Step, command: str) -> None:
    assert render.command(step) == command


def test_all_that_is_wanted_is_a_script_in_an_order_that_works() -> None:
    wanted = Wanted(
        routes={NET: Route((vxlan_hop("10.0.2.2"),), "10.0.0.1")},
        devices={VXLAN: vxlan("10.0.0.1", mtu=1450)},
        neighbours={NEIGHBOUR: MAC},
        forwards={FORWARD: "10.0.2.2"},
        rules=frozenset({Rule("10.244.1.0/24")}),
        fou_ports=frozenset({FouPort(5555)}),
    )
    assert list(render.lines(wanted)) == [
        "ip fou add port 5555 gue",
        "ip link add name kube-vxlan mtu 1450 address 0a:5c:0a:00:00:01 type vxlan id 75 local 10.0.0.1 dstport 4789 "
        "nolearning",
        "ip link set kube-vxlan alias kube-router up",
        "bridge fdb replace 0a:5c:0a:00:02:02 dev kube-vxlan dst 10.0.2.2 self permanent",
        "ip neighbour replace 10.0.2.2 lladdr 0a:5c:0a:00:02:02 dev kube-vxlan nud permanent",
        "ip route add 10.244.2.0/24 via 10.0.2.2 dev kube-vxlan onlink proto 75 metric 75 src 10.0.0.1",
        "ip rule add from 10.244.1.0/24 lookup 77 priority 32700 protocol 75",
    ]
