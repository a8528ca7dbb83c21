"""The firewall's table in a real kernel: what is written is what is read, and the stamp says so.

Through libnftables and through the program ``nft``, each in a network namespace of its own.
"""

import errno
import functools
import os
from collections.abc import Callable
from typing import ParamSpec

import anyio
import pytest
from anyio.lowlevel import checkpoint
from harness.firewalling import folded, from_scratch
from harness.machine import until
from harness.netns import run_in_new, sh
from harness.shop import node, pod, policy
from strategies import by_key

from kube_router.core import nft
from kube_router.core.monitor import Monitor
from kube_router.core.netlink import NETLINK_NETFILTER
from kube_router.core.nfnl import NFNLGRP_NFTABLES
from kube_router.events.errors import KernelError
from kube_router.events.model import Namespace, NetworkPolicy, Pod
from kube_router.plugins.firewall.evaluate import Settings
from kube_router.plugins.firewall.kernel import Kernel, Seen, counters
from kube_router.plugins.firewall.model import Ruleset, SetType, Touched
from kube_router.plugins.firewall.nfgen import Count, Stamp
from kube_router.plugins.firewall.plan import Edit, everything, plan
from kube_router.plugins.firewall.table import Outcome, Table
from kube_router.plugins.firewall.watch import Doubt, Watch

pytestmark = pytest.mark.root

P = ParamSpec("P")
Make = Callable[..., Kernel]
TABLE = "inet kube-router-firewall"
WEB = pod("shop/web", 1, 10, "app=web", "http=8080/TCP sip=3868/SCTP")
DB = pod("shop/db", 2, 11, "app=db", "http=80/TCP")
RULES = """
policyTypes: [Ingress, Egress]
ingress:
- from: [{podSelector: {}}, {ipBlock: {cidr: 0.0.0.0/0, except: [10.9.1.0/24, 10.9.3.7/32]}}]
  ports: [{port: 80}, {port: 53, protocol: UDP}, {port: 9, protocol: SCTP}, {protocol: UDP}]
- from: [{namespaceSelector: {}}, {ipBlock: {cidr: "fd00:9::/32", except: ["fd00:9:1::/64"]}}]
  ports: [{port: http}, {port: sip, protocol: SCTP}, {port: 30000, endPort: 30010}]
- from: [{ipBlock: {cidr: 10.9.0.4/30}}, {ipBlock: {cidr: 10.9.0.8/32}}]
egress:
- to: [{ipBlock: {cidr: 0.0.0.0/0}}, {ipBlock: {cidr: "::/0"}}]
  ports: [{port: 443}]
- ports: [{port: http}]
"""
EVERYTHING = policy(RULES, "shop/everything")
MORE = policy("{podSelector: {matchLabels: {app: web}}, ingress: [{}]}", "shop/more")


def by_library(**more: Callable[[int, int], None]) -> Kernel:
    return Kernel(**more)


def by_program(**more: Callable[[int, int], None]) -> Kernel:
    kernel = Kernel(**more)
    kernel._nft._backend = nft._Program()
    return kernel


both = pytest.mark.parametrize("make", [by_library, by_program])


def isolated(test: Callable[P, None]) -> Callable[P, None]:
    """Run a test in a network namespace of its own."""

    @functools.wraps(test)
    def inside(*args: P.args, **kwargs: P.kwargs) -> None:
        run_in_new(functools.partial(test, *args, **kwargs))

    return inside


def table(*objects: Pod | NetworkPolicy, default_deny: bool = False) -> Ruleset:
    """Return what node n1 wants with these pods and policies."""
    world = by_key((node(1), Namespace(name="shop"), *objects))
    return from_scratch(folded(world), "n1", settings=Settings(default_deny=default_deny)).ruleset


FULL, BARE = table(WEB, DB, EVERYTHING, MORE), table(WEB)


def parts(actual: Ruleset, wanted: Ruleset) -> tuple[Edit, Edit, Edit]:
    edit = plan(wanted, actual, everything(wanted, actual))
    assert edit is not None
    return edit.parts()


# -- whole tables ------------------------------------------------------------------------------------------------------


@both
@isolated
def test_every_form_we_write_is_listed_as_we_wrote_it(make: Make) -> None:
    kernel = make()
    for wanted in (FULL, table(WEB, DB, EVERYTHING, default_deny=True), BARE):
        kernel.replace(wanted)
        assert kernel.read() == wanted
        assert kernel.observe().is_untouched(wanted.digest)


@both
@isolated
def test_a_replacement_leaves_nothing_of_what_was_there(make: Make) -> None:
    kernel = make()
    sh(f"nft 'add table {TABLE}; add chain {TABLE} theirs; add set {TABLE} s {{ type mark; }}'")
    sh("nft 'add table ip other'")
    kernel.replace(BARE)
    assert kernel.read() == BARE
    assert sh("nft list tables").splitlines() == ["table ip other", f"table {TABLE}"]


@both
@isolated
def test_cleanup_takes_our_table_away_and_no_other(make: Make) -> None:
    kernel = make()
    sh("nft 'add table ip kube-router-firewall; add table inet other'")
    kernel.replace(FULL)
    for _ in range(2):
        kernel.cleanup()
        assert sh("nft list tables").splitlines() == ["table ip kube-router-firewall", "table inet other"]


# -- edits -------------------------------------------------------------------------------------------------------------


@both
@isolated
def test_the_parts_of_an_edit_lead_from_one_table_to_another_and_back(make: Make) -> None:
    kernel, actual = make(), BARE
    kernel.replace(actual)
    changed = table(pod("shop/web", 1, 10, "app=web", "http=8081/TCP"), EVERYTHING)
    for wanted in (FULL, changed, FULL, BARE):
        for part in parts(actual, wanted):
            if part:
                kernel.edit(part, wanted.digest)
        assert kernel.read() == wanted
        assert kernel.observe().is_untouched(wanted.digest)
        actual = wanted


@both
@isolated
def test_an_edit_that_is_refused_changes_nothing_and_is_no_commit(make: Make) -> None:
    told: list[tuple[int, int]] = []
    kernel = make(committed=lambda first, last: told.append((first, last)))
    kernel.replace(BARE)
    before = kernel.observe()
    wrong = Edit(elements={"known4": ["10.1.0.77"]}, cut_elements={"known4": ["10.1.0.88"]})
    with pytest.raises(KernelError, match="nftables refused: line 1: ") as caught:
        kernel.edit(wrong, 7)
    assert caught.value.errno == errno.ENOENT
    assert kernel.read() == BARE
    assert kernel.observe() == before
    assert len(told) == 1


# -- looking -----------------------------------------------------------------------------------------------------------


@isolated
def test_where_there_is_no_table_that_is_seen() -> None:
    seen = Kernel().observe()
    assert (seen.there, seen.stamp) == (False, None)
    assert not seen.is_untouched(0)


@both
@isolated
def test_each_commit_takes_the_next_generation_and_is_told(make: Make) -> None:
    told: list[tuple[int, int]] = []
    kernel = make(committed=lambda first, last: told.append((first, last)))
    start = kernel.observe().generation
    kernel.replace(BARE)
    kernel.edit(Edit(elements={"known4": ["10.1.0.77"]}), 7)
    assert told == [(start + 1, start + 1), (start + 2, start + 2)]
    assert kernel.observe() == Seen(start + 2, there=True, stamp=Stamp(start + 2, 7))


@isolated
def test_somebody_else_s_commit_makes_the_stamp_stale() -> None:
    kernel = Kernel()
    kernel.replace(FULL)
    sh("nft add table ip other")
    seen = kernel.observe()
    assert seen.stamp == Stamp(seen.generation - 1, FULL.digest)
    assert not seen.is_untouched(FULL.digest)
    assert kernel.read() == FULL


@pytest.mark.parametrize("command", [f"flush set {TABLE} stamp", f"delete set {TABLE} stamp"])
@isolated
def test_a_stamp_that_somebody_took_away_is_none(command: str) -> None:
    kernel = Kernel()
    kernel.replace(FULL)
    sh(f"nft {command}")
    seen = kernel.observe()
    assert (seen.there, seen.stamp) == (True, None)
    assert kernel.read() == FULL


@pytest.mark.parametrize(
    "command",
    [
        f"add counter {TABLE} more",
        f"add quota {TABLE} q {{ 1 mbytes; }}",
        f"add set {TABLE} s {{ type ipv4_addr; size 9; }}",
        f"add map {TABLE} m {{ type ipv4_addr : mark; }}",
    ],
)
@isolated
def test_what_we_never_write_is_not_read_as_ours(command: str) -> None:
    kernel = Kernel()
    kernel.replace(FULL)
    sh(f"nft '{command}'")
    assert kernel.read() is None


@pytest.mark.parametrize(
    "command",
    [
        f"add rule {TABLE} ingress accept",
        f"insert rule {TABLE} exempt ct mark 7 counter accept",
        f"flush chain {TABLE} deny_ingress",
        f"add chain {TABLE} forward-ingress {{ policy drop; }}",
        f"add chain {TABLE} theirs",
        f"add element {TABLE} known4 {{ 10.1.0.77 }}",
        f"flush map {TABLE} ingress4",
        f'add element {TABLE} known6 {{ fd00::77 comment "a, b" }}',
    ],
)
@isolated
def test_whatever_somebody_changes_is_another_table(command: str) -> None:
    kernel = Kernel()
    kernel.replace(FULL)
    sh(f"nft '{command}'")
    found = kernel.read()
    assert found is not None
    assert found.digest != FULL.digest


@both
@isolated
def test_what_the_kernel_tells_of_commits_shows_whose_they_were(make: Make) -> None:
    watch = Watch()
    with Monitor(NETLINK_NETFILTER, (NFNLGRP_NFTABLES,)) as watch.monitor:
        kernel = make(committed=watch.committed)

        def foreign(*writes: Callable[[], object]) -> bool:
            watch.begin()
            for write in writes:
                write()
            return watch.end() == "foreign"

        others = functools.partial(sh, "nft 'add table ip other; add chain ip other c'")
        theirs = functools.partial(sh, f"nft add element {TABLE} known4 '{{ 10.1.0.77 }}'")
        assert not foreign(lambda: kernel.replace(BARE), lambda: kernel.replace(FULL))
        assert not foreign(others, lambda: kernel.replace(BARE), others)
        assert foreign(theirs)
        assert foreign(lambda: kernel.replace(FULL), theirs)
        assert foreign(functools.partial(sh, f"nft delete table {TABLE}"))
        assert foreign(functools.partial(sh, f"nft add table {TABLE}"))


@pytest.mark.parametrize(
    "command", [f"add element {TABLE} known4 {{ 10.1.0.77 }}", f"flush chain {TABLE} ingress", "flush ruleset"]
)
@isolated
def test_while_nothing_is_written_somebody_else_s_change_is_told_at_once(command: str) -> None:
    Kernel().replace(FULL)
    told: list[Doubt] = []
    watch = Watch()

    async def look() -> None:
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(watch.run, told.append)
                while watch.monitor is None:
                    await checkpoint()
                await anyio.run_process(["nft", command])
                while not told:
                    await checkpoint()
                tasks.cancel_scope.cancel()

    anyio.run(look)
    assert told == ["foreign"]
    assert watch.monitor is None


@isolated
def test_a_commit_too_large_to_be_told_whole_is_read_and_not_written_again() -> None:
    watch = Watch()
    kernel = Kernel(committed=watch.committed)
    known = Table(kernel)
    large = BARE.copy()
    large.add_set("s4_large", SetType("ipv4_addr"), (f"10.2.{n >> 8}.{n & 255}" for n in range(1 << 16)))
    with Monitor(NETLINK_NETFILTER, (NFNLGRP_NFTABLES,)) as watch.monitor:
        watch.begin()
        known.bring(large, None, in_sync=True)
        assert watch.end() == "lost"
        known.doubt()
        watch.begin()
        assert known.bring(large, Touched(), in_sync=True) == Outcome()
        assert watch.end() == ""


@pytest.mark.parametrize(
    "command",
    [
        f"delete set {TABLE} stamp",
        f"flush set {TABLE} stamp; add chain {TABLE} a; add chain {TABLE} b; add rule {TABLE} b jump a",
        f'flush set {TABLE} stamp; add element {TABLE} known6 {{ fd00::77 comment "a, b" }}',
        f"add rule {TABLE} ingress accept",
        f"delete table {TABLE}",
    ],
)
@isolated
def test_whatever_somebody_did_while_nobody_looked_the_next_start_puts_right(command: str) -> None:
    Kernel().replace(BARE)
    sh(f"nft '{command}'")
    kernel = Kernel()
    started = Table(kernel)
    for wanted in (BARE, FULL):
        started.bring(wanted.copy(), None, in_sync=True)
        assert kernel.read() == wanted
        assert kernel.observe().is_untouched(wanted.digest)


# -- counters ----------------------------------------------------------------------------------------------------------


@isolated
def test_without_a_table_there_are_no_counters() -> None:
    assert counters() == {}


@isolated
def test_counters_count_what_a_policy_admitted_and_what_was_denied() -> None:
    only = policy("{policyTypes: [Egress], egress: [{ports: [{port: 5000, protocol: UDP}]}]}")
    wanted = table(pod("shop/web", 1, 10, "app=web", ips=("10.1.0.10",)), only)
    (name,) = (name for name in wanted.chains if name.startswith("pe_"))
    Kernel().replace(wanted)
    namespace = f"fwcount-{os.getpid()}"
    sh(f"ip netns add {namespace}")
    try:
        sh(f"ip link add pod type veth peer name eth0 netns {namespace}")
        sh("ip address add 10.1.0.1/24 dev pod; ip link set pod up")
        sh(f"ip -n {namespace} address add 10.1.0.10/24 dev eth0; ip -n {namespace} link set eth0 up")
        assert counters() == {name: Count(0, 0), "denied_egress": Count(0, 0), "denied_ingress": Count(0, 0)}
        for port in (5000, 5001, 5001):  # a packet each: 20 bytes of IP, 8 of UDP, the word and its line's end
            sh(f"ip netns exec {namespace} bash -c 'echo hallo > /dev/udp/10.1.0.1/{port}'")
        wanted_counts = {name: Count(1, 34), "denied_egress": Count(2, 68), "denied_ingress": Count(0, 0)}
        until(lambda: counters() == wanted_counts, what="three packets to be counted")
    finally:
        sh(f"ip netns del {namespace}")
