"""A node that boots while the API server is away: what it served is back from the journal, policies too.

Its agent is a static pod, for a kubelet without its API server starts nothing else. Nor does it start the pods that
ran: one of them is stood in for by a namespace with its address, behind kube-bridge, as the CNI plugin would have it.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cluster import agents, workload
from cluster.cluster import Cluster
from cluster.layout import API_URL
from cluster.node import MANIFESTS, kubeconfig
from cluster.probes import namespace_of, reaches
from cluster.workload import PORT
from harness.machine import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

STATIC_POD = Path(__file__).parents[2] / "deploy/static-pod/kube-router.yaml"
SPACE, STAND_IN = "reboot", "stand-in"
MANIFEST = f"{MANIFESTS}/kube-router.yaml"


@pytest.fixture
def second(cluster: Cluster) -> Iterator[str]:
    """The second node, whose agent is a static pod instead of the DaemonSet's."""
    _, second = cluster.nodes
    agents.leave(cluster, second)
    token = cluster.kubectl("create", "token", agents.NAME, "-n", agents.NAMESPACE, "--duration=24h").strip()
    node = cluster.nodes[second]
    node.write("/var/lib/kube-router/kubeconfig", kubeconfig(token, cluster.plane.access.ca_file))
    node.write(MANIFEST, static_pod())
    agents.wait_ready(cluster, second)
    yield second
    cluster.plane.start_api()
    node.path(MANIFEST).unlink()
    agents.wait_gone(cluster, second)
    agents.come_back(cluster)


def static_pod() -> str:
    """Return the manifest as an operator would edit it for a node without IPVS."""
    pod = yaml.safe_load(STATIC_POD.read_text())
    (agent,) = pod["spec"]["containers"]
    agent["args"] = [arg.replace("--run-service-proxy=true", "--run-service-proxy=false") for arg in agent["args"]]
    return yaml.safe_dump(pod)


def test_the_network_and_its_policies_are_back_without_the_api_server(cluster: Cluster, second: str) -> None:
    first, _ = cluster.nodes
    workload.apply(
        cluster,
        workload.namespace(SPACE),
        workload.server("web", SPACE, second),
        workload.server("friend", SPACE, first, role="friend"),
        workload.server("stranger", SPACE, first),
        workload.only_from("web", SPACE, {"app": "web"}, {"role": "friend"}),
    )
    pods = workload.running(cluster, SPACE)
    web = pods["web"]
    workload.wait_connects(cluster, pods["friend"], web.address)
    workload.wait_connects(cluster, pods["stranger"], web.address, wanted=False)
    rules = policy_rules(cluster, second)
    friend, stranger = (namespace_of(cluster, pods[name]) for name in ("friend", "stranger"))

    cluster.power_off(second)
    cluster.plane.stop_api()
    cluster.power_on(second)

    node = cluster.nodes[second]
    until(lambda: "proto 75" in node.run("ip", "route").stdout, what="the routes of the other node", timeout_s=90)
    until(lambda: policy_rules(cluster, second), what="the policies to be back", timeout_s=30)
    assert rules - policy_rules(cluster, second) == set()
    stand_in(cluster, second, web.address)
    until(lambda: reaches(friend, web.address), what="the friend to reach web again", timeout_s=30)
    assert not reaches(stranger, web.address)

    cluster.plane.start_api()
    cluster.kubectl("wait", "--for=condition=Ready", "node", second, "--timeout=120s")
    agents.wait_ready(cluster, second)
    node.run("ip", "netns", "del", STAND_IN)
    assert API_URL in agents.kr(cluster, second, "status")
    until(lambda: workload.running(cluster, SPACE)["web"], what="the pod to run again", timeout_s=90)
    web = workload.running(cluster, SPACE)["web"]
    workload.wait_connects(cluster, pods["friend"], web.address)
    workload.wait_connects(cluster, pods["stranger"], web.address, wanted=False)


def policy_rules(cluster: Cluster, node: str) -> set[str]:
    """Return the lines of the node's table of policies, but for those that bear the table's generation."""
    return {line.strip() for line in agents.policies(cluster, node).splitlines() if "comment" not in line}


def stand_in(cluster: Cluster, name: str, address: str) -> None:
    """Give a namespace of the node a pod's address, and let something answer there."""
    node = cluster.nodes[name]
    gateway = f"{address.rpartition('.')[0]}.1"
    for line in (
        f"netns add {STAND_IN}",
        f"link add pod0 type veth peer name eth0 netns {STAND_IN}",
        "link set pod0 master kube-bridge up",
        f"addr replace {gateway}/24 dev kube-bridge",
        f"-n {STAND_IN} addr add {address}/24 dev eth0",
        f"-n {STAND_IN} link set eth0 up",
        f"-n {STAND_IN} route add default via {gateway}",
    ):
        node.run("ip", *line.split())
    server = ["python3", "-m", "http.server", str(PORT), "--bind", address]
    node.run_daemon("stand-in", "nsenter", f"--net=/run/netns/{STAND_IN}", "--", *server)
