"""What people get wrong in annotations and flags: one report that names node and field, and all the rest runs."""

import base64
import socket
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from harness.machine import until
from harness.routinglab import Routed, routed

from kube_router.lab import netns

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

MESH = {"172.30.0.12", "172.30.0.13"}
GOOD, PORT = "172.30.255.10", 9100
TWO_PEERS = f"""
- {{remoteip: {GOOD}, remoteasn: 65001}}
- %s
"""


@pytest.fixture(scope="module", name="lab")
def _lab() -> Iterator[Routed]:
    with routed("rfault", f"--metrics-port={PORT}") as made:
        made.expect_mesh()
        yield made


@pytest.fixture(autouse=True)
def _mended(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "lab" in request.fixturenames:
        lab: Routed = request.getfixturevalue("lab")
        lab.restore()
        until(lambda: reports(lab, "node-1") == [], what="the reports to end")
        until(lambda: set(lab.neighbours("node-1")) == MESH, what="the peers of before")


def reports(lab: Routed, node: str) -> list[str]:
    """Return what a node's agent finds wrong, wherever it found it."""
    return [str(problem) for problem in lab.lab.agent(node).status()["problems"]]


def metric(lab: Routed, node: str) -> float:
    """Return how many problems the metrics endpoint tells of."""

    def ask() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/metrics", timeout=10) as answer:
            return str(answer.read().decode())

    text = netns.run_in(lab.lab.topology.namespace(node), ask)
    (line,) = [line for line in text.splitlines() if line.startswith("kube_router_problems ")]
    return float(line.split()[1])


ANNOTATIONS = "Node node-1: metadata.annotations[kube-router.io/"
FAULTS = {
    "peers that are no YAML": (
        {"peers": "- remoteip: ["},
        "peers]: is no YAML that can be read; no peer of it is used",
        set(),
    ),
    "peers that are no list": (
        {"peers": f"remoteip: {GOOD}"},
        "peers]: is no list of peers; no peer of it is used",
        set(),
    ),
    "a peer without an address": ({"peers": TWO_PEERS % "{remoteasn: 65002}"}, "peers][1].remoteip: missing", {GOOD}),
    "a peer with a bad address": (
        {"peers": TWO_PEERS % "{remoteip: 10.0.0.300, remoteasn: 65002}"},
        "peers][1].remoteip: '10.0.0.300' is no IP address; peer left out",
        {GOOD},
    ),
    "a peer with a reserved AS number": (
        {"peers": TWO_PEERS % "{remoteip: 172.30.255.11, remoteasn: 23456}"},
        "peers][1].remoteasn: 23456 is a reserved AS number",
        {GOOD},
    ),
    "a peer with a port that is none": (
        {"peers": TWO_PEERS % "{remoteip: 172.30.255.11, remoteasn: 65002, port: 65536}"},
        "peers][1].port: 65536 is not within 1-65535; peer left out",
        {GOOD},
    ),
    "a password that is no base64": (
        {"peers": TWO_PEERS % "{remoteip: 172.30.255.11, remoteasn: 65002, password: '%%%'}"},
        "peers][1].password: ",
        {GOOD},
    ),
    "a peer with the address of a node": (
        {"peers": TWO_PEERS % "{remoteip: 172.30.0.12, remoteasn: 65002}"},
        "peers][1]: 172.30.0.12 is a node's address, with which this node peers; peer left out",
        {GOOD},
    ),
    "lists of unequal length": (
        {"peer.ips": f"{GOOD},172.30.255.11", "peer.asns": "65001"},
        "peer.asns]: has 1 items, but kube-router.io/peer.ips has 2; no peer of the lists is used",
        set(),
    ),
    "an AS number that is a word": (
        {"peer.ips": f"{GOOD},172.30.255.11", "peer.asns": "65001,many"},
        "peer.ips][1].remoteasn: 'many' is not",
        {GOOD},
    ),
    "a cluster id that is none": (
        {"rr.server": "first"},
        "rr.server]: 'first' is no cluster id",
        set(),
    ),
    "a community that is none": (
        {"node.bgp.communities": "64512:1,lots", "peer.ips": GOOD, "peer.asns": "65001"},
        "node.bgp.communities][1]: 'lots' is",
        {GOOD},
    ),
    "a prefix to reject that is none": (
        {"node.bgp.customimportreject": "192.0.2.0/24,10.0.0.0/33"},
        "node.bgp.customimportreject][1]: '10.0.0.0/33' is",
        set(),
    ),
    "a prepended AS number without a count": (
        {"path-prepend.as": "64512"},
        "path-prepend.as]: kube-router.io/path-prepend.repeat-n is missing",
        set(),
    ),
    "a pod CIDR among others that is none": (
        {"pod-cidrs": "10.244.1.0/24,fd00:10:244:1::/64,pods"},
        "pod-cidrs][2]: 'pods' is",
        set(),
    ),
    "a listening address that is none": (
        {"bgp-local-addresses": "172.30.0.11,here"},
        "bgp-local-addresses][1]: 'here' is no IP address; left out",
        set(),
    ),
}


@pytest.mark.parametrize(("annotations", "report", "others"), FAULTS.values(), ids=FAULTS)
def test_one_fault_is_told_once_with_node_and_field_and_harms_only_itself(
    lab: Routed, annotations: dict[str, str], report: str, others: set[str]
) -> None:
    before = {node: lab.flaps(node) for node in lab.nodes}
    lines = lab.log("node-1").count("WARNING problem ")
    lab.edit("node-1", lambda node: node["metadata"].update(annotations=prefixed(annotations)))
    (told,) = until(lambda: reports(lab, "node-1"), what="a report")
    assert told.startswith(ANNOTATIONS + report)
    until(lambda: set(lab.neighbours("node-1")) == MESH | others, what="the other peers")
    until(lambda: metric(lab, "node-1") == 1, what="the metric")
    assert lab.log("node-1").count("WARNING problem ") == lines + 1
    lab.expect_mesh()
    assert {node: lab.flaps(node)[peer] for node in lab.nodes for peer in before[node]} == {
        node: flaps[peer] for node, flaps in before.items() for peer in flaps
    }


def prefixed(annotations: dict[str, str]) -> dict[str, str]:
    return {f"kube-router.io/{name}": text for name, text in annotations.items()}


def test_as_numbers_of_nodes_decide_who_peers_and_what_is_wrong_with_one_all_nodes_say() -> None:
    with routed("rfaulta", "--nodes-full-mesh=false", "--enable-cni=false", nodes=3) as lab:
        for node in lab.nodes:
            assert lab.routes(node) == set()
            assert any("node.asn]: missing" in report for report in reports(lab, node))
        for node in lab.nodes:
            lab.annotate(node, node__asn="64600")
        lab.expect_mesh()
        before = lab.flaps("node-1")["172.30.0.12"]
        lab.annotate("node-3", node__asn="64602")
        until(lambda: lab.established("node-1") == ["172.30.0.12"], what="node-3 to be left out")
        until(lambda: lab.established("node-3") == [], what="node-3 to be alone")
        lab.expect_routes({"node-3": set()})
        assert lab.flaps("node-1")["172.30.0.12"] == before
        assert [reports(lab, node) for node in lab.nodes] == [[], [], []]
        lab.annotate("node-3", node__asn="64600")
        lab.expect_mesh()
        lab.annotate("node-3", node__asn="23456")
        words = "Node node-3: metadata.annotations[kube-router.io/node.asn]: '23456' is a reserved AS number"
        for node in lab.nodes:
            (told,) = until(partial(reports, lab, node), what=f"a report of {node}")
            assert told.startswith(words)
        until(lambda: set(lab.neighbours("node-1")) == {"172.30.0.12"}, what="node-3 to be left out")
        lab.expect_routes({"node-3": set()})
        lab.annotate("node-3", node__asn="64600")
        lab.expect_mesh()
        node_without_pod_cidr(lab)


def node_without_pod_cidr(lab: Routed) -> None:
    """See that it is told, and that the node goes on to learn of the others' pods."""

    def without(node: dict[str, dict[str, object]]) -> None:
        del node["spec"]["podCIDRs"], node["spec"]["podCIDR"]

    lab.edit("node-3", without)
    (told,) = until(lambda: reports(lab, "node-3"), what="a report")
    assert told.startswith("Node node-3: spec.podCIDRs: absent")
    first = {route for route in lab.mesh_routes("node-1") if "172.30.0.13 eth0" not in route.hops}
    lab.expect_routes({"node-1": {route for route in first if "fd30::d eth0" not in route.hops}})
    lab.expect_mesh("node-3")


def test_a_password_file_or_a_port_that_cannot_be_had_is_told_and_taken_when_it_can(tmp_path: Path) -> None:
    file = tmp_path / "passwords"
    flags = (f"--peer-router-ips={GOOD}", "--peer-router-asns=65001", f"--peer-router-passwords-file={file}")
    with routed("rfaultf", *flags, "--injected-routes-sync-period=1s", nodes=2, agents=False) as lab:
        occupied = netns.run_in(lab.lab.topology.namespace("node-1"), occupy)
        lab.lab.start_agents()
        said = until(lambda: lab.status("node-1")["says"].get("listening"), what="the trouble")
        assert "172.30.0.11 port 179" in said
        assert "bgp_not_listening" in lab.log("node-1")
        lab.expect_mesh()  # the other node listens
        missing_password_file(lab, file)
        occupied.close()
        until(lambda: "listening" not in lab.status("node-1")["says"], what="the port")
        lab.expect_mesh()


def occupy() -> socket.socket:
    taken = socket.socket()
    taken.bind(("172.30.0.11", 179))
    return taken


def missing_password_file(lab: Routed, file: Path) -> None:
    (told,) = until(lambda: reports(lab, "node-1"), what="a report")
    assert told == (
        f"Node node-1: --peer-router-passwords-file {file}: No such file or directory; "
        "the peers of --peer-router-ips are left out until it is right"
    )
    assert set(lab.neighbours("node-1")) == {"172.30.0.12"}
    assert lab.status("node-1")["says"]["waiting for passwords of"] == GOOD
    file.write_text(base64.b64encode(b"a canary").decode())
    until(lambda: GOOD in lab.neighbours("node-1"), what="the peer")
    assert reports(lab, "node-1") == []
    assert b"canary" not in lab.lab.agent("node-1").log.read_bytes()
