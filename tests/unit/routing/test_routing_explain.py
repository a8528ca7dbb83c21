"""Where a packet to an address goes, and whether the address is announced: from a view alone."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

import pytest
from bgp_nodes import options
from harness import routing_story as story
from msgspec import structs

from kube_router.core.state import State, View
from kube_router.events.event import Put
from kube_router.events.model import EndpointSlice, Node, Object, Service
from kube_router.events.normalize import BUILTIN
from kube_router.events.resource import Catalogue
from kube_router.plugins.routing.explain import explain
from kube_router.plugins.routing.facts import RESOURCES, Host, Link, Route, RouteDigest, Session

NEEDS = (Node, Service, EndpointSlice, Host, Route, RouteDigest, Session)
FLAGS = tuple(f"--{name}={text}" for name, text in story.OPTIONS.items())
CLUSTER = (*(story.node(i, i // 3) for i in (1, 2, 3)), story.WEB, story.SLICE, story.HOST, *story.ROUTES)


def view(*objects: Object) -> View:
    catalogue = Catalogue((*BUILTIN, *RESOURCES))
    state = State(catalogue)
    for seq, obj in enumerate(objects, 1):
        state.apply(Put(seq=seq, t=seq, r=catalogue.by_model(type(obj)).name, key=obj.key, obj=obj))
    return View(state, NEEDS)


def asked(address: str, *flags: str, objects: Iterable[Object] = CLUSTER, node: str = "n1") -> Mapping[str, Any]:
    return explain(view(*objects), {"route": address}, options(*FLAGS, *flags), node)


def announced(answer: Mapping[str, Any]) -> list[tuple[str, bool, str]]:
    return [(each["prefix"], each["announced"], each["why"]) for each in answer["announced"]]


def test_a_learned_route_says_whom_it_is_from_and_where_it_leads() -> None:
    answer = asked("10.244.2.9")
    assert answer == {
        "address": "10.244.2.9",
        "node": "n1",
        "seq": 12,
        "way": "learned",
        "prefix": "10.244.2.0/24",
        "through": "10.0.0.2 dev eth0",
        "next_hops": ["10.0.0.2"],
        "peers": ["10.0.0.2"],
        "as_path": "",
        "why": "only path",
        "because": [{"seq": 7, "object": "Route 10.244.2.0/24"}],
        "announced": [],
    }


def test_a_route_of_two_next_hops_names_both_ways_one_of_them_a_tunnel() -> None:
    answer = asked("203.0.113.1")
    assert answer["through"] == "dev tun-6a5be195073, 10.0.0.2 dev eth0"
    assert answer["as_path"] == "65000 65010"


def test_ipv6_is_explained_too_however_it_is_written() -> None:
    answer = asked("FD00:244:2:0:0::9")
    assert (answer["address"], answer["prefix"], answer["way"]) == ("fd00:244:2::9", "fd00:244:2::/64", "learned")


def test_pods_of_this_node_are_behind_the_bridge() -> None:
    answer = asked("10.244.1.5")
    assert (answer["way"], answer["prefix"], answer["through"]) == ("pods", "10.244.1.0/24", "kube-bridge")
    assert answer["because"] == [{"seq": 1, "object": "Node n1"}]


def test_a_neighbour_on_a_link_is_reached_there() -> None:
    answer = asked("10.0.0.2")
    assert (answer["way"], answer["prefix"], answer["through"]) == ("link", "10.0.0.0/24", "eth0")


def test_what_else_there_is_goes_to_the_gateway() -> None:
    answer = asked("8.8.8.8")
    assert (answer["way"], answer["prefix"], answer["through"]) == ("gateway", "0.0.0.0/0", "10.0.0.254 dev eth0")


def test_without_any_way_it_says_so() -> None:
    answer = asked("2001:db8::1")
    assert (answer["way"], answer["why"]) == ("none", "this node knows no route there")


def test_of_a_route_that_is_not_installed_it_says_why_not() -> None:
    lost = structs.replace(story.ROUTES[0], name="2001:db8:1::/64", next_hops=("2001:db8:ffff::1",))
    answer = asked("2001:db8:1::1", objects=(*CLUSTER, lost))
    assert answer["way"] == "none"
    assert answer["prefix"] == "2001:db8:1::/64"
    assert answer["why"] == "next hop 2001:db8:ffff::1: no link and no gateway of this node leads there"


def test_of_two_routes_that_are_not_installed_the_more_specific_says_why() -> None:
    wide = structs.replace(story.ROUTES[0], name="2001:db8::/32", next_hops=("2001:db8:ffff::1",))
    narrow = structs.replace(story.ROUTES[0], name="2001:db8:1::/64", next_hops=("2001:db8:ffff::2",))
    for routes in ((wide, narrow), (narrow, wide)):
        assert asked("2001:db8:1::1", objects=(*CLUSTER, *routes))["prefix"] == "2001:db8:1::/64"


def test_a_route_without_a_way_leaves_packets_to_the_gateway_and_is_told_of() -> None:
    lost = structs.replace(story.ROUTES[0], name="10.244.9.0/24", next_hops=("10.9.0.9",))
    host = structs.replace(story.HOST, gateways=())
    objects = (*(each for each in CLUSTER if not isinstance(each, Host)), host, lost)
    assert asked("10.244.9.1", objects=objects)["why"] == (
        "next hop 10.9.0.9: no link and no gateway of this node leads there"
    )


def test_the_longest_prefix_counts() -> None:
    narrow = structs.replace(story.ROUTES[0], name="10.244.2.128/25", next_hops=("10.1.0.3",))
    assert asked("10.244.2.200", objects=(*CLUSTER, narrow))["through"] == "dev tun-6a5be195073"
    assert asked("10.244.2.100", objects=(*CLUSTER, narrow))["through"] == "10.0.0.2 dev eth0"


def test_a_link_of_this_node_goes_before_a_route_to_the_same_prefix() -> None:
    same = structs.replace(story.ROUTES[0], name="192.0.2.0/24")
    assert asked("192.0.2.9", objects=(*CLUSTER, same))["way"] == "link"


def test_a_link_that_is_down_leads_nowhere() -> None:
    host = structs.replace(story.HOST, links=tuple(structs.replace(each, up=False) for each in story.HOST.links))
    objects = (*(each for each in CLUSTER if not isinstance(each, Host)), host)
    assert asked("10.0.0.2", objects=objects)["way"] == "gateway"


def test_this_nodes_own_addresses_are_its_own() -> None:
    answer = asked("10.0.0.1")
    assert (answer["way"], answer["through"]) == ("local", "eth0")


def test_a_services_addresses_are_announced_and_it_says_of_which_service() -> None:
    answer = asked("198.51.100.7")
    assert announced(answer) == [("198.51.100.7/32", True, "external IP of Service prod/web, --advertise-external-ip")]
    assert answer["announced"][0]["because"] == [{"seq": 4, "object": "Service prod/web"}]


def test_one_that_is_not_announced_says_why() -> None:
    objects = (*(each for each in CLUSTER if not isinstance(each, EndpointSlice)), story.ELSEWHERE)
    assert announced(asked("198.51.100.7", objects=objects)) == [
        ("198.51.100.7/32", False, "externalTrafficPolicy: Local, and no ready endpoint of it is on this node")
    ]
    assert announced(asked("10.96.0.10", "--advertise-cluster-ip=false")) == [
        ("10.96.0.10/32", False, "--advertise-cluster-ip is not set")
    ]


def test_pod_cidrs_from_the_cni_configuration_count_where_a_node_has_no_others() -> None:
    bare = structs.replace(story.node(1, 0), pod_cidrs=())
    answer = explain(view(bare, story.HOST), {"route": "10.244.1.5"}, options(), "n1", cni_cidrs=("10.244.1.0/24",))
    assert (answer["way"], answer["through"]) == ("pods", "kube-bridge")


@pytest.mark.parametrize("text", ["", "10.0.0.0/24", "nonsense", "10.0.0.256"])
def test_what_is_no_address_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match="is no IP address"):
        asked(text)


def test_a_node_of_which_nothing_is_known_has_no_way() -> None:
    answer = asked("10.0.0.1", objects=())
    assert (answer["way"], answer["announced"], answer["seq"]) == ("none", [], 0)


def test_interfaces_of_another_host_are_not_this_nodes() -> None:
    other = Host(name="n2", links=(Link(name="eth9", mtu=1500, addresses=("172.16.0.1/24",)),))
    assert cast("str", asked("172.16.0.9", objects=(*CLUSTER, other))["way"]) == "gateway"
