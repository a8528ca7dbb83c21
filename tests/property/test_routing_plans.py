"""Any wanted state is reached from any actual one, in one plan, which deletes nothing before the cluster is in sync."""

from copy import deepcopy
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from kube_router.plugins.routing.model import (
    Actual,
    Device,
    FouPort,
    Hop,
    RemoveDevice,
    RemoveForward,
    RemoveFouPort,
    RemoveNeighbour,
    RemoveRoute,
    RemoveRule,
    Route,
    RouteId,
    Rule,
    Tunnel,
    Wanted,
    tunnel_hop,
    tunnel_name,
    vxlan,
    vxlan_entries,
    vxlan_hop,
    vxlan_name,
)
from kube_router.plugins.routing.plan import carry_out, plan, plan_routes

REMOVALS = RemoveDevice | RemoveForward | RemoveFouPort | RemoveNeighbour | RemoveRoute | RemoveRule
LOCALS = ("10.0.0.1", "10.0.0.9")
REMOTES = ("10.0.2.2", "10.0.3.2", "fd00:2::2")
IDS = [RouteId(f"10.244.{n}.0/24") for n in range(4)] + [RouteId("fd00:244:1::/64"), RouteId("10.0.2.2/32", 77)]
HOPS = [Hop("10.0.0.2", "eth0"), Hop("10.0.0.3", "eth1"), Hop("", "eth1")]
PORTS = [FouPort(5555), FouPort(5555, 6), FouPort(6666)]


def tunnel(remote: str, local: str, kind: str, mtu: int) -> Tunnel:
    if ":" in remote:
        kind, local = {"ipip": "ip6tnl", "fou": "fou6"}[kind], f"fd00::{local[-1]}"
    return Tunnel(kind, local, remote, 5555 if kind.startswith("fou") else 0, mtu)


@st.composite
def wanteds(draw: st.DrawFn) -> Wanted:
    """Draw what a plugin could want: hops go through devices that are wanted too, or the host's."""
    remotes = draw(st.sets(st.sampled_from(REMOTES)))
    local = draw(st.sampled_from(LOCALS))
    devices, neighbours, forwards = {}, {}, {}
    hops = list(HOPS)
    over_vxlan = draw(st.booleans())
    for remote in sorted(remotes):
        if over_vxlan:
            its_local = "fd00::1" if ":" in remote else local
            devices[vxlan_name(remote)] = vxlan(its_local, port=draw(st.sampled_from([4789, 8472])), mtu=1450)
            neighbour, forward, mac = vxlan_entries(remote)
            neighbours[neighbour], forwards[forward] = mac, remote
            hops.append(vxlan_hop(remote))
        else:
            kind, mtu = draw(st.sampled_from(["ipip", "fou"])), draw(st.sampled_from([0, 1400, 1480]))
            devices[tunnel_name(remote)] = tunnel(remote, local, kind, mtu)
            hops.append(tunnel_hop(remote))
    route = st.builds(
        Route,
        st.sets(st.sampled_from(hops), min_size=1, max_size=3).map(lambda its: tuple(sorted(its))),
        st.sampled_from(["", "10.0.0.1"]),
    )
    return Wanted(
        routes=draw(st.dictionaries(st.sampled_from(IDS), route)),
        devices=devices,
        neighbours=neighbours,
        forwards=forwards,
        rules=draw(st.frozensets(st.sampled_from([Rule("10.244.1.0/24"), Rule("fd00:244:1::/64")]))),
        fou_ports=draw(st.frozensets(st.sampled_from(PORTS))),
    )


@st.composite
def actuals(draw: st.DrawFn) -> Actual:
    """Draw what an earlier run, somebody's meddling and kube-router (Go) can leave."""
    actual = Actual()
    for _ in range(draw(st.integers(0, 2))):
        carry_out(actual, plan(draw(wanteds()), actual, in_sync=draw(st.booleans())))
    for name in draw(st.sets(st.sampled_from(sorted(actual.devices)))) if actual.devices else ():
        device = actual.devices[name]
        meddled = st.sampled_from([device._replace(up=False), device._replace(marked=False), None])
        if (got := draw(meddled)) is None:
            del actual.devices[name]
        else:
            actual.devices[name] = got
    for number, remote in enumerate(draw(st.lists(st.sampled_from(REMOTES), unique=True))):
        stray = tunnel(remote, draw(st.sampled_from(LOCALS)), draw(st.sampled_from(["ipip", "fou"])), 1476)
        if not any((its.tunnel.local, its.tunnel.remote) == stray[1:3] for its in actual.devices.values()):
            actual.devices[f"tun-{number:011x}"] = Device(stray, marked=False)
    for id in draw(st.sets(st.sampled_from(IDS))):
        actual.routes.pop(id, None)
    spoilt = draw(st.sets(st.sampled_from(IDS)))
    actual.routes |= dict.fromkeys(spoilt, Route(()))
    actual.foreign_fou_ports = draw(st.frozensets(st.sampled_from(PORTS))) - actual.fou_ports
    return actual


def assert_reached(wanted: Wanted, actual: Actual) -> None:
    assert actual.routes == wanted.routes
    assert actual.neighbours == wanted.neighbours
    assert actual.forwards == wanted.forwards
    assert actual.rules == wanted.rules
    assert actual.fou_ports == wanted.fou_ports - actual.foreign_fou_ports
    assert actual.devices.keys() == wanted.devices.keys()
    for name, device in actual.devices.items():
        tunnel = wanted.devices[name]
        assert device == Device(tunnel if tunnel.mtu else tunnel._replace(mtu=device.tunnel.mtu))


@given(wanteds(), actuals())
def test_one_plan_reaches_what_is_wanted_and_the_next_is_empty(wanted: Wanted, actual: Actual) -> None:
    foreign = actual.foreign_fou_ports
    carry_out(actual, plan(wanted, actual, in_sync=True))
    assert_reached(wanted, actual)
    assert actual.foreign_fou_ports == foreign
    assert plan(wanted, actual, in_sync=True) == []


@given(wanteds(), actuals())
def test_before_in_sync_nothing_is_removed_and_routes_are_as_wanted(wanted: Wanted, actual: Actual) -> None:
    before = deepcopy(actual)
    steps = plan(wanted, actual, in_sync=False)
    assert not any(isinstance(step, REMOVALS) for step in steps)
    carry_out(actual, steps)
    assert before.routes.keys() <= actual.routes.keys()
    assert dict(wanted.routes).items() <= actual.routes.items()
    assert before.rules | wanted.rules == actual.rules
    assert len(before.devices) <= len(actual.devices)
    carry_out(actual, plan(wanted, actual, in_sync=True))
    assert_reached(wanted, actual)


@given(wanteds(), actuals())
def test_no_two_devices_ever_have_the_same_ends(wanted: Wanted, actual: Actual) -> None:
    for step in plan(wanted, actual, in_sync=True):
        carry_out(actual, [step])
        ends = [(its.tunnel.local, its.tunnel.remote) for its in actual.devices.values() if its.tunnel.remote]
        assert len(ends) == len(set(ends))


@given(st.lists(st.dictionaries(st.sampled_from(IDS), st.builds(Route, st.sampled_from([(hop,) for hop in HOPS])))))
def test_route_by_route_reaches_what_a_whole_plan_does(history: list[dict[RouteId, Route]]) -> None:
    incremental, whole = Actual(), Actual()
    for before, now in pairwise([{}, *history]):
        changed = [id for id in IDS if before.get(id) != now.get(id)]
        carry_out(incremental, plan_routes(now, incremental, changed, in_sync=True))
        carry_out(whole, plan(Wanted(routes=now), whole, in_sync=True))
        assert incremental.routes == whole.routes == now
