"""The control plane that tests use is a real one: it answers in seconds and its controllers do their work."""

import time
from typing import Any

import pytest
from harness.client import ApiError, Client, named
from harness.controlplane import ControlPlane
from harness.machine import until
from harness.remote import Plane, outage

pytestmark = [pytest.mark.controlplane, pytest.mark.timeout(180)]


def service(name: str, namespace: str, **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 80}], **spec}}


def pod(name: str, namespace: str, **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    spec = {"nodeName": namespace, "containers": [{"name": "c", "image": "none"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def running(address: str) -> dict[str, Any]:
    ready = {"type": "Ready", "status": "True"}
    return {"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": [ready]}}


def test_a_hundred_services_are_created_and_listed(api: Client, namespace: str) -> None:
    made = api.create(*(service(f"s{number}", namespace) for number in range(100)))
    assert len({it["spec"]["clusterIP"] for it in made}) == 100
    assert len(api.list("Service", namespace=namespace)) == 100
    api.delete(*made[:40])
    assert len(api.list("Service", namespace=namespace)) == 60


def test_services_have_both_families(api: Client, namespace: str) -> None:
    (made,) = api.create(service("dual", namespace, ipFamilyPolicy="RequireDualStack"))
    v4, v6 = made["spec"]["clusterIPs"]
    assert v4.startswith("10.96.")
    assert v6.startswith("fd00:96::")


@pytest.mark.guest
def test_endpoint_slices_are_made_by_the_real_controller(api: Client, namespace: str) -> None:
    """Also in the VM, as the whole of our agent there depends on it."""
    node = named("Node", namespace)  # the controller leaves out pods of nodes that do not exist
    api.create(node, service("web", namespace, selector={"app": "web"}), pod("web-1", namespace, app="web"))
    api.patch(pod("web-1", namespace), running("10.244.0.7"), subresource="status")

    def ready_addresses() -> list[str]:
        slices = api.list("EndpointSlice", namespace=namespace, labels="kubernetes.io/service-name=web")
        endpoints = [it for one in slices for it in one["endpoints"] or () if it["conditions"]["ready"]]
        return [it["addresses"][0] for it in endpoints]

    assert until(ready_addresses, what="an endpoint of web") == ["10.244.0.7"]
    api.delete(node)


def test_nodes_get_pod_cidrs_of_both_families(api: Client) -> None:
    node = named("Node", "cidr-node")
    api.create(node)
    try:
        cidrs = until(lambda: api.get("Node", "cidr-node")["spec"].get("podCIDRs"), what="podCIDRs")
        assert [cidr.split("/")[1] for cidr in cidrs] == ["24", "64"]
    finally:
        api.delete(node)


def test_a_refusal_says_why(api: Client, namespace: str) -> None:
    with pytest.raises(ApiError, match="Invalid value: 70000") as refused:
        api.create(service("bad", namespace, ports=[{"port": 70000}]))
    assert refused.value.status == 422


def test_kubectl_works(control_plane: Plane, namespace: str) -> None:
    assert control_plane.kubectl("get", "namespace", namespace, "-o", "name") == f"namespace/{namespace}\n"


@pytest.mark.guest
def test_the_api_server_can_be_taken_away_and_comes_back(control_plane: Plane, api: Client, namespace: str) -> None:
    """In the VM too: the door on the host does it."""
    api.create(service("stays", namespace))
    with outage(control_plane), pytest.raises(OSError):
        api.list("Service")
    assert api.get("Service", "stays", namespace=namespace)["metadata"]["name"] == "stays"


def test_a_second_control_plane_lives_beside_the_first() -> None:
    started = time.monotonic()
    with ControlPlane() as plane, plane.client() as client:
        assert client.get("Namespace", "default")["metadata"]["name"] == "default"
        folder = plane.folder
    assert not folder.exists()
    assert time.monotonic() - started < 120
