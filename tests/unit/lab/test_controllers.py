"""What the lab's controllers make of manifests."""

from collections.abc import Sequence
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kube_router.events.errors import ConfigError
from kube_router.lab.allocate import Allocations
from kube_router.lab.controllers import Derived, derive
from kube_router.lab.objects import Json, key, kind
from kube_router.lab.topology import IPV4, IPV6, node_names, plan_topology

TOPOLOGY = plan_topology("t", node_names(3), families=(IPV4,))
DUAL = plan_topology("t", node_names(2), families=(IPV4, IPV6))

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, ports: [{name: http, containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: http}]
"""


def objects(text: str) -> list[Json]:
    return list(yaml.safe_load_all(text))


def pod(name: str, *, ready: str = "True", **metadata: object) -> Json:
    return {
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "web"}, **metadata},
        "spec": {"containers": [{"ports": [{"name": "http", "containerPort": 8080}]}]},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }


def service(name: str = "web", **spec: object) -> Json:
    base: Json = {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}
    return {"kind": "Service", "metadata": {"name": name}, "spec": base | spec}


def made(written: Sequence[Json], before: Allocations | None = None, *, dual: bool = False) -> Derived:
    return derive(written, DUAL if dual else TOPOLOGY, before or Allocations())


def find(derived: Derived, wanted_kind: str, wanted_key: str) -> Any:
    return next(obj for obj in derived.objects if (kind(obj), key(obj)) == (wanted_kind, wanted_key))


def texts(derived: Derived) -> list[str]:
    return [str(problem) for problem in derived.problems]


def test_a_deployment_becomes_pods_dealt_over_the_nodes() -> None:
    derived = made(objects(WEB))
    assert [(pod.key, pod.node, pod.ips, pod.ports) for pod in derived.pods] == [
        ("default/web-1", "node-1", ("10.244.1.2",), (("TCP", 8080),)),
        ("default/web-2", "node-2", ("10.244.2.2",), (("TCP", 8080),)),
        ("default/web-3", "node-3", ("10.244.3.2",), (("TCP", 8080),)),
    ]


def test_a_service_gets_an_address_and_the_slice_its_controller_would_make() -> None:
    derived = made(objects(WEB))
    assert find(derived, "Service", "default/web")["spec"]["clusterIPs"] == ["10.96.0.10"]
    found = find(derived, "EndpointSlice", "default/web-ipv4")
    assert found["metadata"]["labels"] == {
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
        "kubernetes.io/service-name": "web",
    }
    assert found["addressType"] == "IPv4"
    assert found["ports"] == [{"name": "http", "protocol": "TCP", "port": 8080}]
    assert found["endpoints"][0] == {
        "addresses": ["10.244.1.2"],
        "conditions": {"ready": True, "serving": True, "terminating": False},
        "nodeName": "node-1",
        "targetRef": {"kind": "Pod", "namespace": "default", "name": "web-1"},
    }
    assert [endpoint["addresses"] for endpoint in found["endpoints"]] == [
        ["10.244.1.2"],
        ["10.244.2.2"],
        ["10.244.3.2"],
    ]


def test_nodes_show_their_addresses_and_pod_cidrs_and_keep_what_was_written_of_them() -> None:
    written: Json = {
        "kind": "Node",
        "metadata": {"name": "node-2", "labels": {"topology.kubernetes.io/zone": "b"}, "annotations": {"a": "b"}},
    }
    derived = made([written, *objects(WEB)])
    node = find(derived, "Node", "node-2")
    assert node["metadata"]["labels"] == {"kubernetes.io/hostname": "node-2", "topology.kubernetes.io/zone": "b"}
    assert node["metadata"]["annotations"] == {"a": "b"}
    assert node["spec"] == {"podCIDR": "10.244.2.0/24", "podCIDRs": ["10.244.2.0/24"]}
    assert node["status"]["addresses"] == [
        {"type": "InternalIP", "address": "172.30.0.12"},
        {"type": "Hostname", "address": "node-2"},
    ]
    zones = [endpoint.get("zone") for endpoint in find(derived, "EndpointSlice", "default/web-ipv4")["endpoints"]]
    assert zones == [None, "b", None]


@pytest.mark.parametrize(
    ("spec", "families", "ips"),
    [
        pytest.param({}, ["IPv4"], ["10.96.0.10"], id="single stack in the cluster's first family"),
        pytest.param({"ipFamilies": ["IPv6"]}, ["IPv6"], ["fd00:96::a"], id="the family asked for"),
        pytest.param(
            {"ipFamilyPolicy": "PreferDualStack"}, ["IPv4", "IPv6"], ["10.96.0.10", "fd00:96::a"], id="both families"
        ),
        pytest.param(
            {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6"]},
            ["IPv6", "IPv4"],
            ["fd00:96::a", "10.96.0.10"],
            id="both, the asked for first",
        ),
        pytest.param({"clusterIP": "10.96.3.3"}, ["IPv4"], ["10.96.3.3"], id="the address asked for"),
        pytest.param({"clusterIP": "None"}, ["IPv4"], ["None"], id="headless"),
    ],
)
def test_families_and_addresses_of_a_dual_stack_cluster(spec: Json, families: list[str], ips: list[str]) -> None:
    derived = made([pod("a"), service(**spec)], dual=True)
    found = find(derived, "Service", "default/web")["spec"]
    assert (found["ipFamilies"], found["clusterIPs"], found["clusterIP"]) == (families, ips, ips[0])
    slices = [obj for obj in derived.objects if kind(obj) == "EndpointSlice"]
    assert [one["addressType"] for one in slices] == families
    headless = "service.kubernetes.io/headless" in slices[0]["metadata"]["labels"]
    assert headless == (ips == ["None"])


def test_no_two_services_share_a_node_port_and_wishes_come_first() -> None:
    wish = {"name": "b", "port": 2, "nodePort": 30000}
    free = [{"name": "a", "port": 1}, {"name": "u", "port": 1, "protocol": "UDP"}]
    derived = made([service("first", type="NodePort", ports=free), service("second", type="NodePort", ports=[wish])])
    assert [port["nodePort"] for port in find(derived, "Service", "default/first")["spec"]["ports"]] == [30001, 30002]
    assert [port["nodePort"] for port in find(derived, "Service", "default/second")["spec"]["ports"]] == [30000]


def test_ports_of_one_service_may_wish_for_one_number_in_different_protocols() -> None:
    dns = [{"port": 53, "nodePort": 30053, "protocol": protocol} for protocol in ("TCP", "UDP", "TCP")]
    dns[2]["port"] = 54
    derived = made([service("dns", type="NodePort", ports=dns)])
    given_out = [port["nodePort"] for port in find(derived, "Service", "default/dns")["spec"]["ports"]]
    assert given_out == [30053, 30053, 30000]
    assert texts(derived) == ["Service default/dns: nodePort: 30053 is default/dns's; it gets another"]


def test_an_address_or_port_that_is_taken_is_reported_and_another_one_given() -> None:
    ports = [{"port": 1, "nodePort": 31000}]
    derived = made(
        [
            service("a", clusterIP="10.96.0.50", type="NodePort", ports=ports),
            service("b", clusterIP="10.96.0.50", type="NodePort", ports=ports),
            service("c", clusterIP="192.0.2.1"),
        ]
    )
    assert find(derived, "Service", "default/b")["spec"]["clusterIPs"] == ["10.96.0.10"]
    assert find(derived, "Service", "default/b")["spec"]["ports"][0]["nodePort"] == 30000
    assert texts(derived) == [
        "Service default/b: spec.clusterIPs: 10.96.0.50 is default/a's; it gets another",
        "Service default/b: nodePort: 31000 is default/a's; it gets another",
        "Service default/c: spec.clusterIPs: 192.0.2.1 is not in the service range; it gets another",
    ]


@pytest.mark.parametrize(
    ("one", "conditions"),
    [
        pytest.param(pod("a"), (True, True, False), id="ready"),
        pytest.param(pod("a", ready="False"), (False, False, False), id="not ready"),
        pytest.param(pod("a", deletionTimestamp="2026-01-01T00:00:00Z"), (False, True, True), id="terminating"),
    ],
)
def test_conditions_of_an_endpoint(one: Json, conditions: tuple[bool, bool, bool]) -> None:
    endpoints = find(made([one, service()]), "EndpointSlice", "default/web-ipv4")["endpoints"]
    assert tuple(endpoints[0]["conditions"].values()) == conditions


def test_a_service_that_publishes_unready_addresses_shows_all_of_them_as_ready() -> None:
    derived = made([pod("a", ready="False"), service(publishNotReadyAddresses=True)])
    assert find(derived, "EndpointSlice", "default/web-ipv4")["endpoints"][0]["conditions"]["ready"] is True


def test_pods_whose_named_port_differs_are_in_slices_of_their_own() -> None:
    other = pod("b")
    other["spec"]["containers"][0]["ports"][0]["containerPort"] = 9090
    derived = made([pod("a"), other, service()])
    slices = [obj for obj in derived.objects if kind(obj) == "EndpointSlice"]
    assert [(one["metadata"]["name"], one["ports"][0]["port"], len(one["endpoints"])) for one in slices] == [
        ("web-ipv4", 8080, 1),
        ("web-ipv4-2", 9090, 1),
    ]


def test_a_service_nobody_answers_for_has_one_empty_slice_and_one_without_selector_has_none() -> None:
    derived = made([service(), service("bare", selector=None)])
    slices = [obj for obj in derived.objects if kind(obj) == "EndpointSlice"]
    assert [(one["metadata"]["name"], one["endpoints"], one["ports"]) for one in slices] == [("web-ipv4", [], [])]


def test_a_slice_holds_at_most_a_hundred_endpoints() -> None:
    many = [pod(f"p{number:03}") for number in range(250)]
    slices = [obj for obj in made([*many, service()]).objects if kind(obj) == "EndpointSlice"]
    assert [len(one["endpoints"]) for one in slices] == [100, 100, 50]


def test_a_pod_on_the_hosts_network_has_the_nodes_address() -> None:
    one = pod("a")
    one["spec"] |= {"hostNetwork": True, "nodeName": "node-2"}
    assert made([one]).pods[0].ips == ("172.30.0.12",)


def test_a_finished_pod_shows_the_addresses_written_of_it_and_neither_runs_nor_serves() -> None:
    done = pod("done")
    status = {"phase": "Succeeded", "podIPs": [{"ip": "10.244.1.9"}, {"ip": "fd00:10:244:1::9"}]}
    derived = made([{**done, "status": status}, service()])
    assert find(derived, "Pod", "default/done")["status"]["podIP"] == "10.244.1.9"
    assert find(derived, "Pod", "default/done")["status"]["podIPs"] == status["podIPs"]
    assert derived.pods == ()
    assert [obj["endpoints"] for obj in derived.objects if kind(obj) == "EndpointSlice"] == [[]]


def test_a_pod_without_a_possible_node_stays_pending_and_is_no_endpoint() -> None:
    lost, picky = pod("lost"), pod("picky")
    lost["spec"]["nodeName"] = "elsewhere"
    picky["spec"]["nodeSelector"] = {"disk": "ssd"}
    derived = made([lost, picky, service()])
    assert derived.pods == ()
    assert find(derived, "EndpointSlice", "default/web-ipv4")["endpoints"] == []
    assert texts(derived) == [
        "Pod default/lost: spec.nodeName: there is no node elsewhere; it stays Pending",
        "Pod default/picky: spec.nodeSelector: no node has these labels; it stays Pending",
    ]


def test_a_daemonset_has_a_pod_on_each_node() -> None:
    daemons: Json = {"kind": "DaemonSet", "metadata": {"name": "d"}, "spec": {"template": {}}}
    assert [(pod.key, pod.node) for pod in made([daemons]).pods] == [
        (f"default/d-{name}", name) for name in ("node-1", "node-2", "node-3")
    ]


def test_scaling_down_and_up_leaves_the_others_where_they_are() -> None:
    written = objects(WEB)
    first = made(written)
    written[0]["spec"]["replicas"] = 1
    small = made(written, first.allocations)
    written[0]["spec"]["replicas"] = 4
    large = made(written, small.allocations)
    assert [pod.key for pod in small.pods] == ["default/web-1"]
    assert small.pods[0] == first.pods[0] == large.pods[0]
    assert len(large.pods) == 4


def test_other_kinds_pass_through_and_every_namespace_in_use_exists() -> None:
    policy: Json = {
        "kind": "NetworkPolicy",
        "metadata": {"name": "p", "namespace": "prod"},
        "spec": {"podSelector": {}},
    }
    derived = made([policy])
    assert find(derived, "NetworkPolicy", "prod/p")["spec"] == {"podSelector": {}}
    assert find(derived, "Namespace", "prod")["metadata"]["labels"] == {"kubernetes.io/metadata.name": "prod"}


def test_an_object_without_a_name_is_reported_and_the_rest_is_served() -> None:
    derived = made([{"kind": "Service"}, *objects(WEB)])
    assert len(derived.pods) == 3
    assert texts(derived) == ["Service default/: has no kind or no metadata.name; left out"]


NAMES = st.sampled_from(["a", "b", "c", "d"])
PORTS = st.lists(
    st.fixed_dictionaries(
        {"port": st.integers(1, 3), "protocol": st.sampled_from(["TCP", "UDP"])},
        optional={"nodePort": st.sampled_from([30000, 30001, 40000, 0])},
    ),
    max_size=2,
)
SERVICES = st.builds(
    lambda name, type_, ip, ports: service(name, type=type_, ports=ports, **({"clusterIP": ip} if ip else {})),
    NAMES,
    st.sampled_from(["ClusterIP", "NodePort", "ExternalName"]),
    st.sampled_from(["", "None", "10.96.0.10", "10.96.0.11", "junk"]),
    PORTS,
)
PODS = st.builds(
    lambda name, node: pod(name) | {"spec": {"nodeName": node}}, NAMES, st.sampled_from(["node-1", "", "x"])
)
WRITTEN = st.lists(st.one_of(SERVICES, PODS), max_size=8, unique_by=lambda obj: (kind(obj), key(obj)))


@given(WRITTEN, WRITTEN)
def test_deriving_again_changes_nothing_and_no_two_share_an_address_or_port(old: list[Json], new: list[Json]) -> None:
    derived = made(new, made(old).allocations)
    again = made(new, derived.allocations)
    assert again == derived
    given_out = derived.allocations
    assert len(set(given_out.cluster_ips.values())) == len(given_out.cluster_ips)
    assert len(set(given_out.pod_ips.values())) == len(given_out.pod_ips)
    slots = [(name.split()[1], port) for name, port in given_out.node_ports.items()]
    assert len(set(slots)) == len(slots)


FIELDS = [
    *("kind", "metadata", "name", "namespace", "labels", "spec", "replicas", "template", "selector", "ports", "port"),
    *("nodePort", "clusterIP", "clusterIPs", "type", "status", "conditions", "containers", "nodeName", "podCIDRs"),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 70000) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(FIELDS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
KINDS = st.sampled_from(["Pod", "Service", "Deployment", "Node", "Namespace", "DaemonSet", "EndpointSlice", "X"])


@given(st.lists(st.tuples(KINDS, st.dictionaries(st.sampled_from(["metadata", "spec", "status"]), JSON)), max_size=4))
def test_nothing_that_is_written_breaks_the_controllers(written: list[tuple[str, Json]]) -> None:
    made([{**obj, "kind": one, "metadata": {"name": f"n{at}"}} for at, (one, obj) in enumerate(written)])
    made([{**obj, "kind": one} for one, obj in written])


@pytest.mark.parametrize("name", ["Lab", "a-b", "", "9", "x" * 17])
def test_a_labs_name_has_no_dash_so_that_no_prefix_begins_another(name: str) -> None:
    with pytest.raises(ConfigError, match="lab name"):
        plan_topology(name, ["n"])


def test_nodes_are_dealt_over_the_subnets() -> None:
    topology = plan_topology("t", node_names(3), subnets=2, families=(IPV4, IPV6))
    assert [(node.subnet, node.addresses) for node in topology.nodes] == [
        (0, ("172.30.0.11", "fd30::b")),
        (1, ("172.30.1.12", "fd30:0:0:1::c")),
        (0, ("172.30.0.13", "fd30::d")),
    ]
