"""Routing's flags: kube-router's defaults, and what is refused at start in words that name the flag."""

import base64
from ipaddress import ip_network

import pytest
from bgp_nodes import GROUPS, options

from kube_router.core.kube_router_flags import UNSERVED
from kube_router.core.options import resolve
from kube_router.events.errors import ConfigError
from kube_router.plugins.routing.bgp.model import BfdConfig
from kube_router.plugins.routing.options import OPTIONS
from kube_router.plugins.routing.settings import ExternalPeer, RoutingOptions, with_passwords

PEERS = ("--peer-router-ips=192.0.2.1,2001:db8::1", "--peer-router-asns=65001,0xFDEA")
SECRET = base64.b64encode(b"zebra").decode()


def refusal(*argv: str) -> str:
    with pytest.raises(ConfigError) as error:
        options(*argv)
    return str(error.value)


def test_without_flags_everything_is_as_kube_router_has_it() -> None:
    assert options() == RoutingOptions()
    kube_router = {option.name: (option.kind, option.default, option.secret) for option in UNSERVED}
    ours = {option.name: (option.kind, option.default, option.secret) for option in OPTIONS}
    assert ours.pop("advertise-service-cluster-ip-range") == ("bool", False, False)
    assert {name: kube_router[name] for name in ours} == ours


def test_what_the_flags_say_is_there_by_its_type() -> None:
    made = options(
        "--advertise-cluster-ip",
        "--advertise-external-ip",
        "--advertise-loadbalancer-ip",
        "--advertise-pod-cidr=false",
        "--advertise-service-cluster-ip-range",
        "--auto-mtu=false",
        "--enable-bfd",
        "--bfd-port=4784",
        "--bfd-detection-multiplier=5",
        "--bfd-desired-min-tx-interval=300",
        "--bfd-required-min-rx-interval=400",
        "--bgp-holdtime=30s",
        "--bgp-port=1790",
        "--cluster-asn=4200000000",
        "--enable-cni=false",
        "--enable-ibgp=false",
        "--enable-overlay=false",
        "--enable-pod-egress=false",
        "--injected-routes-sync-period=30s",
        "--nodes-full-mesh=false",
        "--overlay-encap=vxlan",
        "--overlay-encap-port=6000",
        "--overlay-type=full",
        "--override-nexthop",
        "--peer-router-multihop-ttl=4",
        "--router-id=192.0.2.9",
        "--routes-sync-period=1m",
        "--service-cluster-ip-range=10.0.0.1/16,fd00::/108",
        "--service-external-ip-range=203.0.113.0/24",
        "--loadbalancer-ip-range=198.51.100.0/24,2001:db8:1::/64",
        "--strict-external-ip-validation=false",
    )
    assert made == RoutingOptions(
        advertise_cluster_ip=True,
        advertise_external_ip=True,
        advertise_loadbalancer_ip=True,
        advertise_pod_cidr=False,
        advertise_service_cluster_ip_range=True,
        auto_mtu=False,
        bfd=BfdConfig(port=4784, detect_mult=5, desired_min_tx_ms=300, required_min_rx_ms=400),
        bgp_holdtime_s=30,
        bgp_port=1790,
        cluster_asn=4200000000,
        enable_cni=False,
        enable_ibgp=False,
        enable_overlay=False,
        enable_pod_egress=False,
        injected_routes_sync_period_s=30.0,
        nodes_full_mesh=False,
        overlay_encap="vxlan",
        overlay_encap_port=6000,
        overlay_type="full",
        override_nexthop=True,
        peer_router_multihop_ttl=4,
        router_id="192.0.2.9",
        routes_sync_period_s=60.0,
        service_cluster_ip_ranges=(ip_network("10.0.0.0/16"), ip_network("fd00::/108")),
        service_external_ip_ranges=(ip_network("203.0.113.0/24"),),
        loadbalancer_ip_ranges=(ip_network("198.51.100.0/24"), ip_network("2001:db8:1::/64")),
        strict_external_ip_validation=False,
    )


def test_peers_are_taken_from_lists_that_go_together() -> None:
    assert options(*PEERS, "--peer-router-ports=,1790", f"--peer-router-passwords={SECRET},").peers == (
        ExternalPeer(address="192.0.2.1", asn=65001, password="zebra", where="--peer-router-ips, item 1"),
        ExternalPeer(address="2001:db8::1", asn=65002, port=1790, where="--peer-router-ips, item 2"),
    )
    assert options("--enable-bfd", *PEERS).peers[0].bfd == BfdConfig()


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--overlay-type=ful"], "flag --overlay-type: the value 'ful' is none of subnet, full"),
        (["--overlay-encap=gre"], "flag --overlay-encap: the value 'gre' is none of ipip, fou, vxlan"),
        (["--overlay-encap-port=1023"], "flag --overlay-encap-port: the value 1023 is not within 1024-65535"),
        (["--bgp-port=0"], "flag --bgp-port: the value 0 is not within 1-65535"),
        (["--bfd-port=65536"], "flag --bfd-port: the value 65536 is not within 1-65535"),
        (["--bfd-detection-multiplier=256"], "flag --bfd-detection-multiplier: the value 256 is not within 1-255"),
        (
            ["--bfd-desired-min-tx-interval=4294968"],
            "flag --bfd-desired-min-tx-interval: the value 4294968 is not within 1-4294967",
        ),
        (
            ["--bfd-required-min-rx-interval=0"],
            "flag --bfd-required-min-rx-interval: the value 0 is not within 1-4294967",
        ),
        (
            ["--cluster-asn=64511"],
            "flag --cluster-asn: the value '64511' is a reserved AS number "
            "(allowed: 64512-65535, 4200000000-4294967294)",
        ),
        (["--peer-router-multihop-ttl=256"], "flag --peer-router-multihop-ttl: the value 256 is not within 0-255"),
        (
            ["--router-id=fd00::1"],
            "flag --router-id: the value 'fd00::1' is no router id (an IPv4 address or generate)",
        ),
        (
            ["--router-id=0.0.0.0"],
            "flag --router-id: the value '0.0.0.0' is no router id (an IPv4 address or generate)",
        ),
        (
            ["--service-cluster-ip-range="],
            "flag --service-cluster-ip-range: the value holds 0 CIDRs; it takes one or two",
        ),
        (
            ["--service-cluster-ip-range=10.96.0.0"],
            "flag --service-cluster-ip-range: the value '10.96.0.0' is no CIDR such as 10.0.0.0/8 or 2001:db8::/32",
        ),
        (
            ["--service-external-ip-range=x/8"],
            "flag --service-external-ip-range: the value 'x/8' is no CIDR such as 10.0.0.0/8 or 2001:db8::/32",
        ),
        (
            ["--loadbalancer-ip-range=1.2.3.4/33"],
            "flag --loadbalancer-ip-range: the value '1.2.3.4/33' is no CIDR such as 10.0.0.0/8 or 2001:db8::/32",
        ),
        (["--bgp-holdtime=2s"], "--bgp-holdtime: 2s is not within 3s-65535s"),
        (["--bgp-holdtime=65537s"], "--bgp-holdtime: 65537s is not within 3s-65535s"),
        (
            ["--bgp-graceful-restart", "--bgp-graceful-restart-time=4096s"],
            "--bgp-graceful-restart-time: 4096s is not greater than 0 and at most 4095s",
        ),
        (
            ["--bgp-graceful-restart", "--bgp-graceful-restart-deferral-time=19h"],
            "--bgp-graceful-restart-deferral-time: 68400s is not greater than 0 and at most 18h",
        ),
        (["--peer-router-ips=192.0.2.1"], "--peer-router-asns: has 0 items, but --peer-router-ips has 1"),
        (["--peer-router-asns=65001"], "--peer-router-asns: has 1 items, but --peer-router-ips has 0"),
        ([*PEERS, "--peer-router-ports=179"], "--peer-router-ports: has 1 items, but --peer-router-ips has 2"),
        (
            [*PEERS, f"--peer-router-passwords={SECRET}"],
            "--peer-router-passwords: has 1 items, but --peer-router-ips has 2",
        ),
        ([*PEERS, "--peer-router-ports=179,0"], "flag --peer-router-ports: the value '0' is not within 1-65535"),
        (["--peer-router-ips=router"], "flag --peer-router-ips: the value 'router' is no IP address"),
        (["--peer-router-ips=224.0.0.1"], "flag --peer-router-ips: the value '224.0.0.1' is no address of a host"),
        (
            ["--peer-router-ips=fe80::1"],
            "flag --peer-router-ips: the value 'fe80::1' is link-local: it means nothing without an interface",
        ),
        (
            ["--peer-router-asns=23456"],
            "flag --peer-router-asns: the value '23456' is a reserved AS number "
            "(allowed: 1-23455, 23457-63999, 64512-65534, 131072-4294967294)",
        ),
        (["--peer-router-asns=65001,"], "flag --peer-router-asns: the value '' is not a whole number"),
        (
            ["--peer-router-ips=192.0.2.1,192.0.2.1", "--peer-router-asns=65001,65002"],
            "--peer-router-ips: 192.0.2.1 is there twice",
        ),
    ],
)
def test_what_is_wrong_at_start_stops_it_and_names_flag_and_value(argv: list[str], said: str) -> None:
    assert refusal(*argv) == said


def test_a_password_is_never_quoted() -> None:
    said = refusal(*PEERS, "--peer-router-passwords=,s3cret!")
    assert said == (
        "flag --peer-router-passwords: the value is wrong in item 2: the password is no base64 of UTF-8 text"
    )
    long = base64.b64encode(b"x" * 81).decode()
    assert refusal(*PEERS, f"--peer-router-passwords={long},") == (
        "flag --peer-router-passwords: the value is wrong in item 1: "
        "the password is longer than the 80 bytes that TCP-MD5 takes"
    )
    assert "zebra" not in repr(options(*PEERS, f"--peer-router-passwords={SECRET},").peers[0])
    assert resolve([*PEERS, f"--peer-router-passwords={SECRET},"], GROUPS, environ={}).public() == {
        "peer-router-ips": "192.0.2.1,2001:db8::1",
        "peer-router-asns": "65001,0xFDEA",
    }


def test_times_of_graceful_restart_do_not_matter_without_it() -> None:
    made = options("--bgp-graceful-restart-time=2h", "--bgp-graceful-restart-deferral-time=-1s")
    assert (made.bgp_graceful_restart_time_s, made.bgp_graceful_restart_deferral_s) == (4095, 0.0)


def test_a_hold_time_of_kube_router_s_that_does_not_fit_is_one_second_less() -> None:
    made = options("--bgp-holdtime=65536s")
    assert made.bgp_holdtime_s == 65535
    assert made.doubts == ("--bgp-holdtime: 65536s does not fit into BGP's 16 bits; 65535s is used",)


def test_bfd_and_graceful_restart_together_are_named() -> None:
    assert options("--enable-bfd", "--bgp-graceful-restart").doubts == (
        "--enable-bfd, --bgp-graceful-restart: a peer that BFD finds down is not waited for",
    )


# -- passwords in a file -----------------------------------------------------------------------------------------------

FILE = "--peer-router-passwords-file=/etc/bgp/passwords"


def test_peers_with_a_file_of_passwords_wait_until_it_is_read() -> None:
    made = options(*PEERS, FILE)
    assert made.peer_router_passwords_file == "/etc/bgp/passwords"
    assert [peer.waiting for peer in made.peers] == [True, True]
    read = with_passwords(made, f"{SECRET},\n")
    assert [(peer.password, peer.waiting) for peer in read.peers] == [("zebra", False), ("", False)]
    assert read.doubts == ()


def test_the_list_of_the_flag_wins_over_the_file() -> None:
    made = options(*PEERS, FILE, f"--peer-router-passwords={SECRET},")
    assert (made.peer_router_passwords_file, made.peers[0].password, made.peers[0].waiting) == ("", "zebra", False)


def test_a_file_that_is_missing_leaves_its_peers_out_and_says_so_once() -> None:
    made = with_passwords(options(*PEERS, FILE), None, "No such file or directory")
    assert [peer.waiting for peer in made.peers] == [True, True]
    assert made.doubts == (
        "--peer-router-passwords-file /etc/bgp/passwords: No such file or directory; "
        "the peers of --peer-router-ips are left out until it is right",
    )


def test_a_file_of_another_length_leaves_all_its_peers_out() -> None:
    made = with_passwords(options(*PEERS, FILE), SECRET)
    assert [peer.waiting for peer in made.peers] == [True, True]
    assert made.doubts == (
        "--peer-router-passwords-file /etc/bgp/passwords: has 1 items, but --peer-router-ips has 2; "
        "the peers of --peer-router-ips are left out until it is right",
    )


def test_an_empty_file_does_not_say_that_there_is_no_password() -> None:
    made = with_passwords(options("--peer-router-ips=192.0.2.1", "--peer-router-asns=65001", FILE), "\n")
    assert [(peer.password, peer.waiting) for peer in made.peers] == [("", True)]
    assert made.doubts == (
        "--peer-router-passwords-file /etc/bgp/passwords: is empty; "
        "the peers of --peer-router-ips are left out until it is right",
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "Permission denied; the passwords it held before are used until it is right"),
        ("", "is empty; the passwords it held before are used until it is right"),
        (SECRET, "has 1 items, but --peer-router-ips has 2; the passwords it held before are used until it is right"),
        (
            f"{SECRET},s3cret!",
            "item 2: the password is no base64 of UTF-8 text; peer 2001:db8::1 goes on with the one before",
        ),
    ],
)
def test_a_file_that_goes_wrong_later_costs_nobody_a_session(text: str | None, why: str) -> None:
    asked = options(*PEERS, FILE)
    before = with_passwords(asked, f"{SECRET},{SECRET}")
    made = with_passwords(asked, text, "Permission denied" if text is None else "", before=before)
    assert made.peers == before.peers
    assert made.doubts == (f"--peer-router-passwords-file /etc/bgp/passwords: {why}",)


def test_one_bad_password_in_the_file_leaves_one_peer_out() -> None:
    made = with_passwords(options(*PEERS, FILE), f"s3cret!,{SECRET}")
    assert [(peer.password, peer.waiting) for peer in made.peers] == [("", True), ("zebra", False)]
    assert made.doubts == (
        "--peer-router-passwords-file /etc/bgp/passwords: item 1: the password is no base64 of UTF-8 text; "
        "peer 192.0.2.1 is left out until it is right",
    )
