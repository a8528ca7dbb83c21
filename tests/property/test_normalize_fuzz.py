"""Whatever comes in, normalize answers with an object or with ObjectError, and what comes out is canonical."""

import ipaddress
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kube_router.events.errors import ObjectError
from kube_router.events.model import EndpointSlice, Pod, Service
from kube_router.events.normalize import BUILTIN
from kube_router.events.redact import Redactor
from kube_router.events.resource import Resource

WORDS = [
    "metadata", "name", "namespace", "labels", "annotations", "ownerReferences", "spec", "status", "clusterIPs",
    "clusterIP", "externalIPs",
    "ports", "port", "nodePort", "protocol", "sessionAffinity", "sessionAffinityConfig", "clientIP",
    "loadBalancer", "ingress", "ip", "ipMode", "loadBalancerSourceRanges", "addressType", "endpoints", "addresses",
    "conditions", "ready", "hints", "forZones", "targetRef", "kind", "podIPs", "podIP", "containers", "containerPort",
    "initContainers", "podCIDRs", "type", "address", "podSelector", "matchLabels", "matchExpressions", "policyTypes",
    "from", "to", "ipBlock", "cidr", "except", "endPort", "kube-router.io/peers", "kube-router.io/peer.passwords",
]  # fmt: skip
TEXTS = [
    "web", "10.0.0.1", "fd00::1", "::ffff:1.2.3.4", "10.0.0.0/8", "fe80::1%1", "IPv4", "IPv6", "FQDN", "TCP", "None",
    "ClientIP", "Pod", "Service", "Always", "InternalIP", "- password: x", "[{remoteip: 1}]", "", "0", "Ingress",
]  # fmt: skip

leaves = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(TEXTS)
    | st.integers(-(10**400), 10**400)
)  # fmt: skip
anything = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=5), inner, max_size=6)
    ),
    max_leaves=25,
)


def shaped(resource: Resource) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with the right name, so that the fuzz reaches what lies behind it."""
    inner = st.dictionaries(st.sampled_from(WORDS), anything, max_size=8)
    return st.fixed_dictionaries(
        {"metadata": inner.map(lambda meta: meta | {"name": "web"}), "addressType": st.sampled_from(["IPv4", "IPv6"])},
        optional={"spec": inner, "status": inner, "endpoints": st.lists(inner), "ports": st.lists(inner)},
    )


def check(resource: Resource, raw: bytes) -> None:
    try:
        result = resource.normalize(raw, Redactor(b"k" * 32).digest)
    except ObjectError:
        return
    # What the journal holds is what was normalized.
    encoded = msgspec.json.encode(result.obj)
    assert msgspec.json.decode(encoded, type=resource.model) == result.obj
    obj = result.obj
    addresses: list[str] = []
    if isinstance(obj, Service):
        addresses = [*obj.cluster_ips, *obj.external_ips, *obj.load_balancer_ips]
        assert all(1 <= port.port <= 65535 and 0 <= port.node_port <= 65535 for port in obj.ports)
    if isinstance(obj, EndpointSlice):
        addresses = [address for endpoint in obj.endpoints for address in endpoint.addresses]
        assert all(endpoint.addresses for endpoint in obj.endpoints)
    if isinstance(obj, Pod):
        addresses = list(obj.ips)
    assert all(str(ipaddress.ip_address(address)) == address for address in addresses)


@pytest.mark.parametrize("resource", BUILTIN, ids=lambda resource: resource.name)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_any_json_is_an_object_or_an_object_error(resource: Resource, data: st.DataObject) -> None:
    written = data.draw(anything | shaped(resource))
    check(resource, json.dumps(written).encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("resource", BUILTIN, ids=lambda resource: resource.name)
@given(raw=st.binary(max_size=60))
@settings(max_examples=25, deadline=None)
def test_any_bytes_are_an_object_or_an_object_error(resource: Resource, raw: bytes) -> None:
    check(resource, raw)


@pytest.mark.parametrize("resource", BUILTIN, ids=lambda resource: resource.name)
def test_deep_nesting_is_an_object_error(resource: Resource) -> None:
    with pytest.raises(ObjectError):
        resource.normalize(b'{"metadata":{"name":' + b"[" * 200_000, lambda secret: secret)
    check(resource, b'{"metadata":{"name":"web"},"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
