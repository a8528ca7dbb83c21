"""A new version of the agent under traffic, rolled out, broken, taken back: nothing is lost, nothing let through."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import agents, archive, workload
from cluster.cluster import Cluster
from cluster.probes import Probe, probing
from cluster.workload import Pod

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

SPACE = "rollout"
BROKEN = "localhost/kube-router:broken"


@pytest.fixture(scope="module")
def pods(_running: Cluster) -> Iterator[dict[str, Pod]]:
    """On each node a server, and a client that only one of the servers admits."""
    first, second = _running.nodes
    pods = workload.guarded(_running, SPACE, servers_on=first, client_on=second)
    workload.apply(_running, workload.service("open", SPACE, {"app": "open"}))
    yield pods
    workload.remove(_running, SPACE)


@pytest.fixture
def probes(cluster: Cluster, pods: dict[str, Pod]) -> list[Probe]:
    """Across nodes and on one node, to a pod, to a Service, and where policy forbids it."""
    address = cluster.kubectl("get", "service", "open", "-n", SPACE, "--output=jsonpath={.spec.clusterIP}")
    for client in (pods["client"], pods["beside"]):
        workload.wait_connects(cluster, client, address, 80)
    found = []
    for client in (pods["client"], pods["beside"]):
        found += [
            Probe(client, pods["open"].address),
            Probe(client, address, 80),
            Probe(client, pods["guarded"].address, wanted=False),
        ]
    return [*found, Probe(pods["open"], pods["client"].address)]


def test_a_rolling_update_loses_nothing_and_lets_nothing_through(cluster: Cluster, probes: list[Probe]) -> None:
    before = {node: pod["metadata"]["uid"] for node, pod in agents.pods(cluster).items()}
    with probing(cluster, probes):
        cluster.kubectl("rollout", "restart", *agents.DAEMONSET)
        agents.wait(cluster)
    after = {node: pod["metadata"]["uid"] for node, pod in agents.pods(cluster).items()}
    assert all(after[node] != before[node] for node in cluster.nodes)


def test_a_version_that_crashes_stops_at_one_node_and_is_taken_back(
    cluster: Cluster, probes: list[Probe], tmp_path: Path
) -> None:
    program, path = tmp_path / "kube-router", tmp_path / "broken.tar"
    program.write_text("#!/nowhere\n")
    layer = archive.layer(tmp_path / "layer.tar", {"kube-router": program})
    archive.write(path, [archive.Image((BROKEN,), (layer,), entrypoint=("/kube-router",))])
    cluster.load([path])
    with probing(cluster, probes):
        cluster.kubectl("set", "image", *agents.DAEMONSET, f"kube-router={BROKEN}")
        broken = agents.wait_broken(cluster)
        ready = [node for node, pod in agents.pods(cluster).items() if agents.is_ready(pod)]
        assert ready == [node for node in cluster.nodes if node != broken]
        agents.undo(cluster)
    assert {agents.is_ready(pod) for pod in agents.pods(cluster).values()} == {True}


def test_an_agent_that_is_killed_is_back_and_nothing_was_lost(cluster: Cluster, probes: list[Probe]) -> None:
    first, *_ = cluster.nodes
    node = cluster.nodes[first]
    with probing(cluster, probes):
        node.run("pkill", "--signal=KILL", "--full", "/usr/local/bin/kube-router")
        agents.wait_restarted(cluster, first, 1)
        agents.wait(cluster)
    recovered = re.search(r"journal_recovered .* seq=(\d+)", agents.logs(cluster, first))
    assert recovered is not None
    assert int(recovered[1]) > 0
