"""The whole way on real parts: a real API server, the agent's journal on disk, IPVS in a real kernel.

One namespace in the VM plays the node. Services have no selectors, so that the test decides their EndpointSlices.
"""

import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from harness.client import ApiError, Client, named
from harness.machine import until
from harness.nodes import ADDRESS, Node
from harness.remote import Plane, outage
from harness.zygote import Zygote

pytestmark = [pytest.mark.guest, pytest.mark.controlplane, pytest.mark.slow, pytest.mark.timeout(120)]

PROTOCOLS = ("TCP", "UDP", "SCTP")
FLAGS = {"TCP": "-t", "UDP": "-u", "SCTP": "--sctp-service"}


@pytest.fixture(scope="module", name="zygote")
def _zygote() -> Iterator[Zygote]:
    with Zygote() as zygote:
        yield zygote


@pytest.fixture(name="node")
def _node(zygote: Zygote, control_plane: Plane, api: Client) -> Iterator[Node]:
    sweep(api)
    api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}})
    addresses = {"status": {"addresses": [{"type": "InternalIP", "address": ADDRESS}]}}
    api.patch(named("Node", "node-1"), addresses, subresource="status")
    with Node(zygote, f"--kubeconfig={control_plane.access.kubeconfig}") as node:
        yield node
    api.delete(named("Node", "node-1"))


def sweep(api: Client) -> None:
    """Remove the Services other tests have left: a Namespace goes slowly, with all that is in it."""
    for kind in ("Service", "EndpointSlice"):
        for it in api.list(kind):
            if it["metadata"]["name"] != "kubernetes":
                with suppress(ApiError):  # gone meanwhile
                    api.delete(named(kind, it["metadata"]["name"], namespace=it["metadata"]["namespace"]))


class Shop:
    """Services s0 … with endpoints of the test's choice, and the table that IPVS should show for them."""

    def __init__(self, api: Client, namespace: str) -> None:
        self.api, self.namespace = api, namespace
        self.services: dict[int, dict[str, Any]] = {}
        self.endpoints: dict[int, list[str]] = {}

    def open(self, numbers: range) -> None:
        made = self.api.create(*(self._service(number) for number in numbers))
        self.services.update(zip(numbers, made, strict=True))
        for number in numbers:
            self.endpoints[number] = [f"10.244.{number % 250}.{host}" for host in (2, 3, 4)]
        self.api.create(*(self._slice(number) for number in numbers))

    def move(self, numbers: range, *hosts: int) -> None:
        """Give some Services other endpoints."""
        for number in numbers:
            self.endpoints[number] = [f"10.244.{number % 250}.{host}" for host in hosts]
        self.api.replace(*(self._slice(number) for number in numbers))

    def close(self, numbers: range) -> None:
        self.api.delete(*(self._service(number) for number in numbers), *(self._slice(number) for number in numbers))
        for number in numbers:
            del self.services[number], self.endpoints[number]

    def table(self) -> list[str]:
        """Return what ``ipvsadm -Sn`` has to print, written out here without any code of ours."""
        (kubernetes,) = self.api.get("EndpointSlice", "kubernetes", namespace="default")["endpoints"][0]["addresses"]
        port = self.api.get("EndpointSlice", "kubernetes", namespace="default")["ports"][0]["port"]
        lines = ["-A -t 10.96.0.1:443 -s rr", f"-a -t 10.96.0.1:443 -r {kubernetes}:{port} -m -w 1"]
        for number, service in self.services.items():
            flag = FLAGS[PROTOCOLS[number % 3]]
            places = [f"{service['spec']['clusterIP']}:80"]
            if number % 5 == 0:
                places.append(f"{ADDRESS}:{service['spec']['ports'][0]['nodePort']}")
            for place in places:
                lines.append(f"-A {flag} {place} -s rr")
                lines += [f"-a {flag} {place} -r {address}:8080 -m -w 1" for address in self.endpoints[number]]
        return sorted(lines)

    def _service(self, number: int) -> dict[str, Any]:
        port = {"name": "main", "port": 80, "protocol": PROTOCOLS[number % 3]}
        kind = "NodePort" if number % 5 == 0 else "ClusterIP"
        metadata = {"name": f"s{number}", "namespace": self.namespace}
        return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"type": kind, "ports": [port]}}

    def _slice(self, number: int) -> dict[str, Any]:
        labels = {"kubernetes.io/service-name": f"s{number}"}
        return {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": f"s{number}-1", "namespace": self.namespace, "labels": labels},
            "addressType": "IPv4",
            "ports": [{"name": "main", "port": 8080, "protocol": PROTOCOLS[number % 3]}],
            "endpoints": [{"addresses": [address]} for address in self.endpoints.get(number, [])],
        }


@pytest.fixture(name="shop")
def _shop(api: Client, namespace: str) -> Shop:
    return Shop(api, namespace)


def test_ipvs_follows_a_hundred_services_as_they_come_change_and_go(node: Node, shop: Shop) -> None:
    node.start()
    node.wait_for_ipvs(shop.table())
    shop.open(range(100))
    node.wait_for_ipvs(shop.table())
    shop.move(range(0, 60), 3, 9)
    node.wait_for_ipvs(shop.table())
    shop.close(range(20, 80))
    node.wait_for_ipvs(shop.table())
    assert node.replayed() == node.ipvs()
    addresses = node.run("ip -o addr show kube-dummy-if scope link").count("inet ")
    assert addresses == 41


def test_a_restart_with_nothing_changed_writes_nothing_to_the_kernel(node: Node, shop: Shop) -> None:
    shop.open(range(20))
    node.start()
    node.wait_for_ipvs(shop.table())
    until(lambda: node.plugin().get("state") == "in sync", what="in sync")
    node.kill()
    node.start()
    until(lambda: node.plugin().get("state") == "in sync", what="in sync", timeout_s=30)
    plugin = node.plugin()
    assert plugin["reconciles"] >= 1
    assert plugin["changes"] == {}


def test_a_node_comes_back_from_its_journal_and_deletes_nothing_until_the_api_server_has_spoken(
    node: Node, shop: Shop, control_plane: Plane
) -> None:
    shop.open(range(10))
    node.start()
    node.wait_for_ipvs(shop.table())
    node.kill(signal.SIGTERM)
    before = node.ipvs()
    shop.close(range(5))
    after = shop.table()
    with outage(control_plane):
        node.shut_down()
        node.boot()
        assert node.ipvs() == []
        node.start()
        node.wait_for_ipvs(before)
        assert node.plugin()["state"] == "presumed from the journal"
        node.kill()
        node.start()
        until(lambda: node.plugin().get("reconciles"), what="the first reconcile")
        assert node.ipvs() == before
    node.wait_for_ipvs(after, timeout_s=20)
    until(lambda: node.plugin().get("state") == "in sync", what="in sync")
    assert len(node.run("ip -o -4 addr show kube-dummy-if").splitlines()) == 6


def test_twenty_kills_under_churn_converge_and_keep_connections(node: Node, shop: Shop) -> None:
    shop.open(range(10))
    shop.move(range(1), 2)
    node.start()
    node.wait_for_ipvs(shop.table())
    chance = random.Random(20)
    address = shop.services[0]["spec"]["clusterIP"]
    with node.pod("10.244.0.2", port=8080), node.connect(address, 80) as connection:
        assert connection.ask("first") == "first"
        for round_number in range(20):
            # The endpoint of s0 stays, as connections to one that goes are meant to end.
            shop.move(range(1, 10), *chance.sample(range(2, 20), chance.randint(1, 4)))
            time.sleep(chance.uniform(0, 2.5))
            node.kill()
            node.start()
            assert connection.ask(f"round {round_number}") == f"round {round_number}"
        node.wait_for_ipvs(shop.table(), timeout_s=30)
        assert connection.ask("last") == "last"
        assert node.replayed() == node.ipvs()
