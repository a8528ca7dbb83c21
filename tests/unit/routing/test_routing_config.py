"""The whole configuration of a node's speaker, and what keeps it from speaking."""

import pytest
from bgp_nodes import configured, no_secret, node, options, peers, service, speaker, view, words

from kube_router.core.view import Dirty
from kube_router.events.errors import Problem
from kube_router.events.model import Node, NodeAddress
from kube_router.plugins.routing.announce import AnnounceTable
from kube_router.plugins.routing.bgp.model import Family, Kind, PeerConfig, SpeakerConfig, prefix_of
from kube_router.plugins.routing.config import Configured, speaker_config
from kube_router.plugins.routing.settings import with_passwords

ME = node("node-1", "192.0.2.1", "2001:db8::1", pods=("10.244.1.0/24", "fd00:1::/64"))
FLAGS = ("--peer-router-ips=198.51.100.1", "--peer-router-asns=65001")


def test_a_speaker_is_a_function_of_the_cluster_and_the_flags() -> None:
    made = configured(
        node(
            "node-1",
            "192.0.2.1",
            "2001:db8::1",
            pods=("10.244.1.0/24", "fd00:1::/64"),
            import_reject="10.0.0.0/8",
            local_addresses="192.0.2.1",
        ),
        node("node-2", "192.0.2.2"),
        service(ips=("10.96.0.10", "fd00:96::10")),
        flags=("--advertise-cluster-ip", "--advertise-pod-cidr=false", "--bgp-port=1790"),
    )
    vips = [prefix_of("10.96.0.10/32"), prefix_of("fd00:96::10/128")]
    assert made == Configured(
        config=SpeakerConfig(
            asn=64512,
            router_id=0xC0000201,
            listen=("192.0.2.1",),
            port=1790,
            peers={
                "192.0.2.2": PeerConfig(
                    address="192.0.2.2", asn=64512, internal=True, mesh=True, port=1790, local_address="192.0.2.1"
                )
            },
            originated={
                vips[0]: Kind.SERVICE,
                vips[1]: Kind.SERVICE,
                prefix_of("10.244.1.0/24"): Kind.POD,
                prefix_of("fd00:1::/64"): Kind.POD,
            },
            next_hops={
                Family.IPV4: bytes([192, 0, 2, 1]),
                Family.IPV6: bytes.fromhex("20010db8000000000000000000000001"),
            },
            advertise_pods_externally=False,
            rejected=(prefix_of("10.0.0.0/8"),),
            deferral_s=360.0,
        ),
        pod_why={
            prefix_of("10.244.1.0/24"): "pod CIDR of this node, spec.podCIDRs",
            prefix_of("fd00:1::/64"): "pod CIDR of this node, spec.podCIDRs",
        },
    )


def test_a_table_that_is_up_to_date_gives_the_same_as_none() -> None:
    cluster, chosen = view(ME, service()), options("--advertise-cluster-ip")
    table = AnnounceTable(chosen, "node-1")
    table.update(cluster, Dirty(everything=True))
    with_table = speaker_config(cluster, chosen, "node-1", no_secret, announced=table)
    assert with_table == speaker_config(cluster, chosen, "node-1", no_secret)
    assert prefix_of("10.96.0.10/32") in speaker(with_table).originated


def test_a_configuration_does_not_change_when_the_table_does() -> None:
    chosen = options("--advertise-cluster-ip")
    table = AnnounceTable(chosen, "node-1")
    table.update(view(ME, service()), Dirty(everything=True))
    before = speaker(speaker_config(view(ME, service()), chosen, "node-1", no_secret, announced=table))
    table.update(view(ME), Dirty(everything=True))
    assert prefix_of("10.96.0.10/32") in before.originated


# -- the node itself ---------------------------------------------------------------------------------------------------


def test_a_node_that_is_not_known_yet_does_not_speak() -> None:
    assert configured(node("node-2", "192.0.2.2"), flags=FLAGS) == Configured(
        config=None, problems=(Problem("Node", "node-1", "is not known (yet): this node does not speak BGP"),)
    )


@pytest.mark.parametrize(
    ("me", "flags", "said"),
    [
        (
            node("node-1", pods=("10.244.1.0/24",)),
            (),
            "status.addresses: holds no InternalIP and no ExternalIP; this node does not speak BGP",
        ),
        (
            node("node-1", "2001:db8::1"),
            (),
            "status.addresses: no IPv4 address to be the router id; this node does not speak BGP: "
            "set --router-id=generate",
        ),
        (
            node("node-1", "192.0.2.1"),
            ("--nodes-full-mesh=false",),
            "metadata.annotations[kube-router.io/node.asn]: missing, but --nodes-full-mesh=false needs it; "
            "this node does not speak BGP",
        ),
        (
            node("node-1", "192.0.2.1", node_asn="23456"),
            ("--nodes-full-mesh=false",),
            "metadata.annotations[kube-router.io/node.asn]: '23456' is a reserved AS number "
            "(allowed: 1-23455, 23457-4294967294); this node does not speak BGP",
        ),
    ],
)
def test_without_an_address_an_as_number_or_a_router_id_it_does_not_either(
    me: Node, flags: tuple[str, ...], said: str
) -> None:
    made = configured(me, node("node-2", "192.0.2.2"), flags=flags)
    assert made.config is None
    assert words(made) == [f"Node node-1: {said}"]


@pytest.mark.parametrize(
    ("addresses", "flags", "wanted"),
    [
        (("192.0.2.1",), (), 0xC0000201),
        (("2001:db8::1", "192.0.2.1"), (), 0xC0000201),
        (("192.0.2.1",), ("--router-id=10.0.0.9",), 0x0A000009),
        (("2001:db8::1",), ("--router-id=10.0.0.9",), 0x0A000009),
    ],
)
def test_the_router_id_is_the_one_given_or_the_ipv4_address(
    addresses: tuple[str, ...], flags: tuple[str, ...], wanted: int
) -> None:
    assert speaker(configured(node("node-1", *addresses), flags=flags)).router_id == wanted


def fnv(octets: bytes) -> int:
    found = 2166136261
    for octet in octets:
        found = (found ^ octet) * 16777619 % 2**32
    return found


@pytest.mark.parametrize(
    ("address", "octets"),
    [
        ("2001:db8::1", "20010db8000000000000000000000001"),
        ("192.0.2.1", "00000000000000000000ffffc0000201"),
    ],
)
def test_a_generated_router_id_is_the_hash_that_kube_router_makes(address: str, octets: str) -> None:
    assert fnv(b"a") == 0xE40C292C  # the published test vector
    made = configured(node("node-1", address), flags=("--router-id=generate",))
    assert speaker(made).router_id == fnv(bytes.fromhex(octets))


def test_the_primary_address_is_the_first_internal_one() -> None:
    me = Node(
        name="node-1",
        addresses=(
            NodeAddress(type="ExternalIP", address="203.0.113.1"),
            NodeAddress(type="InternalIP", address="192.0.2.1"),
        ),
    )
    found = peers(configured(me, node("node-2", "192.0.2.2")))
    assert [peer.local_address for peer in found.values()] == ["192.0.2.1"]


# -- pod CIDRs ---------------------------------------------------------------------------------------------------------

NO_CIDRS = (
    "Node node-1: spec.podCIDRs: absent, and so are the annotations kube-router.io/pod-cidrs and "
    "kube-router.io/pod-cidr and CIDRs in the CNI configuration; no pod CIDR is announced, "
    "so this node's pods cannot be reached from others"
)


def test_a_node_without_pod_cidrs_peers_all_the_same_and_says_so_once() -> None:
    made = configured(node("node-1", "192.0.2.1"), node("node-2", "192.0.2.2"))
    assert sorted(peers(made)) == ["192.0.2.2"]
    assert speaker(made).originated == {}
    assert words(made) == [NO_CIDRS]


def test_the_cni_configuration_gives_the_pod_cidrs_that_nobody_else_gives() -> None:
    made = configured(node("node-1", "192.0.2.1"), cni_cidrs=("10.9.0.0/24",))
    assert speaker(made).originated == {prefix_of("10.9.0.0/24"): Kind.POD}
    assert made.pod_why == {prefix_of("10.9.0.0/24"): "pod CIDR of this node, the CNI configuration"}
    assert words(made) == []


def test_a_pod_cidr_of_a_family_without_an_address_is_named_and_not_announced() -> None:
    made = configured(node("node-1", "192.0.2.1", pods=("10.244.1.0/24", "fd00:1::/64")))
    assert speaker(made).originated == {prefix_of("10.244.1.0/24"): Kind.POD}
    assert words(made) == [
        "Node node-1: spec.podCIDRs: fd00:1::/64: the node has no IPv6 address to be the next hop; not announced"
    ]


def test_ipv4_pods_of_an_ipv6_node_have_an_ipv6_next_hop() -> None:
    made = configured(node("node-1", "2001:db8::1", pods=("10.244.1.0/24",)), flags=("--router-id=generate",))
    octets = bytes.fromhex("20010db8000000000000000000000001")
    assert speaker(made).next_hops == {Family.IPV6: octets, Family.IPV4: octets}
    assert speaker(made).originated == {prefix_of("10.244.1.0/24"): Kind.POD}


def test_another_node_s_missing_pod_cidrs_are_its_own_to_report() -> None:
    assert words(configured(ME, node("node-2", "192.0.2.2"))) == []


# -- problems ----------------------------------------------------------------------------------------------------------


def test_everything_that_is_wrong_is_named_and_the_rest_runs() -> None:
    me = node(
        "node-1",
        "192.0.2.1",
        pods=("10.244.1.0/24",),
        communities="x",
        import_reject="y",
        prepend_as="z",
        rr_server="?",
        local_addresses="nowhere",
        peers="{}",
    )
    made = configured(me, node("node-2", "192.0.2.2"), flags=("--bgp-holdtime=65536s",))
    assert sorted(peers(made)) == ["192.0.2.2"]
    assert speaker(made).listen == ("192.0.2.1",)
    assert [text.partition(": ")[2].partition(": ")[0] for text in words(made)] == [
        "--bgp-holdtime",
        "metadata.annotations[kube-router.io/rr.server]",
        "metadata.annotations[kube-router.io/path-prepend.as]",
        "metadata.annotations[kube-router.io/node.bgp.communities][0]",
        "metadata.annotations[kube-router.io/peers]",
        "metadata.annotations[kube-router.io/bgp-local-addresses][0]",
        "metadata.annotations[kube-router.io/bgp-local-addresses]",
        "metadata.annotations[kube-router.io/node.bgp.customimportreject][0]",
    ]


def test_problems_of_services_are_among_them() -> None:
    made = configured(ME, service(external_ips=("8.8.8.8",)), flags=("--advertise-external-ip",))
    assert words(made) == [
        "Service prod/web: spec.externalIPs: 8.8.8.8 is not permitted: "
        "--service-external-ip-range is not set; not announced"
    ]


def test_peers_whose_password_file_is_missing_wait_and_the_mesh_runs() -> None:
    chosen = with_passwords(options(*FLAGS, "--peer-router-passwords-file=/x"), None, "No such file or directory")
    made = speaker_config(view(ME, node("node-2", "192.0.2.2")), chosen, "node-1", no_secret)
    assert (sorted(peers(made)), made.waiting) == (["192.0.2.2"], ("198.51.100.1",))
    assert words(made) == [
        "Node node-1: --peer-router-passwords-file /x: No such file or directory; "
        "the peers of --peer-router-ips are left out until it is right"
    ]
