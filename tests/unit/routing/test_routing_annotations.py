"""What a Node's annotations mean for BGP: one bad item harms only itself and is named."""

import pytest
from bgp_nodes import node

from kube_router.events.faults import Faults
from kube_router.events.model import Node, NodeAddress
from kube_router.plugins.routing import annotations
from kube_router.plugins.routing.annotations import Communities, PodCidrs, Prepend, Reflection
from kube_router.plugins.routing.bgp.model import Family, Prefix, prefix_of


def faults() -> Faults:
    return Faults("Node", "node-1")


def said(found: Faults) -> list[str]:
    return [str(problem) for problem in found.found()]


def prefixes(*texts: str) -> tuple[Prefix, ...]:
    return tuple(prefix_of(text) for text in texts)


# -- addresses ---------------------------------------------------------------------------------------------------------


def test_internal_addresses_come_before_external_ones_whatever_their_order() -> None:
    made = Node(
        name="node-1",
        addresses=(
            NodeAddress(type="ExternalIP", address="203.0.113.1"),
            NodeAddress(type="InternalIP", address="fd00::1"),
            NodeAddress(type="InternalIP", address="192.0.2.1"),
        ),
    )
    assert annotations.primary_address(made) == "fd00::1"
    assert annotations.best_address(made, Family.IPV4) == "192.0.2.1"
    assert annotations.best_address(made, Family.IPV6) == "fd00::1"


def test_a_node_without_addresses_has_none() -> None:
    assert annotations.primary_address(node("node-1")) == ""
    assert annotations.next_hops(node("node-1")) == {}


def test_the_next_hop_of_each_family_is_the_node_s_own_address_of_it() -> None:
    assert annotations.next_hops(node("node-1", "192.0.2.1", "2001:db8::1")) == {
        Family.IPV4: "192.0.2.1",
        Family.IPV6: "2001:db8::1",
    }


def test_ipv4_pods_without_an_ipv4_address_are_reached_over_ipv6() -> None:
    assert annotations.next_hops(node("node-1", "2001:db8::1", pods=("10.244.1.0/24",))) == {
        Family.IPV4: "2001:db8::1",
        Family.IPV6: "2001:db8::1",
    }
    assert annotations.next_hops(node("node-1", "2001:db8::1", pods=("fd00:1::/64",))) == {Family.IPV6: "2001:db8::1"}


# -- pod CIDRs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (
            node("node-1", pods=("10.0.0.0/24",), pod_cidrs="10.1.0.0/24, fd00:1::/64", pod_cidr="10.2.0.0/24"),
            PodCidrs(prefixes("10.1.0.0/24", "fd00:1::/64"), "annotation kube-router.io/pod-cidrs"),
        ),
        (
            node("node-1", pods=("10.0.0.0/24",), pod_cidrs=" ", pod_cidr="10.2.0.0/24"),
            PodCidrs(prefixes("10.2.0.0/24"), "annotation kube-router.io/pod-cidr"),
        ),
        (
            node("node-1", pods=("10.0.0.0/24", "fd00::/64")),
            PodCidrs(prefixes("10.0.0.0/24", "fd00::/64"), "spec.podCIDRs"),
        ),
        (node("node-1"), PodCidrs(prefixes("10.9.0.0/24"), "the CNI configuration")),
    ],
)
def test_pod_cidrs_are_from_the_first_source_that_there_is(made: Node, wanted: PodCidrs) -> None:
    found = faults()
    assert annotations.pod_cidrs_from(made, found, cni=("10.9.0.0/24",)) == wanted
    assert said(found) == []


def test_without_any_source_there_are_no_pod_cidrs() -> None:
    assert annotations.pod_cidrs(node("node-1"), faults()) == ()


def test_one_bad_pod_cidr_is_left_out() -> None:
    found = faults()
    made = node("node-1", pod_cidrs="10.1.0.0, 10.1.1.5/24,10.1.1.0/24,10.1.2.0/33")
    assert annotations.pod_cidrs(made, found) == prefixes("10.1.1.0/24")
    assert said(found) == [
        "Node node-1: metadata.annotations[kube-router.io/pod-cidrs][0]: "
        "'10.1.0.0' is no CIDR such as 10.0.0.0/8 or 2001:db8::/32; left out",
        "Node node-1: metadata.annotations[kube-router.io/pod-cidrs][3]: "
        "'10.1.2.0/33' is no CIDR such as 10.0.0.0/8 or 2001:db8::/32; left out",
    ]


def test_an_annotation_that_cannot_be_read_does_not_give_way_to_the_spec() -> None:
    found = faults()
    made = node("node-1", pods=("10.0.0.0/24",), pod_cidr="x")
    assert annotations.pod_cidrs_from(made, found) == PodCidrs((), "annotation kube-router.io/pod-cidr")
    assert len(said(found)) == 1


# -- AS numbers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "asn"),
    [("64513", 64513), ("0xFC01", 64513), ("0o176001", 64513), (" 4200000001 ", 4200000001), ("65551", 65551)],
)
def test_a_node_s_as_number_may_be_written_as_in_go(text: str, asn: int) -> None:
    found = faults()
    assert annotations.node_asn(node("node-1", node_asn=text), found, consequence="…") == asn
    assert said(found) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x", "'x' is not a whole number; mute"),
        ("-1", "'-1' is not within 0-4294967295; mute"),
        ("4294967296", "'4294967296' is not within 0-4294967295; mute"),
        ("0", "'0' is a reserved AS number (allowed: 1-23455, 23457-4294967294); mute"),
        ("23456", "'23456' is a reserved AS number (allowed: 1-23455, 23457-4294967294); mute"),
        ("4294967295", "'4294967295' is a reserved AS number (allowed: 1-23455, 23457-4294967294); mute"),
    ],
)
def test_an_as_number_that_cannot_be_used_is_named(text: str, words: str) -> None:
    found = faults()
    assert annotations.node_asn(node("node-1", node_asn=text), found, consequence="mute") is None
    assert said(found) == [f"Node node-1: metadata.annotations[kube-router.io/node.asn]: {words}"]


# -- route reflection --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (node("node-1", rr_server="42"), Reflection("server", 42)),
        (node("node-1", rr_server="0.0.0.42"), Reflection("server", 42)),
        (node("node-1", rr_client="10.0.0.1"), Reflection("client", 167772161)),
        (node("node-1", rr_client="167772161"), Reflection("client", 167772161)),
        (node("node-1", rr_server="1", rr_client="2"), Reflection("server", 1)),
        (node("node-1", rr_server="", rr_client="2"), Reflection("client", 2)),
        (node("node-1"), Reflection("", 0)),
    ],
)
def test_a_cluster_id_is_the_same_number_however_it_is_written(made: Node, wanted: Reflection) -> None:
    found = faults()
    assert annotations.reflection(made, found) == wanted
    assert said(found) == []


def test_a_bad_cluster_id_is_as_if_it_were_not_there() -> None:
    found = faults()
    assert annotations.reflection(node("node-1", rr_server="hello", rr_client="0"), found) == Reflection()
    assert said(found) == [
        "Node node-1: metadata.annotations[kube-router.io/rr.server]: 'hello' is no cluster id "
        "(1-4294967295 or an IPv4 address); ignored, as if it were not there",
        "Node node-1: metadata.annotations[kube-router.io/rr.client]: '0' is no cluster id: 0 identifies nothing; "
        "ignored, as if it were not there",
    ]


# -- policy ------------------------------------------------------------------------------------------------------------


def test_communities_are_numbers_pairs_triples_and_names() -> None:
    found = faults()
    made = node(
        "node-1", communities="4294967295, 64512:100,0:65535,no-export,NO_ADVERTISE,64512:1:4294967295,64512:100, "
    )
    assert annotations.communities(made, found) == Communities(
        (0xFFFFFFFF, 64512 << 16 | 100, 65535, 0xFFFFFF01, 0xFFFFFF02), ((64512, 1, 0xFFFFFFFF),)
    )
    assert said(found) == []


def test_only_the_communities_that_are_none_are_left_out() -> None:
    found = faults()
    made = node("node-1", communities="65536:1,4294967296,1:2:3:4,no-such,1:-1,64512:7,١")
    assert annotations.communities(made, found) == Communities((64512 << 16 | 7,), ())
    assert said(found) == [
        f"Node node-1: metadata.annotations[kube-router.io/node.bgp.communities][{i}]: {text!r} is no community "
        "(a 32-bit number, 64512:100, 64512:1:2 or a well-known name such as no-export); left out"
        for i, text in ((0, "65536:1"), (1, "4294967296"), (2, "1:2:3:4"), (3, "no-such"), (4, "1:-1"), (6, "١"))
    ]


def test_one_bad_prefix_does_not_discard_the_whole_import_reject_list() -> None:
    found = faults()
    made = node("node-1", import_reject="10.0.0.0/8, 2001:db8::1/32 ,everything,192.168.0.0/16")
    assert annotations.import_reject(made, found) == prefixes("10.0.0.0/8", "2001:db8::/32", "192.168.0.0/16")
    assert said(found) == [
        "Node node-1: metadata.annotations[kube-router.io/node.bgp.customimportreject][2]: "
        "'everything' is no CIDR such as 10.0.0.0/8 or 2001:db8::/32; left out"
    ]


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (node("node-1", prepend_as="64999", prepend_times="3"), Prepend(64999, 3)),
        (node("node-1", prepend_as="64999", prepend_times="255"), Prepend(64999, 255)),
        (node("node-1", prepend_as="64999", prepend_times="0"), Prepend()),
        (node("node-1", prepend_times="3"), Prepend()),
        (node("node-1"), Prepend()),
    ],
)
def test_an_as_number_is_prepended_as_often_as_said(made: Node, wanted: Prepend) -> None:
    found = faults()
    assert annotations.prepend(made, found) == wanted
    assert said(found) == []


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (
            node("node-1", prepend_as="64999"),
            "[kube-router.io/path-prepend.as]: kube-router.io/path-prepend.repeat-n is missing, "
            "so it is not known how often; nothing is prepended",
        ),
        (
            node("node-1", prepend_as="64999", prepend_times="256"),
            "[kube-router.io/path-prepend.repeat-n]: '256' is not within 0-255; nothing is prepended",
        ),
        (
            node("node-1", prepend_as="AS1", prepend_times="2"),
            "[kube-router.io/path-prepend.as]: 'AS1' is not a whole number; nothing is prepended",
        ),
    ],
)
def test_half_a_prepending_is_none_and_named(made: Node, words: str) -> None:
    found = faults()
    assert annotations.prepend(made, found) == Prepend()
    assert said(found) == [f"Node node-1: metadata.annotations{words}"]


def test_the_addresses_to_listen_on_are_those_annotated() -> None:
    found = faults()
    made = node("node-1", "192.0.2.1", local_addresses="192.0.2.7, nowhere,2001:DB8::7")
    assert annotations.local_addresses(made, found) == ("192.0.2.7", "2001:db8::7")
    assert said(found) == [
        "Node node-1: metadata.annotations[kube-router.io/bgp-local-addresses][1]: 'nowhere' is no IP address; left out"
    ]


def test_without_annotated_addresses_the_node_listens_on_its_own() -> None:
    found = faults()
    assert annotations.local_addresses(node("node-1", "fd00::1", "192.0.2.1"), found) == ("192.0.2.1", "fd00::1")
    assert said(found) == []
    made = node("node-1", "192.0.2.1", local_addresses="nowhere")
    assert annotations.local_addresses(made, found) == ("192.0.2.1",)
    assert said(found)[1] == (
        "Node node-1: metadata.annotations[kube-router.io/bgp-local-addresses]: "
        "holds no address; the node's own are listened on"
    )
