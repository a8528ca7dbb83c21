"""What becomes of the API's JSON, kind by kind."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from kube_router.events.errors import ObjectError
from kube_router.events.faults import type_of
from kube_router.events.model import (
    ContainerPort,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Namespace,
    Object,
    Pod,
    Service,
    ServicePort,
)
from kube_router.events.normalize import BUILTIN, normalize_endpointslice, normalize_pod
from kube_router.events.normalize_node import normalize_namespace
from kube_router.events.normalize_service import normalize_service
from kube_router.events.resource import Catalogue, Normalized


def redact(secret: str) -> str:
    return "redacted:" + "x" * len(secret)


def meta(**more: Any) -> dict[str, Any]:
    return {"name": "web", "namespace": "prod", "uid": "u1", "resourceVersion": "7"} | more


def normalized(normalize: Callable[[bytes, Callable[[str], str]], Normalized], **written: Any) -> Normalized:
    return normalize(json.dumps({"metadata": meta(), **written}).encode(), redact)


def texts(result: Normalized) -> list[str]:
    return [problem.text for problem in result.problems]


# -- Service ---------------------------------------------------------------------------------------------------------


def test_a_service_is_kept_with_all_that_a_node_needs() -> None:
    result = normalize_service(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": meta(
                    creationTimestamp="2026-01-02T03:04:05Z",
                    labels={"service.kubernetes.io/service-proxy-name": "", "app": "web"},
                    annotations={
                        "kube-router.io/service.scheduler": "mh",
                        "kubectl.kubernetes.io/last-applied-configuration": "SECRET",
                    },
                    managedFields=[{"manager": "kubectl"}],
                ),
                "spec": {
                    "type": "LoadBalancer",
                    "clusterIP": "10.96.0.10",
                    "clusterIPs": ["10.96.0.10", "FD00:0::A"],
                    "externalIPs": ["192.0.2.1", "192.0.2.1"],
                    "loadBalancerSourceRanges": [" 10.1.2.3/8 "],
                    "loadBalancerClass": "example.com/lb",
                    "ports": [
                        {"name": "http", "port": 80, "nodePort": 30080, "targetPort": "http"},
                        {"name": "dns", "protocol": "UDP", "port": 53, "targetPort": 53},
                        {"name": "sctp", "protocol": "SCTP", "port": 53},
                    ],
                    "sessionAffinity": "ClientIP",
                    "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
                    "internalTrafficPolicy": "Local",
                    "externalTrafficPolicy": "Local",
                    "ipFamilies": ["IPv4", "IPv6"],
                    "healthCheckNodePort": 31000,
                    "publishNotReadyAddresses": True,
                    "trafficDistribution": "PreferClose",
                    "selector": {"app": "web"},
                },
                "status": {
                    "loadBalancer": {
                        "ingress": [
                            {"ip": "198.51.100.1"},
                            {"ip": "198.51.100.2", "ipMode": "VIP"},
                            {"ip": "198.51.100.3", "ipMode": "Proxy"},
                            {"hostname": "lb.example.com"},
                        ]
                    }
                },
            }
        ).encode(),
        redact,
    )
    assert result.problems == ()
    assert result.rv == "7"
    assert result.obj == Service(
        namespace="prod",
        name="web",
        uid="u1",
        created="2026-01-02T03:04:05Z",
        type="LoadBalancer",
        cluster_ips=("10.96.0.10", "fd00::a"),
        external_ips=("192.0.2.1",),
        load_balancer_ips=("198.51.100.1", "198.51.100.2"),
        load_balancer_source_ranges=("10.0.0.0/8",),
        load_balancer_class="example.com/lb",
        ports=(
            ServicePort(name="http", port=80, node_port=30080),
            ServicePort(name="dns", protocol="UDP", port=53),
            ServicePort(name="sctp", protocol="SCTP", port=53),
        ),
        session_affinity_timeout_s=60,
        internal_traffic_policy="Local",
        external_traffic_policy="Local",
        ip_families=("IPv4", "IPv6"),
        health_check_node_port=31000,
        publish_not_ready_addresses=True,
        traffic_distribution="PreferClose",
        proxy_name="",
        annotations={"kube-router.io/service.scheduler": "mh"},
    )


@pytest.mark.parametrize(
    ("spec", "cluster_ips"),
    [
        ({"clusterIP": "10.96.0.1"}, ("10.96.0.1",)),
        ({"clusterIP": "10.96.0.1", "clusterIPs": None}, ("10.96.0.1",)),
        ({"clusterIP": "None", "clusterIPs": ["None"]}, ()),
        ({"clusterIP": "none"}, ()),
        ({"clusterIP": ""}, ()),
        ({}, ()),
        ({"type": "ExternalName", "clusterIP": "10.96.0.1"}, ()),
        ({"clusterIPs": ["::ffff:10.96.0.1"]}, ("10.96.0.1",)),
    ],
)
def test_cluster_ips_are_the_list_or_else_the_single_one(spec: dict[str, Any], cluster_ips: tuple[str, ...]) -> None:
    obj = normalized(normalize_service, spec=spec).obj
    assert isinstance(obj, Service)
    assert obj.cluster_ips == cluster_ips


def test_what_is_wrong_in_a_service_is_left_out_and_named() -> None:
    result = normalized(
        normalize_service,
        spec={
            "clusterIPs": ["10.96.0.300", "10.96.0.010", "fe80::1%eth0", "10.96.0.1"],
            "externalIPs": ["web.example.com"],
            "ports": [
                {"port": 70000},
                {"port": 0},
                {},
                {"port": 80, "protocol": "tcp"},
                {"port": 80, "nodePort": -1},
                {"port": 80, "name": "again"},
            ],
            "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 0}},
            "externalTrafficPolicy": "local",
            "ipFamilies": ["IPv5"],
        },
    )
    assert texts(result) == [
        "spec.clusterIPs[0]: '10.96.0.300' is no address; left out",
        "spec.clusterIPs[1]: '10.96.0.010' is no address; left out",
        "spec.clusterIPs[2]: 'fe80::1%eth0' is no address; left out",
        "spec.externalIPs[0]: 'web.example.com' is no address; left out",
        "spec.ports[0].port: 70000 is not 1-65535; port ignored",
        "spec.ports[1].port: 0 is not 1-65535; port ignored",
        "spec.ports[2].port: nothing is not 1-65535; port ignored",
        "spec.ports[3].protocol: 'tcp' is none of TCP, UDP, SCTP; port ignored",
        "spec.ports[4].nodePort: -1 is not 1-65535; not served there",
        "spec.ports[5]: 80/TCP is there already; port ignored",
        "spec.sessionAffinityConfig.clientIP.timeoutSeconds: 0 is not 1-86400; 10800 assumed",
        "spec.externalTrafficPolicy: 'local' is neither Cluster nor Local; Cluster assumed",
        "spec.ipFamilies[0]: 'IPv5' is neither IPv4 nor IPv6; left out",
    ]
    assert result.obj == Service(
        namespace="prod",
        name="web",
        uid="u1",
        cluster_ips=("10.96.0.1",),
        ports=(ServicePort(port=80),),
        session_affinity_timeout_s=10800,
    )


def test_unreadable_source_ranges_admit_nobody_instead_of_everybody() -> None:
    ingress = {"loadBalancer": {"ingress": [{"ip": "198.51.100.1"}]}}
    result = normalized(normalize_service, spec={"loadBalancerSourceRanges": ["10.0.0.0"]}, status=ingress)
    assert isinstance(result.obj, Service)
    assert result.obj.load_balancer_ips == ()
    assert texts(result) == [
        "spec.loadBalancerSourceRanges[0]: '10.0.0.0' is no CIDR; admits nobody",
        "spec.loadBalancerSourceRanges: no range can be read; load-balancer addresses not served until fixed",
    ]


def test_a_flood_of_problems_is_counted_not_listed() -> None:
    result = normalized(normalize_service, spec={"externalIPs": ["x"] * 1000})
    assert len(result.problems) == 21
    assert result.problems[-1].text == "and 980 more problems"


# -- EndpointSlice ---------------------------------------------------------------------------------------------------


def endpoint_slice(**written: Any) -> Normalized:
    return normalized(normalize_endpointslice, **({"addressType": "IPv4"} | written))


def test_a_slice_is_kept_with_its_endpoints_in_order() -> None:
    result = endpoint_slice(
        metadata=meta(
            labels={"kubernetes.io/service-name": "api"},
            annotations={"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-02T03:04:05.678901234Z"},
        ),
        ports=[{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": None, "port": 53, "protocol": "UDP"}],
        endpoints=[
            {
                "addresses": ["10.1.0.9"],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "nodeName": "n1",
                "zone": "z1",
                "hints": {"forZones": [{"name": "z1"}, {"name": "z2"}]},
                "targetRef": {"kind": "Pod", "namespace": "prod", "name": "web-1", "uid": "x"},
            },
            {"addresses": ["10.1.0.2"], "conditions": {"ready": False, "serving": True, "terminating": True}},
        ],
    )
    assert result.problems == ()
    assert result.trigger_ms == 1767323045678
    assert result.obj == EndpointSlice(
        namespace="prod",
        name="web",
        uid="u1",
        service="prod/api",
        ports=(EndpointPort(name="http", port=8080), EndpointPort(protocol="UDP", port=53)),
        endpoints=(
            Endpoint(addresses=("10.1.0.9",), node_name="n1", zone="z1", hints_zones=("z1", "z2"), pod="prod/web-1"),
            Endpoint(addresses=("10.1.0.2",), ready=False, serving=True, terminating=True),
        ),
    )


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (None, (True, True, False)),
        ({}, (True, True, False)),
        ({"ready": None, "serving": None, "terminating": None}, (True, True, False)),
        ({"ready": False}, (False, False, False)),
        ({"ready": False, "serving": True}, (False, True, False)),
        ({"ready": True, "serving": False}, (True, False, False)),
        ({"terminating": True}, (True, True, True)),
    ],
)
def test_absent_conditions_mean_what_the_api_says(
    conditions: dict[str, Any] | None, expected: tuple[bool, bool, bool]
) -> None:
    obj = endpoint_slice(endpoints=[{"addresses": ["10.1.0.1"], "conditions": conditions}]).obj
    assert isinstance(obj, EndpointSlice)
    (endpoint,) = obj.endpoints
    assert (endpoint.ready, endpoint.serving, endpoint.terminating) == expected


@pytest.mark.parametrize(
    ("metadata", "service"),
    [
        (
            {"labels": {"kubernetes.io/service-name": "a"}, "ownerReferences": [{"kind": "Service", "name": "b"}]},
            "prod/a",
        ),
        ({"ownerReferences": [{"kind": "Service", "name": "b"}]}, "prod/b"),
        ({"ownerReferences": [{"kind": "Service", "name": "b"}, {"kind": "Service", "name": "c"}]}, ""),
        ({"ownerReferences": [{"kind": "Endpoints", "name": "b"}]}, ""),
        ({"labels": {"kubernetes.io/service-name": ""}}, ""),
        ({"labels": {"kubernetes.io/service-name": "../b"}}, ""),
        ({}, ""),
    ],
)
def test_a_slice_belongs_to_the_service_its_label_names_else_its_only_owner(
    metadata: dict[str, Any], service: str
) -> None:
    obj = endpoint_slice(metadata=meta(**metadata)).obj
    assert isinstance(obj, EndpointSlice)
    assert obj.service == service


def test_what_is_wrong_in_a_slice_is_left_out_and_named() -> None:
    result = endpoint_slice(
        ports=[{"name": "all", "port": None}, {"port": 65536}, {"port": 1, "protocol": "ICMP"}, {"port": 2}],
        endpoints=[
            {"addresses": ["fd00::1"]},
            {"addresses": ["10.1.0.x", "10.1.0.1"]},
            {"addresses": None},
            {"addresses": []},
        ],
    )
    assert texts(result) == [
        "ports[0].port: absent means all ports, which no Service port can use; port ignored",
        "ports[1].port: 65536 is not 1-65535; port ignored",
        "ports[2].protocol: 'ICMP' is none of TCP, UDP, SCTP; port ignored",
        "endpoints[0].addresses[0]: fd00::1 is not IPv4, as addressType says; left out",
        "endpoints[1].addresses[0]: '10.1.0.x' is no address; left out",
    ]
    assert isinstance(result.obj, EndpointSlice)
    assert result.obj.ports == (EndpointPort(port=2),)
    assert result.obj.endpoints == (Endpoint(addresses=("10.1.0.1",)),)


def test_a_slice_of_host_names_keeps_its_type_and_has_no_endpoints() -> None:
    result = endpoint_slice(addressType="FQDN", endpoints=[{"addresses": ["example.com"]}])
    assert result.problems == ()
    assert result.obj == EndpointSlice(namespace="prod", name="web", uid="u1", address_type="FQDN")


@pytest.mark.parametrize("address_type", [None, "", "IPv5", "ipv4"])
def test_a_slice_of_unknown_address_type_is_no_slice(address_type: str | None) -> None:
    with pytest.raises(ObjectError, match=r"EndpointSlice prod/web: addressType: .* is none of IPv4, IPv6, FQDN"):
        endpoint_slice(addressType=address_type)


@pytest.mark.parametrize("time", ["", "yesterday", "2026-01-02T03:04:05", "0001-01-01T00:00:00Z"])
def test_a_bad_trigger_time_is_no_time(time: str) -> None:
    annotations = {"endpoints.kubernetes.io/last-change-trigger-time": time}
    assert endpoint_slice(metadata=meta(annotations=annotations)).trigger_ms == 0


def test_five_thousand_endpoints_fit_in_a_slice() -> None:
    addresses = [f"10.{i // 65536}.{i // 256 % 256}.{i % 256}" for i in range(5000)]
    obj = endpoint_slice(endpoints=[{"addresses": [address]} for address in addresses]).obj
    assert isinstance(obj, EndpointSlice)
    assert [endpoint.addresses[0] for endpoint in obj.endpoints] == addresses


# -- Pod and Namespace -----------------------------------------------------------------------------------------------


def test_a_pod_is_kept_with_its_named_ports_only() -> None:
    result = normalized(
        normalize_pod,
        metadata=meta(labels={"app": "web", "empty": None}, deletionTimestamp="2026-01-02T03:04:05Z"),
        spec={
            "nodeName": "n1",
            "hostNetwork": True,
            "containers": [
                {
                    "env": [{"name": "PASSWORD", "value": "SECRET"}],
                    "ports": [{"name": "http", "containerPort": 80}, {"containerPort": 81}],
                },
                {"ports": None},
            ],
            "initContainers": [
                {"ports": [{"name": "once", "containerPort": 1}]},
                {
                    "restartPolicy": "Always",
                    "ports": [{"name": "proxy", "containerPort": 2, "protocol": "UDP"}, {"name": "bad"}],
                },
            ],
        },
        status={
            "phase": "Running",
            "podIP": "10.1.0.1",
            "podIPs": [{"ip": "10.1.0.1"}, {"ip": "FD00::1"}, {"ip": "x"}],
        },
    )
    assert result.obj == Pod(
        namespace="prod",
        name="web",
        uid="u1",
        labels={"app": "web", "empty": ""},
        node_name="n1",
        ips=("10.1.0.1", "fd00::1"),
        phase="Running",
        host_network=True,
        terminating=True,
        ports=(ContainerPort(name="http", port=80), ContainerPort(name="proxy", protocol="UDP", port=2)),
    )
    assert texts(result) == [
        "status.podIPs[2].ip: 'x' is no address; left out",
        "spec.initContainers[].ports['bad']: protocol 'TCP' or port nothing cannot be; port ignored",
    ]


def test_a_pod_without_a_list_of_addresses_has_its_single_one() -> None:
    assert normalized(normalize_pod, status={"podIP": "10.1.0.1"}).obj == Pod(
        namespace="prod", name="web", uid="u1", ips=("10.1.0.1",)
    )


def test_equal_labels_and_ports_are_shared_between_pods() -> None:
    written = {
        "metadata": meta(labels={"app": "web"}),
        "spec": {"containers": [{"ports": [{"name": "http", "containerPort": 80}]}]},
    }
    one, two = normalized(normalize_pod, **written).obj, normalized(normalize_pod, **written).obj
    assert isinstance(one, Pod)
    assert isinstance(two, Pod)
    assert one.labels is two.labels
    assert one.ports is two.ports


def test_a_namespace_is_its_labels() -> None:
    raw = b'{"metadata":{"name":"prod","namespace":"ignored","labels":{"kubernetes.io/metadata.name":"prod"}}}'
    assert normalize_namespace(raw, redact).obj == Namespace(
        name="prod", labels={"kubernetes.io/metadata.name": "prod"}
    )


# -- Every kind ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resource", BUILTIN, ids=lambda resource: resource.name)
@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        (b'{"metadata":{}}', r"metadata\.name: missing; object ignored"),
        (b'{"metadata":null}', r"metadata\.name: missing; object ignored"),
        (b"{}", r"metadata\.name: missing; object ignored"),
        (b'{"metadata":{"name":"a/b"}}', r"metadata\.name: no DNS name; object ignored"),
        (b'{"metadata":{"name":"Web\\u001b[2J"}}', r"metadata\.name: no DNS name; object ignored"),
        (b'{"metadata":{"name":3}}', r"metadata\.name: expected str \| null, got int; object ignored"),
        (b"[]", r"object: expected object, got array; object ignored"),
        (b'{"metadata":', r"not JSON: Input data was truncated; object ignored"),
        (b"", r"not JSON: Input data was truncated; object ignored"),
        (b'{"metadata":{"name":"\xff"}}', r"not JSON"),
    ],
)
def test_what_is_no_object_is_refused_with_the_reason(resource: Any, raw: bytes, complaint: str) -> None:
    with pytest.raises(ObjectError, match=complaint):
        resource.normalize(raw, redact)


@pytest.mark.parametrize("resource", BUILTIN, ids=lambda resource: resource.name)
def test_a_bad_object_is_named_where_its_name_can_be_read(resource: Any) -> None:
    with pytest.raises(ObjectError) as refusal:
        resource.normalize(b'{"metadata":{"name":"web","namespace":"prod","uid":7}}', redact)
    assert refusal.value.key == "prod/web"
    assert refusal.value.kind == resource.kind
    assert refusal.value.what.startswith("metadata.uid: expected str | null, got int")


def test_the_api_serves_the_built_in_resources_at_their_paths() -> None:
    assert [(r.name, r.api_version, r.kind, r.namespaced) for r in Catalogue(BUILTIN)] == [
        ("services", "v1", "Service", True),
        ("endpointslices", "discovery.k8s.io/v1", "EndpointSlice", True),
        ("nodes", "v1", "Node", False),
        ("namespaces", "v1", "Namespace", False),
        ("pods", "v1", "Pod", True),
        ("networkpolicies", "networking.k8s.io/v1", "NetworkPolicy", True),
    ]


def test_a_document_says_what_it_is() -> None:
    found = type_of(b'{"apiVersion":"v1","kind":"Pod","spec":[]}')
    assert (found.api_version, found.kind) == ("v1", "Pod")


def test_objects_keep_the_namespace_they_are_given() -> None:
    results: list[Object] = [
        normalize_pod(b'{"metadata":{"name":"a"}}', redact).obj,
        normalize_pod(b'{"metadata":{"name":"a","namespace":"b"}}', redact).obj,
    ]
    assert [obj.key for obj in results] == ["default/a", "b/a"]
