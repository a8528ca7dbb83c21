"""The whole agent with somebody else's BGP daemon on the router that all nodes are connected to.

    outside (10.10.9.1, fd10:9::1) ── fabric: BIRD, FRR or GoBGP, AS 65002 ── node-1, node-2: AS 64512 ── pods

The fabric knows of pods, and nodes of what is outside, from that daemon alone.
"""

import itertools
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from harness.bgpd import Announcement, Bgpd, Neighbour, Settings
from harness.bgpnet import talks
from harness.bird import Bird
from harness.frr import Frr
from harness.gobgp import Gobgp
from harness.machine import until
from harness.netns import sh
from harness.plugin import need
from harness.routinglab import Routed, Told, routed

from kube_router.plugins.routing.bgp.model import Family

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(120)]

KINDS: dict[str, type[Bgpd]] = {"bird": Bird, "frr": Frr, "gobgp": Gobgp}
BOTH = (Family.IPV4, Family.IPV6)
ROUTER, NODES = "172.30.0.1", {"node-1": "172.30.0.11", "node-2": "172.30.0.12"}
OUTSIDE = {"10.10.9.0/24": "10.10.9.1", "fd10:9::/64": "fd10:9::1"}
FLAGS = (
    f"--peer-router-ips={ROUTER}",
    "--peer-router-asns=65002",
    "--peer-router-passwords=c2VjcmV0",
    "--enable-pod-egress=false",
    "--bgp-graceful-restart",
    "--advertise-cluster-ip",
)
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"namespace": "x", "name": "web"},
    "spec": {"clusterIP": "10.96.0.80", "clusterIPs": ["10.96.0.80"], "ports": [{"port": 80}]},
}


class Place:
    """The lab, and the daemon on its fabric."""

    def __init__(self, lab: Routed, daemon: Bgpd) -> None:
        self.lab, self.daemon = lab, daemon

    def talk(self) -> bool:
        """Tell whether every pod and the outside reach each other in both families, whoever begins."""
        self.install()
        machines = self.lab.lab.machines
        outside = machines.namespace_of("outside")
        for pod, its in machines.pods.items():
            for address in its.ips if not its.host_network else ():
                other = OUTSIDE["fd10:9::/64" if ":" in address else "10.10.9.0/24"]
                if not talks(machines.namespace_of(pod), address, outside, other):
                    return False
                if not talks(outside, other, machines.namespace_of(pod), address):
                    return False
        return True

    def install(self) -> None:
        if isinstance(self.daemon, Gobgp):
            self.daemon.install()

    def wait_talk(self) -> None:
        """Wait until they do."""
        self.daemon.wait_established()
        self.daemon.wait(self.talk, "traffic between pods and the outside")

    @contextmanager
    def probed(self) -> Iterator[None]:
        """Try all the time whether the outside reaches a pod; AssertionError if it once did not."""
        machines = self.lab.lab.machines
        ends = machines.namespace_of("outside"), "10.10.9.1", machines.namespace_of("x/a"), machines.pods["x/a"].ips[0]
        over, lost, tried = threading.Event(), [], itertools.count()

        def probe() -> None:
            while not over.wait(0.02):
                next(tried)
                if not talks(*ends):
                    lost.append(time.monotonic())

        thread = threading.Thread(target=probe, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
        assert not lost, f"{len(lost)} of {next(tried)} probes were lost"


@pytest.fixture(scope="module", params=KINDS)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    kind = KINDS[request.param]
    need(kind.why_none())
    with routed(f"rpeer{request.param}", *FLAGS, nodes=2, objects=[SERVICE]) as lab:
        topology = lab.lab.topology
        for cidr, address in OUTSIDE.items():
            via = "fd30:0:0:ff::a" if ":" in cidr else "172.30.255.10"
            sh(
                f"ip -n {topology.outside} addr add {address}/128 dev lo"
                if ":" in cidr
                else f"ip -n {topology.outside} addr add {address}/32 dev lo"
            )
            sh(f"ip -n {topology.fabric} route add {cidr} via {via}")
        settings = Settings(
            asn=65002,
            router_id=ROUTER,
            address6="fd30::1",
            neighbours=tuple(
                Neighbour(address=address, asn=64512, families=BOTH, password="secret") for address in NODES.values()
            ),
            announcements=tuple(Announcement(prefix=cidr) for cidr in OUTSIDE),
        )
        with (
            tempfile.TemporaryDirectory(prefix="krbgp-") as folder,
            kind(settings, topology.fabric, Path(folder, "daemon")) as daemon,
        ):
            yield Place(lab, daemon)


def test_pods_and_the_outside_reach_each_other_by_what_both_were_told(place: Place) -> None:
    place.wait_talk()
    told = {Told("10.10.9.0/24", (f"{ROUTER} eth0",)), Told("fd10:9::/64", ("fd30::1 eth0",))}
    until(lambda: all(told <= place.lab.routes(node) for node in NODES), what=f"{told} on both nodes")
    for number, address in enumerate(NODES.values(), 1):
        assert place.daemon.wait_path(f"10.244.{number}.0/24", peer=address).as_path == (64512,)


def test_a_cluster_ip_is_told_by_both_nodes(place: Place) -> None:
    place.daemon.wait_established()
    for address in NODES.values():
        assert place.daemon.wait_path("10.96.0.80/32", peer=address).next_hop == address


def test_what_the_daemon_withdraws_is_gone_from_the_nodes(place: Place) -> None:
    place.wait_talk()
    place.daemon.announce(Announcement(prefix="10.10.8.0/24"))
    wanted = Told("10.10.8.0/24", (f"{ROUTER} eth0",))
    until(lambda: all(wanted in place.lab.routes(node) for node in NODES), what="the route on both nodes")
    place.daemon.withdraw("10.10.8.0/24")
    until(lambda: not any(wanted in place.lab.routes(node) for node in NODES), what="the route's end on both nodes")


def test_nothing_is_lost_while_an_agent_is_killed_and_comes_back(place: Place) -> None:
    place.wait_talk()
    with place.probed():
        place.lab.lab.kill_agent("node-1")
        place.daemon.wait_lost(NODES["node-1"])
        place.lab.lab.agent("node-1").start()
        place.lab.lab.wait_for_agent("node-1")
        place.daemon.wait_established()
        until(lambda: ROUTER in place.lab.established("node-1"), what="the session as node-1 sees it")
    place.wait_talk()


def test_nothing_is_lost_while_the_daemon_restarts_gracefully(place: Place) -> None:
    place.wait_talk()
    told = Told("10.10.9.0/24", (f"{ROUTER} eth0",))
    until(lambda: all(told in place.lab.routes(node) for node in NODES), what=f"{told} on both nodes")
    # zebra may take a route out of the fabric for a moment when bgpd tells it again.
    with nullcontext() if isinstance(place.daemon, Frr) else place.probed():
        place.daemon.stop_gracefully()
        until(lambda: not any(ROUTER in place.lab.established(node) for node in NODES), what="the end of its sessions")
        assert all(told in place.lab.routes(node) for node in NODES)
        place.daemon.up(restarted=True)
        place.daemon.wait_established()
    place.wait_talk()
