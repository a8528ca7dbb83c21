"""What changed in an object, in words."""

import pytest
from msgspec import Raw, structs

from kube_router.cli.changes import changes
from kube_router.events.model import (
    ContainerPort,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    IPBlock,
    Namespace,
    NetworkPolicy,
    Node,
    NodeAddress,
    Object,
    Pod,
    PolicyPeer,
    PolicyPort,
    PolicyRule,
    Requirement,
    Selector,
    Service,
    ServicePort,
)

HTTP = ServicePort(name="http", port=80)
WEB = Service(namespace="prod", name="web", uid="a", cluster_ips=("10.96.0.10",), ports=(HTTP,), created="2026")
A = Endpoint(addresses=("10.0.3.7",), node_name="n1")
B = Endpoint(addresses=("10.0.4.8",), node_name="n2")
SLICE = EndpointSlice(
    namespace="prod", name="web-x7", service="prod/web", ports=(EndpointPort(name="http", port=8080),), endpoints=(A, B)
)
NODE = Node(name="n1", addresses=(NodeAddress(type="InternalIP", address="192.0.2.1"),), pod_cidrs=("10.0.3.0/24",))
POD = Pod(namespace="prod", name="web-1", labels={"app": "web"}, node_name="n1", phase="Pending")
POLICY = NetworkPolicy(
    namespace="prod",
    name="allow",
    pod_selector=Selector(match_labels={"app": "web"}),
    ingress=(
        PolicyRule(
            peers=(PolicyPeer(pod_selector=Selector(match_labels={"app": "db"})),),
            ports=(PolicyPort(port=80, end_port=90),),
        ),
    ),
)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        pytest.param(
            None, WEB, ("added", "ClusterIP", "cluster IPs: 10.96.0.10", "ports: http 80/TCP"), id="a new Service"
        ),
        pytest.param(WEB, None, ("removed",), id="a Service is gone"),
        pytest.param(WEB, WEB, ("nothing that matters here",), id="nothing changed"),
        pytest.param(
            WEB,
            structs.replace(WEB, ports=(ServicePort(name="http", port=81, node_port=30080),)),
            ("port http 80/TCP → http 81/TCP node port 30080",),
            id="a port changed",
        ),
        pytest.param(
            WEB,
            structs.replace(WEB, ports=(HTTP, ServicePort(name="https", port=443))),
            ("port https 443/TCP added",),
            id="a port was added",
        ),
        pytest.param(WEB, structs.replace(WEB, ports=()), ("port http 80/TCP removed",), id="a port was removed"),
        pytest.param(
            WEB,
            structs.replace(WEB, cluster_ips=("10.96.0.11",), session_affinity_timeout_s=10800, proxy_name=""),
            (
                "cluster IPs: 10.96.0.10 → 10.96.0.11",
                "session affinity (seconds): 0 → 10800",
                "proxy name: None → ''",
            ),
            id="plain fields",
        ),
        pytest.param(
            WEB,
            structs.replace(WEB, annotations={"kube-router.io/service.scheduler": "sh"}),
            ("annotation kube-router.io/service.scheduler=sh added",),
            id="an annotation",
        ),
        pytest.param(
            WEB, structs.replace(WEB, uid="b"), ("is another object of the same name",), id="replaced by another"
        ),
        pytest.param(
            None,
            SLICE,
            (
                "added",
                "service: prod/web",
                "ports: http 8080/TCP",
                "endpoints: 10.0.3.7 ready on n1, 10.0.4.8 ready on n2",
            ),
            id="a new slice",
        ),
        pytest.param(
            SLICE,
            structs.replace(SLICE, endpoints=(structs.replace(A, ready=False, terminating=True),)),
            ("endpoint 10.0.4.8 removed", "endpoint 10.0.3.7: ready → terminating, still serving"),
            id="endpoints",
        ),
        pytest.param(
            SLICE,
            structs.replace(SLICE, endpoints=(A, structs.replace(B, node_name="n3", zone="z"))),
            ("endpoint 10.0.4.8: node name n2 → n3, zone none → z",),
            id="an endpoint's place",
        ),
        pytest.param(
            SLICE, structs.replace(SLICE, endpoints=(B, A)), ("endpoints: reordered",), id="only the order of endpoints"
        ),
        pytest.param(
            NODE,
            structs.replace(NODE, pod_cidrs=("10.0.3.0/24", "fd00::/64"), addresses=()),
            ("address removed: InternalIP 192.0.2.1", "pod CIDRs: 10.0.3.0/24 → 10.0.3.0/24, fd00::/64"),
            id="a node",
        ),
        pytest.param(
            POD,
            structs.replace(POD, phase="Running", ips=("10.0.3.7",), labels={"tier": "front"}),
            ("label app removed", "label tier=front added", "IPs: none → 10.0.3.7", "phase: Pending → Running"),
            id="a pod comes up",
        ),
        pytest.param(
            POD,
            structs.replace(POD, ports=(ContainerPort(name="http", port=80),)),
            ("port added: name=http, protocol=TCP, port=80",),
            id="a pod's named port",
        ),
        pytest.param(
            Namespace(name="prod", labels={"env": "a"}),
            Namespace(name="prod", labels={"env": "b"}),
            ("label env: a → b",),
            id="a namespace",
        ),
        pytest.param(
            None,
            POLICY,
            ("added", "pod selector: app=web", "ingress: pods app=db on TCP 80-90"),
            id="a new policy",
        ),
        pytest.param(
            POLICY,
            structs.replace(
                POLICY,
                ingress=(
                    PolicyRule(peers=(PolicyPeer(ip_block=IPBlock(cidr="10.0.0.0/8", excepts=("10.1.0.0/16",))),)),
                ),
                egress=(PolicyRule(),),
                pod_selector=Selector(match_expressions=(Requirement(key="a", operator="In", values=("b", "c")),)),
            ),
            (
                "pod selector: app=web → a In (b, c)",
                "ingress rule removed: pods app=db on TCP 80-90",
                "ingress rule added: 10.0.0.0/8 except 10.1.0.0/16",
                "egress rule added: anyone",
            ),
            id="a policy's rules",
        ),
    ],
)
def test_a_change_is_told_in_words(before: Object | None, after: Object | None, words: tuple[str, ...]) -> None:
    assert changes(before, after) == words


def test_an_object_of_an_unknown_kind_is_said_to_be_one() -> None:
    assert changes(None, Raw(b"{}")) == ("of a kind this version does not know: kept as it is",)
    assert changes(Raw(b"{}"), None) == ("removed",)


def test_many_changes_are_counted_after_the_first_few() -> None:
    many = tuple(Endpoint(addresses=(f"10.0.0.{number}",)) for number in range(1, 101))
    told = changes(structs.replace(SLICE, endpoints=()), structs.replace(SLICE, endpoints=many))
    assert len(told) == 7
    assert told[-1] == "and 94 more changes of endpoints"


def test_a_new_slice_of_many_endpoints_is_one_short_line() -> None:
    many = tuple(Endpoint(addresses=(f"10.0.0.{number}",)) for number in range(1, 101))
    assert changes(None, EndpointSlice(name="x", endpoints=many))[-1].endswith("and 94 more")
