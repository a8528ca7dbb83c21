"""Agents are killed, nodes lose their power or their cluster: pods go on talking, or routes go when they must."""

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from harness.machine import until
from harness.routinglab import Routed, Told, routed

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

ONE, TWO = "172.30.0.11", "172.30.0.12"
RESTARTS = (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL)
CLOSED_S = 1.0  # from the end of a process to the routes' withdrawal by others
BFD = ("--enable-bfd", "--bfd-desired-min-tx-interval=300", "--bfd-required-min-rx-interval=300")
READY_S = 10  # a third of what a neighbour is waited for
BFD_S = 2.0  # three intervals of 300 ms, and what a busy machine takes
HOLD_S = 3


def calm(lab: Routed, node: str) -> bool:
    """Return whether a node's agent has heard all neighbours and has nothing to do."""
    status = lab.status(node)
    return status["state"] == "in sync" and "still to be heard" not in status["says"]


def wait_until_calm(lab: Routed) -> None:
    for node in lab.nodes:
        lab.lab.wait_for_agent(node)
        try:
            until(partial(calm, lab, node), what=f"{node} to be in sync")
        except AssertionError:
            print(lab.status(node), lab.neighbours(node), lab.lab.agent(node).last_words(20), sep="\n")
            raise


def restart(lab: Routed, node: str, number: signal.Signals = signal.SIGKILL) -> None:
    lab.lab.agent(node).stop(number)
    lab.lab.agent(node).start()


@contextmanager
def watched(lab: Routed, node: str) -> Iterator[list[str]]:
    """Collect what the kernel of a node tells of changed routes, rules, links and tables while the block runs."""
    namespace = lab.lab.topology.namespace(node)
    argv = ["ip", "netns", "exec", namespace, "/bin/sh", "-c", "ip monitor route rule address & nft monitor & wait"]
    monitor = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, start_new_session=True)
    lines: list[str] = []
    time.sleep(0.3)  # until both listen
    try:
        yield lines
    finally:
        subprocess.run(["kill", "--", f"-{monitor.pid}"], check=True)
        out, _ = monitor.communicate(timeout=10)
        lines += [line for line in out.splitlines() if line.strip()]


# -- with graceful restart ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", name="graceful")
def _graceful() -> Iterator[Routed]:
    with routed("rgr", "--bgp-graceful-restart") as made:
        made.expect_mesh()
        wait_until_calm(made)
        yield made


def test_pods_lose_nothing_while_an_agent_is_killed_and_restarted(graceful: Routed) -> None:
    lab = graceful
    with lab.probing(("x/a", "x/b"), ("x/b", "x/a"), ("x/b", "x/c"), ("x/c", "x/b")) as probing:
        for number in RESTARTS:
            flaps = lab.flaps("node-1")[TWO]
            restart(lab, "node-2", number)
            until(lambda: lab.flaps("node-1").get(TWO, 0) > flaps, what="node-1 to notice")  # noqa: B023
            until(lambda: lab.established("node-1") == [TWO, "172.30.0.13"], what="the sessions to be back")
            wait_until_calm(lab)
        time.sleep(0.5)
    assert probing.lost == {name: [] for name in probing.lost}
    assert min(probing.answered.values()) > 200
    lab.expect_mesh()


def test_a_restart_without_a_change_writes_nothing_to_any_kernel(graceful: Routed) -> None:
    lab = graceful
    with watched(lab, "node-1") as first, watched(lab, "node-3") as third:
        before = lab.status("node-1")["changes"]
        restart(lab, "node-3")
        wait_until_calm(lab)
        until(lambda: lab.established("node-1") == [TWO, "172.30.0.13"], what="the sessions to be back")
        wait_until_calm(lab)
    assert (first, third) == ([], [])
    assert lab.status("node-3")["changes"] == {}
    assert lab.status("node-1")["changes"] == before


def test_what_changed_while_the_agent_was_away_is_told_after_it_is_back(graceful: Routed) -> None:
    lab = graceful
    lab.lab.kill_agent("node-1")
    lab.annotate("node-1", pod_cidrs="10.99.1.0/24,fd00:10:244:1::/64")
    held = lab.mesh_routes("node-3")
    assert lab.routes("node-3") == held
    lab.lab.agent("node-1").start()
    old, new = Told("10.244.1.0/24", (f"{ONE} eth0",)), Told("10.99.1.0/24", (f"{ONE} eth0",))
    lab.expect_routes({"node-3": held - {old} | {new}})
    lab.restore()
    lab.expect_mesh()


# -- without it --------------------------------------------------------------------------------------------------------


def test_without_graceful_restart_routes_go_when_the_agent_does_and_come_back_with_it() -> None:
    with routed("rnogr", *BFD, nodes=2) as lab:
        lab.expect_mesh()
        lab.lab.kill_agent("node-2")
        lab.expect_routes({"node-1": set()}, timeout_s=CLOSED_S)
        restart_beside_one_that_is_away(lab)
        lab.lab.agent("node-2").start()
        lab.expect_mesh()
        power_off_is_found_by_bfd(lab)


def restart_beside_one_that_is_away(lab: Routed) -> None:
    """An agent that comes back is ready without a neighbour that had been away before: a rollout goes on."""
    restart(lab, "node-1")
    lab.lab.wait_for_agent("node-1")
    until(lambda: lab.status("node-1")["ready"], what="node-1 to be ready", timeout_s=READY_S)
    assert lab.status("node-1")["says"]["still to be heard"] == TWO


def power_off_is_found_by_bfd(lab: Routed) -> None:
    # For a moment after it came up both still speak at the slow rate.
    until(lambda: 0 < lab.neighbours("node-1")[TWO]["bfd"]["detection_time_ms"] <= 900, what="the BFD session")
    cable(lab, "down")
    lab.expect_routes({"node-1": set()}, timeout_s=BFD_S)
    assert "BFD" in lab.neighbours("node-1")[TWO]["last_error"]
    cable(lab, "up")
    lab.expect_mesh(timeout_s=20)
    lab.expect_every_pod_reaches_every_other()


def cable(lab: Routed, state: str) -> None:
    """Take node-2 off the network without a word to anybody, or plug it in again."""
    subprocess.run(["ip", "-n", lab.lab.topology.fabric, "link", "set", "node2", state], check=True)


def test_power_off_is_found_when_the_hold_time_is_over() -> None:
    with routed("rhold", "--enable-ibgp=false", f"--bgp-holdtime={HOLD_S}s", nodes=2) as lab:
        lab.annotate("node-1", peer__ips=TWO, peer__asns="64512")
        lab.annotate("node-2", peer__ips=ONE, peer__asns="64512")
        lab.expect_mesh()
        cable(lab, "down")
        started = time.monotonic()
        lab.expect_routes({"node-1": set()}, timeout_s=HOLD_S + 1)
        assert time.monotonic() - started > HOLD_S / 3, "the last keepalive was at most a third of the hold time ago"
        assert "hold" in lab.neighbours("node-1")[TWO]["last_error"].lower()


# -- a reboot ----------------------------------------------------------------------------------------------------------


def test_a_node_that_boots_alone_has_its_network_from_the_journal() -> None:
    with routed("rboot", "--overlay-encap=vxlan", nodes=2, subnets=2) as lab:
        until(lambda: len(lab.routes("node-1")) == 2, what="routes")
        wait_until_calm(lab)
        egress = "nft list table inet kube-router-routing"
        whole = lab.overlay("node-1"), lab.run("node-1", egress)
        for node in lab.nodes:
            lab.lab.kill_agent(node)
        manifests = lab.lab.folder.manifests
        away = manifests.with_name("away")
        shutil.move(manifests, away)
        lab.run(
            "node-1",
            "ip route flush proto 75; ip -6 route flush proto 75; ip rule del priority 32700;"
            "ip -6 rule del priority 32700; ip link del kube-vxlan; ip link del kube-vxlan6;"
            "nft delete table inet kube-router-routing",
        )
        assert lab.overlay("node-1") != whole[0]
        lab.lab.agent("node-1").start()
        until(lambda: (lab.overlay("node-1"), table(lab, egress)) == whole, what="the network from the journal")
        assert lab.status("node-1")["state"] == "presumed from the journal"
        shutil.move(away, manifests)
        lab.lab.start_agents()
        wait_until_calm(lab)
        assert (lab.overlay("node-1"), lab.run("node-1", egress)) == whole
        lab.expect_every_pod_reaches_every_other()


def table(lab: Routed, command: str) -> str:
    return lab.lab.machines.run("node-1", command.split()).stdout
