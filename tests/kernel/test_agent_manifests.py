"""An agent fed from a folder, on a real kernel: bad input of every kind, and somebody else's hands in what is ours."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.machine import until
from harness.nodes import ADDRESS, Node
from harness.zygote import Zygote

pytestmark = [pytest.mark.guest, pytest.mark.slow, pytest.mark.timeout(120)]

NODE = f"""
apiVersion: v1
kind: Node
metadata: {{name: node-1}}
spec: {{podCIDRs: [10.244.1.0/24]}}
status: {{addresses: [{{type: InternalIP, address: {ADDRESS}}}]}}
"""
GOOD = """
apiVersion: v1
kind: Service
metadata: {name: good, creationTimestamp: "2026-01-01T00:00:00Z"}
spec: {clusterIP: 10.96.0.10, ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: good-1, labels: {kubernetes.io/service-name: good}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.244.1.2]}, {addresses: [10.244.2.2]}]
"""
GOOD_TABLE = [
    "-A -t 10.96.0.10:80 -s rr",
    "-a -t 10.96.0.10:80 -r 10.244.1.2:8080 -m -w 1",
    "-a -t 10.96.0.10:80 -r 10.244.2.2:8080 -m -w 1",
]
# What is wrong, and how the report of it begins.
BAD = {
    "an absurd port": (
        "apiVersion: v1\nkind: Service\nmetadata: {name: absurd}\n"
        "spec: {clusterIP: 10.96.0.11, ports: [{port: 70000}, {name: fine, port: 81}]}",
        "Service default/absurd: spec.ports[0].port",
    ),
    "an address that is none": (
        "apiVersion: v1\nkind: Service\nmetadata: {name: nowhere}\nspec: {clusterIP: over-there, ports: [{port: 80}]}",
        "Service default/nowhere: spec.clusterIP",
    ),
    "an address that is taken": (
        'apiVersion: v1\nkind: Service\nmetadata: {name: aaa, creationTimestamp: "2026-02-01T00:00:00Z"}\n'
        "spec: {clusterIP: 10.96.0.10, ports: [{port: 80}]}",
        "Service default/aaa: 10.96.0.10:80/TCP belongs to Service default/good",
    ),
    "an endpoint that is no address": (
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
        "metadata: {name: odd, labels: {kubernetes.io/service-name: absurd}}\naddressType: IPv4\n"
        "ports: [{name: fine, port: 8081}]\nendpoints: [{addresses: [300.1.1.1]}, {addresses: [10.244.1.9]}]",
        "EndpointSlice default/odd: endpoints[0].addresses[0]",
    ),
    "a spec that is no object": (
        "apiVersion: v1\nkind: Service\nmetadata: {name: worded}\nspec: none at all",
        "Service default/worded: ",
    ),
    "an unknown version": (
        "apiVersion: v7\nkind: Service\nmetadata: {name: future}\nspec: {}",
        "Service default/future: ",
    ),
    "no YAML": ("kind: [", "Manifest "),
}
SURVIVING = [
    "-A -t 10.96.0.11:81 -s rr",
    "-a -t 10.96.0.11:81 -r 10.244.1.9:8081 -m -w 1",
]


@pytest.fixture(scope="module", name="zygote")
def _zygote() -> Iterator[Zygote]:
    with Zygote() as zygote:
        yield zygote


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    (tmp_path / "node.yaml").write_text(NODE)
    (tmp_path / "good.yaml").write_text(GOOD)
    return tmp_path


@pytest.fixture(name="node")
def _node(zygote: Zygote, folder: Path) -> Iterator[Node]:
    with Node(zygote, f"--manifests={folder}") as node:
        yield node


def test_bad_input_is_reported_once_each_and_everything_else_is_served(node: Node, folder: Path) -> None:
    for number, (text, _) in enumerate(BAD.values()):
        (folder / f"bad-{number}.yaml").write_text(text)
    node.start()
    node.wait_for_ipvs(sorted([*GOOD_TABLE, *SURVIVING]))
    until(lambda: node.plugin().get("state") == "in sync", what="in sync")
    problems = node.status()["problems"]
    for what, (_, begin) in BAD.items():
        assert len([problem for problem in problems if begin in problem]) == 1, (what, problems)
    assert len(problems) == len(BAD)


def test_packets_between_pods_on_one_bridge_pass_the_nodes_ipvs(node: Node) -> None:
    sysctl = "/proc/sys/net/bridge/bridge-nf-call-iptables"
    node.run(f"[ ! -e {sysctl} ] || echo 0 > {sysctl}")
    node.start()
    node.wait_for_ipvs(GOOD_TABLE)
    assert node.run(f"cat {sysctl}") == "1\n"


def test_five_thousand_endpoints_in_one_slice_are_all_served(node: Node, folder: Path) -> None:
    endpoints = ", ".join(f"{{addresses: [10.{128 + (n >> 8)}.{n & 255}.1]}}" for n in range(5000))
    (folder / "many.yaml").write_text(
        "apiVersion: v1\nkind: Service\nmetadata: {name: many}\n"
        "spec: {clusterIP: 10.96.0.12, ports: [{name: http, port: 80}]}\n---\n"
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
        "metadata: {name: many-1, labels: {kubernetes.io/service-name: many}}\naddressType: IPv4\n"
        f"ports: [{{name: http, port: 8080}}]\nendpoints: [{endpoints}]"
    )
    node.start()
    until(lambda: sum("10.96.0.12:80 -r" in line for line in node.ipvs()) == 5000, what="all servers", timeout_s=20)


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param("ip addr del 10.96.0.10/32 dev kube-dummy-if", id="address"),
        pytest.param("ip route del local 10.96.0.10 dev kube-dummy-if table local", id="route"),
        pytest.param("ip link del kube-dummy-if", id="interface"),
        pytest.param("ip link set kube-dummy-if down", id="interface-down"),
        pytest.param("nft flush ruleset", id="ruleset"),
        pytest.param("nft delete element inet kube-router-proxy owned4 '{ tcp . 10.96.0.10 . 80 }'", id="ownership"),
    ],
)
def test_what_somebody_else_takes_away_is_put_back_at_once(node: Node, harm: str) -> None:
    def held() -> tuple[str, str, str]:
        return (
            node.run("ip -o -4 addr show up dev kube-dummy-if | awk '{print $4}'"),
            node.run("ip route get 10.96.0.10 | head -1"),  # set up again, the kernel adds its own route behind ours
            node.run("nft -nn list table inet kube-router-proxy"),
        )

    node.start()
    node.wait_for_ipvs(GOOD_TABLE)
    until(lambda: node.plugin().get("state") == "in sync", what="in sync")
    before = held()
    node.run(harm)
    until(lambda: _quietly(held) == before, what="all to be back", timeout_s=4)
    assert node.ipvs() == GOOD_TABLE


def _quietly(held: Callable[[], tuple[str, ...]]) -> tuple[str, ...] | None:
    try:
        return held()
    except AssertionError:  # not all of it is there
        return None


def test_cleanup_leaves_nothing_of_ours_and_all_of_others(node: Node) -> None:
    node.run("ipvsadm -A -t 192.0.2.200:4444 -s rr; nft add table inet somebody; ip addr add 192.0.2.9/32 dev lo")
    node.start()
    node.wait_for_ipvs(sorted(["-A -t 192.0.2.200:4444 -s rr", *GOOD_TABLE]))
    node.kill()
    node.clean_up()
    assert node.ipvs() == ["-A -t 192.0.2.200:4444 -s rr"]
    assert "kube-dummy-if" not in node.run("ip link")
    assert node.run("nft list tables").split("\n")[:-1] == ["table inet somebody"]
