"""Services of a real cluster without kube-proxy: the agent alone serves them, by IPVS, from its pod without privileges.

The nodes are in the VM where this machine's kernel has no IPVS. One cluster for all tests here; they use it in turn.
"""

import json
import time
from collections import Counter
from pathlib import Path

import pytest
from cluster import agents, dialing, workload
from cluster.cluster import Cluster
from cluster.dialing import ask_from_node, asking, dial
from cluster.guestcluster import GuestCluster
from cluster.layout import API_SERVICE
from cluster.turns import Clusters
from cluster.workload import Pod
from e2e import ways
from harness import machine
from harness.machine import until
from harness.plugin import need

pytestmark = [pytest.mark.cluster, pytest.mark.vm, pytest.mark.slow, pytest.mark.timeout(1200)]

IPVS = Path(__file__).parent / "ipvs"
SPACE, SERVERS = "shop", {"web-1": "node-1", "web-2": "node-2"}
CLIENTS = {"client-1": "node-1", "client-2": "node-2"}
BOTH = Counter({"web-1": 4, "web-2": 4})
NODE_PORT = 30080
CHANGE_S = 15  # from a change of an object to the kernel of every node
TLS_ONLY = "Client sent an HTTP request to an HTTPS server."
WITHOUT_MASTER = [
    {"op": "remove", "path": "/spec/template/spec/containers/0/args/5"},
    {"op": "replace", "path": "/spec/updateStrategy", "value": {"type": "OnDelete"}},
]
AGENT_S = 30  # from a pod's deletion to its successor being ready


@pytest.fixture(scope="module")
def ipvs(clusters: Clusters, image: Path, agnhost: Path) -> Cluster:
    """A cluster with the agent, whose nodes run nothing else for Services."""

    def make() -> Cluster:
        return Cluster() if machine.runs_guest_tests_itself() else GuestCluster(archives=[agnhost, image])

    def prepare(cluster: Cluster) -> None:
        if not isinstance(cluster, GuestCluster):
            cluster.load([agnhost, image])
        agents.install(cluster, IPVS)
        ways.to_pods(cluster)

    if not machine.runs_guest_tests_itself():
        need(machine.why_no_vm())
    return clusters.get("ipvs", make, prepare)


@pytest.fixture(scope="module")
def pods(ipvs: Cluster) -> dict[str, Pod]:
    """Two servers and two clients, one of each on each node; the Service ``web`` stands before the servers."""
    web = workload.service("web", SPACE, {"part": "web"})
    web["spec"] |= {"type": "NodePort"}
    web["spec"]["ports"][0]["nodePort"] = NODE_PORT
    workload.apply(
        ipvs,
        workload.namespace(SPACE),
        *(workload.server(name, SPACE, node, part="web") for name, node in SERVERS.items()),
        *(workload.server(name, SPACE, node) for name, node in CLIENTS.items()),
        web,
    )
    return workload.running(ipvs, SPACE)


@pytest.fixture(scope="module")
def address(ipvs: Cluster, pods: dict[str, Pod]) -> str:
    """The Service's ClusterIP, once both nodes serve it with both servers."""
    path = "--output=jsonpath={.spec.clusterIP}"
    found = ipvs.kubectl("get", "service", "web", "--namespace", SPACE, path)
    for seat in ipvs.seats:
        wait_served(ipvs, seat.name, found, {pods[name].address for name in SERVERS})
    return found


def served(cluster: Cluster, node: str, address: str) -> set[str]:
    """Return the addresses of the servers that a node's IPVS has behind an address."""
    lines = (line.split() for line in cluster.run_on(node, "ipvsadm", "-Sn").splitlines())
    return {words[4].partition(":")[0] for words in lines if words[0] == "-a" and words[2] == f"{address}:80"}


def wait_served(cluster: Cluster, node: str, address: str, wanted: set[str]) -> None:
    until(
        lambda: served(cluster, node, address) == wanted,
        what=f"{node} to serve {address} by {wanted}",
        timeout_s=CHANGE_S * cluster.slowness,
    )


def test_a_pod_without_privileges_makes_a_node_well_and_an_init_container_loads_its_modules(ipvs: Cluster) -> None:
    for seat in ipvs.seats:
        verdict, *_ = agents.kr(ipvs, seat.name, "status").splitlines()
        assert verdict == "in sync, no problems", agents.kr(ipvs, seat.name, "status")
        spec = agents.pods(ipvs)[seat.name]["spec"]
        for container in [*spec["initContainers"], *spec["containers"]]:
            assert container["securityContext"]["privileged"] is False
            may_load = "SYS_MODULE" in container["securityContext"]["capabilities"]["add"]
            assert may_load is (container["name"] == "load-modules")
        assert agents.logs(ipvs, seat.name, container="load-modules") == ""
        loaded = {line.split()[0] for line in ipvs.run_on(seat.name, "cat", "/proc/modules").splitlines()}
        assert {"ip_vs", "ip_vs_rr", "dummy", "br_netfilter"} <= loaded


def test_pods_have_addresses_of_their_nodes_on_our_bridge(ipvs: Cluster, pods: dict[str, Pod]) -> None:
    path = "--output=jsonpath={range .items[*]}{.metadata.name} {.spec.podCIDR}{'\\n'}{end}"
    cidrs = dict(line.split() for line in ipvs.kubectl("get", "nodes", path).splitlines())
    for name in {**SERVERS, **CLIENTS}:
        assert pods[name].address.rpartition(".")[0] == cidrs[pods[name].node].rpartition(".")[0]
    for seat in ipvs.seats:
        bridge = json.loads(ipvs.run_on(seat.name, "ip", "-json", "-4", "addr", "show", "kube-bridge"))
        assert bridge[0]["addr_info"][0]["local"] == cidrs[seat.name].replace(".0/24", ".1")


def test_a_cluster_ip_is_spread_over_its_endpoints_from_pods_of_both_nodes(
    ipvs: Cluster, pods: dict[str, Pod], address: str
) -> None:
    assert dial(pods["client-1"], address, tries=8) == BOTH
    assert dial(pods["client-2"], address, tries=8) == BOTH


def test_a_cluster_ip_is_spread_over_its_endpoints_from_both_nodes(ipvs: Cluster, address: str) -> None:
    for seat in ipvs.seats:
        assert ask_from_node(ipvs, seat.name, address, tries=8) == BOTH


def test_a_node_port_is_reached_from_outside_from_another_node_and_from_pods(
    ipvs: Cluster, pods: dict[str, Pod], address: str
) -> None:
    first, second = ipvs.seats
    for seat in ipvs.seats:
        url = f"http://{seat.address}:{NODE_PORT}/hostname"
        assert Counter(dialing.get(url) for _ in range(8)) == BOTH
    assert ask_from_node(ipvs, first.name, second.address, NODE_PORT, tries=8) == BOTH
    assert dial(pods["client-1"], second.address, NODE_PORT, tries=8) == BOTH


def test_the_api_servers_own_service_is_reached_by_pods_and_nodes(ipvs: Cluster, pods: dict[str, Pod]) -> None:
    for name in CLIENTS:
        assert [answer.strip() for answer in dial(pods[name], API_SERVICE, 443)] == [TLS_ONLY]
    for seat in ipvs.seats:
        assert "172.30.0.1:6443" in ipvs.run_on(seat.name, "ipvsadm", "-Ln", "-t", f"{API_SERVICE}:443")


def test_a_policy_holds_for_who_comes_by_the_service(ipvs: Cluster, pods: dict[str, Pod], address: str) -> None:
    only_first = workload.only_from("web", SPACE, {"part": "web"}, {"app": "client-1"})
    workload.apply(ipvs, only_first)
    until(
        lambda: dial(pods["client-2"], address, tries=2) == Counter({"": 2}),
        what="the policy to hold",
        timeout_s=CHANGE_S * ipvs.slowness,
    )
    assert dial(pods["client-1"], address, tries=8) == BOTH
    ipvs.kubectl("delete", "networkpolicy", "web", "--namespace", SPACE)
    until(
        lambda: dial(pods["client-2"], address, tries=8) == BOTH,
        what="the policy to go",
        timeout_s=CHANGE_S * ipvs.slowness,
    )


def test_an_endpoint_goes_and_comes_back_under_traffic_without_a_failure(
    ipvs: Cluster, pods: dict[str, Pod], address: str
) -> None:
    first, _ = ipvs.seats
    with asking(f"http://{first.address}:{NODE_PORT}/hostname") as answers:
        label(ipvs, "web-2", "part-")
        wait_served(ipvs, first.name, address, {pods["web-1"].address})
        gone = time.monotonic()
        until(lambda: answers.since(gone).total() >= 8, what="answers", timeout_s=CHANGE_S * ipvs.slowness)
        assert set(answers.since(gone)) == {"web-1"}
        label(ipvs, "web-2", "part=web")
        for seat in ipvs.seats:
            wait_served(ipvs, seat.name, address, {pods[name].address for name in SERVERS})
        back = time.monotonic()
        until(lambda: set(answers.since(back)) == set(SERVERS), what="both", timeout_s=CHANGE_S * ipvs.slowness)
    assert answers.failures == []


def test_an_agent_replaced_under_traffic_finds_the_api_server_by_the_service_that_its_node_serves(
    ipvs: Cluster, pods: dict[str, Pod], address: str
) -> None:
    first, second = ipvs.seats
    patch = ["--type=json", f"--patch={json.dumps(WITHOUT_MASTER)}", "--namespace", agents.NAMESPACE]
    ipvs.kubectl("patch", "daemonset", agents.NAME, *patch)
    with (
        asking(f"http://{first.address}:{NODE_PORT}/hostname") as at_first,
        asking(f"http://{second.address}:{NODE_PORT}/hostname") as at_second,
    ):
        replace_agent(ipvs, first.name)
    status = " ".join(agents.kr(ipvs, first.name, "status").split())
    assert status.startswith("in sync, no problems"), status
    assert f"source https://{API_SERVICE}:443 (the Service's address)" in status
    assert (at_first.failures, at_second.failures) == ([], [])
    assert set(at_first.since(0)) == set(at_second.since(0)) == set(SERVERS)


def test_no_agent_has_written_a_traceback(ipvs: Cluster) -> None:
    for seat in ipvs.seats:
        assert "Traceback" not in agents.logs(ipvs, seat.name)


def label(cluster: Cluster, pod: str, what: str) -> None:
    cluster.kubectl("label", "pod", pod, what, "--namespace", SPACE)


def replace_agent(cluster: Cluster, node: str) -> None:
    """Delete a node's agent; return when another is ready in its place."""
    old = agents.pods(cluster)[node]["metadata"]["name"]
    cluster.kubectl("delete", "pod", old, "--namespace", agents.NAMESPACE)

    def is_replaced() -> bool:
        new = agents.pods(cluster).get(node)
        return new is not None and new["metadata"]["name"] != old and agents.is_ready(new)

    until(is_replaced, what="the new agent", timeout_s=AGENT_S * cluster.slowness)
