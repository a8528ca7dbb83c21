"""Which virtual services a cluster wants on a node, case by case."""

from typing import Any

import pytest

from kube_router.core.state import State, View
from kube_router.core.view import Dirty
from kube_router.events.event import Put
from kube_router.events.model import (
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Node,
    NodeAddress,
    Object,
    Service,
    ServicePort,
)
from kube_router.events.normalize import BUILTIN
from kube_router.events.resource import Catalogue
from kube_router.plugins.proxy.model import ServerId, ServiceId
from kube_router.plugins.proxy.wanted import Cluster

RESOURCE = {Service: "services", EndpointSlice: "endpointslices", Node: "nodes"}
NODE = Node(
    name="node-1",
    addresses=(
        NodeAddress(type="ExternalIP", address="203.0.113.7"),
        NodeAddress(type="InternalIP", address="192.0.2.1"),
        NodeAddress(type="ExternalIP", address="2001:db8::7"),
    ),
    pod_cidrs=("10.244.1.0/24",),
)


def cluster(*objects: Object) -> Cluster:
    state = State(Catalogue(BUILTIN))
    for n, obj in enumerate(objects, 1):
        state.apply(Put(seq=n, t=n, r=RESOURCE[type(obj)], key=obj.key, obj=obj))
    made = Cluster("node-1")
    made.update(View(state, (Service, EndpointSlice, Node)), Dirty(everything=True))
    return made


def service(name: str = "web", *, ips: tuple[str, ...] = ("10.96.0.10",), **fields: Any) -> Service:
    ports = fields.pop("ports", (ServicePort(name="http", port=80),))
    return Service(namespace="prod", name=name, cluster_ips=ips, ports=ports, **fields)


def ready(*addresses: str, **conditions: Any) -> tuple[Endpoint, ...]:
    return tuple(Endpoint(addresses=(address,), **conditions) for address in addresses)


def piece(*endpoints: Endpoint, name: str = "web-1", service: str = "prod/web", **fields: Any) -> EndpointSlice:
    ports = fields.pop("ports", (EndpointPort(name="http", port=8080),))
    return EndpointSlice(namespace="prod", name=name, service=service, ports=ports, endpoints=endpoints, **fields)


def servers(made: Cluster, address: str = "10.96.0.10", port: int = 80, protocol: str = "TCP") -> list[ServerId]:
    return list(made.services[ServiceId(protocol, address, port)].servers)


def test_a_cluster_ip_has_the_ready_endpoints_of_its_family_as_servers() -> None:
    made = cluster(
        NODE,
        service(ips=("10.96.0.10", "fd00:96::a")),
        piece(*ready("10.244.1.2", "10.244.2.2")),
        piece(*ready("fd00:244::2"), name="web-2", address_type="IPv6"),
    )
    assert set(made.services) == {ServiceId("TCP", "10.96.0.10", 80), ServiceId("TCP", "fd00:96::a", 80)}
    assert servers(made) == [("10.244.1.2", 8080), ("10.244.2.2", 8080)]
    assert servers(made, "fd00:96::a") == [("fd00:244::2", 8080)]


def test_service_addresses_have_the_nodes_own_address_of_the_family_as_source() -> None:
    made = cluster(NODE, service(ips=("10.96.0.10", "fd00:96::a")))
    assert made.wanted().addresses == {"10.96.0.10": "192.0.2.1", "fd00:96::a": "2001:db8::7"}
    assert cluster(service()).wanted().addresses == {"10.96.0.10": ""}


def test_a_node_port_is_served_on_the_best_node_address_of_each_family_and_has_no_service_address() -> None:
    made = cluster(
        NODE,
        service(ips=("10.96.0.10",), type="NodePort", ports=(ServicePort(name="http", port=80, node_port=30080),)),
        piece(*ready("10.244.1.2")),
    )
    assert servers(made, "192.0.2.1", 30080) == [("10.244.1.2", 8080)]
    assert ServiceId("TCP", "2001:db8::7", 30080) not in made.services, "the Service has no IPv6 address"
    assert set(made.wanted().addresses) == {"10.96.0.10"}


@pytest.mark.parametrize(
    ("endpoints", "expected"),
    [
        pytest.param((*ready("10.0.0.1"), *ready("10.0.0.2", ready=False)), ["10.0.0.1"], id="not ready is left out"),
        pytest.param(
            (*ready("10.0.0.1"), *ready("10.0.0.2", ready=False, terminating=True)),
            ["10.0.0.1"],
            id="terminating gets nothing new while one is ready",
        ),
        pytest.param(
            (*ready("10.0.0.2", ready=False, terminating=True), *ready("10.0.0.3", ready=False)),
            ["10.0.0.2"],
            id="serving and terminating is the fallback",
        ),
        pytest.param(ready("10.0.0.2", ready=False, serving=False, terminating=True), [], id="not serving: none"),
        pytest.param(ready("10.0.0.1", "10.0.0.1"), ["10.0.0.1"], id="the same endpoint twice counts once"),
    ],
)
def test_which_endpoints_get_connections(endpoints: tuple[Endpoint, ...], expected: list[str]) -> None:
    made = cluster(NODE, service(), piece(*endpoints))
    assert [server.address for server in servers(made)] == expected


def test_a_service_without_usable_endpoints_keeps_its_place() -> None:
    assert servers(cluster(NODE, service())) == []


def test_ports_are_matched_by_name_and_protocol() -> None:
    dns = (ServicePort(name="dns", protocol="UDP", port=53), ServicePort(name="dns-tcp", port=53))
    made = cluster(
        NODE,
        service(ports=dns),
        piece(
            *ready("10.0.0.1"),
            ports=(EndpointPort(name="dns", protocol="UDP", port=5353), EndpointPort(name="dns-tcp", port=5354)),
        ),
    )
    assert servers(made, port=53, protocol="UDP") == [("10.0.0.1", 5353)]
    assert servers(made, port=53) == [("10.0.0.1", 5354)]


@pytest.mark.parametrize(
    "unserved",
    [
        pytest.param(service(ips=()), id="headless by clusterIP None"),
        pytest.param(service(headless=True), id="headless by label"),
        pytest.param(service(type="ExternalName"), id="ExternalName"),
        pytest.param(service(proxy_name="cilium"), id="another proxy's"),
        pytest.param(service(proxy_name=""), id="an empty proxy name is another's too"),
    ],
)
def test_services_that_are_not_ours_to_serve(unserved: Service) -> None:
    assert cluster(NODE, unserved, piece(*ready("10.0.0.1"))).services == {}


def test_a_service_labelled_with_our_own_proxy_name_is_served() -> None:
    assert len(cluster(NODE, service(proxy_name="kube-router")).services) == 1


def test_of_two_services_with_the_same_address_and_port_the_older_one_owns_it_and_the_other_is_reported() -> None:
    young = service("aaa", created="2026-02-01T00:00:00Z")
    old = service("web", created="2026-01-01T00:00:00Z")
    made = cluster(NODE, young, old, piece(*ready("10.0.0.1")))
    assert servers(made) == [("10.0.0.1", 8080)]
    assert [str(problem) for problem in made.problems] == [
        "Service prod/aaa: 10.96.0.10:80/TCP belongs to Service prod/web, which is older; not served for this one"
    ]


def test_names_that_join_to_one_text_stay_two_services() -> None:
    one = Service(namespace="web-a", name="b-c", cluster_ips=("10.96.0.1",), ports=(ServicePort(port=80),))
    two = Service(namespace="web", name="a-b-c", cluster_ips=("10.96.0.2",), ports=(ServicePort(port=80),))
    assert {place.address for place in cluster(one, two).services} == {"10.96.0.1", "10.96.0.2"}


def test_five_thousand_endpoints_in_one_slice_are_all_served() -> None:
    many = ready(*(f"10.{n >> 8}.{n & 255}.1" for n in range(5000)))
    assert len(servers(cluster(NODE, service(), piece(*many)))) == 5000


def test_a_node_that_changes_its_address_moves_its_node_ports() -> None:
    state = State(Catalogue(BUILTIN))
    made = Cluster("node-1")
    view = View(state, (Service, EndpointSlice, Node))
    ports = (ServicePort(name="http", port=80, node_port=30080),)
    for n, obj in enumerate((NODE, service(type="NodePort", ports=ports)), 1):
        state.apply(Put(seq=n, t=n, r=RESOURCE[type(obj)], key=obj.key, obj=obj))
    made.update(view, Dirty(everything=True))
    moved = Node(name="node-1", addresses=(NodeAddress(type="InternalIP", address="192.0.2.99"),))
    ref = state.apply(Put(seq=3, t=3, r="nodes", key="node-1", obj=moved))
    assert ref is not None
    made.update(view, Dirty(frozenset({ref})))
    assert {place.address for place in made.services} == {"10.96.0.10", "192.0.2.99"}
    assert made.wanted().addresses == {"10.96.0.10": "192.0.2.99"}
