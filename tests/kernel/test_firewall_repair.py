"""The table is kept: against other hands, crashes and restarts; and what is not ours is left alone."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from harness.machine import until
from harness.policed import Policed, policed
from harness.tablewriter import live

from kube_router.lab.objects import key
from kube_router.plugins.firewall.model import Ruleset
from kube_router.plugins.firewall.read import NotOurs, parse_table

pytestmark = [pytest.mark.root, pytest.mark.slow]

TABLE = "inet kube-router-firewall"
POLICY = """
x/in:
    podSelector: {matchLabels: {app: c}}
    ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: a}}}], ports: [{port: 80}, {port: 81}]}]
x/deny: {podSelector: {}, policyTypes: [Ingress]}
"""
OTHERS = """
add table ip docker
delete table ip docker
add table inet firewalld
delete table inet firewalld
table ip docker {
    chain forward {
        type filter hook forward priority 0; policy accept;
        counter accept
    }
}
table inet firewalld {
    set s {
        type ipv4_addr
        elements = { 192.0.2.7 }
    }
}
"""
FILTER = """\
*filter
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
COMMIT
"""
IPTABLES = ("iptables-legacy", "iptables-nft", "ip6tables-legacy", "ip6tables-nft")
REPAIRED_S = 3.0  # it takes some tens of milliseconds; a machine that runs other things too may need longer


@pytest.fixture(scope="module", name="lab")
def _lab() -> Iterator[Policed]:
    with policed("repair") as made:
        yield made


def nft(lab: Policed, text: str) -> str:
    done = lab.lab.machines.run("node-1", ["nft", text])
    assert done.returncode == 0, done.stderr
    return done.stdout


def iptables(lab: Policed, program: str, *words: str) -> str:
    done = lab.lab.machines.run("node-1", [program, *words])
    assert done.returncode == 0, done.stderr
    return done.stdout


def put_others(lab: Policed) -> None:
    """Let node-1 have tables of others."""
    inside = ["ip", "netns", "exec", lab.lab.topology.namespace("node-1")]
    subprocess.run([*inside, "nft", "-f", "-"], input=OTHERS, text=True, check=True)
    for program in IPTABLES:
        subprocess.run([*inside, f"{program}-restore"], input=FILTER, text=True, check=True)


def content(lab: Policed) -> Ruleset | None:
    """Return what node-1's table holds; None where there is none, or not only ours."""
    try:
        return parse_table(lab.table("node-1"))
    except NotOurs:
        return None


@pytest.mark.parametrize(
    "damage",
    [
        "flush ruleset",
        f"delete table {TABLE}",
        f"flush table {TABLE}",
        f"flush chain {TABLE} forward-ingress",
        f"insert rule {TABLE} forward-ingress accept",
        f"add element {TABLE} known4 {{ 192.0.2.77 }}",
        f"flush map {TABLE} ingress4",
        f"add chain {TABLE} mine",
    ],
)
def test_what_somebody_else_does_to_the_table_is_undone_at_once(lab: Policed, damage: str) -> None:
    lab.enforce(POLICY)
    before = content(lab)
    writes = lab.status("node-1")["changes"]["table written"]
    nft(lab, damage)
    done_at = time.monotonic()
    until(lambda: content(lab) == before, what="the repair", timeout_s=10)
    assert time.monotonic() - done_at < REPAIRED_S
    until(lambda: lab.status("node-1")["changes"]["table written"] == writes + 1, what="the receipt")
    assert "table_changed by='somebody else'" in lab.lab.agent("node-1").log.read_text()


def test_a_deleted_element_comes_back(lab: Policed) -> None:
    lab.enforce(POLICY)
    before = content(lab)
    address = lab.reach.address("x/c", 4)
    nft(lab, f"delete element {TABLE} ingress4 {{ {address} }}")
    until(lambda: content(lab) == before, what="the repair")


def test_other_tables_are_left_alone_and_their_changes_are_nothing_to_us(lab: Policed) -> None:
    lab.enforce(POLICY)
    put_others(lab)
    others = [nft(lab, "list table ip docker"), nft(lab, "list table inet firewalld")]
    filters = [iptables(lab, program, "-S") for program in IPTABLES]
    writes = lab.status("node-1")["changes"]
    nft(lab, "add element inet firewalld s { 192.0.2.8 }")
    nft(lab, "delete element inet firewalld s { 192.0.2.8 }")
    lab.enforce("")
    lab.enforce(POLICY)
    assert nft(lab, "list table inet firewalld") == others[1]
    assert nft(lab, "list table ip docker").split("packets")[0] == others[0].split("packets")[0]
    assert [iptables(lab, program, "-S") for program in IPTABLES] == filters
    assert lab.status("node-1")["changes"]["table written"] == writes["table written"]


def test_a_restart_writes_nothing_where_nothing_has_changed(lab: Policed) -> None:
    lab.enforce(POLICY)
    before = content(lab)
    agent = lab.lab.agent("node-1")
    agent.stop(signal.SIGKILL)
    nft(lab, "add table ip somebody")  # the generation moves on: the table is read and compared
    lab.lab.start_agents()
    until(lambda: lab.status("node-1")["state"] == "in sync", what="the agent")
    assert lab.status("node-1")["changes"] == {}
    assert content(lab) == before


def test_what_was_done_while_the_agent_was_away_is_undone_once_it_is_in_sync(lab: Policed) -> None:
    lab.enforce(POLICY)
    before = content(lab)
    lab.lab.agent("node-1").stop(signal.SIGKILL)
    nft(lab, f"insert rule {TABLE} forward-ingress accept")
    lab.lab.start_agents()
    until(lambda: content(lab) == before, what="the repair")


def test_a_kill_in_the_middle_leaves_the_old_table_or_the_new_one(lab: Policed) -> None:
    """The policies change while the agent is killed at random moments; what is left is always one of the two."""
    chance = random.Random(4)
    lab.enforce(POLICY)
    first = content(lab)
    assert first is not None
    objects = [obj for obj in lab.lab.objects if obj["kind"] == "NetworkPolicy"]
    assert {key(obj) for obj in objects} >= {"x/in", "x/deny"}
    lab.lab.delete("NetworkPolicy", "x/in")
    until(lambda: content(lab) != first, what="the other state")
    second = content(lab)
    assert second is not None
    (wanted,) = [obj for obj in objects if key(obj) == "x/in"]
    for number in range(12):
        if number % 2 == 0:
            lab.lab.apply([wanted])
        else:
            lab.lab.delete("NetworkPolicy", "x/in")
        time.sleep(chance.uniform(0.03, 0.15))
        lab.lab.agent("node-1").stop(signal.SIGKILL)
        found = content(lab)
        assert found is not None
        assert live(found) in (live(first), live(second))  # between two transactions there may be more, of no effect
        lab.lab.start_agents()
    lab.lab.apply([wanted])
    until(lambda: content(lab) == first, what="the agent to catch up")


def test_cleanup_leaves_nothing_of_ours_and_all_of_others(lab: Policed) -> None:
    put_others(lab)
    lab.enforce(POLICY)
    agent = lab.lab.agent("node-1")
    agent.stop()
    argv = [sys.executable, "-m", "kube_router.cli", "cleanup", f"--control-socket={agent.control_socket}"]
    done = lab.lab.machines.run("node-1", [*argv, "--run-proxy=false", "--run-router=false"])
    assert done.returncode == 0, done.stderr
    tables = nft(lab, "list tables").split("\n")
    assert "table inet kube-router-firewall" not in tables
    assert {"table ip docker", "table inet firewalld"} <= set(tables)
    for program in IPTABLES:
        assert "-A FORWARD -j DOCKER-USER" in iptables(lab, program, "-S")
    assert os.path.exists(agent.journal)
    lab.lab.start_agents()
