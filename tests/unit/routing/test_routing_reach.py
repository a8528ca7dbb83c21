"""How a node gets packets to a next hop: on a link, through the overlay, by a gateway, or in words why not."""

from typing import Any

import pytest
from bgp_nodes import options
from msgspec import structs

from kube_router.plugins.routing.facts import Gateway, Host, Link
from kube_router.plugins.routing.model import Hop, tunnel_hop, vxlan_hop
from kube_router.plugins.routing.reach import Reach, Reached, link_of

ETH0 = Link(name="eth0", mtu=1500, addresses=("10.0.0.1/24", "fd00::1/64"))
ETH1 = Link(name="eth1", mtu=9000, addresses=("172.16.0.1/30",))
HOST = Host(
    name="n1",
    links=(ETH0, ETH1),
    gateways=(
        Gateway(destination="192.0.2.0/24", via="172.16.0.2", device="eth1"),
        Gateway(destination="0.0.0.0/0", via="10.0.0.254", device="eth0"),
    ),
)
NODES = {"10.0.0.2": "n2", "fd00::2": "n2", "10.0.9.3": "n3", "fd00:9::3": "n3"}
OWN = ("10.0.0.1", "fd00::1")


def reach(*flags: str, **changes: Any) -> Reach:
    return Reach(structs.replace(HOST, **changes), options(*flags), NODES, OWN)


@pytest.mark.parametrize(
    ("next_hop", "hop"),
    [
        ("10.0.0.2", Hop("10.0.0.2", "eth0")),  # a node beside us
        ("fd00::2", Hop("fd00::2", "eth0")),
        ("10.0.0.77", Hop("10.0.0.77", "eth0")),  # a stranger beside us
        ("172.16.0.2", Hop("172.16.0.2", "eth1")),
        ("192.0.2.9", Hop("172.16.0.2", "eth1")),  # by the most specific gateway
        ("198.51.100.9", Hop("10.0.0.254", "eth0")),  # by the default one
    ],
)
def test_without_an_overlay_a_next_hop_is_on_a_link_or_behind_a_gateway(next_hop: str, hop: Hop) -> None:
    assert reach("--enable-overlay=false")(next_hop) == Reached(hop)
    assert reach()(next_hop) == Reached(hop)


@pytest.mark.parametrize("encap", ["ipip", "fou"])
def test_a_node_of_another_subnet_gets_a_tunnel(encap: str) -> None:
    for next_hop in ("10.0.9.3", "fd00:9::3"):
        assert reach(f"--overlay-encap={encap}")(next_hop) == Reached(tunnel_hop(next_hop), overlay=True)


def test_or_an_entry_of_the_vxlan() -> None:
    assert reach("--overlay-encap=vxlan")("10.0.9.3") == Reached(vxlan_hop("10.0.9.3"), overlay=True)


def test_with_a_full_overlay_a_node_beside_us_gets_one_too_and_a_stranger_does_not() -> None:
    full = reach("--overlay-type=full")
    assert full("10.0.0.2") == Reached(tunnel_hop("10.0.0.2"), overlay=True)
    assert full("10.0.0.77") == Reached(Hop("10.0.0.77", "eth0"))


@pytest.mark.parametrize(
    ("next_hop", "why"),
    [
        ("10.0.0.1", "it is an address of this node"),
        ("172.16.0.1", "it is an address of this node"),
        ("fd00::1", "it is an address of this node"),
        ("2001:db8::1", "no link and no gateway of this node leads there"),
        ("10.0.9.3", "node n3 is in another subnet and --enable-overlay=false: left to the network"),
    ],
)
def test_what_leads_nowhere_says_why(next_hop: str, why: str) -> None:
    found = reach("--enable-overlay=false")(next_hop)
    assert (found.hop, found.why, found.overlay) == (None, why, False)


def test_an_interface_that_is_down_leads_nowhere() -> None:
    down = reach("--enable-overlay=false", links=(ETH0, structs.replace(ETH1, up=False)), gateways=())
    assert down("172.16.0.2") == Reached(None, "no link and no gateway of this node leads there")


def test_while_this_nodes_address_is_away_no_tunnel_is_made() -> None:
    away = reach(links=(structs.replace(ETH0, addresses=("10.0.0.1/24",)), ETH1))
    assert away("10.0.9.3").overlay
    assert away("fd00:9::3") == Reached(None, "no IPv6 address of this node is on an interface that is up")
    gone = reach(links=(structs.replace(ETH0, up=False), ETH1))
    assert gone("10.0.9.3") == Reached(None, "no IPv4 address of this node is on an interface that is up")


def test_an_ipv4_next_hop_is_not_behind_an_ipv6_gateway() -> None:
    only = reach(gateways=(Gateway(destination="::/0", via="fe80::1", device="eth0"),))
    assert only("198.51.100.9").hop is None
    assert only("2001:db8::1") == Reached(Hop("fe80::1", "eth0"))


def test_the_link_of_an_address_is_the_one_that_has_it() -> None:
    assert link_of(HOST, "fd00::1") == ETH0
    assert link_of(HOST, "172.16.0.1") == ETH1
    assert link_of(HOST, "10.0.0.2") is None
