"""Tunnels on a real kernel: pods in different subnets talk through each kind, and kube-router's (Go) are adopted."""

from collections.abc import Iterator
from hashlib import sha256

import pytest
from harness.netns import run_in, run_in_new, sh
from harness.routed import Pair, bring_about, ends, pair, pings

from kube_router.plugins.routing import render
from kube_router.plugins.routing.kernel import Kernel
from kube_router.plugins.routing.model import (
    Actual,
    FouPort,
    RemoveDevice,
    RenameDevice,
    Route,
    RouteId,
    Rule,
    SetDevice,
    Tunnel,
    Wanted,
    host_prefix,
    tunnel_hop,
    tunnel_name,
)
from kube_router.plugins.routing.plan import plan

pytestmark = [pytest.mark.guest, pytest.mark.timeout(600)]

PORT = 5555
OVERHEAD = {"ipip": 20, "ip6tnl": 40, "fou": 32, "fou6": 52}


@pytest.fixture(scope="module", name="nodes")
def _nodes() -> Iterator[Pair]:
    with pair() as made:
        yield made


def overlay(number: int, other: int, kinds: tuple[str, str]) -> Wanted:
    """Return what a node of the pair wants for tunnels of these kinds, IPv4's and IPv6's."""
    mine, theirs = ends(number), ends(other)
    wanted = Wanted(rules=frozenset({Rule(mine[2]), Rule(mine[3])}), routes={}, devices={})
    routes, devices = dict(wanted.routes), dict(wanted.devices)
    for local, remote, pods, kind in zip(mine[:2], theirs[:2], theirs[2:], kinds, strict=True):
        hop = tunnel_hop(remote)
        port = PORT if kind in ("fou", "fou6") else 0
        devices[hop.device] = Tunnel(kind, local, remote, port, 1500 - OVERHEAD[kind])
        routes[RouteId(pods)] = Route((hop,), local)
        routes[RouteId(host_prefix(remote), 77)] = Route((hop,))
    wanted.routes, wanted.devices = routes, devices
    if kinds == ("fou", "fou6"):
        wanted.fou_ports = frozenset({FouPort(PORT), FouPort(PORT, 6)})
    return wanted


def bring_both_about(nodes: Pair, kinds: tuple[str, str]) -> list[Actual]:
    return [bring_about(nodes.a, overlay(1, 2, kinds)), bring_about(nodes.b, overlay(2, 1, kinds))]


def assert_pods_talk(nodes: Pair, kinds: tuple[str, str]) -> None:
    for family, kind in enumerate(kinds):
        here, there = ("10.244.1.1", "10.244.2.1") if family == 0 else ("fd00:244:1::1", "fd00:244:2::1")
        node = ends(2)[family]
        assert pings(nodes.a, here, there), f"{kind}: pod to pod"
        assert pings(nodes.a, here, node), f"{kind}: pod to node by table 77"
        headers = 28 if family == 0 else 48
        assert pings(nodes.a, here, there, size=1500 - OVERHEAD[kind] - headers), f"{kind}: as long as the MTU allows"
        assert not pings(nodes.a, here, there, size=1501 - OVERHEAD[kind] - headers), f"{kind}: no longer than that"


def names_and_indexes(nodes: Pair) -> list[str]:
    lines = sh(f"ip -n {nodes.a} -o link show").splitlines()
    return sorted(" ".join(line.split(":")[:2]) for line in lines if "tun-" in line)


def test_pods_talk_through_ipip_and_ip6tnl(nodes: Pair) -> None:
    assert not pings(nodes.a, "10.244.1.1", "10.244.2.1")
    here, _ = bring_both_about(nodes, ("ipip", "ip6tnl"))
    assert here.devices[tunnel_name("10.0.2.2")].tunnel == Tunnel("ipip", "10.0.1.2", "10.0.2.2", 0, 1480)
    assert here.fou_ports == set()
    assert_pods_talk(nodes, ("ipip", "ip6tnl"))


def test_plain_tunnels_become_fou_in_place_and_pods_talk(nodes: Pair) -> None:
    bring_both_about(nodes, ("ipip", "ip6tnl"))
    before = names_and_indexes(nodes)
    here, _ = bring_both_about(nodes, ("fou", "fou6"))
    assert names_and_indexes(nodes) == before
    assert here.fou_ports == {FouPort(PORT), FouPort(PORT, 6)}
    assert_pods_talk(nodes, ("fou", "fou6"))
    bring_both_about(nodes, ("ipip", "ip6tnl"))
    assert names_and_indexes(nodes) == before
    assert_pods_talk(nodes, ("ipip", "ip6tnl"))
    assert run_in(nodes.a, Kernel().observe).fou_ports == set()


def test_two_tunnels_share_the_load_of_one_prefix() -> None:
    def body() -> None:
        sh("ip link add d0 type dummy; ip link set d0 up; ip addr add 10.0.1.2/24 dev d0")
        sh("ip addr add fd00:1::2/64 dev d0 nodad; ip route add default dev d0; ip -6 route add default dev d0")
        remotes = ("10.0.2.2", "10.0.3.2"), ("fd00:2::2", "fd00:3::2")
        wanted = Wanted(
            devices={
                tunnel_name(remote): Tunnel(kind, local, remote, 0, 1400)
                for (kind, local), its in zip((("ipip", "10.0.1.2"), ("ip6tnl", "fd00:1::2")), remotes, strict=True)
                for remote in its
            },
            routes={
                RouteId(cidr): Route(tuple(sorted(map(tunnel_hop, its))))
                for cidr, its in zip(("10.244.2.0/24", "fd00:244:2::/64"), remotes, strict=True)
            },
        )
        kernel = Kernel()
        assert kernel.apply(plan(wanted, kernel.observe(), in_sync=True)).failed == []
        assert plan(wanted, kernel.observe(), in_sync=True) == []
        assert kernel.cleanup() == {"route removed": 2, "device removed": 4}

    run_in_new(body)


def go_name(address: str) -> str:
    """Return how kube-router (Go) names the tunnel to an address."""
    return f"tun-{sha256(address.replace('.', '').replace(':', '').encode()).hexdigest()[:11]}"


def test_kube_routers_tunnels_are_adopted_under_traffic_and_those_nobody_wants_removed(nodes: Pair) -> None:
    kinds = ("ipip", "ip6tnl")
    bring_both_about(nodes, kinds)
    run_in(nodes.a, Kernel().cleanup)
    old, old6, stale = go_name("10.0.2.2"), go_name("fd00:2::2"), go_name("10.0.9.9")
    sh(
        f"""
        ip -n {nodes.a} tunnel add {old} mode ipip remote 10.0.2.2 local 10.0.1.2
        ip -n {nodes.a} -6 tunnel add {old6} mode ip6ip6 remote fd00:2::2 local fd00:1::2
        ip -n {nodes.a} tunnel add {stale} mode ipip remote 10.0.9.9 local 10.0.1.2
        for name in {old} {old6} {stale}; do ip -n {nodes.a} link set $name up; done
        ip -n {nodes.a} route add 10.244.2.0/24 dev {old} src 10.0.1.2 proto 17
        """
    )
    wanted = overlay(1, 2, kinds)
    new, new6 = tunnel_name("10.0.2.2"), tunnel_name("fd00:2::2")

    def adopt() -> None:
        kernel = Kernel()
        steps = plan(wanted, kernel.observe(), in_sync=False)
        assert [step for step in steps if isinstance(step, RenameDevice | SetDevice | RemoveDevice)] == [
            RenameDevice(old, new),
            SetDevice(new, wanted.devices[new]),
            RenameDevice(old6, new6),
            SetDevice(new6, wanted.devices[new6]),
        ]
        assert [str(failed.error) for failed in kernel.apply(steps).failed] == []
        assert plan(wanted, kernel.observe(), in_sync=True) == [RemoveDevice(stale)]

    run_in(nodes.a, adopt)
    assert_pods_talk(nodes, kinds)
    bring_about(nodes.a, wanted)


def test_a_port_that_somebody_else_opened_is_used_and_left() -> None:
    def body() -> None:
        sh("ip link add d0 type dummy; ip link set d0 up; ip addr add 10.0.1.2/24 dev d0; modprobe fou")
        sh("ip fou add port 5555 gue; ip fou add port 6666 gue; ip fou add port 7777 ipproto 4")
        kernel = Kernel()
        assert kernel.observe().foreign_fou_ports == {FouPort(5555), FouPort(6666)}
        name = tunnel_name("10.0.2.2")
        wanted = Wanted(devices={name: Tunnel("fou", "10.0.1.2", "10.0.2.2", 5555, 1400)})
        wanted.fou_ports = frozenset({FouPort(5555)})
        assert kernel.apply(plan(wanted, kernel.observe(), in_sync=True)).changes == {"device added": 1}
        assert plan(wanted, kernel.observe(), in_sync=True) == []
        kernel.cleanup()
        assert kernel.observe().foreign_fou_ports == {FouPort(6666)}

    run_in_new(body)


def test_what_is_rendered_and_given_to_a_shell_is_what_is_wanted() -> None:
    def body() -> None:
        sh("ip link add eth0 type dummy; ip link set eth0 up; modprobe fou; modprobe fou6")
        sh("ip addr add 10.0.1.2/24 dev eth0; ip addr add fd00:1::2/64 dev eth0 nodad")
        for kinds in (("ipip", "ip6tnl"), ("fou", "fou6")):
            wanted = overlay(1, 2, kinds)
            for line in render.lines(wanted):
                sh(line)
            assert plan(wanted, Kernel().observe(), in_sync=True) == []
            Kernel().cleanup()

    run_in_new(body)
