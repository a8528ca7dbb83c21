"""Steps as nftables text, netlink requests and ipvsadm's lines."""

from pathlib import Path

import pytest
from harness.netns import run_in_new, sh

from kube_router.core import nlmsg
from kube_router.plugins.proxy import ipvs, render, rtnetlink
from kube_router.plugins.proxy.model import (
    AddAddress,
    Masquerade,
    RemoveAddress,
    RemoveServer,
    Server,
    ServerId,
    ServiceId,
    SetService,
    SetSource,
    Settings,
    VirtualService,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "proxy"
WEB, DNS6 = ServiceId("TCP", "10.96.0.10", 80), ServiceId("UDP", "fd00:96::a", 53)
TWO_CIDRS = Masquerade(
    ("10.244.1.0/24", "fd00:244:1::/64", "10.245.1.0/24"), ("192.0.2.1", "2001:db8::1")
)  # fmt: skip
CASES = {
    "masquerade-nothing-known.nft": (Masquerade(), ()),
    "masquerade-dual-stack-two-cidrs.nft": (TWO_CIDRS, (DNS6, WEB, ServiceId("SCTP", "10.96.0.10", 3868))),
    "masquerade-everything.nft": (TWO_CIDRS._replace(everything=True), (WEB,)),
}


@pytest.mark.parametrize("name", CASES)
def test_the_table_is_written_as_in_the_golden_file(name: str) -> None:
    assert render.write_table(*CASES[name]) + "\n" == (GOLDEN / name).read_text()


@pytest.mark.root
@pytest.mark.parametrize("name", CASES)
def test_nft_takes_the_table_twice_and_the_changes_to_its_sets(name: str) -> None:
    def body() -> str:
        for text in (
            render.write_table(*CASES[name]),
            render.write_table(*CASES[name]),
            render.own((WEB, DNS6)),
            render.own((WEB, DNS6)),
            render.disown((WEB, DNS6)),
            render.disown((WEB, DNS6)),
        ):
            sh("nft -f -", stdin=text)
        listing = sh("nft list ruleset")
        sh("nft -f -", stdin=render.delete_table())
        sh("nft -f -", stdin=render.delete_table())
        assert sh("nft list ruleset") == ""
        return listing

    listing = run_in_new(body)
    for comment in render.comments(CASES[name][0]):
        assert f'comment "{comment}"' in listing
    assert "10.96.0.10 . 80" not in listing


def test_pod_cidrs_that_overlap_are_joined_since_nft_refuses_them() -> None:
    overlapping = Masquerade(("10.244.1.0/24", "10.244.0.0/16", "10.244.1.0/24"))
    text = render.write_table(overlapping, ())
    assert "ip saddr != { 10.244.0.0/16 } ip daddr != { 10.244.0.0/16 } masquerade" in text


def test_a_stamp_tells_rules_apart_and_nothing_else() -> None:
    stamps = {render.stamp(masquerade) for masquerade, _ in CASES.values()}
    assert len(stamps) == 3
    reordered = TWO_CIDRS._replace(pod_cidrs=tuple(reversed(TWO_CIDRS.pod_cidrs)))
    assert render.stamp(reordered) == render.stamp(TWO_CIDRS)


def test_a_chain_is_ours_only_with_each_rule_in_its_place() -> None:
    first, second = render.comments(TWO_CIDRS)
    assert render.stamp_of([first, second]) == render.stamp(TWO_CIDRS)
    for found in ([], [first], [second, first], [first, second, ""], ["", first, second], [first, first]):
        assert render.stamp_of(found) == ""


def test_changes_to_the_sets_name_each_family_s_own() -> None:
    assert render.own((WEB, DNS6)).splitlines() == [
        "add element inet kube-router-proxy owned4 { tcp . 10.96.0.10 . 80 }",
        "add element inet kube-router-proxy owned6 { udp . fd00:96::a . 53 }",
    ]
    assert render.disown((WEB,)).splitlines() == [
        "add element inet kube-router-proxy owned4 { tcp . 10.96.0.10 . 80 }",
        "delete element inet kube-router-proxy owned4 { tcp . 10.96.0.10 . 80 }",
    ]


def test_services_and_servers_read_as_ipvsadm_prints_them() -> None:
    services = {
        WEB: VirtualService(Settings(), {ServerId("10.0.0.1", 6443): Server()}),
        DNS6: VirtualService(
            Settings("sh", ipvs.SVC_F_PERSISTENT | ipvs.SVC_F_SCHED1, 600, 64), {ServerId("fd00::1", 53): Server(0)}
        ),
        ServiceId("SCTP", "10.96.0.1", 9): VirtualService(
            Settings(flags=ipvs.SVC_F_PERSISTENT, timeout_s=9, netmask=0xFFFF0000)
        ),
    }
    assert render.lines(services) == [
        "-A --sctp-service 10.96.0.1:9 -s rr -p 9 -M 255.255.0.0",
        "-A -t 10.96.0.10:80 -s rr",
        "-A -u [fd00:96::a]:53 -s sh -p 600 -M 64 -b sh-fallback",
        "-a -t 10.96.0.10:80 -r 10.0.0.1:6443 -m -w 1",
        "-a -u [fd00:96::a]:53 -r [fd00::1]:53 -m -w 0",
    ]


def test_each_ipvs_step_is_one_request() -> None:
    packer = ipvs.Packer(0x1B)
    assert render.ipvs_message(packer, SetService(WEB, Settings("lc"))) == packer.service(2, WEB, Settings("lc"))
    server = ServerId("10.0.0.1", 6443)
    assert render.ipvs_message(packer, RemoveServer(WEB, server)) == packer.dest(7, WEB, server)


def test_an_address_comes_with_its_route_and_goes_with_it() -> None:
    assert render.address_messages(AddAddress("10.96.0.10", "192.0.2.1"), 7) == (
        rtnetlink.add_address("10.96.0.10", 7),
        rtnetlink.set_source("10.96.0.10", "192.0.2.1", 7),
    )
    assert render.address_messages(AddAddress("10.96.0.10", ""), 7) == (rtnetlink.add_address("10.96.0.10", 7),)
    assert render.address_messages(SetSource("fd00::1", ""), 7) == (rtnetlink.set_source("fd00::1", "", 7),)
    kinds = [nlmsg.HEADER.unpack_from(m)[1] for m in render.address_messages(RemoveAddress("10.96.0.10"), 7)]
    assert kinds == [rtnetlink.RTM_DELADDR, rtnetlink.RTM_DELROUTE]
