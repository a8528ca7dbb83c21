"""Real flows through real Services: every protocol, family and way in reaches every backend, evenly."""

import os
from collections.abc import Iterator
from functools import partial

import pytest
from harness.machine import until

from kube_router.lab import cluster, probe
from kube_router.lab.objects import Json
from kube_router.lab.topology import IPV4, IPV6

pytestmark = [pytest.mark.guest, pytest.mark.slow, pytest.mark.timeout(60)]

NAME = f"s{os.getpid()}"
PORTS = [
    {"name": "web", "containerPort": 8080, "protocol": "TCP"},
    {"name": "dns", "containerPort": 5353, "protocol": "UDP"},
    {"name": "sig", "containerPort": 3868, "protocol": "SCTP"},
]
BACKENDS = {"echo-1", "echo-2", "echo-3", "echo-4"}


def deployment(name: str, replicas: int, ports: list[Json]) -> Json:
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "ports": ports}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


SERVICE: Json = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "echo"},
    "spec": {
        "type": "NodePort",
        "ipFamilyPolicy": "RequireDualStack",
        "selector": {"app": "echo"},
        "ports": [
            {"name": "web", "port": 80, "targetPort": "web", "protocol": "TCP", "nodePort": 30080},
            {"name": "dns", "port": 53, "targetPort": "dns", "protocol": "UDP", "nodePort": 30053},
            {"name": "sig", "port": 3868, "targetPort": "sig", "protocol": "SCTP", "nodePort": 30868},
        ],
    },
}


@pytest.fixture(scope="module", name="lab")
def _lab() -> Iterator[cluster.Cluster]:
    objects = [deployment("echo", 4, PORTS), deployment("client", 1, []), SERVICE]
    plan = cluster.new_lab(NAME, objects, nodes=2, families=(IPV4, IPV6), plugins=("proxy", "firewall"))
    made = cluster.Cluster.up(plan, objects)
    for node in ("node-1", "node-2"):
        until(partial(_serves, made, node), what=f"the Service on {node}", timeout_s=20)
    yield made
    cluster.down(NAME)


def _serves(lab: cluster.Cluster, node: str) -> bool:
    (plugin,) = [each for each in lab.agent(node).status()["plugins"] if each["name"] == "proxy"]
    return bool(plugin["state"] == "in sync" and plugin["changes"].get("server added", 0) >= 4 * 3 * 2 * 2)


def host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def assert_even(counts: probe.Counts) -> None:
    """Each of the four gets two of eight. IPVS remembers a UDP flow for minutes: a client's port that comes again goes
    where it went before, so that one may get one more and another one less."""
    assert (counts.errors, set(counts.answers), sum(counts.answers.values())) == ({}, BACKENDS, 8)
    assert max(counts.answers.values()) <= 3


@pytest.mark.parametrize("port", ["80/tcp", "53/udp", "3868/sctp"])
@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("place", ["node-1", "client-1"])
def test_a_cluster_ip_spreads_over_all_backends_evenly(
    lab: cluster.Cluster, place: str, family: int, port: str
) -> None:
    (service,) = [it for it in lab.objects if it["kind"] == "Service" and it["metadata"]["name"] == "echo"]
    address = service["spec"]["clusterIPs"][family]
    assert_even(lab.probe(place, f"{host(address)}:{port}", count=8))


@pytest.mark.parametrize("port", ["30080/tcp", "30053/udp", "30868/sctp"])
@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
def test_a_node_port_spreads_over_all_backends_evenly(lab: cluster.Cluster, family: int, port: str) -> None:
    (node,) = [it for it in lab.objects if it["kind"] == "Node" and it["metadata"]["name"] == "node-2"]
    addresses = [it["address"] for it in node["status"]["addresses"] if it["type"] == "InternalIP"]
    assert_even(lab.probe("outside", f"{host(addresses[family])}:{port}", count=8))


def test_an_endpoint_that_goes_gets_no_new_connection_and_nobody_is_refused(lab: cluster.Cluster) -> None:
    lab.scale("echo", 2)
    (service,) = [it for it in lab.objects if it["kind"] == "Service" and it["metadata"]["name"] == "echo"]
    target = f"{service['spec']['clusterIPs'][0]}:80"
    until(lambda: set(lab.probe("node-1", target, count=4).answers) == {"echo-1", "echo-2"}, what="two backends")
    assert lab.probe("node-1", target, count=10) == probe.Counts({"echo-1": 5, "echo-2": 5}, {})
    lab.scale("echo", 4)
