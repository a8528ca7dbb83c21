"""kube-bridge is made and kept, sysctls are set where they differ, and a default route that was advertised stays."""

import os
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from harness.netns import run_in, run_in_new, sh

from kube_router.plugins.routing import hostsettings
from kube_router.plugins.routing.bgp.model import Family

BOTH = (Family.IPV4, Family.IPV6)


def tree(root: Path, values: Mapping[str, str]) -> Path:
    for name, value in values.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    return root


def value(root: Path, name: str) -> str:
    return (root / name).read_text().strip()


# -- sysctls -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "for_all", "after"),
    [
        ("1", "0", "2"),
        ("1", "1", "2"),
        ("0", "1", "2"),
        ("0", "0", "0"),
        ("2", "1", "2"),
        ("0", "2", "0"),
        ("1", "2", "1"),
    ],
)
def test_a_filter_is_loosened_where_it_is_strict(tmp_path: Path, own: str, for_all: str, after: str) -> None:
    base = "net/ipv4/conf"
    tree(tmp_path, {f"{base}/all/rp_filter": for_all, f"{base}/eth0/rp_filter": own})
    written, troubles = hostsettings.loosen(["eth0", "eth9", "eth0"], root=tmp_path)
    assert (written, troubles) == (int(own != after), [])
    assert value(tmp_path, f"{base}/eth0/rp_filter") == after
    assert value(tmp_path, f"{base}/all/rp_filter") == for_all


def test_a_sysctl_that_refuses_is_told_and_one_that_is_missing_is_not(tmp_path: Path) -> None:
    (tmp_path / hostsettings.FORWARD4).mkdir(parents=True)
    sysctls = hostsettings._Sysctls(tmp_path)
    sysctls.set(hostsettings.FORWARD4, "1")
    sysctls.set(hostsettings.FORWARD6, "1")
    assert sysctls.troubles == ["sysctl net.ipv4.ip_forward=1: Is a directory"]


@pytest.mark.parametrize(
    ("accept", "forwarding", "after"), [("1", "0", "2"), ("0", "0", "0"), ("2", "0", "2"), ("1", "1", "1")]
)
def test_a_link_that_takes_advertisements_goes_on_doing_so(
    tmp_path: Path, accept: str, forwarding: str, after: str
) -> None:
    base = "net/ipv6/conf/eth0"
    tree(tmp_path, {f"{base}/accept_ra": accept, f"{base}/forwarding": forwarding})
    hostsettings._Sysctls(tmp_path).keep_routes_of(["eth0", "eth9"])
    assert value(tmp_path, f"{base}/accept_ra") == after


# -- in the kernel -----------------------------------------------------------------------------------------------------


@pytest.mark.root
def test_the_bridge_is_made_once_and_put_right_when_it_is_not() -> None:
    def inside() -> None:
        changes, troubles = hostsettings.prepare([], families=BOTH, bridge_mtu=1400)
        assert troubles == []
        assert changes["interface added"] == 1
        assert hostsettings.bridge_mtu() == 1400
        assert "UP" in sh("ip -br link show kube-bridge").split("<")[1]
        assert hostsettings.prepare([], families=BOTH, bridge_mtu=1400) == ({}, [])
        sh("ip link set kube-bridge down mtu 1500")
        assert hostsettings.prepare([], families=BOTH, bridge_mtu=1400) == ({"interface set up": 1, "MTU set": 1}, [])
        assert hostsettings.prepare([], families=BOTH) == ({}, [])
        assert hostsettings.bridge_mtu() == 1400

    run_in_new(inside)


@pytest.mark.root
def test_an_mtu_that_the_kernel_refuses_is_told_and_the_rest_is_done() -> None:
    def inside() -> None:
        sh("ip link add kube-bridge type bridge")
        changes, (trouble,) = hostsettings.prepare([], families=BOTH, bridge_mtu=66_000)
        assert changes["interface set up"] == 1
        assert trouble.startswith("kube-bridge: MTU set (MTU 66000): EINVAL")
        assert hostsettings.bridge_mtu() == 1500

    run_in_new(inside)


@pytest.mark.root
def test_only_the_families_that_are_enabled_are_forwarded() -> None:
    def inside() -> None:
        sh("sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0")
        hostsettings.prepare([], families=(Family.IPV6,))
        assert sh("sysctl -n net.ipv4.ip_forward net.ipv6.conf.all.forwarding") == "0\n1\n"
        hostsettings.prepare([], families=BOTH)
        assert sh("sysctl -n net.ipv4.ip_forward net.ipv6.conf.all.forwarding") == "1\n1\n"
        assert hostsettings.prepare([], families=BOTH) == ({}, [])

    run_in_new(inside)


@pytest.mark.root
def test_strict_filters_of_the_bridge_and_of_the_node_s_links_are_loosened_and_no_others() -> None:
    def inside() -> None:
        sh("ip link add eth0 type veth peer name eth1; sysctl -qw net.ipv4.conf.default.rp_filter=1")
        sh("sysctl -qw net.ipv4.conf.eth0.rp_filter=1 net.ipv4.conf.eth1.rp_filter=1 net.ipv4.conf.all.rp_filter=0")
        hostsettings.prepare(["eth0", "eth0", "gone"], families=BOTH)
        values = [f"net.ipv4.conf.{name}.rp_filter" for name in ("kube-bridge", "eth0", "eth1", "all")]
        assert sh(f"sysctl -n {' '.join(values)}").split() == ["2", "2", "1", "0"]

    run_in_new(inside)


# -- router advertisements ---------------------------------------------------------------------------------------------


@pytest.fixture
def advertised() -> Iterator[str]:
    """A namespace ``…n`` whose eth0 has learned its default route from a router in ``…r``; the prefix of both names."""
    prefix = f"kreh{os.getpid()}"
    node, router = f"{prefix}n", f"{prefix}r"
    created = []
    try:
        for name in (node, router):
            sh(f"ip netns add {name}")
            created.append(name)
            sh(f"ip netns exec {name} sysctl -qw net.ipv6.conf.default.accept_dad=0")
        sh(f"""
            ip netns exec {node} sysctl -qw net.ipv6.conf.all.forwarding=0
            ip -n {node} link add eth0 type veth peer name eth0 netns {router}
            ip -n {node} link set eth0 up; ip -n {router} link set eth0 up
        """)
        run_in(router, advertise)
        wait_for_route(node)
        yield prefix
    finally:
        for name in created:
            sh(f"ip netns del {name}")


def advertise() -> None:
    """Send a router advertisement (RFC 4861 §4.2) to all nodes on eth0: a default router for half an hour."""
    deadline = time.monotonic() + 10
    while not sh("ip -6 addr show dev eth0 scope link -tentative").strip():
        assert time.monotonic() < deadline, "no link-local address"
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sender:
        sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        index = socket.if_nametoindex("eth0")
        sender.sendto(struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0), ("ff02::1", 0, 0, index))


def wait_for_route(node: str) -> None:
    deadline = time.monotonic() + 10
    while "proto ra" not in sh(f"ip -n {node} -6 route show default"):
        assert time.monotonic() < deadline, "no default route was learned"
        run_in(node.removesuffix("n") + "r", advertise)
        time.sleep(0.01)


@pytest.mark.root
@pytest.mark.parametrize("links", [["eth0"], []])
def test_a_default_route_that_was_advertised_outlives_forwarding_and_is_renewed(
    advertised: str, links: list[str]
) -> None:
    node, router = f"{advertised}n", f"{advertised}r"
    _, troubles = run_in(node, lambda: hostsettings.prepare(links, families=BOTH))
    assert troubles == []
    assert "proto ra" in sh(f"ip -n {node} -6 route show default")
    assert sh(f"ip netns exec {node} sysctl -n net.ipv6.conf.eth0.accept_ra net.ipv6.conf.kube-bridge.accept_ra") == (
        "2\n1\n"
    )
    sh(f"ip -n {node} -6 route flush proto ra")
    run_in(router, advertise)
    wait_for_route(node)


@pytest.mark.root
def test_without_that_care_the_route_would_be_lost(advertised: str) -> None:
    sh(f"ip netns exec {advertised}n sysctl -qw net.ipv6.conf.all.forwarding=1")
    assert sh(f"ip -n {advertised}n -6 route show default") == ""
