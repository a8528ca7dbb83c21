"""From kube-router's (Go) policies to ours: its rules go under traffic, and what is others' stays.

The router holds what kube-router 2.11 leaves on a node, as recorded, with things of others beside it, and a table that
stands for ours. A pod of the recorded node sends through it all the while: to new and over established flows that
policy allows, and where policy forbids it.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
from harness.netns import run_in, run_in_new, sh
from prometheus_client import CollectorRegistry

from kube_router.core.api import Context, Dirty, Options
from kube_router.core.options import Value
from kube_router.core.state import State, View
from kube_router.events.normalize import BUILTIN
from kube_router.events.resource import Catalogue
from kube_router.plugins.firewall import takeover
from kube_router.plugins.firewall.options import OPTIONS
from kube_router.plugins.firewall.plugin import Firewall

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

RECORDED = Path(__file__).parents[1] / "golden" / "firewall" / "kube-router-2.11"
FAMILIES = {"iptables": "inet", "ip6tables": "inet6"}
OTHERS = """\
*filter
:KUBE-SERVICES - [0:0]
:DOCKER-USER - [0:0]
:KUBE-NWPLCY-MINE - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -m comment --comment "it is not -j KUBE-ROUTER-FORWARD" -j KUBE-SERVICES
-A DOCKER-USER -j KUBE-NWPLCY-MINE
COMMIT
"""
OURS = """
table inet kube-router-firewall {
    chain forward {
        type filter hook forward priority -1
        ct state established,related accept
        ip saddr 10.244.1.11 udp dport 6000 drop
        ip6 saddr fd00:244:1::11 udp dport 6000 drop
    }
}
"""
ITS_TABLES = """
table ip kube-router-filter-ipv4 {
    set KUBE-DST-TGEY3QRFZQ2R5CU2 { type ipv4_addr; elements = { 10.244.1.10 } }
    chain KUBE-POD-FW-VTHULXYQPKMVKC5B { ip daddr @KUBE-DST-TGEY3QRFZQ2R5CU2 counter reject; }
    chain KUBE-ROUTER-FORWARD {
        type filter hook forward priority 0
        ip daddr 10.244.1.10 jump KUBE-POD-FW-VTHULXYQPKMVKC5B
    }
}
table ip6 kube-router-filter-ipv6 {
    chain KUBE-ROUTER-FORWARD { type filter hook forward priority 0; }
}
table ip kube-router-filter { }
"""
REMAINING = """\
-A DOCKER-USER -j KUBE-NWPLCY-MINE
-A FORWARD -i kube-bridge -m comment --comment "allow outbound traffic from pods" -j ACCEPT
-A FORWARD -j DOCKER-USER
-A FORWARD -m comment --comment "it is not -j KUBE-ROUTER-FORWARD" -j KUBE-SERVICES
-A FORWARD -o eth0 -m comment --comment "allow outbound node port traffic on node interface with which node ip is \
associated" -j ACCEPT
-A FORWARD -o kube-bridge -m comment --comment "allow inbound traffic to pods" -j ACCEPT
:DOCKER-USER
:FORWARD
:INPUT
:KUBE-NWPLCY-MINE
:KUBE-ROUTER-SERVICES
:KUBE-SERVICES
:OUTPUT
"""
FOREIGN4 = """\
-A FOREIGN -m set --match-set foreign-used src -j DROP
-A FOREIGN -s 192.0.2.77/32 -j DROP
-A INPUT -j FOREIGN
:FOREIGN
"""


def plant(backend: str) -> None:
    """Load the layout into both families of one back end, things of others first and last."""
    sh("ipset restore -exist", stdin=(RECORDED / "ipset").read_text())
    sh("ipset create -exist kube-router-local-pods hash:ip; ipset create -exist KUBE-SRC-mine hash:ip")
    for program in FAMILIES:
        sh(f"{program}-{backend}-restore --noflush", stdin=(RECORDED / program).read_text())
        sh(f"{program}-{backend}-restore --noflush", stdin=OTHERS)


def filter_table(program: str) -> set[str]:
    """Return the chains and rules of a filter table but those of the proxy's, without counters."""
    lines = sh(f"{program}-save -t filter").splitlines()
    chains = {line.split()[0] for line in lines if line.startswith(":")}
    return chains | {line for line in lines if line.startswith("-A") and "KUBE-ROUTER-SERVICES" not in line}


REMOVED_RULES, REMOVED_CHAINS, REMOVED_IPSETS = 6, 21 + 21, 16 + 11 + 14 + 11 + 1


@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_only_its_rules_chains_ipsets_and_tables_go(backend: str) -> None:
    def inside() -> None:
        plant(backend)
        sh(f"nft '{ITS_TABLES}{OURS}'")
        changes, troubles = takeover.remove()
        assert troubles == []
        assert changes == {
            "leftover rule removed": REMOVED_RULES,
            "leftover chain removed": REMOVED_CHAINS,
            "leftover ipset removed": REMOVED_IPSETS,
            "leftover table removed": 2,
        }
        assert filter_table(f"iptables-{backend}") == {*REMAINING.splitlines(), *FOREIGN4.splitlines()}
        assert filter_table(f"ip6tables-{backend}") == set(REMAINING.splitlines())
        assert sorted(sh("ipset list -name").split()) == [
            *("KUBE-SRC-mine", "foreign-set", "foreign-used"),
            *(f"inet6:kube-router-{name}" for name in ("local-ips", "node-ips", "pod-subnets", "svip", "svip-prt")),
            *(f"kube-router-{name}" for name in ("local-ips", "node-ips", "pod-subnets", "svip", "svip-prt")),
        ]
        tables = sh("nft list tables").splitlines()
        assert {"table inet kube-router-firewall", "table ip kube-router-filter"} <= set(tables)
        assert not any("filter-ipv" in table for table in tables)
        assert takeover.remove() == ({}, [])

    run_in_new(inside)


def test_both_back_ends_at_once_are_cleared() -> None:
    def inside() -> None:
        plant("nft")
        plant("legacy")
        assert takeover.remove()[0]["leftover chain removed"] == 2 * REMOVED_CHAINS
        for backend in ("nft", "legacy"):
            assert filter_table(f"ip6tables-{backend}") == set(REMAINING.splitlines())

    run_in_new(inside)


def test_looking_for_what_is_not_there_makes_nothing() -> None:
    def inside() -> None:
        look = "nft list ruleset; cat /proc/net/ip_tables_names /proc/net/ip6_tables_names 2>/dev/null || true"
        before = sh(look)
        assert takeover.remove() == ({}, [])
        assert sh(look) == before

    run_in_new(inside)


def test_an_ipset_that_a_rule_of_others_uses_stays_and_is_told_and_all_else_goes() -> None:
    def inside() -> None:
        plant("nft")
        sh("iptables-nft -A FOREIGN -m set --match-set KUBE-SRC-2X5D5LAHNDGEBDVF src -j DROP")
        _, troubles = takeover.remove()
        assert troubles == [
            "ipset KUBE-SRC-2X5D5LAHNDGEBDVF could not be destroyed: a rule that is not kube-router's uses it"
        ]
        assert "KUBE-SRC-2X5D5LAHNDGEBDVF" in sh("ipset list -name")
        assert "KUBE-SRC-67Q3674M7RGUIZV4" not in sh("ipset list -name")
        assert "KUBE-POD-FW" not in sh("iptables-nft-save; ip6tables-nft-save")
        sh("iptables-nft -F FOREIGN")
        assert takeover.remove() == ({"leftover ipset removed": 1}, [])

    run_in_new(inside)


async def run_here(call: Callable[..., Any], *arguments: Any) -> Any:
    """Call it in this thread, which is in the test's namespace."""
    return call(*arguments)


def test_a_busy_ipset_is_a_problem_and_delays_no_policy() -> None:
    def inside() -> None:
        plant("nft")
        sh("iptables-nft -A FOREIGN -m set --match-set KUBE-SRC-2X5D5LAHNDGEBDVF src -j DROP")
        values: dict[str, Value] = {option.name: option.default for option in OPTIONS}
        firewall = Firewall(Context(node="node-1", options=Options(values), metrics=CollectorRegistry(), run=run_here))
        view = View(State(Catalogue(BUILTIN)), tuple(firewall.needs))

        async def reconciled() -> list[tuple[str, list[str]]]:
            first = await firewall.reconcile(view, Dirty(everything=True))
            sh("iptables-nft -F FOREIGN")
            small = await firewall.reconcile(view, Dirty())
            full = await firewall.reconcile(view, Dirty(everything=True))
            return [(each.failed, [problem.text for problem in each.problems]) for each in (first, small, full)]

        words = "kube-router's leftovers remain: ipset KUBE-SRC-2X5D5LAHNDGEBDVF could not be destroyed: "
        words += "a rule that is not kube-router's uses it"
        assert anyio.run(reconciled) == [("", [words]), ("", [words]), ("", [])]

    run_in_new(inside)


# -- under traffic -----------------------------------------------------------------------------------------------------


@pytest.fixture
def node() -> Iterator[tuple[str, str]]:
    """A namespace with the recorded node's pods web/p1 and web/p2, and the router it sends through to a server's."""
    pods, router, server = (f"takeover-{os.getpid()}-{what}" for what in ("pods", "router", "server"))
    created = []
    try:
        for name in (pods, router, server):
            sh(f"ip netns add {name}")
            created.append(name)
            # A link-local address that is being checked for duplicates costs the first packets a second.
            sh(f"ip netns exec {name} sysctl -qw net.ipv6.conf.default.accept_dad=0; ip -n {name} link set lo up")
        for name, number in ((pods, 1), (server, 9)):
            sh(f"""
                ip -n {router} link add to{number} type veth peer name eth0 netns {name}
                ip -n {router} addr add 10.244.{number}.1/24 dev to{number}
                ip -n {router} addr add fd00:244:{number}::1/64 dev to{number} nodad
                ip -n {router} link set to{number} up
                ip -n {name} link set eth0 up
                for host in 10 11; do
                    ip -n {name} addr add 10.244.{number}.$host/24 dev eth0
                    ip -n {name} addr add fd00:244:{number}::$host/64 dev eth0 nodad
                done
                ip -n {name} route add default via 10.244.{number}.1
                ip -n {name} route add default via fd00:244:{number}::1
            """)
        sh(f"ip netns exec {router} sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
        yield pods, router
    finally:
        for name in created:
            sh(f"ip netns del {name}")


@dataclass
class Prober:
    """Sends from pods until told to stop: each word to the server has to come back before the next is sent."""

    pods: str
    stop: threading.Event = field(default_factory=threading.Event)
    passed: int = 0
    lost: list[str] = field(default_factory=list)

    def run(self) -> None:
        old = {family: self._socket(family, 10) for family in (4, 6)}
        while not self.stop.is_set():
            for family, established in old.items():
                self._probe(established, family, "established")
                with self._socket(family, 10) as new:
                    self._probe(new, family, "new")
                with self._socket(family, 11) as denied:
                    denied.settimeout(0)
                    self._send(denied, family)
        for established in old.values():
            established.close()

    def _socket(self, family: int, host: int) -> socket.socket:
        made = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
        made.bind((f"10.244.1.{host}" if family == 4 else f"fd00:244:1::{host}", 0))
        made.settimeout(2)
        return made

    def _send(self, by: socket.socket, family: int) -> None:
        try:
            by.sendto(b"word", ("10.244.9.10" if family == 4 else "fd00:244:9::10", 6000))
        except ConnectionRefusedError:
            return  # the last word was

    def _probe(self, by: socket.socket, family: int, what: str) -> None:
        self._send(by, family)
        try:
            by.recv(10)
            self.passed += 1
        except OSError as e:
            self.lost.append(f"{what} IPv{family}: {e}")


class Echo:
    """The server: answers each word, and keeps those that came from where policy forbids it."""

    def __init__(self, namespace: str) -> None:
        self.sockets = run_in(namespace, self._bind)
        self.forbidden: list[str] = []

    def _bind(self) -> list[socket.socket]:
        found = []
        for family, at in ((socket.AF_INET, "10.244.9.10"), (socket.AF_INET6, "fd00:244:9::10")):
            found.append(socket.socket(family, socket.SOCK_DGRAM))
            found[-1].bind((at, 6000))
            found[-1].settimeout(0.1)
        return found

    def serve(self, at: socket.socket, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                word, peer = at.recvfrom(10)
            except TimeoutError:
                continue
            if peer[0] in ("10.244.1.11", "fd00:244:1::11"):
                self.forbidden.append(peer[0])
            at.sendto(word, peer)


@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_allowed_traffic_is_never_interrupted_and_forbidden_never_passes(node: tuple[str, str], backend: str) -> None:
    pods, router = node
    run_in(router, lambda: plant(backend))
    prober, echo, served = Prober(pods), Echo(router.replace("router", "server")), threading.Event()
    servers = [threading.Thread(target=echo.serve, args=(at, served)) for at in echo.sockets]
    probing = threading.Thread(target=run_in, args=(pods, prober.run))
    for thread in (*servers, probing):
        thread.start()
    try:
        wait_for_more(prober, 20)  # kube-router's rules alone
        sh(f"ip netns exec {router} nft '{OURS}'")
        wait_for_more(prober, 20)
        removed, _ = run_in(router, takeover.remove)
        wait_for_more(prober, 100)
    finally:
        prober.stop.set()
        probing.join()
        served.set()
        for thread in servers:
            thread.join()
        for at in echo.sockets:
            at.close()
    assert removed["leftover chain removed"] == REMOVED_CHAINS
    assert prober.lost == []
    assert echo.forbidden == []


def wait_for_more(prober: Prober, count: int) -> None:
    until, target = time.monotonic() + 20, prober.passed + count
    while prober.passed < target and not prober.lost:
        assert time.monotonic() < until, f"{prober.passed} words passed"
        time.sleep(0.005)
