"""What kube-router (Go) left of its policies is recognised by its names, and nothing else is.

The text is what kube-router 2.11 leaves on a node with twelve policies, with a chain and ipsets of somebody else's.
"""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube_router.core import leftovers
from kube_router.plugins.firewall import takeover

RECORDED = Path(__file__).parents[2] / "golden" / "firewall" / "kube-router-2.11"
JUMPS = (
    '-A INPUT -m comment --comment "kube-router netpol - 4IA2OSFRMVNDXBVV" -j KUBE-ROUTER-INPUT',
    '-A FORWARD -m comment --comment "kube-router netpol - TEMCG2JMHZYE7H7T" -j KUBE-ROUTER-FORWARD',
    '-A OUTPUT -m comment --comment "kube-router netpol - VEAAIY32XVBHCSCY" -j KUBE-ROUTER-OUTPUT',
)


@pytest.mark.parametrize(
    ("program", "policies"),
    [pytest.param("iptables-nft", 12, id="IPv4"), pytest.param("ip6tables-legacy", 12, id="IPv6")],
)
def test_the_jumps_and_all_chains_of_the_policies_are_recognised(program: str, policies: int) -> None:
    text = (RECORDED / program.partition("-")[0]).read_text()
    (found,) = takeover.recognise(program, "filter", text)
    assert (found.program, found.table, found.rules) == (program, "filter", JUMPS)
    named = {chain for chain in found.chains if not chain.startswith(("KUBE-NWPLCY-", "KUBE-POD-FW-"))}
    assert named == {"KUBE-ROUTER-INPUT", "KUBE-ROUTER-FORWARD", "KUBE-ROUTER-OUTPUT"}
    assert sum(chain.startswith("KUBE-POD-FW-") for chain in found.chains) == 3
    common = {"KUBE-NWPLCY-COMMON", "KUBE-NWPLCY-DEFAULT", "KUBE-NWPLCY-TAIL"}
    assert common <= set(found.chains)
    assert len(found.chains) == 3 + 3 + len(common) + policies


def test_chains_and_jumps_of_others_are_not_its() -> None:
    text = """\
*filter
:INPUT ACCEPT [0:0]
:KUBE-ROUTER-SERVICES - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-NWPLCY-MINE - [0:0]
:KUBE-NWPLCY-ABCDEFGHABCDEFGHA - [0:0]
:KUBE-POD-FW-abcdefghabcdefgh - [0:0]
:DOCKER-USER - [0:0]
-A INPUT -j KUBE-SERVICES
-A INPUT -m comment --comment "-j KUBE-ROUTER-INPUT" -j ACCEPT
-A INPUT -m comment --comment "it's -j KUBE-ROUTER-INPUT
-A INPUT -j KUBE-ROUTER-SERVICES
-A DOCKER-USER -j KUBE-NWPLCY-MINE
COMMIT
"""
    assert takeover.recognise("iptables-nft", "filter", text) == []
    assert takeover.recognise("iptables-nft", "filter", "") == []


def test_all_goes_in_one_transaction_in_which_chains_are_emptied_before_any_is_deleted() -> None:
    text = """\
*filter
:KUBE-NWPLCY-TAIL - [0:0]
:KUBE-ROUTER-INPUT - [0:0]
-A INPUT -j KUBE-ROUTER-INPUT
-A SOMEBODYS -s 192.0.2.1/32 -g KUBE-NWPLCY-TAIL
-A KUBE-ROUTER-INPUT -j KUBE-NWPLCY-TAIL
COMMIT
"""
    (found,) = takeover.recognise("iptables-nft", "filter", text)
    assert leftovers.restore_text(found) == (
        "*filter\n"
        "-D INPUT -j KUBE-ROUTER-INPUT\n"
        "-D SOMEBODYS -s 192.0.2.1/32 -g KUBE-NWPLCY-TAIL\n"
        "-F KUBE-NWPLCY-TAIL\n"
        "-F KUBE-ROUTER-INPUT\n"
        "-X KUBE-NWPLCY-TAIL\n"
        "-X KUBE-ROUTER-INPUT\n"
        "COMMIT\n"
    )


def test_its_ipsets_are_those_of_policies_and_pods_and_not_the_proxy_s() -> None:
    recorded = [line.split()[1] for line in (RECORDED / "ipset").read_text().splitlines()]
    its = takeover.its_ipsets([*recorded, "kube-router-local-pods", "inet6:kube-router-local-pods"])
    assert len(its) == 16 + 11 + 14 + 11 + 2
    assert set(recorded) - set(its) == {
        *("foreign-set", "foreign-used"),
        *(f"kube-router-{name}" for name in ("local-ips", "node-ips", "pod-subnets", "svip", "svip-prt")),
        *(f"inet6:kube-router-{name}" for name in ("local-ips", "node-ips", "pod-subnets", "svip", "svip-prt")),
    }


def test_temporary_ipsets_go_only_beside_others_of_its() -> None:
    temporary = "TMP-7B5S2RHJW5ZWOQNM"
    assert takeover.its_ipsets([temporary, "kube-router-svip", "TMP-mine"]) == []
    assert takeover.its_ipsets([temporary, "inet6:KUBE-SRC-GYPMA4IHIPJ4DIOG", "TMP-mine"]) == [
        "inet6:KUBE-SRC-GYPMA4IHIPJ4DIOG",
        temporary,
    ]


WORDS = st.sampled_from(["-A", ":", "INPUT", "KUBE-ROUTER-INPUT", "-j", "-g", '"', "'", "KUBE-POD-FW-", "x", "\\", " "])


@given(st.lists(WORDS).map(" ".join) | st.text())
def test_no_text_is_a_crash_and_what_is_found_is_a_line_of_it(text: str) -> None:
    for found in takeover.recognise("iptables-nft", "filter", text):
        assert set(found.rules) <= set(text.splitlines())
        assert all(f":{chain}" in text for chain in found.chains)
