"""One node of a cluster goes from this agent to kube-router (the Go one, running) and comes back, under traffic.

The steps are those of docs/migration.md. kube-router serves as router and firewall, for this machine's kernel has no
IPVS; it is the newest release that the Go module proxy has.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import agents, workload
from cluster.cluster import Cluster
from cluster.node import Node
from cluster.probes import Probe, probing
from cluster.workload import Pod
from harness.gomodules import KUBE_ROUTER
from harness.machine import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

PAGE = Path(__file__).parents[2] / "docs/migration.md"
SPACE = "swap"
LOST_MAX = 3
FLAGS = ("--run-router=true", "--run-firewall=true", "--run-service-proxy=false", "--bgp-graceful-restart=true")
CONF = "KUBE_ROUTER_CNI_CONF_FILE=/etc/cni/net.d/10-kuberouter.conflist"


@pytest.fixture
def pods(cluster: Cluster) -> Iterator[dict[str, Pod]]:
    """On the second node two servers, one of them guarded; on the first a client."""
    first, second = cluster.nodes
    yield workload.guarded(cluster, SPACE, servers_on=second, client_on=first)
    workload.remove(cluster, SPACE)


def probes(pods: dict[str, Pod], *, lost_max: int = 0) -> list[Probe]:
    """Return probes of which those between the nodes may lose some."""
    return [
        Probe(pods["client"], pods["open"].address, lost_max=lost_max),
        Probe(pods["open"], pods["client"].address, lost_max=lost_max),
        Probe(pods["beside"], pods["open"].address),
        Probe(pods["client"], pods["guarded"].address, wanted=False),
        Probe(pods["beside"], pods["guarded"].address, wanted=False),
    ]


def its_rules(node: Node) -> str:
    """Return what kube-router has in iptables, and its routes."""
    saved = node.run("iptables-save").stdout + node.run("ip6tables-save").stdout
    chains = [line for line in saved.splitlines() if "KUBE-POD-FW" in line or "KUBE-NWPLCY" in line]
    return "\n".join([*chains, node.run("ip", "route", "show", "proto", "17").stdout.strip()]).strip()


def removal() -> list[str]:
    """Return the commands by which the page removes what is ours once kube-router serves."""
    _, _, after = PAGE.read_text().partition("## Back to kube-router")
    return after.partition("```sh\n")[2].partition("```")[0].splitlines()


def test_a_node_goes_to_kube_router_and_comes_back_under_traffic(cluster: Cluster, pods: dict[str, Pod]) -> None:
    first, second = cluster.nodes
    node = cluster.nodes[second]

    # kube-router says as it comes up that it has kept no routes, so its neighbours forget its own until it tells them
    # again (RFC 4724, 4.2).
    with probing(cluster, probes(pods, lost_max=LOST_MAX)):
        agents.leave(cluster, second)
        node.write("/etc/kubernetes/admin.kubeconfig", cluster.plane.access.kubeconfig.read_text())
        node.run_daemon(
            "kube-router",
            "env",
            CONF,
            str(KUBE_ROUTER.program("kube-router")),
            "--kubeconfig=/etc/kubernetes/admin.kubeconfig",
            f"--hostname-override={second}",
            *FLAGS,
        )
        until(lambda: "KUBE-POD-FW" in its_rules(node), what="its policies", timeout_s=60)
        until(lambda: "via" in its_rules(node), what="its routes", timeout_s=60)
        until(lambda: "established" in agents.kr(cluster, first, "bgp"), what="it to be our neighbour", timeout_s=60)
        for line in removal():
            node.run("sh", "-c", line, check="kube-router-proxy" not in line)  # the proxy never ran
    assert "kube-router-" not in node.run("nft", "list", "tables").stdout
    assert node.run("ip", "route", "show", "proto", "75").stdout == ""

    with probing(cluster, probes(pods)):
        node.stop_daemon("kube-router")
        agents.come_back(cluster)
        until(lambda: its_rules(node) == "", what="nothing of it to be left", timeout_s=60)
    sets = node.run("ipset", "list", "-name").stdout.split()
    assert [name for name in sets if "KUBE-" in name or "pod-subnets" in name or "node-ips" in name] == []
    verdict, *_ = agents.kr(cluster, second, "status").splitlines()
    assert "in sync" in verdict
