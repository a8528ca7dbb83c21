"""Routing's part of a real kernel: what it writes is what ip shows, packets follow it, and nothing else changes."""

import time
from collections.abc import Callable
from functools import wraps

import anyio
import pytest
from anyio.lowlevel import checkpoint
from harness.netns import run_in_new, sh
from harness.routed import bring_about, ends, pair, pings

from kube_router.core.monitor import Monitor
from kube_router.core.netlink import NETLINK_ROUTE
from kube_router.plugins.routing import render, rtnetlink
from kube_router.plugins.routing.facts import Gateway, Host, Link
from kube_router.plugins.routing.host import read_host
from kube_router.plugins.routing.kernel import Kernel
from kube_router.plugins.routing.model import (
    VXLAN,
    VXLAN6,
    AddDevice,
    AddFouPort,
    AddRoute,
    AddRule,
    FouPort,
    Hop,
    RemoveDevice,
    RemoveNeighbour,
    RemoveRoute,
    RemoveRule,
    Route,
    RouteId,
    Rule,
    SetDevice,
    SetNeighbour,
    SetRoute,
    Step,
    Tunnel,
    Wanted,
    host_prefix,
    tunnel_hop,
    tunnel_name,
    vxlan,
    vxlan_entries,
    vxlan_hop,
    vxlan_name,
)
from kube_router.plugins.routing.plan import plan
from kube_router.plugins.routing.watch import GROUPS, Watch

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

NET, NET6 = RouteId("10.244.2.0/24"), RouteId("fd00:244:2::/64")
VIA2 = Route((Hop("10.0.0.2", "eth0"),), "10.0.0.1")
VIA3 = Route((Hop("10.0.0.3", "eth0"),), "10.0.0.1")
BOTH = Route((Hop("10.0.0.2", "eth0"), Hop("10.0.9.3", "eth1")), "10.0.0.1")
SIX2 = Route((Hop("fd00:10::2", "eth0"),), "fd00:10::1")
SIX_BOTH = Route((Hop("fd00:10::2", "eth0"), Hop("fd00:19::3", "eth1")), "fd00:10::1")
REPAIRED_S = 1.0

Test = Callable[[], None]


def isolated(test: Test) -> Test:
    """Run a test in a network namespace of its own, with two interfaces of both families."""

    @wraps(test)
    def inside() -> None:
        def body() -> None:
            for number, name in enumerate(("eth0", "eth1")):
                net = number * 9
                sh(
                    f"""
                    ip link add {name} type veth peer name peer{number}
                    ip link set peer{number} up
                    ip link set {name} up
                    ip addr add 10.0.{net}.1/24 dev {name}
                    ip addr add fd00:1{net}::1/64 dev {name} nodad
                    """
                )
            test()

        run_in_new(body)

    return inside


def do(*steps: Step) -> dict[str, int]:
    applied = Kernel().apply(steps)
    assert [str(failed.error) for failed in applied.failed] == []
    return dict(applied.changes)


def refused(*steps: Step) -> list[str]:
    return [str(failed.error) for failed in Kernel().apply(steps).failed]


def shown(prefix: str) -> list[str]:
    """Return what ip shows of a prefix, a line for each hop."""
    family = "-6" if ":" in prefix else "-4"
    return [line.strip() for line in sh(f"ip {family} route show {prefix}").splitlines()]


# -- routes ------------------------------------------------------------------------------------------------------------


@isolated
def test_a_route_is_what_ip_shows_and_what_is_observed() -> None:
    assert do(AddRoute(NET, VIA2), AddRoute(NET6, SIX2)) == {"route added": 2}
    assert shown(NET.destination) == ["10.244.2.0/24 via 10.0.0.2 dev eth0 proto 75 src 10.0.0.1 metric 75"]
    assert shown(NET6.destination) == [
        "fd00:244:2::/64 via fd00:10::2 dev eth0 proto 75 src fd00:10::1 metric 75 pref medium"
    ]
    assert Kernel().observe().routes == {NET: VIA2, NET6: SIX2}


@isolated
def test_equal_hops_become_one_multipath_route_of_either_family() -> None:
    do(AddRoute(NET, BOTH), AddRoute(NET6, SIX_BOTH))
    assert shown(NET.destination) == [
        "10.244.2.0/24 proto 75 src 10.0.0.1 metric 75",
        "nexthop via 10.0.0.2 dev eth0 weight 1",
        "nexthop via 10.0.9.3 dev eth1 weight 1",
    ]
    assert shown(NET6.destination) == [
        "fd00:244:2::/64 proto 75 src fd00:10::1 metric 75 pref medium",
        "nexthop via fd00:10::2 dev eth0 weight 1",
        "nexthop via fd00:19::3 dev eth1 weight 1",
    ]
    assert Kernel().observe().routes == {NET: BOTH, NET6: SIX_BOTH}
    assert do(RemoveRoute(NET), RemoveRoute(NET6)) == {"route removed": 2}
    assert shown(NET.destination) == shown(NET6.destination) == []


SHAPES4 = [VIA2, BOTH, VIA3, Route((Hop("", "eth1"),)), Route((Hop("10.0.7.7", "eth1", True),)), BOTH, VIA2]
SHAPES6 = [
    SIX2,
    SIX_BOTH,
    Route((Hop("", "eth1"),)),
    Route((Hop("fe80::7", "eth1"),)),
    SIX_BOTH,
    Route((Hop("", "eth0"),)),
    SIX_BOTH,
    SIX2,
]


@isolated
def test_any_shape_of_route_takes_the_place_of_any_other() -> None:
    do(AddRoute(NET, VIA2), AddRoute(NET6, SIX2))
    for shape in SHAPES4:
        do(SetRoute(NET, shape))
        assert Kernel().observe().routes == {NET: shape, NET6: SIX2}
    for shape in SHAPES6:
        do(SetRoute(NET6, shape))
        assert Kernel().observe().routes == {NET: SHAPES4[-1], NET6: shape}


@isolated
def test_an_ipv4_route_may_have_an_ipv6_gateway() -> None:
    routes = {
        NET: Route((Hop("fd00:10::2", "eth0"),), "10.0.0.1"),
        RouteId("10.244.3.0/24"): Route((Hop("10.0.0.2", "eth0"), Hop("fd00:19::3", "eth1"))),
    }
    do(*(AddRoute(*item) for item in routes.items()))
    assert shown(NET.destination) == ["10.244.2.0/24 via inet6 fd00:10::2 dev eth0 proto 75 src 10.0.0.1 metric 75"]
    assert Kernel().observe().routes == routes


@isolated
def test_others_routes_to_the_same_prefix_stay_whatever_we_do() -> None:
    sh(
        f"""
        ip route add {NET.destination} via 10.0.9.9
        ip route add {NET.destination} via 10.0.9.8 proto bird metric 32
        ip route add {NET6.destination} via fd00:19::9
        ip route add 10.244.3.0/24 via 10.0.0.9 proto 75 metric 20
        ip route add 10.244.4.0/24 dev eth0 proto 75 table 99 metric 75
        ip rule add from 10.244.1.0/24 lookup 77
        ip rule add from 10.244.1.0/24 lookup 99 priority 32700 protocol 3
        """
    )
    before = sh("ip route; ip -6 route; ip rule; ip route show table 99")
    do(AddRoute(NET, VIA2), AddRoute(NET6, SIX2), AddRule(Rule("10.244.1.0/24")))
    assert Kernel().observe().routes == {NET: VIA2, NET6: SIX2}
    do(SetRoute(NET, BOTH), SetRoute(NET6, SIX_BOTH))
    changes = Kernel().cleanup()
    assert changes == {"route removed": 2, "rule removed": 1}
    assert sh("ip route; ip -6 route; ip rule; ip route show table 99") == before


@isolated
def test_a_route_that_somebody_else_made_with_our_metric_is_not_replaced() -> None:
    sh(f"ip route add {NET.destination} via 10.0.9.9 metric 75; ip route add {NET6.destination} dev eth1 metric 75")
    assert refused(AddRoute(NET, VIA2), AddRoute(NET6, SIX2), AddRoute(RouteId("10.244.3.0/24"), VIA3)) == [
        "route not added: ip route add 10.244.2.0/24 via 10.0.0.2 dev eth0 proto 75 metric 75 src 10.0.0.1: EEXIST, "
        "somebody else has a route to 10.244.2.0/24 with the same metric; it stays",
        "route not added: ip route add fd00:244:2::/64 via fd00:10::2 dev eth0 proto 75 metric 75 src fd00:10::1: "
        "EEXIST, somebody else has a route to fd00:244:2::/64 with the same metric; it stays",
    ]
    assert shown(NET.destination) == ["10.244.2.0/24 via 10.0.9.9 dev eth1 metric 75"]
    assert shown(NET6.destination) == ["fd00:244:2::/64 dev eth1 metric 75 pref medium"]
    assert Kernel().observe().routes == {RouteId("10.244.3.0/24"): VIA3}


@isolated
def test_a_route_of_ours_that_was_not_known_is_set() -> None:
    do(AddRoute(NET, VIA2))
    assert do(AddRoute(NET, VIA3), AddRoute(NET6, SIX2)) == {"route added": 1, "route set": 1}
    assert Kernel().observe().routes == {NET: VIA3, NET6: SIX2}


@isolated
def test_a_route_that_cannot_be_is_told_and_the_others_are_made() -> None:
    nowhere = Route((Hop("10.99.0.1", "eth0"),))
    failures = refused(
        AddRoute(NET, nowhere),
        AddRoute(NET6, Route((Hop("fd00:99::1", "eth0"),))),
        AddRoute(RouteId("10.244.5.0/24"), Route((tunnel_hop("10.0.5.2"),))),
        AddRoute(RouteId("10.244.3.0/24"), VIA2),
        AddRoute(RouteId("10.244.6.0/24"), Route((Hop("10.0.0.2", "eth0"),), "10.99.0.9")),
        RemoveRoute(RouteId("10.244.7.0/24")),
    )
    assert len(failures) == 4
    (interface,) = (words for words in failures if "10.244.5.0/24" in words)
    assert interface.endswith(f"there is no interface {tunnel_name('10.0.5.2')}")
    (four,) = (words for words in failures if NET.destination in words)
    assert "ENETUNREACH" in four
    assert "no interface that is up reaches the next hop directly" in four
    (six,) = (words for words in failures if NET6.destination in words)
    assert "EHOSTUNREACH" in six
    (source,) = (words for words in failures if "10.244.6.0/24" in words)
    assert "EINVAL" in source
    assert Kernel().observe().routes == {RouteId("10.244.3.0/24"): VIA2}


@isolated
def test_an_interface_that_goes_down_takes_its_routes_along_and_they_come_again() -> None:
    wanted = Wanted(routes={NET: VIA2, NET6: SIX2})
    do(*plan(wanted, Kernel().observe(), in_sync=True))
    sh("ip link set eth0 down")
    assert Kernel().observe().routes == {}
    assert "no interface that is up reaches" in refused(AddRoute(NET, VIA2))[0]
    sh("ip link set eth0 up; ip addr replace fd00:10::1/64 dev eth0 nodad")
    do(*plan(wanted, Kernel().observe(), in_sync=True))
    assert Kernel().observe().routes == {NET: VIA2, NET6: SIX2}


@isolated
def test_ten_thousand_routes_are_written_and_read_back_exactly() -> None:
    routes = {RouteId(f"20.{i >> 8}.{i & 255}.0/24"): (VIA2, VIA3, BOTH)[i % 3] for i in range(10_000)}
    routes |= {RouteId(f"fd00:a:{i:x}::/48" if i else "fd00:a::/48"): (SIX2, SIX_BOTH)[i % 2] for i in range(2_000)}
    wanted = Wanted(routes=routes)
    assert do(*plan(wanted, Kernel().observe(), in_sync=True)) == {"route added": 12_000}
    actual = Kernel().observe()
    assert actual.routes == routes
    assert plan(wanted, actual, in_sync=True) == []
    assert Kernel().cleanup() == {"route removed": 12_000}


@isolated
def test_what_is_given_up_is_not_written() -> None:
    applied = Kernel().apply([AddRoute(NET, VIA2), AddRule(Rule("10.244.1.0/24"))], fenced=lambda: True)
    assert [failed.step for failed in applied.failed] == [AddRoute(NET, VIA2), AddRule(Rule("10.244.1.0/24"))]
    assert Kernel().observe().routes == {}


# -- rules, vxlan ------------------------------------------------------------------------------------------------------


@isolated
def test_rules_lead_pods_to_the_overlay_table_and_are_made_once() -> None:
    rules = Rule("10.244.1.0/24"), Rule("fd00:244:1::/64")
    assert do(*map(AddRule, rules)) == {"rule added": 2}
    assert do(*map(AddRule, rules)) == {}
    assert "32700:\tfrom 10.244.1.0/24 lookup 77 proto 75" in sh("ip rule").splitlines()
    assert "32700:\tfrom fd00:244:1::/64 lookup 77 proto 75" in sh("ip -6 rule").splitlines()
    assert Kernel().observe().rules == set(rules)
    assert do(*map(RemoveRule, rules)) == {"rule removed": 2}
    assert do(*map(RemoveRule, rules)) == {}
    assert Kernel().observe().rules == set()


def overlay(number: int, other: int) -> Wanted:
    """Return what a node of the pair wants for vxlan of both families."""
    (mine, mine6, pods, pods6), (node, node6, theirs, theirs6) = ends(number), ends(other)
    entries = [(vxlan_entries(address), address) for address in (node, node6)]
    return Wanted(
        routes={
            RouteId(theirs): Route((vxlan_hop(node),), mine),
            RouteId(theirs6): Route((vxlan_hop(node6),), mine6),
            RouteId(host_prefix(node), 77): Route((vxlan_hop(node),)),
            RouteId(host_prefix(node6), 77): Route((vxlan_hop(node6),)),
        },
        devices={VXLAN: vxlan(mine, mtu=1450), VXLAN6: vxlan(mine6, mtu=1430)},
        neighbours={neighbour: mac for (neighbour, _, mac), _ in entries},
        forwards={forward: address for (_, forward, _), address in entries},
        rules=frozenset({Rule(pods), Rule(pods6)}),
    )


def test_pods_of_nodes_in_different_subnets_talk_over_vxlan_of_both_families() -> None:
    with pair() as nodes:
        assert not pings(nodes.a, "10.244.1.1", "10.244.2.1")
        bring_about(nodes.a, overlay(1, 2))
        bring_about(nodes.b, overlay(2, 1))
        assert pings(nodes.a, "10.244.1.1", "10.244.2.1")
        assert pings(nodes.a, "fd00:244:1::1", "fd00:244:2::1")
        assert pings(nodes.b, "10.0.2.2", "10.244.1.1")
        assert pings(nodes.a, "10.244.1.1", "10.0.2.2")  # by table 77, there and back
        assert pings(nodes.a, "fd00:244:1::1", "fd00:2::2")
        assert pings(nodes.a, "10.244.1.1", "10.244.2.1", size=1450 - 28)  # what the MTU promises
        assert pings(nodes.a, "fd00:244:1::1", "fd00:244:2::1", size=1430 - 48)
        sh(f"ip -n {nodes.a} link set {VXLAN} mtu 1400; ip -n {nodes.a} neigh flush dev {VXLAN6} nud permanent")
        bring_about(nodes.a, overlay(1, 2))
        assert pings(nodes.a, "fd00:244:1::1", "fd00:244:2::1")


@isolated
def test_a_vxlan_changes_its_address_and_mac_in_place_and_its_routes_stay() -> None:
    neighbour, forward, mac = vxlan_entries("10.0.5.2")
    wanted = Wanted(
        routes={NET: Route((vxlan_hop("10.0.5.2"),))},
        devices={VXLAN: vxlan("10.0.0.1", mtu=1450)},
        neighbours={neighbour: mac},
        forwards={forward: "10.0.5.2"},
    )
    do(*plan(wanted, Kernel().observe(), in_sync=True))
    before = sh(f"ip -o link show {VXLAN} | cut -d: -f1")
    wanted.devices = {VXLAN: vxlan("10.0.9.1", mtu=1400)}
    steps = plan(wanted, Kernel().observe(), in_sync=False)
    assert steps == [SetDevice(VXLAN, vxlan("10.0.9.1", mtu=1400), new_mac=True), SetNeighbour(neighbour, mac)]
    do(*steps)
    assert plan(wanted, Kernel().observe(), in_sync=True) == []
    assert sh(f"ip -o link show {VXLAN} | cut -d: -f1") == before


@isolated
def test_a_vxlan_with_another_port_is_made_anew_with_all_that_hangs_on_it() -> None:
    neighbour, forward, mac = vxlan_entries("10.0.5.2")
    wanted = Wanted(
        routes={NET: Route((vxlan_hop("10.0.5.2"),)), RouteId("10.244.3.0/24"): VIA2},
        devices={VXLAN: vxlan("10.0.0.1", mtu=1450)},
        neighbours={neighbour: mac},
        forwards={forward: "10.0.5.2"},
    )
    do(*plan(wanted, Kernel().observe(), in_sync=True))
    wanted.devices = {VXLAN: vxlan("10.0.0.1", port=8472, mtu=1450)}
    changes = do(*plan(wanted, Kernel().observe(), in_sync=True))
    assert changes == {
        "device removed": 1,
        "device added": 1,
        "forward set": 1,
        "neighbour set": 1,
        "route set": 1,
    }
    assert plan(wanted, Kernel().observe(), in_sync=True) == []


@isolated
def test_a_device_that_somebody_set_down_or_took_our_mark_off_is_put_right() -> None:
    wanted = Wanted(devices={VXLAN: vxlan("10.0.0.1", mtu=1450), VXLAN6: vxlan("fd00:10::1", mtu=1430)})
    do(*plan(wanted, Kernel().observe(), in_sync=True))
    sh(f"ip link set {VXLAN} down; ip link set {VXLAN6} alias ''")
    changes = do(*plan(wanted, Kernel().observe(), in_sync=False))
    assert changes == {"device set": 2}
    assert plan(wanted, Kernel().observe(), in_sync=True) == []


@isolated
def test_an_interface_with_a_name_of_ours_that_is_something_else_is_left_and_told() -> None:
    name = tunnel_name("10.0.5.2")
    sh(f"ip link add {name} type bridge; ip link add {VXLAN} type vxlan id 9 dstport 4790")
    assert Kernel().observe().devices == {}
    (told,) = refused(AddDevice(VXLAN, vxlan("10.0.0.1")))
    assert told.endswith("somebody else has an interface of this name, or a tunnel with these ends")
    assert Kernel().cleanup() == {}
    assert "id 9" in sh(f"ip -d link show {VXLAN}")


@isolated
def test_removing_what_is_gone_is_a_success() -> None:
    neighbour, _, _ = vxlan_entries("10.0.5.2")
    assert do(RemoveDevice(VXLAN), RemoveNeighbour(neighbour), RemoveRoute(NET)) == {}


KERNEL_HAS: dict[str, Step] = {
    "ipip": AddDevice("tun-0123456789a", Tunnel("ipip", "10.0.0.1", "10.0.5.2")),
    "ip6tnl": AddDevice("tun-0123456789a", Tunnel("ip6tnl", "fd00:10::1", "fd00:15::2")),
    "fou": AddFouPort(FouPort(5555)),
}


@pytest.mark.parametrize("kind", KERNEL_HAS)
def test_what_the_kernel_lacks_is_told_with_its_module_and_the_rest_is_done(kind: str) -> None:
    @isolated
    def body() -> None:
        failures = refused(KERNEL_HAS[kind], AddRoute(NET, VIA2))
        assert Kernel().observe().routes == {NET: VIA2}
        if not failures:
            pytest.skip(f"this kernel has {kind}")
        (told,) = failures
        assert f"the kernel has no {'FOU' if kind == 'fou' else kind}" in told
        assert f"`modprobe {'ip6_tunnel' if kind == 'ip6tnl' else kind}`" in told

    body()


@isolated
def test_what_is_rendered_and_given_to_a_shell_is_what_is_wanted() -> None:
    (_, _, pods, pods6), node, node6 = ends(1), "10.0.5.2", "fd00:15::2"
    entries = [(vxlan_entries(address), address) for address in (node, node6)]
    wanted = Wanted(
        routes={
            NET: VIA2,
            NET6: SIX_BOTH,
            RouteId("10.244.3.0/24"): BOTH,
            RouteId("10.244.4.0/24"): Route((vxlan_hop(node),), "10.0.0.1"),
            RouteId("10.244.6.0/24"): Route((Hop("fd00:10::2", "eth0"),)),
            RouteId("10.244.7.0/24"): Route((Hop("", "eth0"),)),
            RouteId("fd00:244:4::/64"): Route((vxlan_hop(node6),), "fd00:10::1"),
            RouteId(host_prefix(node), 77): Route((vxlan_hop(node),)),
        },
        devices={vxlan_name(its): vxlan(its, mtu=1400) for its in ("10.0.0.1", "fd00:10::1")},
        neighbours={neighbour: mac for (neighbour, _, mac), _ in entries},
        forwards={forward: address for (_, forward, _), address in entries},
        rules=frozenset({Rule(pods), Rule(pods6)}),
    )
    for line in render.lines(wanted):
        sh(line)
    assert plan(wanted, Kernel().observe(), in_sync=True) == []


# -- the host ----------------------------------------------------------------------------------------------------------


@isolated
def test_the_host_is_its_own_links_with_global_addresses_and_its_gateways() -> None:
    sh(
        f"""
        ip addr add 10.0.0.77/32 dev eth0
        ip link set eth1 mtu 1400
        ip link add kube-bridge type bridge
        ip addr add 10.244.1.1/24 dev kube-bridge
        ip addr add 127.0.0.5/8 dev lo
        ip route add default via 10.0.9.254 metric 200
        ip route add default via 10.0.0.254 metric 100
        ip route add default via fe80::99 dev eth1
        ip route add 10.7.0.0/16 nexthop via 10.0.9.9 nexthop via 10.0.0.9
        ip route add {NET.destination} via 10.0.0.2 proto 75 metric 75
        ip route add 10.244.3.0/24 via 10.0.0.2 proto 17
        ip route add 10.8.0.0/16 dev eth1
        """
    )
    assert read_host("node-1") == Host(
        name="node-1",
        links=(
            Link(name="eth0", mtu=1500, addresses=("10.0.0.1/24", "10.0.0.77/32", "fd00:10::1/64")),
            Link(name="eth1", mtu=1400, addresses=("10.0.9.1/24", "fd00:19::1/64")),
        ),
        gateways=(
            Gateway(destination="10.7.0.0/16", via="10.0.0.9", device="eth0"),
            Gateway(destination="0.0.0.0/0", via="10.0.0.254", device="eth0"),
            Gateway(destination="::/0", via="fe80::99", device="eth1"),
        ),
    )


# -- the watch ---------------------------------------------------------------------------------------------------------


def seen(command: str, *, writing: bool = False, setup: str = "true") -> tuple[int, int]:
    """Return how often a watch tells of a change, and of one of the host, while a command is run.

    With ``writing`` it is run as our own writes are.
    """
    wanted = {NET, NET6, Rule("10.244.1.0/24")}
    watch = Watch(wanted=lambda its: its in wanted, uses=lambda name: name in ("eth0", "eth1", VXLAN))
    told = {"changed": 0, "host": 0}

    async def body() -> None:
        heard = anyio.Event()

        def tell(what: str) -> None:
            told[what] += 1
            heard.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch.run, lambda: tell("changed"), lambda: tell("host"))
            await checkpoint()  # it listens after its first step
            sh(setup)
            with anyio.move_on_after(0.2):
                await anyio.sleep_forever()  # what has been said until now is heard
            told.update(changed=0, host=0)
            heard = anyio.Event()
            if writing:
                watch.begin()
            sh(command)
            if writing:
                watch.end()
            with anyio.move_on_after(REPAIRED_S):
                await heard.wait()
            tasks.cancel_scope.cancel()

    anyio.run(body)
    return told["changed"], told["host"]


OURS = f"ip route add {NET.destination} via 10.0.0.2 proto 75 metric 75"
LOSSES = [
    pytest.param(f"ip route del {NET.destination} metric 75", True, id="route removed"),
    pytest.param(f"ip route replace {NET.destination} via 10.0.0.3 metric 75", True, id="route replaced"),
    pytest.param("ip rule del from 10.244.1.0/24 lookup 77", True, id="rule removed"),
    pytest.param(f"ip link del {VXLAN}", True, id="device removed"),
    pytest.param(f"ip link set {VXLAN} down", True, id="device down"),
    pytest.param("ip link set eth0 down; ip link set eth0 up", True, id="interface bounced"),
    pytest.param("ip addr del 10.0.0.1/24 dev eth0", True, id="source address removed"),
    pytest.param("ip route add 10.99.0.0/16 via 10.0.0.2", False, id="route of somebody else"),
    pytest.param("ip route del 10.244.9.0/24 metric 75", False, id="route of ours that is not wanted"),
    pytest.param("ip link add other type bridge; ip link set other up", False, id="another interface"),
]


@pytest.mark.parametrize(("command", "lost"), LOSSES)
def test_what_others_take_away_is_noticed_within_a_second(command: str, lost: bool) -> None:
    @isolated
    def body() -> None:
        setup = (
            f"{OURS}; ip route add 10.244.9.0/24 via 10.0.0.2 proto 75 metric 75; ip link add {VXLAN} type vxlan id 75 "
            f"dstport 4789; ip link set {VXLAN} up; ip rule add from 10.244.1.0/24 lookup 77 priority 32700 protocol 75"
        )
        changed, _ = seen(command, setup=setup)
        assert bool(changed) == lost

    body()


@isolated
def test_a_removal_is_noticed_while_we_write_and_what_we_add_is_not() -> None:
    assert seen(OURS, writing=True) == (0, 0)
    assert seen(f"ip route del {NET.destination} metric 75", writing=True)[0] == 1
    assert seen(OURS) == (1, 0)


HOST_CHANGES = [
    pytest.param("ip addr add 10.0.0.9/24 dev eth0", True, id="address added"),
    pytest.param("ip link set eth1 mtu 1400", True, id="mtu"),
    pytest.param("ip route add default via 10.0.0.254", True, id="default route"),
    pytest.param("ip link add kube-bridge type bridge; ip addr add 10.244.1.1/24 dev kube-bridge", False, id="ours"),
    pytest.param("ip addr add 10.244.1.1/24 dev eth0 scope host", False, id="address that is not global"),
    pytest.param(OURS, False, id="route of ours"),
    pytest.param("ip link add pod type veth peer name other; ip link set pod up", False, id="a pod's cable"),
]


@pytest.mark.parametrize(("command", "expected"), HOST_CHANGES)
def test_changes_of_the_nodes_own_addresses_and_mtu_are_told(command: str, expected: bool) -> None:
    @isolated
    def body() -> None:
        _, host = seen(command, setup="ip link set eth0 mtu 1499; ip link set eth1 mtu 1499")
        assert bool(host) == expected

    body()


@isolated
def test_of_what_a_monitor_ignores_nothing_comes_until_it_is_told_otherwise() -> None:
    with Monitor(NETLINK_ROUTE, GROUPS) as monitor:
        monitor.ignore(rtnetlink.RTM_NEWROUTE)
        do(AddRoute(NET, VIA2), RemoveRoute(NET))
        assert [its.kind for its in monitor.pending()] == [rtnetlink.RTM_DELROUTE]
        monitor.ignore(0)
        do(AddRoute(NET, VIA2))
        assert [its.kind for its in monitor.pending()] == [rtnetlink.RTM_NEWROUTE]
        monitor.ignore(0)


@isolated
def test_a_multipath_route_outlives_one_of_its_interfaces() -> None:
    wanted = Wanted(routes={NET: BOTH, NET6: SIX_BOTH})
    do(*plan(wanted, Kernel().observe(), in_sync=True))
    sh("ip link set eth1 down")
    assert "10.0.0.2" in "".join(shown(NET.destination))
    assert "fd00:10::2" in "".join(shown(NET6.destination))
    sh("ip link set eth1 up; ip addr replace fd00:19::1/64 dev eth1 nodad")
    do(*plan(wanted, Kernel().observe(), in_sync=True))
    assert Kernel().observe().routes == {NET: BOTH, NET6: SIX_BOTH}
    assert not any("dead" in line for line in shown(NET.destination) + shown(NET6.destination))


@isolated
def test_a_thousand_writes_of_ours_are_not_heard_at_all() -> None:
    steps = [AddRoute(RouteId(f"20.0.{i >> 2}.{(i & 3) << 6}/26"), VIA2) for i in range(1000)]
    wanted = {step.id for step in steps}
    told: list[str] = []
    watch = Watch(wanted=lambda its: its in wanted, uses=lambda name: False)

    async def body() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch.run, lambda: told.append("changed"), lambda: told.append("host"))
            await checkpoint()
            watch.begin()
            started = time.monotonic()
            do(*steps)
            watch.end()
            assert time.monotonic() - started < 30
            await checkpoint()
            tasks.cancel_scope.cancel()

    anyio.run(body)
    assert told == []
