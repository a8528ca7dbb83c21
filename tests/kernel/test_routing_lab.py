"""Three nodes whose pods find each other by BGP alone, through what people and cables do to them."""

import socket
import sys
import threading
from collections.abc import Iterator
from functools import partial

import pytest
from harness.machine import until
from harness.routinglab import HOST_POD, Routed, Told, routed

from kube_router.lab import netns
from kube_router.lab.objects import Json

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

ONE, TWO, THREE = "172.30.0.11", "172.30.0.12", "172.30.0.13"
REPAIRED_S = 1.0


@pytest.fixture(scope="module", name="lab")
def _lab() -> Iterator[Routed]:
    with routed("rmesh") as made:
        yield made


@pytest.fixture(autouse=True)
def _whole(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "lab" in request.fixturenames:
        lab: Routed = request.getfixturevalue("lab")
        lab.restore()
        lab.lab.start_agents()
        lab.expect_mesh()


def test_every_pod_reaches_every_other_over_learned_routes(lab: Routed) -> None:
    lab.expect_mesh()
    lab.expect_every_pod_reaches_every_other()
    assert {node: lab.established(node) for node in lab.nodes} == {
        "node-1": [TWO, THREE],
        "node-2": [ONE, THREE],
        "node-3": [ONE, TWO],
    }
    assert [lab.problems(node) for node in lab.nodes] == [[], [], []]


# -- nodes come, go and change -----------------------------------------------------------------------------------------


def test_a_node_that_leaves_takes_its_routes_with_it_and_brings_them_back(lab: Routed) -> None:
    lab.expect_mesh()
    before = lab.flaps("node-1")[TWO]
    lab.lab.agent("node-3").stop()
    lab.forget("node-3")
    others = {node: {r for r in lab.mesh_routes(node) if "244.3." not in r.destination} for node in lab.nodes[:2]}
    others = {node: {r for r in routes if ":244:3:" not in r.destination} for node, routes in others.items()}
    lab.expect_routes(others)
    until(lambda: set(lab.neighbours("node-1")) == {TWO}, what="node-1 to have forgotten node-3")
    lab.restore()
    lab.lab.start_agents()
    lab.expect_mesh()
    lab.expect_every_pod_reaches_every_other()
    assert lab.flaps("node-1")[TWO] == before


def test_another_pod_cidr_is_announced_within_seconds_and_no_session_is_touched(lab: Routed) -> None:
    lab.expect_mesh()
    before = {node: lab.flaps(node) for node in lab.nodes}
    lab.annotate("node-2", pod_cidrs="10.99.2.0/24,fd00:99:2::/64")
    lab.expect_routes({
        "node-1": {
            Told("10.99.2.0/24", (f"{TWO} eth0",)),
            Told("fd00:99:2::/64", ("fd30::c eth0",)),
            Told("10.244.3.0/24", (f"{THREE} eth0",)),
            Told("fd00:10:244:3::/64", ("fd30::d eth0",)),
        }
    })  # fmt: skip
    assert {node: lab.flaps(node) for node in lab.nodes} == before


def test_another_address_of_a_node_moves_only_its_own_sessions(lab: Routed) -> None:
    lab.expect_mesh()
    before = lab.flaps("node-1")[TWO]
    readdress(lab, "172.30.0.13", "172.30.0.93")
    lab.edit("node-3", lambda node: node["status"]["addresses"][0].update(address="172.30.0.93"))
    moved = {
        Told("10.244.2.0/24", (f"{TWO} eth0",)),
        Told("fd00:10:244:2::/64", ("fd30::c eth0",)),
        Told("10.244.3.0/24", ("172.30.0.93 eth0",)),
        Told("fd00:10:244:3::/64", ("fd30::d eth0",)),
    }
    lab.expect_routes({"node-1": moved})
    until(lambda: lab.established("node-1") == [TWO, "172.30.0.93"], what="sessions of node-1")
    lab.expect_every_pod_reaches_every_other()
    assert lab.flaps("node-1")[TWO] == before
    readdress(lab, "172.30.0.93", "172.30.0.13")


def readdress(lab: Routed, old: str, new: str) -> None:
    lab.run("node-3", f"ip addr del {old}/24 dev eth0; ip addr add {new}/24 dev eth0")
    lab.run("node-3", "ip route replace default via 172.30.0.1")


def test_route_reflectors_by_annotation_replace_the_full_mesh(lab: Routed) -> None:
    lab.expect_mesh()
    lab.annotate("node-1", rr__server="42")
    lab.annotate("node-2", rr__client="0.0.0.42")
    lab.annotate("node-3", rr__client="42")
    until(lambda: lab.established("node-1") == [TWO, THREE], what="sessions of the server")
    until(lambda: [lab.established(node) for node in lab.nodes[1:]] == [[ONE], [ONE]], what="sessions of clients")
    lab.expect_mesh()
    lab.expect_every_pod_reaches_every_other()


# -- what is masqueraded -----------------------------------------------------------------------------------------------


class Listener:
    """A TCP server that notes from which addresses it is asked."""

    def __init__(self, namespace: str, address: str, port: int) -> None:
        self.seen: list[str] = []
        self._socket = netns.run_in(namespace, partial(self._open, address, port))
        threading.Thread(target=self._serve, daemon=True).start()

    def _open(self, address: str, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return socket.create_server((address, port), family=family)

    def _serve(self) -> None:
        while True:
            try:
                client, peer = self._socket.accept()
            except OSError:
                return
            self.seen.append(peer[0])
            client.sendall(b"outside\n")
            client.close()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@pytest.mark.parametrize(
    ("target", "node"), [("172.30.255.10", ONE), ("fd30:0:0:ff::a", "fd30::b")], ids=["IPv4", "IPv6"]
)
def test_what_leaves_the_cluster_has_the_address_of_its_node(lab: Routed, target: str, node: str) -> None:
    listener = Listener(lab.lab.topology.outside, target, 9000)
    try:
        bracketed = f"[{target}]" if ":" in target else target
        assert lab.lab.probe("x/a", f"{bracketed}:9000").answers == {"outside": 1}
        assert listener.seen == [node]
    finally:
        listener.close()


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("target", ["x/b", HOST_POD])
def test_pods_and_nodes_see_the_address_of_the_pod_that_asks(lab: Routed, target: str, family: int) -> None:
    address = lab.reach.address(target, family)
    bracketed = f"[{address}]" if ":" in address else address
    port = 8080 if target == HOST_POD else 80
    counts = lab.lab.probe("x/a", f"{bracketed}:{port}", question="client")
    (seen,) = counts.answers
    assert lab.reach.address("x/a", family) in seen


# -- what others do ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", ["10.244.2.0/24", "fd00:10:244:2::/64"], ids=["IPv4", "IPv6"])
def test_a_route_that_somebody_deletes_is_back_within_a_second(lab: Routed, route: str) -> None:
    lab.expect_mesh()
    lab.run("node-1", f"ip -{6 if ':' in route else 4} route del {route} proto 75")
    lab.expect_mesh("node-1", timeout_s=REPAIRED_S)
    assert f"taken_away what='route to {route} removed'" in lab.log("node-1")


def test_a_flushed_table_of_routes_is_back_within_a_second(lab: Routed) -> None:
    lab.expect_mesh()
    lab.run("node-1", "ip -4 route flush proto 75 || true; ip -6 route flush proto 75 || true")
    lab.expect_mesh("node-1", timeout_s=REPAIRED_S)


def test_a_flushed_egress_table_is_back_within_a_second(lab: Routed) -> None:
    table = "nft -s list table inet kube-router-routing"
    before = lab.run("node-1", table)
    assert "masquerade" in before
    lab.run("node-1", "nft delete table inet kube-router-routing")
    until(
        lambda: lab.lab.machines.run("node-1", table.split()).stdout == before,
        what="the egress table",
        timeout_s=REPAIRED_S,
    )
    lab.run("node-1", "nft flush chain inet kube-router-routing postrouting")
    until(lambda: lab.run("node-1", table) == before, what="the egress rules", timeout_s=REPAIRED_S)


def test_a_link_that_goes_down_and_comes_up_has_its_routes_within_a_second(lab: Routed) -> None:
    lab.expect_mesh()
    lab.run("node-2", "ip link set eth0 down")
    lab.run("node-2", "ip link set eth0 up; ip addr add fd30::c/64 dev eth0 nodad; ip route add default via 172.30.0.1")
    lab.run("node-2", "ip -6 route add default via fd30::1")
    lab.expect_mesh("node-2", timeout_s=REPAIRED_S)
    lab.expect_every_pod_reaches_every_other()


def test_a_link_that_was_down_for_long_has_its_routes_within_a_second_of_coming_up(lab: Routed) -> None:
    lab.expect_mesh()
    lab.run("node-2", "ip link set eth0 down")
    until(lambda: lab.routes("node-2") == set(), what="the kernel to drop routes")
    until(lambda: lab.status("node-2")["state"] in ("in sync", "backing off"), what="node-2 to have noticed")
    threading.Event().wait(3)  # long enough for a back-off to have grown
    lab.run("node-2", "ip link set eth0 up; ip addr add fd30::c/64 dev eth0 nodad; ip route add default via 172.30.0.1")
    lab.run("node-2", "ip -6 route add default via fd30::1")
    lab.expect_mesh("node-2", timeout_s=REPAIRED_S)


def test_a_bridge_that_is_down_is_set_up_within_a_second(lab: Routed) -> None:
    lab.run("node-1", "ip link set kube-bridge down")
    until(lambda: "state UP" in lab.run("node-1", "ip link show kube-bridge"), what="the bridge", timeout_s=REPAIRED_S)
    lab.run("node-1", "ip addr add fd00:10:244:1::1/64 dev kube-bridge nodad")
    lab.expect_every_pod_reaches_every_other()


# -- overlays ----------------------------------------------------------------------------------------------------------


def test_vxlan_carries_pods_between_subnets_with_packets_as_large_as_pods_send() -> None:
    with routed("rvx", "--overlay-encap=vxlan", nodes=2, subnets=2) as lab:
        until(lambda: len(lab.routes("node-1")) == len(lab.routes("node-2")) == 2, what="routes")
        assert {hop.split()[-1] for route in lab.routes("node-1") for hop in route.hops} == {
            "kube-vxlan",
            "kube-vxlan6",
        }
        lab.expect_every_pod_reaches_every_other()
        mtu = pod_mtu(lab, "node-1")
        assert mtu == 1500 - 70
        for source, target in (("x/a", "x/b"), ("x/b", "x/a")):
            lab.run(source, f"ip link set eth0 mtu {mtu}")
            for family, header in ((4, 28), (6, 48)):
                assert lab.pings(source, target, family=family, size=mtu - header), (source, target, family)
        repair_overlay(lab)
        clean(lab, "node-1")


def pod_mtu(lab: Routed, node: str) -> int:
    """Return the MTU that the node's CNI configuration and its bridge agree on."""
    plugins: list[Json] = lab.cni(node)["plugins"]
    (told,) = {plugin["mtu"] for plugin in plugins if "mtu" in plugin}
    assert f"mtu {told} " in lab.run(node, "ip link show kube-bridge")
    return int(told)


def repair_overlay(lab: Routed) -> None:
    """See that whatever is taken away from the overlay is put back."""
    assert "32700:\tfrom 10.244.1.0/24 lookup 77 proto 75" in lab.overlay("node-1")
    whole = lab.overlay("node-1")
    for command in (
        "ip rule del priority 32700; ip -6 rule del priority 32700",
        "ip link set kube-vxlan down; ip link set kube-vxlan up",
        "ip link set kube-vxlan6 down",
        "ip link del kube-vxlan",
        "ip neigh del 172.30.1.12 dev kube-vxlan",
        "bridge fdb del $(bridge fdb show dev kube-vxlan | cut -d' ' -f1) dev kube-vxlan dst 172.30.1.12",
        "ip route flush table 77 || true",  # it flushes again and again what is put back meanwhile, and gives up
    ):
        lab.run("node-1", command)
        try:
            until(lambda: lab.overlay("node-1") == whole, what=f"repair after {command}", timeout_s=REPAIRED_S)
        except AssertionError:
            print(set(lab.overlay("node-1")) ^ set(whole), lab.lab.agent("node-1").last_words(10))
            raise
    lab.expect_every_pod_reaches_every_other()
    assert "rule from 10.244.1.0/24" in lab.log("node-1")


def clean(lab: Routed, node: str) -> None:
    """See that ``kr cleanup`` leaves nothing of ours, and nothing else is touched."""
    lab.lab.agent(node).stop()
    others = lab.run(node, "ip route show proto kernel; ip -6 route show default; ip addr show eth0 | grep -v valid")
    socket_path = lab.lab.agent(node).control_socket
    argv = f"{sys.executable} -m kube_router.cli cleanup --hostname-override={node} --control-socket={socket_path}"
    lab.run(node, argv)
    assert lab.routes(node, table="all") == set()
    assert "32700" not in lab.run(node, "ip rule; ip -6 rule")
    assert "vxlan" not in lab.run(node, "ip link")
    assert "kube-router" not in lab.run(node, "nft list tables")
    assert others == lab.run(
        node, "ip route show proto kernel; ip -6 route show default; ip addr show eth0 | grep -v valid"
    )


# -- takeover ----------------------------------------------------------------------------------------------------------


def test_what_the_go_router_left_is_taken_over_while_pods_talk() -> None:
    with routed("rtake", nodes=2, agents=False) as lab:
        for node, other in (("node-1", 2), ("node-2", 1)):
            lab.run(
                node,
                f"ip route add 10.244.{other}.0/24 via 172.30.0.1{other} proto 17;"
                f"ip -6 route add fd00:10:244:{other}::/64 via fd30::{'bc'[other - 1]} proto 17;"
                "ip rule add from 10.244.0.0/16 lookup 77;"
                "ip route add 10.77.0.0/16 via 172.30.0.1 proto static",
            )
        with lab.probing(("x/a", "x/b"), ("x/b", "x/a")) as probing:
            lab.lab.start_agents()
            lab.expect_mesh()
            for node in lab.nodes:
                until(partial(gone, lab, node), what=f"takeover on {node}")
            assert "10.77.0.0/16" in lab.run("node-1", "ip route")
            assert "from 10.244.0.0/16" not in lab.run("node-1", "ip rule")
        assert probing.lost == {name: [] for name in probing.lost}
        assert min(probing.answered.values()) > 50


def gone(lab: Routed, node: str) -> bool:
    return lab.routes(node, protocol="17", table="all") == set()
