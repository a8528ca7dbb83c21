"""With whom a node speaks: the mesh, route reflection, and external peers by flags and annotations."""

import base64
import json
from collections.abc import Mapping

import pytest
from bgp_nodes import configured, no_secret, node, options, peers, speaker, view, words

from kube_router.events.model import Node
from kube_router.events.normalize_node import normalize_node
from kube_router.events.redact import Redactor
from kube_router.plugins.routing.bgp.model import BfdConfig, Family, PeerConfig
from kube_router.plugins.routing.config import speaker_config

BOTH = (Family.IPV4, Family.IPV6)
ME = node("node-1", "192.0.2.1", pods=("10.244.1.0/24",))
TWO = node("node-2", "192.0.2.2", pods=("10.244.2.0/24",))
DIGEST = "redacted:0"


def among(*nodes: Node, flags: tuple[str, ...] = ()) -> Mapping[str, list[str]]:
    """Return, for every node of a cluster, the addresses of the peers it is configured to have."""
    cluster, chosen = view(*nodes), options(*flags)
    made = {each.name: speaker_config(cluster, chosen, each.name, no_secret).config for each in nodes}
    return {name: sorted(config.peers) if config is not None else [] for name, config in made.items()}


# -- the mesh ----------------------------------------------------------------------------------------------------------


def test_every_node_peers_with_every_other_one_in_the_cluster_s_as() -> None:
    made = configured(ME, TWO, node("node-3", "192.0.2.3"))
    assert speaker(made).asn == 64512
    assert peers(made) == {
        "192.0.2.2": PeerConfig(address="192.0.2.2", asn=64512, internal=True, mesh=True, local_address="192.0.2.1"),
        "192.0.2.3": PeerConfig(address="192.0.2.3", asn=64512, internal=True, mesh=True, local_address="192.0.2.1"),
    }
    assert words(made) == []


def test_flags_say_how_nodes_peer() -> None:
    flags = (
        "--cluster-asn=65000",
        "--bgp-port=1790",
        "--bgp-graceful-restart",
        "--bgp-graceful-restart-time=2m",
        "--enable-bfd",
        "--bgp-holdtime=30s",
        "--peer-router-multihop-ttl=3",
        "--override-nexthop",
    )
    assert peers(configured(ME, TWO, flags=flags)) == {
        "192.0.2.2": PeerConfig(
            address="192.0.2.2",
            asn=65000,
            internal=True,
            mesh=True,
            port=1790,
            local_address="192.0.2.1",
            graceful_restart_s=120,
            bfd=BfdConfig(),
        )
    }


def test_without_ibgp_there_is_no_mesh() -> None:
    assert peers(configured(ME, TWO, flags=("--enable-ibgp=false",))) == {}


def test_a_session_carries_the_families_both_nodes_have() -> None:
    me = node("node-1", "192.0.2.1", "2001:db8::1", pods=("10.244.1.0/24",))
    both, v4 = node("node-2", "2001:db8::2", "192.0.2.2"), node("node-3", "192.0.2.3")
    found = peers(configured(me, both, v4))
    assert {address: peer.families for address, peer in found.items()} == {
        "192.0.2.2": BOTH,
        "192.0.2.3": (Family.IPV4,),
    }


def test_ipv6_nodes_with_ipv4_pods_carry_both_families_over_ipv6() -> None:
    one = node("node-1", "2001:db8::1", pods=("10.244.1.0/24",))
    two = node("node-2", "2001:db8::2", "192.0.2.2", pods=("10.244.2.0/24",))
    found = peers(configured(one, two, flags=("--router-id=generate",)))
    assert [(peer.address, peer.local_address, peer.families) for peer in found.values()] == [
        ("2001:db8::2", "2001:db8::1", BOTH)
    ]


@pytest.mark.parametrize(
    ("one", "two", "wanted"),
    [
        (("192.0.2.1", "fd00::1"), ("192.0.2.2", "fd00::2"), ("192.0.2.2", "192.0.2.1")),
        (("fd00::1", "192.0.2.1"), ("fd00::2", "192.0.2.2"), ("fd00::2", "fd00::1")),
        (("fd00::1", "192.0.2.1"), ("192.0.2.2", "fd00::2"), ("192.0.2.2", "192.0.2.1")),
        (("fd00::1", "192.0.2.1"), ("192.0.2.2",), ("192.0.2.2", "192.0.2.1")),
        (("192.0.2.1", "fd00::1"), ("fd00::2",), ("fd00::2", "fd00::1")),
    ],
)
def test_both_ends_choose_the_same_family_to_meet_in(
    one: tuple[str, ...], two: tuple[str, ...], wanted: tuple[str, str]
) -> None:
    found = among(node("node-1", *one), node("node-2", *two), flags=("--router-id=generate",))
    assert found == {"node-1": [wanted[0]], "node-2": [wanted[1]]}


def test_nodes_without_a_common_family_do_not_peer() -> None:
    found = among(node("node-1", "192.0.2.1"), node("node-2", "fd00::2"), flags=("--router-id=generate",))
    assert found == {"node-1": [], "node-2": []}


def test_a_node_without_an_address_is_no_peer_until_it_has_one() -> None:
    assert peers(configured(ME, node("node-2"))) == {}


def test_two_nodes_with_one_address_are_named_and_the_first_stands() -> None:
    made = configured(ME, TWO, node("node-3", "192.0.2.2"), node("node-4", "192.0.2.1"))
    assert sorted(peers(made)) == ["192.0.2.2"]
    assert words(made) == [
        "Node node-3: status.addresses: 192.0.2.2 is another node's address already; not peered with",
        "Node node-4: status.addresses: 192.0.2.1 is another node's address already; not peered with",
    ]


# -- no full mesh ------------------------------------------------------------------------------------------------------


def test_without_full_mesh_nodes_of_one_as_number_peer() -> None:
    made = configured(
        node("node-1", "192.0.2.1", pods=("10.244.1.0/24",), node_asn="64513"),
        node("node-2", "192.0.2.2", node_asn="0xFC01"),
        node("node-3", "192.0.2.3", node_asn="64514"),
        node("node-4", "192.0.2.4"),
        node("node-5", "192.0.2.5", node_asn="many"),
        flags=("--nodes-full-mesh=false",),
    )
    assert speaker(made).asn == 64513
    assert {address: peer.asn for address, peer in peers(made).items()} == {"192.0.2.2": 64513}
    assert words(made) == [
        "Node node-5: metadata.annotations[kube-router.io/node.asn]: 'many' is not a whole number; "
        "no node peers with it"
    ]


# -- route reflection --------------------------------------------------------------------------------------------------


def test_clients_peer_only_with_servers_of_their_own_cluster_and_servers_with_all_others() -> None:
    nodes = (
        node("server-a", "192.0.2.1", rr_server="1"),
        node("server-b", "192.0.2.2", rr_server="0.0.0.2"),
        node("client-a", "192.0.2.3", rr_client="0.0.0.1"),
        node("client-b", "192.0.2.4", rr_client="2"),
        node("neither", "192.0.2.5"),
    )
    assert among(*nodes) == {
        "server-a": ["192.0.2.2", "192.0.2.3", "192.0.2.5"],
        "server-b": ["192.0.2.1", "192.0.2.4", "192.0.2.5"],
        "client-a": ["192.0.2.1"],
        "client-b": ["192.0.2.2"],
        "neither": ["192.0.2.1", "192.0.2.2"],
    }


def test_a_server_knows_its_clients_and_its_cluster_id() -> None:
    made = configured(
        node("node-1", "192.0.2.1", rr_server="10.0.0.1"),
        node("node-2", "192.0.2.2", rr_client="167772161"),
        node("node-3", "192.0.2.3"),
    )
    assert speaker(made).cluster_id == 167772161
    assert {address: peer.reflector_client for address, peer in peers(made).items()} == {
        "192.0.2.2": True,
        "192.0.2.3": False,
    }


def test_a_client_is_no_reflector() -> None:
    made = configured(node("node-1", "192.0.2.1", rr_client="7"), node("node-2", "192.0.2.2", rr_server="7"))
    assert speaker(made).cluster_id == 0
    assert {address: peer.reflector_client for address, peer in peers(made).items()} == {"192.0.2.2": False}


def test_a_node_with_a_bad_cluster_id_is_neither_for_all_alike() -> None:
    nodes = (
        node("node-1", "192.0.2.1", rr_server="1"),
        node("node-2", "192.0.2.2", rr_client="one"),
        node("node-3", "192.0.2.3"),
    )
    assert among(*nodes) == {
        "node-1": ["192.0.2.2", "192.0.2.3"],
        "node-2": ["192.0.2.1", "192.0.2.3"],
        "node-3": ["192.0.2.1", "192.0.2.2"],
    }
    assert "Node node-2: metadata.annotations[kube-router.io/rr.client]: 'one' is no cluster id " in "".join(
        words(configured(*nodes))
    )


# -- external peers by flags -------------------------------------------------------------------------------------------


def test_external_peers_by_flags_are_as_the_flags_say() -> None:
    me = node(
        "node-1",
        "192.0.2.1",
        "2001:db8::1",
        pods=("10.244.1.0/24",),
        prepend_as="64999",
        prepend_times="2",
        communities="no-export,64512:1:2",
    )
    made = configured(
        me,
        flags=(
            "--peer-router-ips=198.51.100.1,2001:db8:9::9",
            "--peer-router-asns=65001,64512",
            "--peer-router-ports=1790,",
            f"--peer-router-passwords={base64.b64encode(b'zebra').decode()},",
            "--peer-router-multihop-ttl=4",
            "--bgp-holdtime=30s",
            "--bgp-graceful-restart",
            "--override-nexthop",
            "--enable-bfd",
        ),
    )
    assert peers(made) == {
        "198.51.100.1": PeerConfig(
            address="198.51.100.1",
            asn=65001,
            internal=False,
            port=1790,
            local_address="192.0.2.1",
            password="zebra",
            families=BOTH,
            hold_time_s=30,
            ttl=4,
            graceful_restart_s=90,
            bfd=BfdConfig(),
            next_hop_self=True,
            prepend_asn=64999,
            prepend_count=2,
            communities=(0xFFFFFF01,),
            large_communities=((64512, 1, 2),),
        ),
        "2001:db8:9::9": PeerConfig(
            address="2001:db8:9::9",
            asn=64512,
            internal=True,
            port=179,
            local_address="2001:db8::1",
            families=BOTH,
            hold_time_s=30,
            graceful_restart_s=90,
            bfd=BfdConfig(),
            next_hop_self=True,
            prepend_asn=64999,
            prepend_count=2,
            communities=(0xFFFFFF01,),
            large_communities=((64512, 1, 2),),
        ),
    }


def test_a_ttl_of_one_is_no_multihop() -> None:
    flags = ("--peer-router-ips=198.51.100.1", "--peer-router-asns=65001", "--peer-router-multihop-ttl=1")
    assert peers(configured(ME, flags=flags))["198.51.100.1"].ttl == 0


def test_peers_by_flags_win_entirely_over_annotations() -> None:
    me = node("node-1", "192.0.2.1", pods=("10.244.1.0/24",), peer_ips="198.51.100.2,x", peer_asns="65002")
    flags = ("--peer-router-ips=198.51.100.1", "--peer-router-asns=65001")
    made = configured(me, flags=flags)
    assert sorted(peers(made)) == ["198.51.100.1"]
    assert words(made) == []


def test_a_peer_of_a_family_the_node_has_not_is_left_out() -> None:
    made = configured(ME, flags=("--peer-router-ips=2001:db8::9,198.51.100.1", "--peer-router-asns=65001,65002"))
    assert sorted(peers(made)) == ["198.51.100.1"]
    assert words(made) == [
        "Node node-1: --peer-router-ips, item 1: 2001:db8::9 needs an IPv6 address of this node, which has none; "
        "peer left out"
    ]


def test_an_external_peer_that_is_a_node_is_left_out() -> None:
    flags = ("--peer-router-ips=192.0.2.2,192.0.2.1,192.0.2.9", "--peer-router-asns=65001,65001,65001")
    made = configured(ME, TWO, flags=flags)
    assert {address: peer.mesh for address, peer in peers(made).items()} == {"192.0.2.2": True, "192.0.2.9": False}
    assert words(made) == [
        "Node node-1: --peer-router-ips, item 1: 192.0.2.2 is a node's address, with which this node peers; "
        "peer left out",
        "Node node-1: --peer-router-ips, item 2: 192.0.2.1 is this node's own address; peer left out",
    ]


# -- external peers by kube-router.io/peers ----------------------------------------------------------------------------


def annotated(text: str, *addresses: str) -> tuple[Node, Redactor]:
    """Return node-1 as it comes from the API server with kube-router.io/peers, and who knows its passwords."""
    redactor = Redactor(b"k" * 32)
    raw = {
        "metadata": {"name": "node-1", "annotations": {"kube-router.io/peers": text}},
        "spec": {"podCIDR": "10.244.1.0/24"},
        "status": {"addresses": [{"type": "InternalIP", "address": a} for a in addresses or ("192.0.2.1",)]},
    }
    found = normalize_node(json.dumps(raw).encode(), redactor.digest).obj
    assert isinstance(found, Node)
    return found, redactor


def test_peers_are_read_from_yaml() -> None:
    me, redactor = annotated(
        """
        - remoteip: 198.51.100.1
          remoteasn: 65001
        - remoteip: 198.51.100.2
          remoteasn: "65002"
          localip: 192.0.2.7
          password: emVicmE=
          port: 1790
          bfd:
            enabled: true
            port: 4784
            detection_multiplier: 5
            desired_min_tx_interval: 300
            required_min_rx_interval: 400
        - remoteip: 198.51.100.3
          remoteasn: 65003
          bfd: {enabled: false, port: 4784}
        """
    )
    made = configured(me, secret=redactor.plaintext)
    assert peers(made) == {
        "198.51.100.1": PeerConfig(address="198.51.100.1", asn=65001, local_address="192.0.2.1", internal=False),
        "198.51.100.2": PeerConfig(
            address="198.51.100.2",
            asn=65002,
            local_address="192.0.2.7",
            port=1790,
            password="zebra",
            bfd=BfdConfig(port=4784, detect_mult=5, desired_min_tx_ms=300, required_min_rx_ms=400),
            internal=False,
        ),
        "198.51.100.3": PeerConfig(address="198.51.100.3", asn=65003, local_address="192.0.2.1", internal=False),
    }
    assert (words(made), made.waiting) == ([], ())


def test_what_is_wrong_with_one_peer_leaves_out_that_one() -> None:
    me, redactor = annotated(
        """
        - {remoteip: 198.51.100.1, remoteasn: 65001}
        - {remoteip: router, remoteasn: 65001}
        - {remoteip: 198.51.100.3, remoteasn: 23456}
        - {remoteasn: 65001}
        - {remoteip: 198.51.100.5}
        - {remoteip: 198.51.100.6, remoteasn: 65001, port: 65536}
        - {remoteip: 198.51.100.7, remoteasn: 65001, localip: "2001:db8::1"}
        - {remoteip: 198.51.100.8, remoteasn: 65001, password: s3cret!}
        - {remoteip: 198.51.100.9, remoteasn: 65001, bfd: {enabled: true, detection_multiplier: 0}}
        - {remoteip: 198.51.100.10, remoteasn: 65001, bfd: fast}
        - {remoteip: 198.51.100.1, remoteasn: 65002}
        - {remoteip: 198.51.100.11, remoteasn: true}
        - {remoteip: 198.51.100.12, remoteasn: 65001, bfd: {enabled: perhaps}}
        """
    )
    made = configured(me, secret=redactor.plaintext)
    assert {address: peer.asn for address, peer in peers(made).items()} == {"198.51.100.1": 65001}
    asns = "(allowed: 1-23455, 23457-63999, 64512-65534, 131072-4294967294)"
    assert words(made) == [
        f"Node node-1: metadata.annotations[kube-router.io/peers]{text}"
        for text in (
            "[1].remoteip: 'router' is no IP address; peer left out",
            f"[2].remoteasn: 23456 is a reserved AS number {asns}; peer left out",
            "[3].remoteip: missing; peer left out",
            "[4].remoteasn: missing; peer left out",
            "[5].port: 65536 is not within 1-65535; peer left out",
            "[6].localip: 2001:db8::1 is not of the family of 198.51.100.7; peer left out",
            "[7].password: the password is no base64 of UTF-8 text; peer left out",
            "[8].bfd.detection_multiplier: 0 is not within 1-255; peer left out",
            "[9].bfd: is no mapping; peer left out",
            "[10]: 198.51.100.1 is there twice; peer left out, the first one stands",
            "[11].remoteasn: True is not a whole number; peer left out",
            "[12].bfd.enabled: 'perhaps' is neither true nor false; peer left out",
        )
    ]


def test_a_field_nobody_knows_is_named_without_what_it_holds() -> None:
    me, redactor = annotated(
        "- {remoteip: 198.51.100.1, remoteasn: 65001, passwrd: s3cret, bfd: {enabled: true, timeout: 5}}"
    )
    made = configured(me, secret=redactor.plaintext)
    assert sorted(peers(made)) == ["198.51.100.1"]
    assert words(made) == [
        "Node node-1: metadata.annotations[kube-router.io/peers][0]: 'passwrd' is no field of it; ignored",
        "Node node-1: metadata.annotations[kube-router.io/peers][0].bfd: 'timeout' is no field of it; ignored",
    ]


@pytest.mark.parametrize("text", ["- {remoteip: [", "remoteip: 198.51.100.1", "just words"])
def test_peers_that_cannot_be_read_are_none_and_the_mesh_stands(text: str) -> None:
    me, redactor = annotated(text)
    made = configured(me, TWO, secret=redactor.plaintext)
    assert sorted(peers(made)) == ["192.0.2.2"]
    assert words(made) == []  # it was told where the annotation was read


def test_a_list_of_something_else_than_mappings_is_named_item_by_item() -> None:
    me = node("node-1", "192.0.2.1", pods=("10.244.1.0/24",), peers='[1, {"remoteip": "198.51.100.1", "remoteasn": 1}]')
    made = configured(me)
    assert sorted(peers(made)) == ["198.51.100.1"]
    assert words(made) == ["Node node-1: metadata.annotations[kube-router.io/peers][0]: is no mapping; peer left out"]


def test_a_peer_whose_password_is_not_known_waits_and_the_others_do_not() -> None:
    text = (
        "[{remoteip: 198.51.100.1, remoteasn: 65001, password: emVicmE=}, {remoteip: 198.51.100.2, remoteasn: 65001}]"
    )
    me, redactor = annotated(text)
    restarted = Redactor(b"k" * 32)
    waiting = configured(me, secret=restarted.plaintext)
    assert (sorted(peers(waiting)), waiting.waiting, words(waiting)) == (["198.51.100.2"], ("198.51.100.1",), [])
    known = configured(me, secret=redactor.plaintext)
    assert (sorted(peers(known)), known.waiting) == (["198.51.100.1", "198.51.100.2"], ())
    assert "zebra" not in repr(peers(known)["198.51.100.1"])


# -- external peers by single annotations ------------------------------------------------------------------------------


def test_peers_are_read_from_lists_with_blanks() -> None:
    me = node(
        "node-1",
        "192.0.2.1",
        pods=("10.244.1.0/24",),
        peer_ips="198.51.100.1, 198.51.100.2,198.51.100.3",
        peer_asns="65001,0xFDEA,65003",
        peer_ports=",1790,",
        peer_passwords=f"{DIGEST},,",
        peer_local_ips=",,192.0.2.7",
    )
    made = configured(me, secret={DIGEST: "emVicmE="}.get)
    assert [
        (peer.address, peer.asn, peer.port, peer.password, peer.local_address) for peer in peers(made).values()
    ] == [
        ("198.51.100.1", 65001, 179, "zebra", "192.0.2.1"),
        ("198.51.100.2", 65002, 1790, "", "192.0.2.1"),
        ("198.51.100.3", 65003, 179, "", "192.0.2.7"),
    ]
    assert words(made) == []


def test_lists_are_ignored_where_there_are_peers() -> None:
    me = node(
        "node-1",
        "192.0.2.1",
        pods=("10.244.1.0/24",),
        peers='[{"remoteip": "198.51.100.1", "remoteasn": 65001}]',
        peer_ips="198.51.100.2",
        peer_asns="1,2,3",
    )
    made = configured(me)
    assert (sorted(peers(made)), words(made)) == (["198.51.100.1"], [])


@pytest.mark.parametrize(
    ("lists", "said"),
    [
        (
            {"peer_ips": "198.51.100.1,198.51.100.2", "peer_asns": "65001"},
            "[kube-router.io/peer.asns]: has 1 items, but kube-router.io/peer.ips has 2; no peer of the lists is used",
        ),
        (
            {"peer_ips": "198.51.100.1", "peer_asns": "65001", "peer_passwords": f"{DIGEST},"},
            "[kube-router.io/peer.passwords]: has 2 items, but kube-router.io/peer.ips has 1; "
            "no peer of the lists is used",
        ),
        (
            {"peer_ips": "198.51.100.1"},
            "[kube-router.io/peer.ips]: kube-router.io/peer.asns is missing; no peer of the lists is used",
        ),
        (
            {"peer_asns": "65001"},
            "[kube-router.io/peer.asns]: has 1 items, but kube-router.io/peer.ips has 0; no peer of the lists is used",
        ),
    ],
)
def test_lists_of_unequal_length_leave_out_all_of_them_and_the_mesh_stands(lists: dict[str, str], said: str) -> None:
    made = configured(node("node-1", "192.0.2.1", pods=("10.244.1.0/24",), **lists), TWO)
    assert sorted(peers(made)) == ["192.0.2.2"]
    assert words(made) == [f"Node node-1: metadata.annotations{said}"]


def test_one_bad_item_of_the_lists_leaves_out_one_peer() -> None:
    me = node(
        "node-1",
        "192.0.2.1",
        pods=("10.244.1.0/24",),
        peer_ips="198.51.100.1,,198.51.100.3,198.51.100.4",
        peer_asns="65001,65001,0,65001",
        peer_ports="179,179,179,many",
    )
    made = configured(me)
    assert sorted(peers(made)) == ["198.51.100.1"]
    asns = "(allowed: 1-23455, 23457-63999, 64512-65534, 131072-4294967294)"
    assert words(made) == [
        f"Node node-1: metadata.annotations[kube-router.io/peer.ips]{text}"
        for text in (
            "[1].remoteip: missing; peer left out",
            f"[2].remoteasn: '0' is a reserved AS number {asns}; peer left out",
            "[3].port: 'many' is not a whole number; peer left out",
        )
    ]
