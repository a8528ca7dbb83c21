"""Steps come in the order in which packets need them, and only those that are needed."""

from kube_router.plugins.routing.model import (
    VXLAN,
    Actual,
    AddDevice,
    AddFouPort,
    AddRoute,
    AddRule,
    Device,
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
    Tunnel,
    Wanted,
    tunnel_hop,
    tunnel_name,
    vxlan,
    vxlan_entries,
    vxlan_hop,
)
from kube_router.plugins.routing.plan import carry_out, plan, plan_routes

NET, OTHER, NODE = RouteId("10.244.2.0/24"), RouteId("10.244.3.0/24"), RouteId("10.0.2.2/32", 77)
DIRECT = Route((Hop("10.0.0.2", "eth0"),), "10.0.0.1")
TUNNELLED = Route((tunnel_hop("10.0.2.2"),), "10.0.0.1")
NAME = tunnel_name("10.0.2.2")
IPIP, FOU = Tunnel("ipip", "10.0.0.1", "10.0.2.2", 0, 1480), Tunnel("fou", "10.0.0.1", "10.0.2.2", 5555, 1468)
POD_RULE = Rule("10.244.1.0/24")
NEIGHBOUR, FORWARD, MAC = vxlan_entries("10.0.2.2")
OVER_VXLAN = Route((vxlan_hop("10.0.2.2"),))


def vxlan_wanted(tunnel: Tunnel) -> Wanted:
    return Wanted(
        routes={NET: OVER_VXLAN, OTHER: DIRECT},
        devices={VXLAN: tunnel},
        neighbours={NEIGHBOUR: MAC},
        forwards={FORWARD: "10.0.2.2"},
    )


def carried_out(wanted: Wanted) -> Actual:
    actual = Actual()
    carry_out(actual, plan(wanted, actual, in_sync=True))
    return actual


def test_ports_come_before_devices_devices_before_routes_and_routes_before_the_rules_that_lead_to_them() -> None:
    wanted = Wanted(
        routes={NET: TUNNELLED, NODE: Route((tunnel_hop("10.0.2.2"),))},
        devices={NAME: FOU},
        rules=frozenset({POD_RULE}),
        fou_ports=frozenset({FouPort(5555)}),
    )
    assert plan(wanted, Actual(), in_sync=True) == [
        AddFouPort(FouPort(5555)),
        AddDevice(NAME, FOU),
        AddRoute(NET, TUNNELLED),
        AddRoute(NODE, Route((tunnel_hop("10.0.2.2"),))),
        AddRule(POD_RULE),
    ]


def test_what_goes_goes_last_and_in_the_opposite_order() -> None:
    wanted = Wanted(
        routes={NET: TUNNELLED}, devices={NAME: FOU}, rules=frozenset({POD_RULE}), fou_ports=frozenset({FouPort(5555)})
    )
    assert plan(Wanted(routes={OTHER: DIRECT}), carried_out(wanted), in_sync=True) == [
        AddRoute(OTHER, DIRECT),
        RemoveRule(POD_RULE),
        RemoveRoute(NET),
        RemoveDevice(NAME),
        RemoveFouPort(FouPort(5555)),
    ]


def test_before_in_sync_nothing_is_removed_and_what_is_wanted_is_set() -> None:
    actual = carried_out(Wanted(routes={NET: TUNNELLED, OTHER: DIRECT}, devices={NAME: IPIP}))
    assert plan(Wanted(routes={NET: DIRECT}), actual, in_sync=False) == [SetRoute(NET, DIRECT)]


def test_nothing_is_done_where_nothing_differs() -> None:
    wanted = vxlan_wanted(vxlan("10.0.0.1", mtu=1450))
    assert plan(wanted, carried_out(wanted), in_sync=True) == []


def test_an_mtu_that_is_left_to_the_kernel_is_not_corrected() -> None:
    actual = Actual(devices={NAME: Device(IPIP)})
    assert plan(Wanted(devices={NAME: IPIP._replace(mtu=0)}), actual, in_sync=True) == []
    assert plan(Wanted(devices={NAME: IPIP._replace(mtu=1400)}), actual, in_sync=True) == [
        SetDevice(NAME, IPIP._replace(mtu=1400))
    ]


def test_a_tunnel_changes_its_encapsulation_and_its_ends_in_place() -> None:
    actual = carried_out(Wanted(routes={NET: TUNNELLED}, devices={NAME: IPIP}))
    assert plan(Wanted(routes={NET: TUNNELLED}, devices={NAME: FOU}), actual, in_sync=False) == [SetDevice(NAME, FOU)]


def test_a_device_that_is_down_or_unmarked_is_set() -> None:
    for device in (Device(IPIP, up=False), Device(IPIP, marked=False)):
        assert plan(Wanted(devices={NAME: IPIP}), Actual(devices={NAME: device}), in_sync=False) == [
            SetDevice(NAME, IPIP)
        ]


def test_a_new_mac_costs_the_neighbours_which_are_set_again() -> None:
    actual = carried_out(vxlan_wanted(vxlan("10.0.0.1", mtu=1450)))
    moved = vxlan("10.0.0.9", mtu=1450)
    assert plan(vxlan_wanted(moved), actual, in_sync=True) == [
        SetDevice(VXLAN, moved, new_mac=True),
        SetNeighbour(NEIGHBOUR, MAC),
    ]


def test_what_cannot_be_changed_in_place_is_made_anew_with_all_that_hangs_on_it_once_in_sync() -> None:
    actual = carried_out(vxlan_wanted(vxlan("10.0.0.1", mtu=1450)))
    wanted = vxlan_wanted(vxlan("10.0.0.1", port=8472, mtu=1450))
    assert plan(wanted, actual, in_sync=False) == []
    assert plan(wanted, actual, in_sync=True) == [
        RemoveDevice(VXLAN),
        AddDevice(VXLAN, vxlan("10.0.0.1", port=8472, mtu=1450)),
        SetForward(FORWARD, "10.0.2.2"),
        SetNeighbour(NEIGHBOUR, MAC),
        SetRoute(NET, OVER_VXLAN),
    ]


def test_a_node_that_left_takes_its_entries_along() -> None:
    wanted = vxlan_wanted(vxlan("10.0.0.1", mtu=1450))
    actual = carried_out(wanted)
    without = Wanted(routes={OTHER: DIRECT}, devices=wanted.devices)
    assert plan(without, actual, in_sync=True) == [
        RemoveRoute(NET),
        RemoveNeighbour(NEIGHBOUR),
        RemoveForward(FORWARD),
    ]


def test_kube_routers_tunnel_to_the_same_end_is_renamed_and_marked() -> None:
    actual = Actual(devices={"tun-00000000000": Device(IPIP._replace(mtu=1476), marked=False)})
    wanted = Wanted(devices={NAME: IPIP})
    assert plan(wanted, actual, in_sync=False) == [RenameDevice("tun-00000000000", NAME), SetDevice(NAME, IPIP)]
    carry_out(actual, plan(wanted, actual, in_sync=False))
    assert plan(wanted, actual, in_sync=True) == []


def test_another_device_with_the_wanted_ends_gives_way_once_in_sync() -> None:
    moved = IPIP._replace(local="10.0.0.9")
    actual = Actual(devices={NAME: Device(moved), "tun-00000000000": Device(IPIP, marked=False)})
    wanted = Wanted(devices={NAME: IPIP})
    assert plan(wanted, actual, in_sync=False) == []
    assert plan(wanted, actual, in_sync=True) == [RemoveDevice("tun-00000000000"), SetDevice(NAME, IPIP)]


def test_a_port_that_somebody_else_opened_is_used() -> None:
    actual = Actual(foreign_fou_ports=frozenset({FouPort(5555)}))
    assert plan(Wanted(fou_ports=frozenset({FouPort(5555)})), actual, in_sync=True) == []


def test_some_routes_are_planned_without_a_look_at_the_others() -> None:
    actual = Actual(routes={NET: DIRECT, OTHER: DIRECT, NODE: DIRECT})
    routes = {NET: TUNNELLED, RouteId("10.244.9.0/24"): DIRECT, NODE: DIRECT}
    changed = [NET, OTHER, NODE, RouteId("10.244.9.0/24"), RouteId("10.244.8.0/24")]
    assert plan_routes(routes, actual, changed, in_sync=True) == [
        SetRoute(NET, TUNNELLED),
        AddRoute(RouteId("10.244.9.0/24"), DIRECT),
        RemoveRoute(OTHER),
    ]
    assert plan_routes(routes, actual, [OTHER], in_sync=False) == []
