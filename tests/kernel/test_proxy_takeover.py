"""From kube-router (Go) to us: what it left is adopted or removed, and what is others' stays.

The planted state is a small copy of what kube-router 2.11 leaves behind, with things of others beside it.
"""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from harness.netns import run_in_new, sh
from prometheus_client import CollectorRegistry

from kube_router.core import leftovers as core_leftovers
from kube_router.core.api import Context, Dirty, Options
from kube_router.core.options import Value
from kube_router.core.state import State, View
from kube_router.events.normalize import BUILTIN
from kube_router.events.resource import Catalogue
from kube_router.plugins.proxy import render, takeover
from kube_router.plugins.proxy.kernel import Kernel
from kube_router.plugins.proxy.model import Masquerade, ServiceId, VirtualService, Wanted
from kube_router.plugins.proxy.options import OPTIONS
from kube_router.plugins.proxy.plan import plan
from kube_router.plugins.proxy.plugin import Proxy

pytestmark = [pytest.mark.guest, pytest.mark.timeout(300)]

KEPT, STALE = ServiceId("TCP", "10.96.0.10", 80), ServiceId("TCP", "10.96.0.11", 80)
NODE_PORT, FOREIGN = ServiceId("TCP", "192.0.2.1", 30080), ServiceId("TCP", "192.0.2.1", 4444)
IPVS = """\
-A -t 10.96.0.10:80 -s rr -p 600 -M 32.0.0.0
-a -t 10.96.0.10:80 -r 10.244.1.2:8080 -m -w 1
-A -t 10.96.0.11:80 -s rr
-a -t 10.96.0.11:80 -r 10.244.1.3:8080 -m -w 1
-A -t 192.0.2.1:30080 -s rr
-A -t 192.0.2.1:4444 -s rr
"""
RULES = """\
*filter
:KUBE-ROUTER-SERVICES - [0:0]
:FOREIGN - [0:0]
-A INPUT -m comment --comment "handle traffic to IPVS service IPs in custom chain" \
-m set --match-set {prefix}kube-router-svip dst -j KUBE-ROUTER-SERVICES
-A INPUT -j FOREIGN
-A KUBE-ROUTER-SERVICES -m comment --comment "allow input traffic to ipvs services" \
-m set --match-set {prefix}kube-router-svip-prt dst,dst -j ACCEPT
-A KUBE-ROUTER-SERVICES -m comment --comment "reject all unexpected traffic to service IPs" \
-m set ! --match-set {prefix}kube-router-local-ips dst -j REJECT
COMMIT
*nat
:KUBE-ROUTER-HAIRPIN - [0:0]
-A POSTROUTING ! -s {cidr} ! -d {cidr} -m ipvs --vdir ORIGINAL --vmethod MASQ -m comment --comment "" \
-j SNAT --to-source {node} --random-fully
-A POSTROUTING -m ipvs --vdir ORIGINAL -j KUBE-ROUTER-HAIRPIN
-A POSTROUTING -m ipvs --vdir ORIGINAL --vmethod MASQ -m comment --comment "by the admin" -j SNAT --to-source {node}
-A KUBE-ROUTER-HAIRPIN -s {pod} -d {pod} -m ipvs --vaddr {vip} --vport 80 -j SNAT --to-source {vip}
COMMIT
"""
FAMILIES = {
    "iptables": {"prefix": "", "cidr": "10.244.1.0/24", "node": "192.0.2.1", "pod": "10.244.1.2", "vip": "10.96.0.10"},
    "ip6tables": {
        "prefix": "inet6:",
        "cidr": "fd00:1::/64",
        "node": "fd00::1",
        "pod": "fd00:1::2",
        "vip": "fd00:96::a",
    },
}


def plant(backend: str) -> None:
    sh("""
        ip addr add 192.0.2.1/24 dev lo
        ip link add kube-dummy-if type dummy; ip link set kube-dummy-if up
        for vip in 10.96.0.10 10.96.0.11; do
            ip addr add $vip/32 dev kube-dummy-if scope link
            ip route replace local $vip dev kube-dummy-if table local proto kernel scope host src 192.0.2.1
        done
        for family in inet inet6; do
            prefix=$([ $family = inet ] || echo inet6:)
            ipset create ${prefix}kube-router-svip hash:ip family $family timeout 0
            ipset create ${prefix}kube-router-svip-prt hash:ip,port family $family timeout 0
            ipset create ${prefix}kube-router-local-ips hash:ip family $family timeout 0
        done
        ipset create foreign hash:ip
        ipset add kube-router-svip-prt 10.96.0.10,tcp:80
        ipset add kube-router-svip-prt 10.96.0.11,tcp:80
        ipset add kube-router-svip-prt 192.0.2.1,tcp:30080
        nft add table inet foreign
    """)
    sh("ipvsadm -R", stdin=IPVS)
    for program, values in FAMILIES.items():
        sh(f"{program}-{backend}-restore --noflush", stdin=RULES.format(**values))


def rules(backend: str) -> list[str]:
    text = "".join(sh(f"{program}-{backend}-save") for program in FAMILIES)
    return [line for line in text.splitlines() if line.startswith(("-A", ":KUBE", ":FOREIGN"))]


WANTED = Wanted({KEPT: VirtualService(), NODE_PORT: VirtualService()}, {"10.96.0.10": "192.0.2.1"}, Masquerade())


@pytest.mark.parametrize("backend", ["legacy", "nft"])
def test_its_state_is_adopted_or_removed_and_others_state_stays(backend: str) -> None:
    def body() -> None:
        plant(backend)
        kernel = Kernel()
        kernel.prepare()
        actual = kernel.observe()
        assert actual.leftovers == {KEPT, STALE, NODE_PORT}
        assert actual.addresses == {"10.96.0.10": "192.0.2.1", "10.96.0.11": "192.0.2.1"}
        applied = kernel.apply(plan(WANTED, actual, in_sync=True))
        assert applied.failed == []
        assert applied.changes["service added"] == 0
        removed, troubles = kernel.take_over()
        assert troubles == []
        assert removed == {"leftover rule removed": 6, "leftover chain removed": 4, "leftover ipset removed": 6}
        assert sorted(rules(backend)) == sorted([
            *[":FOREIGN - [0:0]"] * 2,
            *["-A INPUT -j FOREIGN"] * 2,
            *(
                "-A POSTROUTING -m ipvs --vdir ORIGINAL --vmethod MASQ -m comment --comment \"by the admin\" "
                f"-j SNAT --to-source {values['node']}"
                for values in FAMILIES.values()
            ),
        ])  # fmt: skip
        assert sh("ipset list -name") == "foreign\n"
        assert "table inet foreign" in sh("nft list tables")
        assert sorted(line.strip() for line in sh("ipvsadm -Sn").splitlines()) == [
            "-A -t 10.96.0.10:80 -s rr",
            "-A -t 192.0.2.1:30080 -s rr",
            "-A -t 192.0.2.1:4444 -s rr",
        ]
        after = kernel.observe()
        assert (after.owned, after.leftovers) == ({KEPT, NODE_PORT}, frozenset())
        assert after.addresses == {"10.96.0.10": "192.0.2.1"}
        assert plan(WANTED, after, in_sync=True) == []
        assert kernel.take_over() == ({}, [])

    run_in_new(body)


def test_a_foreign_service_on_one_of_our_addresses_stays_once_kube_router_is_gone() -> None:
    def body() -> None:
        kernel = Kernel()
        kernel.prepare()
        sh("ip addr add 192.0.2.1/24 dev lo")
        assert kernel.apply(plan(WANTED, kernel.observe(), in_sync=True)).failed == []
        sh("ipvsadm -A -t 10.96.0.10:9999 -s rr")
        assert kernel.observe().leftovers == frozenset()
        sh("nft flush ruleset")
        assert kernel.observe().leftovers == {KEPT, ServiceId("TCP", "10.96.0.10", 9999)}

    run_in_new(body)


def test_an_ipset_that_others_use_stays_and_is_told() -> None:
    def body() -> None:
        sh("ipset create kube-router-svip hash:ip timeout 0")
        sh("iptables-nft -A INPUT -m set --match-set kube-router-svip dst -j ACCEPT")
        words = "ipset kube-router-svip could not be destroyed: a rule that is not kube-router's uses it"
        assert Kernel().take_over() == ({}, [words])
        assert sh("ipset list -name") == "kube-router-svip\n"

    run_in_new(body)


async def run_here(call: Callable[..., Any], *arguments: Any) -> Any:
    """Call it in this thread, which is in the test's namespace."""
    return call(*arguments)


def test_a_busy_ipset_is_a_problem_and_delays_no_service() -> None:
    def body() -> None:
        sh("ipset create kube-router-svip hash:ip timeout 0")
        sh("iptables-nft -A INPUT -m set --match-set kube-router-svip dst -j ACCEPT")
        values: dict[str, Value] = {option.name: option.default for option in OPTIONS}
        proxy = Proxy(Context(node="node-1", options=Options(values), metrics=CollectorRegistry(), run=run_here))
        view = View(State(Catalogue(BUILTIN)), tuple(proxy.needs))

        async def reconciled() -> list[tuple[str, list[str]]]:
            first = await proxy.reconcile(view, Dirty(everything=True))
            sh("iptables-nft -F INPUT")
            small = await proxy.reconcile(view, Dirty())
            full = await proxy.reconcile(view, Dirty(everything=True))
            return [
                (each.failed, [problem.text for problem in each.problems if "leftovers" in problem.text])
                for each in (first, small, full)
            ]

        words = "kube-router's leftovers remain: ipset kube-router-svip could not be destroyed: "
        words += "a rule that is not kube-router's uses it"
        assert anyio.run(reconciled) == [("", [words]), ("", [words]), ("", [])]

    run_in_new(body)


def test_looking_for_leftovers_makes_nothing() -> None:
    def body() -> None:
        before = sh("nft list ruleset; cat /proc/net/ip_tables_names /proc/net/ip6_tables_names 2>/dev/null || true")
        assert takeover.leftovers() == takeover.Leftovers()
        after = sh("nft list ruleset; cat /proc/net/ip_tables_names /proc/net/ip6_tables_names 2>/dev/null || true")
        assert before == after
        assert shutil.which("iptables-legacy-save") is not None
        assert render.TABLE not in after

    run_in_new(body)


def test_no_program_is_run_where_there_is_nothing_to_see(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError(f"a program was run: {arguments}")

    def body() -> None:
        sh("nft add table ip foreign; nft add table inet filter")
        with monkeypatch.context() as patched:
            # Other tests may have loaded the module: it cannot be unloaded while a set is anywhere.
            patched.setattr(core_leftovers, "IP_SET_MODULE", tmp_path / "missing")
            patched.setattr(subprocess, "run", refuse)
            assert takeover.leftovers() == takeover.Leftovers()

    run_in_new(body)
