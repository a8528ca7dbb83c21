"""What nft lists of our table is read back, and whatever we never write is told apart."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube_router.plugins.firewall.model import Chain, SetType, Touched
from kube_router.plugins.firewall.read import NotOurs, parse_table

# Recorded from nft 1.0.6: one pod with a policy of both types, under default deny.
LISTING = (Path(__file__).parents[2] / "golden" / "firewall" / "listing.txt").read_text()
EMPTY = """table inet kube-router-firewall {
\tcounter denied_egress {
\t\tpackets 7 bytes 420
\t}

\tcounter denied_ingress {
\t\tpackets 0 bytes 0
\t}

%s}
"""


def test_a_listing_of_this_kernel_is_read_as_what_its_stamp_says_was_written() -> None:
    ruleset = parse_table(LISTING)
    assert ruleset.digest == 0x63D30EE1A05D6BCD
    assert "stamp" not in ruleset.sets
    assert ruleset.sets["p_fd26089746a73483"] == SetType("inet_proto . inet_service")
    assert ruleset.sets["podcidr4"] == SetType("ipv4_addr", interval=True)
    assert ruleset.elements["b4_7f915cda2a8adb9a"] == {"10.9.0.0/24", "10.9.2.0-10.9.255.255"}
    assert ruleset.elements["s6_12f5049c4cc3b1c2"] == {"fd00:1::10", "fd00:2::11"}  # listed on two lines
    assert ruleset.elements["n4_6ed5e136756370e7"] == {"10.1.0.10 . tcp . 8080"}
    assert ruleset.verdicts == {
        "egress4": {"10.1.0.10": "goto ce_f604a229ea0bbdaf"},
        "egress6": {"fd00:1::10": "goto ce_f604a229ea0bbdaf"},
        "ingress4": {"10.1.0.10": "goto ci_d41bacaeac1b0e5f"},
        "ingress6": {"fd00:1::10": "goto ci_d41bacaeac1b0e5f"},
    }
    assert ruleset.chains["pe_4d146135a8a27dbc"] == Chain(
        ('ip daddr 198.51.100.7 tcp dport 30000-30010 counter name "pe_4d146135a8a27dbc" accept',), comment="shop/p"
    )
    assert ruleset.chains["input-egress"].hook == "type filter hook input priority 101; policy accept;"
    assert set(ruleset.counters) == {*("denied_egress", "denied_ingress", "pe_4d146135a8a27dbc", "pi_de5c16f492becd0a")}


def test_what_was_read_counts_as_touched_by_nobody() -> None:
    assert parse_table(LISTING).take_touched() == Touched()


def test_what_is_counted_is_no_part_of_the_table() -> None:
    counted = LISTING.replace("packets 0 bytes 0", "packets 123456 bytes 7890123")
    assert parse_table(counted) == parse_table(LISTING)


def test_a_table_whose_stamp_somebody_took_away_is_still_read() -> None:
    without = LISTING.replace('\t\telements = { 1 comment "2 63d30ee1a05d6bcd" }\n', "")
    assert parse_table(without) == parse_table(LISTING)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"denied_egress"\n', '"denied_egress"\n\t\taccept\n'),
        ("jump pi_de5c16f492becd0a", "jump pi_de5c16f492becd0b"),
        ("10.1.0.0/24", "10.1.0.0/25"),
        ("tcp . 80 }", "tcp . 81 }"),
        ("goto ce_f604a229ea0bbdaf", "drop"),
        ("filter - 2", "filter - 3"),
        ("policy accept", "policy drop"),
        ("flags interval", "flags constant,interval"),
        ('comment "shop/p"', 'comment "shop/q"'),
        ("elements = { 10.1.0.10 }", "elements = { 10.1.0.10 timeout 5s expires 4s }"),
    ],
)
def test_any_change_makes_it_another_table_or_none_of_ours(old: str, new: str) -> None:
    changed = LISTING.replace(old, new, 1)
    assert changed != LISTING
    with contextlib.suppress(NotOurs):
        assert parse_table(changed).digest != 0x63D30EE1A05D6BCD


@pytest.mark.parametrize(
    ("inside", "why"),
    [
        ("\tflowtable f {\n\t}\n", "unknown object 'flowtable f {'"),
        ("\tquota q {\n\t}\n", "unknown object 'quota q {'"),
        ('\tcomment "mine"\n', "unknown object"),
        ("\tcounter more {\n\t\tpackets 0 bytes 0\n\t}\n", "the counters are not those of the chains"),
        ("\tchain pi_0 {\n\t}\n", "the counters are not those of the chains"),
        ("\tchain c {\n\t}\n\tchain c {\n\t}\n", "chain c twice"),
        ("\tset s {\n\t\ttype mark\n\t}\n\tset s {\n\t\ttype mark\n\t}\n", "set s"),
        ("\tset s {\n\t\ttypeof ip saddr\n\t}\n", "set s"),
        ("\tset s {\n\t}\n", "set s"),
        ("\tset s {\n\t\ttype ipv4_addr\n\t\tsize 100\n\t}\n", "elements 'size 100'"),
        ("\tset s {\n\t\ttype ipv4_addr\n\t\ttimeout 1m\n\t}\n", "elements 'timeout 1m'"),
        ("\tmap m {\n\t\ttype ipv4_addr : inet_service\n\t}\n", "map m of type ipv4_addr : inet_service"),
        ("\tchain c {\n", "chain c does not end"),
    ],
)
def test_what_we_never_write_is_not_ours(inside: str, why: str) -> None:
    with pytest.raises(NotOurs, match=why):
        parse_table(EMPTY % inside)


@pytest.mark.parametrize("text", ["", "\n", "table ip kube-router-firewall {\n}\n", "table inet other {\n}\n", "}\n"])
def test_what_is_no_listing_of_our_table_is_not_ours(text: str) -> None:
    with pytest.raises(NotOurs, match="no listing of our table"):
        parse_table(text)


_lines = LISTING.splitlines()
_line = st.sampled_from(_lines) | st.text(max_size=40)


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """Return the listing with some lines gone, twice, or others, and some letters."""
    lines = list(_lines)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(lines) - 1))
        lines[at : at + draw(st.integers(0, 3))] = draw(st.lists(_line, max_size=2))
    text = "\n".join(lines)
    at = draw(st.integers(0, len(text)))
    return text[:at] + draw(st.text("{}:,. \n\t=\"'\0@x", max_size=3)) + text[at + draw(st.integers(0, 3)) :]


@given(damaged() | st.text() | st.lists(_line).map("\n".join))
def test_no_text_raises_anything_but_not_ours(text: str) -> None:
    with contextlib.suppress(NotOurs):
        parse_table(text)
