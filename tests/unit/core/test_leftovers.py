"""Programs are run within their time, ipsets go many at once, and what stays is told."""

import ast
import sys
from collections import Counter

import pytest
from harness.netns import run_in_new, sh

from kube_router.core import leftovers
from kube_router.core.leftovers import Rules, Takeover
from kube_router.events.errors import KernelError, Problem


def test_a_program_that_fails_is_told_with_its_own_words() -> None:
    with pytest.raises(KernelError, match=r"^sh -c echo wrong >&2; exit 3 failed: wrong$"):
        leftovers.run(["sh", "-c", "echo wrong >&2; exit 3"])
    with pytest.raises(KernelError, match=r"^no-such-program failed: "):
        leftovers.run(["no-such-program"])


def test_a_program_that_hangs_costs_its_time_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "PROGRAM_TIMEOUT_S", 0.1)
    with pytest.raises(KernelError, match=r"timed out after 0\.1 seconds"):
        leftovers.run([sys.executable, "-c", "import time; time.sleep(60)"])


def test_of_many_troubles_five_are_told() -> None:
    assert leftovers.remain(["a", "b"]) == "kube-router's leftovers remain: a; b"
    assert leftovers.remain([*"abcdefg"]) == "kube-router's leftovers remain: a; b; c; d; e; and 2 more"


def test_removal_is_due_once_in_sync_and_what_remained_only_when_everything_is_compared() -> None:
    takeover = Takeover("node-1")
    assert not takeover.problems
    assert not takeover.is_due(in_sync=False, everything=True)
    assert takeover.is_due(in_sync=True, everything=False)
    assert takeover.note(Counter({"leftover ipset removed": 2}), ["ipset a is used"]) == {"leftover ipset removed": 2}
    assert list(takeover.problems) == [Problem("Node", "node-1", "kube-router's leftovers remain: ipset a is used")]
    assert not takeover.is_due(in_sync=True, everything=False)
    assert not takeover.is_due(in_sync=False, everything=True)
    assert takeover.is_due(in_sync=True, everything=True)
    takeover.note(Counter(), [])
    assert not takeover.problems
    assert not takeover.is_due(in_sync=True, everything=True)


def test_the_tables_of_nft_s_back_end_are_those_of_nftables() -> None:
    found = leftovers.iptables_tables(("nat", "filter"), {(2, "filter"), (10, "nat"), (1, "filter"), (2, "mangle")})
    assert {program: tables for program, tables in found.items() if program.endswith("-nft")} == {
        "iptables-nft": ["filter"],
        "ip6tables-nft": ["nat"],
    }


@pytest.mark.root
def test_ipsets_go_many_at_once_and_one_in_use_keeps_none_of_the_others() -> None:
    def inside() -> None:
        names = [f"its-{number}" for number in range(250)]
        sh("ipset restore", stdin="".join(f"create {name} hash:ip\n" for name in [*names, "foreign"]))
        sh("iptables-nft -A INPUT -m set --match-set its-120 src -j DROP")
        removed, troubles = leftovers.remove([], names)
        assert removed == {"leftover ipset removed": 249}
        assert troubles == ["ipset its-120 could not be destroyed: a rule that is not kube-router's uses it"]
        assert sh("ipset list -name").split() == ["its-120", "foreign"]

    run_in_new(inside)


@pytest.mark.root
def test_without_net_raw_what_could_not_be_read_is_told_with_the_capability() -> None:
    code = (
        "from kube_router.core import leftovers\n"
        "print(leftovers.find_rules(('filter',), leftovers.nft_tables(), lambda *_: []))"
    )

    def inside() -> None:
        sh("iptables-legacy -N ITS")
        program = f'{sys.executable} -c "{code}"'
        assert sh(program) == "([], [])\n"
        printed = sh(f"setpriv --bounding-set=-net_raw --inh-caps=-net_raw {program} 2>/dev/null")
        rules, (told,) = ast.literal_eval(printed)
        assert rules == []
        assert told.startswith("what may be in iptables-legacy's table filter could not be read: iptables-legacy-save")
        assert told.endswith(leftovers.NO_RAW)

    run_in_new(inside)


@pytest.mark.root
def test_rules_that_have_changed_since_they_were_read_are_told_and_nothing_of_their_table_goes() -> None:
    def inside() -> None:
        sh("iptables-nft -N ITS; iptables-nft -A INPUT -j ITS")
        stale = Rules("iptables-nft", "filter", ("-A INPUT -s 192.0.2.1/32 -j ITS",), ("ITS",))
        removed, (trouble,) = leftovers.remove([stale], [])
        assert removed == {}
        assert trouble.startswith("iptables-nft-restore --noflush -w 5 failed: ")
        assert "-A INPUT -j ITS" in sh("iptables-nft-save")

    run_in_new(inside)
