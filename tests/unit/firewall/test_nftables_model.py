"""The model of nftables does what nftables does, and takes no form it does not know."""

import pytest
from doubles.nft_text import Nftables, table_of
from doubles.nftables import Packet, Tracer

LISTED = """\
table inet kube-router-firewall {
	counter pi_web {
		packets 12 bytes 700
	}

	counter denied_ingress {
		packets 0 bytes 0
	}

	set stamp {
		type inet_service
		elements = { 1 comment "12 00000000000000ff" }
	}

	set s4_a {
		type ipv4_addr
		elements = { 10.1.0.2, 10.1.0.3,
			10.1.0.4 }
	}

	set b4_a {
		type ipv4_addr
		flags interval
		elements = { 10.9.0.0/24, 10.9.2.0-10.9.255.255,
			192.0.2.7 }
	}

	set n4_a {
		type ipv4_addr . inet_proto . inet_service
		elements = { 10.1.0.9 . tcp . 8080 }
	}

	set p_a {
		type inet_proto . inet_service
		elements = { tcp . 80, udp . 53 }
	}

	set self4 {
		type ipv4_addr . ipv4_addr
		elements = { 10.1.0.9 . 10.1.0.9 }
	}

	set known4 {
		type ipv4_addr
		elements = { 10.1.0.9 }
	}

	set podcidr4 {
		type ipv4_addr
		flags interval
		elements = { 10.1.0.0/24 }
	}

	map ingress4 {
		type ipv4_addr : verdict
		elements = { 10.1.0.9 : goto ci_a, 10.1.0.10 : goto deny_ingress }
	}

	chain pi_web {
		comment "prod/web"
		ip saddr @s4_a meta l4proto . th dport @p_a counter name "pi_web" accept
		ip saddr @b4_a tcp dport 9000-9010 counter name "pi_web" accept
		ip saddr 172.16.0.0/12 ip daddr . meta l4proto . th dport @n4_a counter name "pi_web" accept
		ip saddr 10.7.0.5-10.7.0.9 meta l4proto udp counter name "pi_web" accept
		ip6 saddr 2001:db8::/32 tcp dport 443 counter name "pi_web" accept
	}

	chain ci_a {
		jump pi_web
		goto deny_ingress
	}

	chain deny_ingress {
		counter name "denied_ingress"
		limit rate 10/minute burst 10 packets log prefix "netpol-ingress " group 100 snaplen 128
		iif != 0 meta l4proto tcp reject with tcp reset
		reject
	}

	chain invalid_ingress {
		ip daddr @known4 drop
	}

	chain exempt {
		icmp type { destination-unreachable, echo-request } accept
		ip saddr . ip daddr @self4 accept
	}

	chain ingress {
		jump exempt
		ip daddr vmap @ingress4
		ip daddr @podcidr4 ip daddr != @known4 goto deny_ingress
	}

	chain forward-ingress {
		type filter hook forward priority filter - 1; policy accept;
		ct state vmap { invalid : goto invalid_ingress, established : accept, related : accept }
		goto ingress
	}

	chain output-ingress {
		type filter hook output priority filter - 1; policy accept;
		ct state vmap { invalid : goto invalid_ingress, established : accept, related : accept }
		fib saddr type local accept
		goto ingress
	}

	chain input-ingress {
		type filter hook input priority 101; policy accept;
		iifname "lo" accept
		tcp flags != syn / fin,syn,rst,ack goto deny_ingress
		goto ingress
	}
}
"""
POD, CLIENT = "10.1.0.9", "10.1.0.2"


@pytest.mark.parametrize(
    ("packet", "verdict"),
    [
        pytest.param(Packet(CLIENT, POD, port=80), "accept", id="a peer of a set on a port of a set"),
        pytest.param(Packet(CLIENT, POD, "udp", 80), "reject", id="the port of the other protocol"),
        pytest.param(Packet(CLIENT, POD, "udp", 53), "accept", id="the other pair of the port set"),
        pytest.param(Packet("10.1.0.5", POD, port=80), "reset", id="no peer"),
        pytest.param(Packet("10.9.0.255", POD, port=9000), "accept", id="the end of a network"),
        pytest.param(Packet("10.9.1.0", POD, port=9000), "reset", id="between two intervals"),
        pytest.param(Packet("192.0.2.7", POD, port=9010), "accept", id="one address of an interval set"),
        pytest.param(Packet("192.0.2.7", POD, port=9011), "reset", id="behind a port range"),
        pytest.param(Packet("172.31.255.255", POD, port=8080), "accept", id="a named port"),
        pytest.param(Packet("172.32.0.0", POD, port=8080), "reset", id="behind a network"),
        pytest.param(Packet("10.7.0.9", POD, "udp", 1), "accept", id="the last of an address range"),
        pytest.param(Packet("10.7.0.4", POD, "udp", 1), "reject", id="before an address range"),
        pytest.param(Packet(POD, POD, port=1), "accept", id="itself"),
        pytest.param(Packet("10.1.0.5", POD, "icmp", icmp_type="echo-request"), "accept", id="an exempt type"),
        pytest.param(Packet(CLIENT, POD, "icmp", icmp_type="redirect"), "reject", id="another type"),
        pytest.param(Packet("10.1.0.5", "10.1.0.10", "sctp", 1), "reject", id="a map that denies at once"),
        pytest.param(Packet("10.1.0.5", "10.1.0.11", port=1), "reset", id="an unknown address of the pod network"),
        pytest.param(Packet("10.1.0.5", "10.2.0.1", port=1), "accept", id="nobody's address"),
        pytest.param(Packet("2001:db8::1", "2001:db8::2", port=1), "accept", id="the other family"),
        pytest.param(Packet("10.1.0.5", POD, port=1, state="established"), "accept", id="established"),
        pytest.param(Packet("10.1.0.5", POD, port=1, state="untracked"), "reset", id="untracked"),
        pytest.param(Packet(CLIENT, POD, port=80, state="invalid"), "drop", id="invalid, to a known pod"),
        pytest.param(Packet(POD, CLIENT, port=80, state="invalid"), "accept", id="invalid, to nobody"),
        pytest.param(Packet("10.1.0.5", POD, port=1, hook="output"), "reject", id="sent on by the machine"),
        pytest.param(Packet("10.1.0.5", POD, port=1, hook="output", local_source=True), "accept", id="its own"),
        pytest.param(Packet("10.1.0.5", POD, port=1, hook="input", iif="lo"), "accept", id="over the loopback"),
        pytest.param(Packet(CLIENT, POD, port=80, hook="input"), "accept", id="a SYN where only those may begin"),
        pytest.param(Packet(CLIENT, POD, port=80, hook="input", flags=frozenset({"ack"})), "reset", id="no SYN"),
        pytest.param(Packet(CLIENT, POD, "udp", 53, hook="input", flags=frozenset()), "accept", id="flags are TCP's"),
    ],
)
def test_a_packet_meets_its_fate(packet: Packet, verdict: str) -> None:
    assert Tracer(LISTED).fate(packet).verdict == verdict


def test_the_trace_tells_the_chains_the_counters_and_the_logs() -> None:
    fate = Tracer(LISTED).fate(Packet("10.1.0.5", POD, port=1))
    assert fate.chains == ["forward-ingress", "ingress", "exempt", "ci_a", "pi_web", "deny_ingress"]
    assert fate.counters == ["denied_ingress"]
    assert fate.logs == ["netpol-ingress "]
    assert Tracer(LISTED).fate(Packet(CLIENT, POD, port=80)).counters == ["pi_web"]


BASES = """
table inet t {
    counter first { }
    counter second { }
    chain late { type filter hook forward priority filter + 1; policy accept;
        counter name "second" drop
    }
    chain early {
        type filter hook forward priority filter - 2; policy accept;
        jump inner
        counter name "first" accept
    }
    chain inner {
        goto innermost
        drop
    }
    chain innermost {
        ip saddr 10.0.0.1 drop
    }
}
"""


def test_what_one_base_chain_accepts_the_next_may_drop() -> None:
    fate = Tracer(BASES).fate(Packet("10.0.0.2", "10.0.0.3", port=1))
    assert (fate.verdict, fate.counters) == ("drop", ["first", "second"])


def test_the_end_of_a_chain_that_was_gone_to_returns_to_where_the_last_jump_was() -> None:
    fate = Tracer(BASES).fate(Packet("10.0.0.2", "10.0.0.3", port=1))
    assert fate.chains == ["early", "inner", "innermost", "late"]


def test_what_an_early_base_chain_drops_the_next_never_sees() -> None:
    fate = Tracer(BASES).fate(Packet("10.0.0.1", "10.0.0.3", port=1))
    assert (fate.verdict, fate.chains) == ("drop", ["early", "inner", "innermost"])


@pytest.mark.parametrize(
    "rule",
    [
        "ip saddr { 10.0.0.1, 10.0.0.2 } accept",
        "ip saddr != 10.0.0.1 accept",
        "meta l4proto { tcp, udp } accept",
        "meta l4proto 6 accept",
        "tcp dport { 80, 443 } accept",
        "tcp sport 80 accept",
        "ip saddr . ip daddr vmap @two",
        "ct state established accept",
        "ct state vmap { established : jump x }",
        "tcp flags syn accept",
        "counter accept",
        "counter packets 0 bytes 0 accept",
        "icmp type echo-request accept",
        "oifname lo accept",
        'iifname != "lo" accept',
        "meta mark 1 accept",
        "reject with icmpx port-unreachable",
        "accept accept",
        "return",
        "queue",
        "ip6 saddr 10.0.0.1 accept",
        "ip saddr @six accept",
        "ip saddr @missing accept",
        "ip daddr . meta l4proto . th dport @four accept",
        "tcp dport 80-70 accept",
        "tcp dport 0 accept",
        "goto nowhere",
        'counter name "nothing" accept',
    ],
)
def test_a_rule_of_another_form_is_refused(rule: str) -> None:
    sets = (
        "set four { type ipv4_addr; }\nset six { type ipv6_addr; }\n"
        "map two { type ipv4_addr . ipv4_addr : verdict; }\nchain x { }\n"
    )
    text = f"table inet t {{\n{sets}chain c {{\n{rule}\n}}\n}}\n"
    with pytest.raises(AssertionError):
        Tracer(text)


@pytest.mark.parametrize(
    "text",
    [
        "flush ruleset",
        "table ip t { }",
        "table inet t { flags dormant; }",
        "table inet t { set s { type ipv4_addr; flags interval,timeout; } }",
        "table inet t { set s { type ipv4_addr; size 10; } }",
        "table inet t { set s { type mark; } }",
        "table inet t { set s { type ipv4_addr; elements = { fd00::1 } } }",
        "table inet t { set s { type ipv4_addr; elements = { 10.0.0.0/8 } } }",
        "table inet t { set s { type ipv6_addr; elements = { FD00::1 } } }",
        "table inet t { set s { type ipv4_addr; flags interval; elements = { 10.0.0.1/8 } } }",
        "table inet t { set s { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 10.1.0.0/16 } } }",
        "table inet t { set s { type ipv4_addr . inet_service; elements = { 10.0.0.1 } } }",
        "table inet t { map m { type ipv4_addr : verdict; elements = { 10.0.0.1 : goto nowhere } } }",
        "table inet t { chain c { type nat hook forward priority filter; policy accept; } }",
        "table inet t { chain c { type filter hook forward priority filter; policy drop; } }",
        "table inet t { counter c { packets 1 } }",
        "table inet t {",
        "table inet t { } }",
        "delete table inet t",
    ],
)
def test_a_table_of_another_form_is_refused(text: str) -> None:
    with pytest.raises((AssertionError, ValueError)):
        Tracer(table_of(text))


START = """
table inet t {
    counter c { }
    set s { type ipv4_addr; }
    map m { type ipv4_addr : verdict; }
    chain used {
        ip saddr @s counter name "c" accept
    }
    chain other {
    }
}
add element inet t s { 10.0.0.1, 10.0.0.2 }
add element inet t m { 10.0.0.1 : goto used }
"""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("delete chain inet t used", "busy", id="a chain in use"),
        pytest.param("delete set inet t s", "busy", id="a set in use"),
        pytest.param("delete counter inet t c", "busy", id="a counter in use"),
        pytest.param("delete chain inet t missing", "No such file", id="no chain"),
        pytest.param("delete element inet t s { 10.0.0.3 }", "No such file", id="no element"),
        pytest.param("add element inet t m { 10.0.0.1 : goto other }", "File exists", id="another verdict"),
        pytest.param("table inet t { set s { type ipv6_addr; } }", "File exists", id="another type"),
    ],
)
def test_what_the_kernel_would_refuse_changes_nothing(text: str, why: str) -> None:
    nftables = Nftables()
    nftables.run(START)
    before = nftables.tables["t"]
    with pytest.raises(AssertionError, match=why):
        nftables.run(f"add element inet t s {{ 10.0.0.9 }}\n{text}\n")
    assert nftables.tables["t"] == before


def test_a_transaction_may_move_an_address_and_drop_what_nobody_uses_any_more() -> None:
    nftables = Nftables()
    nftables.run(START)
    nftables.run(
        "delete element inet t m { 10.0.0.1 }\nadd element inet t m { 10.0.0.1 : goto other }\n"
        "delete chain inet t used\ndelete counter inet t c\nflush set inet t s\ndelete set inet t s\n"
    )
    table = nftables.tables["t"]
    assert table.sets["m"].elements == {"10.0.0.1": "goto other"}
    assert (list(table.sets), list(table.chains), table.counters) == (["m"], ["other"], {})


def test_rules_of_a_chain_that_is_there_are_appended() -> None:
    nftables = Nftables()
    nftables.run(START)
    nftables.run("table inet t {\nchain used {\ndrop\n}\n}\n")
    assert nftables.tables["t"].chains["used"].rules == ['ip saddr @s counter name "c" accept', "drop"]


def test_a_table_may_be_replaced_in_one_transaction() -> None:
    nftables = Nftables()
    nftables.run(START)
    nftables.run("add table inet t\ndelete table inet t\ntable inet t { set s { type ipv6_addr; } }\n")
    assert list(nftables.tables["t"].sets) == ["s"]
    assert nftables.tables["t"].chains == {}
