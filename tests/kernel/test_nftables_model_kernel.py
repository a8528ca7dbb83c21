"""The model of nftables and the kernel agree on what becomes of packets."""

import os
from collections.abc import Iterator
from itertools import product

import pytest
from doubles.nft_text import table_of
from doubles.nftables import Packet, Tracer
from harness.wire import Router

pytestmark = pytest.mark.root

OWN = ("192.0.2.1", "2001:db8::1")
TABLE = """
add table inet model
delete table inet model
table inet model {
    counter denied { }
    counter pi_a { }
    set s4_a { type ipv4_addr; }
    set s6_a { type ipv6_addr; }
    set b4_a { type ipv4_addr; flags interval; }
    set b6_a { type ipv6_addr; flags interval; }
    set p_a { type inet_proto . inet_service; }
    set n4_a { type ipv4_addr . inet_proto . inet_service; }
    set n6_a { type ipv6_addr . inet_proto . inet_service; }
    set self4 { type ipv4_addr . ipv4_addr; }
    set known4 { type ipv4_addr; }
    set known6 { type ipv6_addr; }
    set podcidr4 { type ipv4_addr; flags interval; }
    map ingress4 { type ipv4_addr : verdict; }
    map ingress6 { type ipv6_addr : verdict; }
    chain deny {
        counter name "denied"
        limit rate 10/minute burst 10 packets log prefix "model " group 100 snaplen 128
        iif != 0 meta l4proto tcp reject with tcp reset
        reject
    }
    chain invalid {
        ip daddr @known4 drop
        ip6 daddr @known6 drop
    }
    chain pi_a {
        ip saddr @s4_a meta l4proto . th dport @p_a counter name "pi_a" accept
        ip6 saddr @s6_a meta l4proto . th dport @p_a counter name "pi_a" accept
        ip saddr @b4_a udp dport 5000-5010 counter name "pi_a" accept
        ip6 saddr @b6_a sctp dport 80 counter name "pi_a" accept
        ip saddr 10.8.0.0/16 meta l4proto udp counter name "pi_a" accept
        ip saddr 10.7.0.5-10.7.0.9 counter name "pi_a" accept
        ip6 saddr fd01::5-fd01::9 counter name "pi_a" accept
        ip daddr . meta l4proto . th dport @n4_a counter name "pi_a" accept
        ip6 daddr . meta l4proto . th dport @n6_a counter name "pi_a" accept
        tcp dport 9 counter name "pi_a" accept
    }
    chain ci_a {
        jump pi_a
        goto deny
    }
    chain exempt {
        icmp type { destination-unreachable, echo-request } accept
        ip saddr . ip daddr @self4 accept
    }
    chain ingress {
        jump exempt
        ip daddr vmap @ingress4
        ip6 daddr vmap @ingress6
        ip daddr @podcidr4 ip daddr != @known4 goto deny
    }
    chain forward-first {
        type filter hook forward priority filter - 2; policy accept;
        ip saddr 10.9.9.9 drop
        ip saddr 10.8.0.1 accept
    }
    chain forward-ingress {
        type filter hook forward priority filter - 1; policy accept;
        ct state vmap { invalid : goto invalid, established : accept, related : accept }
        goto ingress
    }
    chain output-ingress {
        type filter hook output priority filter - 1; policy accept;
        ct state vmap { invalid : goto invalid, established : accept, related : accept }
        fib saddr type local accept
        goto ingress
    }
    chain input-ingress {
        type filter hook input priority 101; policy accept;
        iifname "lo" accept
        goto ingress
    }
}
add element inet model s4_a { 10.1.0.2, 10.1.0.3 }
add element inet model s6_a { fd00::2 }
add element inet model b4_a { 10.2.0.0/24, 10.2.2.0-10.2.255.255, 10.3.0.1 }
add element inet model b6_a { fd02::/64, fd02:0:0:2::5-fd02:0:0:2::9 }
add element inet model p_a { tcp . 80, udp . 53, sctp . 36 }
add element inet model n4_a { 10.1.0.9 . tcp . 8080, 10.1.0.10 . udp . 8080 }
add element inet model n6_a { fd00::9 . sctp . 8080 }
add element inet model self4 { 10.1.0.9 . 10.1.0.9, 10.1.0.2 . 10.1.0.9 }
add element inet model known4 { 10.1.0.9, 192.0.2.1 }
add element inet model known6 { fd00::9 }
add element inet model podcidr4 { 10.1.0.0/24 }
add element inet model ingress4 { 10.1.0.9 : goto ci_a, 10.1.0.10 : goto deny, 192.0.2.1 : goto ci_a }
add element inet model ingress6 { fd00::9 : goto ci_a, 2001:db8::1 : goto deny }
"""
SOURCES = (
    *("10.1.0.2", "10.1.0.3", "10.1.0.4", "10.2.0.255", "10.2.1.0", "10.2.2.0", "10.3.0.1", "10.3.0.2"),
    *("10.8.0.1", "10.8.255.255", "10.9.0.0", "10.7.0.4", "10.7.0.5", "10.7.0.9", "10.7.0.10", "10.9.9.9"),
    *("fd00::2", "fd00::3", "fd02::ffff", "fd02:0:0:1::", "fd02:0:0:2::5", "fd02:0:0:2::a", "fd01::9", "fd01::a"),
)
DESTINATIONS = ("10.1.0.9", "10.1.0.10", "10.1.0.11", "10.5.0.1", "fd00::9", "fd00::10")
PORTS = (("tcp", 80), ("tcp", 8080), ("tcp", 9), ("udp", 53), ("udp", 5010), ("udp", 5011), ("udp", 8080))
SCTP = (("sctp", 80), ("sctp", 36), ("sctp", 8080))


@pytest.fixture(scope="module")
def router() -> Iterator[Router]:
    with Router(f"krm-{os.getpid()}", OWN) as router:
        router.nft(TABLE)
        yield router


def crossing(sources: tuple[str, ...], destinations: tuple[str, ...], hook: str, *, own: bool = False) -> list[Packet]:
    """Return packets of every kind between all of the same family."""
    packets = []
    for source, destination in product(sources, destinations):
        if (":" in source) == (":" in destination):
            for protocol, port in (*PORTS, *SCTP):
                packets.append(Packet(source, destination, protocol, port, hook=hook, local_source=own))
            word = "icmpv6" if ":" in source else "icmp"
            packets.append(Packet(source, destination, word, icmp_type="echo-request", hook=hook, local_source=own))
    return packets


def assert_agree(router: Router, packets: list[Packet]) -> None:
    tracer = Tracer(TABLE)
    expected = [tracer.fate(packet).verdict for packet in packets]
    found = router.send(packets)
    differing = [each for each in zip(packets, expected, found, strict=True) if each[1] != each[2]]
    assert differing == []
    assert len(set(expected)) > 1, "all packets have the same fate"


def test_what_is_loaded_is_listed_as_the_model_reads_it(router: Router) -> None:
    assert table_of(router.listed("model")) == table_of(TABLE)


def test_forwarded_packets_have_the_same_fate(router: Router) -> None:
    assert_agree(router, crossing(SOURCES, DESTINATIONS, "forward"))


def test_packets_for_the_router_have_the_same_fate(router: Router) -> None:
    assert_agree(router, crossing(SOURCES, OWN, "input"))


def test_packets_that_ipvs_would_send_on_have_the_same_fate(router: Router) -> None:
    assert_agree(router, crossing(SOURCES, DESTINATIONS, "output"))


def test_the_routers_own_packets_are_exempt_by_their_source(router: Router) -> None:
    packets = crossing(OWN, DESTINATIONS, "output", own=True)
    tracer = Tracer(TABLE)
    assert {tracer.fate(packet).verdict for packet in packets} == {"accept"}
    assert set(router.send(packets)) == {"accept"}


def test_an_answer_passes_where_a_first_packet_does_not(router: Router) -> None:
    asked, answer = Packet("10.1.0.9", "10.5.0.4", "udp", 7000), Packet("10.5.0.4", "10.1.0.9", "udp", 31000)
    assert router.exchange({31000: asked}) == {31000: "accept"}
    assert router.exchange({7001: answer}) == {7001: Tracer(TABLE).fate(answer).verdict} == {7001: "reject"}
    assert router.exchange({7000: answer}) == {7000: "accept"}
    assert Tracer(TABLE).fate(answer._replace(state="established")).verdict == "accept"


def test_an_invalid_packet_of_a_known_one_is_dropped_in_silence(router: Router) -> None:
    flags = frozenset({"syn", "fin"})
    for destination, verdict in (
        ("10.1.0.9", "drop"),
        ("10.5.0.1", "accept"),
        ("fd00::9", "drop"),
        ("fd00::10", "accept"),
    ):
        source = "fd00::2" if ":" in destination else "10.1.0.2"
        packet = Packet(source, destination, port=80, flags=flags, state="invalid")
        assert Tracer(TABLE).fate(packet).verdict == verdict
        assert router.send([packet]) == [verdict]


REFUSED = (
    "delete chain inet model pi_a",
    "delete set inet model s4_a",
    "delete counter inet model denied",
    "delete element inet model s4_a { 10.1.0.77 }",
    "add element inet model ingress4 { 10.1.0.9 : goto deny }",
    "add element inet model ingress4 { 10.1.0.77 : goto nowhere }",
    "add element inet model b4_a { 10.2.0.128/25 }",
    "table inet model { set s4_a { type ipv6_addr; } }",
)


@pytest.mark.parametrize("text", REFUSED)
def test_what_the_model_refuses_the_kernel_refuses_and_keeps_what_it_had(router: Router, text: str) -> None:
    whole = f"{TABLE}\nadd element inet model s4_a {{ 10.1.0.78 }}\n{text}\n"
    with pytest.raises(AssertionError):
        table_of(whole)
    with pytest.raises(AssertionError):
        router.nft(whole)
    assert table_of(router.listed("model")) == table_of(TABLE)
