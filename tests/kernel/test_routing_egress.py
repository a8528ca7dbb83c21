"""Pods leave the cluster with their node's address, and reach pods and nodes with their own: in the real kernel.

A pod sends through this node to a world that has an address of another node's pod, of another node and of neither; the
world tells from whom each word came.
"""

import os
import socket
from collections import Counter
from collections.abc import Iterator

import pytest
from harness.netns import run_in, run_in_new, sh

from kube_router.core import leftovers, nfnl
from kube_router.core.nft import Nft
from kube_router.plugins.routing import nftables
from kube_router.plugins.routing.egress import Egress

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

PODS4, PODS6 = ["10.244.1.0/24", "10.244.2.0/24"], ["fd00:244:1::/64", "fd00:244:2::/64"]
NODES4, NODES6 = ["192.0.2.1", "192.0.2.16"], ["fd00:2::1", "fd00:2::16"]
POD = {4: "10.244.1.10", 6: "fd00:244:1::10"}
NODE = {4: "192.0.2.1", 6: "fd00:2::1"}
OTHER_POD = {4: "10.244.2.10", 6: "fd00:244:2::10"}
OTHER_NODE = {4: "192.0.2.16", 6: "fd00:2::16"}
OUTSIDE = {4: "198.51.100.9", 6: "2001:db8:9::9"}
FAMILIES = pytest.mark.parametrize("family", [4, 6])


def bring(
    egress: Egress,
    *,
    pods4: list[str] = PODS4,
    pods6: list[str] = PODS6,
    nodes4: list[str] = NODES4,
    nodes6: list[str] = NODES6,
    enabled: bool = True,
    in_sync: bool = True,
) -> Counter[str]:
    return egress.bring(
        pods4=pods4, pods6=pods6, nodes4=nodes4, nodes6=nodes6, enabled=enabled, in_sync=in_sync
    )  # fmt: skip


def is_there() -> bool:
    return (nfnl.NFPROTO_INET, nftables.TABLE) in leftovers.nft_tables()


def listed() -> nftables.Listed:
    return nftables.read_table(Nft().list_json(f"list table inet {nftables.TABLE}"))


# -- packets -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def node() -> Iterator[str]:
    """Namespaces of a pod, its node and the world; the name of the node's, the others' end in ``p`` and ``w``."""
    name = f"kreg{os.getpid()}"
    pod, world = f"{name}p", f"{name}w"
    created = []
    try:
        for each in (name, pod, world):
            sh(f"ip netns add {each}")
            created.append(each)
            sh(f"ip netns exec {each} sysctl -qw net.ipv6.conf.default.accept_dad=0; ip -n {each} link set lo up")
        sh(f"""
            ip -n {name} link add kube-bridge type veth peer name eth0 netns {pod}
            ip -n {name} link add eth0 type veth peer name eth0 netns {world}
            ip -n {name} addr add 10.244.1.1/24 dev kube-bridge; ip -n {name} addr add fd00:244:1::1/64 dev kube-bridge
            ip -n {name} addr add 192.0.2.1/24 dev eth0; ip -n {name} addr add fd00:2::1/64 dev eth0
            ip -n {pod} addr add 10.244.1.10/24 dev eth0; ip -n {pod} addr add fd00:244:1::10/64 dev eth0
            ip -n {world} addr add 192.0.2.16/24 dev eth0; ip -n {world} addr add fd00:2::16/64 dev eth0
            for each in 10.244.2.10/32 198.51.100.9/32 fd00:244:2::10/128 2001:db8:9::9/128; do
                ip -n {world} addr add $each dev lo
            done
            for each in {name}/kube-bridge {name}/eth0 {pod}/eth0 {world}/eth0; do
                ip -n ${{each%/*}} link set ${{each#*/}} up
            done
            ip -n {pod} route add default via 10.244.1.1; ip -n {pod} route add default via fd00:244:1::1
            ip -n {name} route add default via 192.0.2.16; ip -n {name} route add default via fd00:2::16
            ip -n {world} route add 10.244.1.0/24 via 192.0.2.1; ip -n {world} route add fd00:244:1::/64 via fd00:2::1
            ip netns exec {name} sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
        """)
        run_in(name, lambda: bring(Egress()))
        yield name
    finally:
        for each in created:
            sh(f"ip netns del {each}")


def source_seen(node: str, destination: str, *, by: str = "p") -> str:
    """Return the address from which a word from the pod (or another namespace) comes to the destination."""
    family = socket.AF_INET6 if ":" in destination else socket.AF_INET

    def listen() -> socket.socket:
        made = socket.socket(family, socket.SOCK_DGRAM)
        made.bind((destination, 6000))
        made.settimeout(5)
        return made

    def send() -> None:
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"word", (destination, 6000))

    with run_in(f"{node}w", listen) as server:
        run_in(node + by, send)
        return str(server.recvfrom(10)[1][0])


@FAMILIES
def test_a_pod_s_packet_leaves_the_cluster_with_the_node_s_address(node: str, family: int) -> None:
    assert source_seen(node, OUTSIDE[family]) == NODE[family]


@FAMILIES
def test_a_pod_reaches_pods_and_nodes_with_its_own_address(node: str, family: int) -> None:
    assert source_seen(node, OTHER_POD[family]) == POD[family]
    assert source_seen(node, OTHER_NODE[family]) == POD[family]


@FAMILIES
def test_the_node_s_own_packets_are_left_alone(node: str, family: int) -> None:
    assert source_seen(node, OUTSIDE[family], by="") == NODE[family]


@FAMILIES
def test_without_pod_egress_pods_are_not_masqueraded(node: str, family: int) -> None:
    egress = Egress()
    try:
        assert run_in(node, lambda: bring(egress, enabled=False)) == {"table removed": 1}
        assert source_seen(node, OUTSIDE[family]) == POD[family]
    finally:
        run_in(node, lambda: bring(egress))
    assert source_seen(node, OUTSIDE[family]) == NODE[family]


# -- the table ---------------------------------------------------------------------------------------------------------


def test_what_is_written_lists_as_wanted_and_is_not_written_again() -> None:
    def inside() -> None:
        assert bring(Egress()) == {"table written": 1, "element added": 8}
        assert listed() == nftables.Listed(
            nftables.members(pods4=PODS4, pods6=PODS6, nodes4=NODES4, nodes6=NODES6), is_whole=True
        )
        assert bring(Egress()) == {}

    run_in_new(inside)


def test_elements_of_every_kind_are_read_back_as_they_were_written() -> None:
    pods4 = ["10.0.0.0/8", "10.1.0.0/16", "172.16.1.1/32", "192.168.0.0/25", "192.168.0.128/25", "255.255.255.255/32"]
    pods6 = ["::1:0:0/96", "::ffff:1.2.3.4/128", "fd00::/8", "fd00:1::/64", "fe80::1/128", "2001:db8::/127"]

    def inside() -> None:
        bring(Egress(), pods4=pods4, pods6=pods6)
        assert listed().members == nftables.Members(
            pods4=frozenset({"10.0.0.0/8", "172.16.1.1", "192.168.0.0/25", "192.168.0.128/25", "255.255.255.255"}),
            pods6=frozenset({"::1:0:0/96", "::ffff:102:304", "fd00::/8", "fe80::1", "2001:db8::/127"}),
            nodes4=frozenset(NODES4),
            nodes6=frozenset(NODES6),
        )
        assert bring(Egress(), pods4=pods4, pods6=pods6) == {}

    run_in_new(inside)


def test_a_node_that_comes_or_goes_costs_its_elements() -> None:
    def inside() -> None:
        egress = Egress()
        bring(egress)
        pods4, nodes4 = [*PODS4, "10.244.3.0/24"], [*NODES4, "192.0.2.17"]
        assert bring(egress, pods4=pods4, nodes4=nodes4) == {"element added": 2}
        assert bring(egress, pods4=pods4, nodes4=nodes4) == {}
        assert bring(egress) == {"element removed": 2}
        assert listed().members == nftables.members(pods4=PODS4, pods6=PODS6, nodes4=NODES4, nodes6=NODES6)

    run_in_new(inside)


@pytest.mark.parametrize("wider", ["10.244.0.0/16", "10.244.1.0/25", "0.0.0.0/1"])
def test_a_cidr_takes_the_place_of_one_that_overlaps_it(wider: str) -> None:
    def inside() -> None:
        egress = Egress()
        bring(egress)
        bring(egress, pods4=[wider])
        assert listed().members.pods4 == {wider}
        bring(egress)
        assert listed().members.pods4 == set(PODS4)

    run_in_new(inside)


def test_before_the_cluster_is_in_sync_nothing_is_taken_away() -> None:
    def inside() -> None:
        bring(Egress())
        egress = Egress()
        assert bring(egress, pods4=["10.244.9.0/24"], nodes4=[], in_sync=False) == {"element added": 1}
        assert listed().members.pods4 == {*PODS4, "10.244.9.0/24"}
        assert bring(egress, pods4=["10.244.0.0/16"], in_sync=False)["element added"] == 1
        assert listed().members.pods4 == {"10.244.0.0/16"}  # which covers what was there
        assert bring(egress, enabled=False, in_sync=False) == {}
        assert is_there()
        assert bring(egress, enabled=False) == {"table removed": 1}
        assert not is_there()

    run_in_new(inside)


@pytest.mark.parametrize(
    "harm",
    [
        "flush ruleset",
        "delete table inet kube-router-routing",
        "flush chain inet kube-router-routing postrouting",
        "insert rule inet kube-router-routing postrouting accept",
        "add chain inet kube-router-routing more",
        "add rule inet kube-router-routing postrouting ip daddr 192.0.2.9 accept",
    ],
)
def test_what_somebody_does_to_the_table_is_repaired_when_it_is_doubted(harm: str) -> None:
    def inside() -> None:
        egress = Egress()
        bring(egress)
        Nft().run(harm)
        egress.doubt()
        assert bring(egress) == {"table written": 1, "element added": 8}
        assert listed().is_whole
        assert bring(egress) == {}

    run_in_new(inside)


def test_elements_that_somebody_took_or_added_are_put_right_one_by_one() -> None:
    def inside() -> None:
        egress = Egress()
        bring(egress)
        Nft().run("delete element inet kube-router-routing nodes4 { 192.0.2.16 }")
        Nft().run("add element inet kube-router-routing pods4 { 10.99.0.0/16 }")
        egress.doubt()
        assert bring(egress) == {"element added": 1, "element removed": 1}
        assert bring(Egress()) == {}

    run_in_new(inside)


def test_an_edit_that_is_refused_ends_in_a_table_written_anew() -> None:
    def inside() -> None:
        egress = Egress()
        bring(egress)
        Nft().run("flush ruleset")  # and nobody tells
        assert bring(egress, nodes4=[*NODES4, "192.0.2.17"]) == {"table written": 1, "element added": 9}
        assert listed().members.nodes4 == {*NODES4, "192.0.2.17"}

    run_in_new(inside)


def test_cleanup_takes_our_table_and_no_other() -> None:
    def inside() -> None:
        Nft().run("add table inet kube-router-proxy")
        egress = Egress()
        bring(egress)
        egress.cleanup()
        assert leftovers.nft_tables() == {(nfnl.NFPROTO_INET, "kube-router-proxy")}
        egress.cleanup()

    run_in_new(inside)


def test_five_thousand_nodes_are_written_and_one_more_is_an_element() -> None:
    many = [f"10.{i >> 8}.{i & 255}.0/24" for i in range(5000)]

    def inside() -> None:
        egress = Egress()
        assert bring(egress, pods4=many)["element added"] == 5006
        assert bring(egress, pods4=[*many, "10.200.0.0/24"]) == {"element added": 1}
        assert bring(Egress(), pods4=[*many, "10.200.0.0/24"]) == {}

    run_in_new(inside)
