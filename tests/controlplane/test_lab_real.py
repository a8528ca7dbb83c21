"""A lab of a real cluster's nodes: its kubelet runs what the real controllers want."""

import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.controlplane import ControlPlane
from harness.machine import until

from kube_router.lab import cluster, kubelet, netns
from kube_router.lab.cluster import Cluster

pytestmark = [pytest.mark.controlplane, pytest.mark.root, pytest.mark.timeout(180)]
NAME = f"r{os.getpid()}"
PORTS = [{"containerPort": 8080, "name": "http"}]


def deployment(replicas: int) -> dict[str, Any]:
    labels = {"app": "web"}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "c", "image": "none", "ports": PORTS}]},
    }
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    metadata = {"name": "web", "namespace": "default"}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]},
}


@pytest.fixture
def plane() -> Iterator[ControlPlane]:
    with ControlPlane() as started:
        yield started


@pytest.fixture
def lab(plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setenv("KR_LAB_DIR", str(tmp_path))
    plan = cluster.new_lab(NAME, nodes=2, kubeconfig=str(plane.access.kubeconfig), plugins=())
    try:
        yield kubelet.up(plan, agents=False, say=print)
    finally:
        cluster.down(NAME)


def pods() -> set[str]:
    return set(Cluster.open(NAME).machines.pods)


def test_a_deployments_pods_run_get_endpoints_and_go(plane: ControlPlane, lab: Cluster) -> None:
    with plane.client() as api:
        api.create(deployment(3), SERVICE)

        def ready() -> list[str]:
            slices = api.list("EndpointSlice", namespace="default", labels="kubernetes.io/service-name=web")
            found = [it["addresses"][0] for one in slices for it in one["endpoints"] or () if it["conditions"]["ready"]]
            return found if len(found) == 3 else []

        addresses = until(ready, what="three endpoints of web", timeout_s=30)
        nodes = {it["metadata"]["name"]: it["spec"]["podCIDRs"] for it in api.list("Node")}
        assert set(nodes) == {"node-1", "node-2"}
        until(lambda: len(pods()) == 3, what="three pods in the mirror")
        running = Cluster.open(NAME)
        for pod in running.machines.pods.values():
            assert pod.ips[0] in addresses
            name = pod.key.removeprefix("default/")
            assert running.probe("outside", f"{pod.ips[0]}:8080").answers == {name: 1}
        plane.kubectl("scale", "deployment/web", "--replicas=1")
        until(lambda: len(pods()) == 1, what="one pod in the mirror", timeout_s=30)
        until(lambda: len(api.list("Pod", namespace="default")) == 1, what="one pod in the API")
        assert Cluster.open(NAME).address_of("web").startswith("10.96.")


def test_nodes_reach_the_api_server_by_its_own_address(plane: ControlPlane, lab: Cluster) -> None:
    tls = ssl.create_default_context(cafile=str(plane.access.ca_file))

    def refusal() -> int:
        try:
            urllib.request.urlopen(plane.access.url, timeout=5, context=tls)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:  # the kubelet is starting
            return 0
        return 200

    namespace = lab.topology.namespace("node-2")
    assert until(lambda: netns.run_in(namespace, refusal), what="the API server to answer inside of node-2") in (
        401,
        403,
    )
