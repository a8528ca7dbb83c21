"""The agent in a real cluster: installed by ``kubectl apply -k``, pods on our CNI, routes by BGP, policies."""

import pytest
from cluster import agents, workload
from cluster.cluster import Cluster
from cluster.show import show

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]


def test_pods_talk_across_nodes_over_learned_routes_under_a_policy_that_holds(cluster: Cluster) -> None:
    said: list[str] = []
    show(cluster, said.append)
    assert len(said) == 5


def test_pods_have_addresses_of_their_nodes_pod_cidr_on_the_bridge(cluster: Cluster) -> None:
    path = "--output=jsonpath={range .items[*]}{.metadata.name} {.spec.podCIDR}{'\\n'}{end}"
    cidrs = dict(line.split() for line in cluster.kubectl("get", "nodes", path).splitlines())
    for name, node in cluster.nodes.items():
        assert cidrs[name].rpartition(".")[0] in node.run("ip", "-4", "addr", "show", "kube-bridge").stdout
        assert f"{cidrs[name]}" in node.path("/etc/cni/net.d/10-kuberouter.conflist").read_text()
        assert "proto 75" in node.run("ip", "route").stdout


def test_a_service_is_reached_from_pods_of_both_nodes(cluster: Cluster) -> None:
    first, second = cluster.nodes
    space = "services"
    workload.apply(
        cluster,
        workload.namespace(space),
        workload.server("near", space, first, part="of-it"),
        workload.server("far", space, second, part="of-it"),
        workload.service("both", space, {"part": "of-it"}),
    )
    pods = workload.running(cluster, space)
    address = cluster.kubectl("get", "service", "both", "-n", space, "--output=jsonpath={.spec.clusterIP}")
    for pod in pods.values():
        workload.wait_connects(cluster, pod, address, 80)


def test_every_agent_says_that_its_node_is_well(cluster: Cluster) -> None:
    for name in cluster.nodes:
        verdict, *_ = agents.kr(cluster, name, "status").splitlines()
        assert "in sync" in verdict, agents.kr(cluster, name, "status")
        assert "established" in agents.kr(cluster, name, "bgp")


def test_no_agent_has_written_a_traceback(cluster: Cluster) -> None:
    for name in cluster.nodes:
        assert "Traceback" not in agents.logs(cluster, name)
