"""Hypothesis strategies: small clusters in which everything that matters collides often."""

from collections.abc import Iterable, Sequence

from hypothesis import strategies as st

from kube_router.events.event import AnyRecord, Delete, Put
from kube_router.events.model import (
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Namespace,
    NetworkPolicy,
    Node,
    NodeAddress,
    Object,
    Pod,
    Service,
    ServicePort,
)

NAMES = ("web", "dns", "a-b")
NAMESPACES = ("prod", "a")
V4 = ("10.96.0.1", "10.96.0.2", "10.96.0.3")
V6 = ("fd00:96::1", "fd00:96::2")
POD_V4 = ("10.244.1.2", "10.244.1.3", "10.244.2.2")
POD_V6 = ("fd00:244:1::2", "fd00:244:2::2")
RESOURCES: dict[type[Object], str] = {
    Service: "services",
    EndpointSlice: "endpointslices",
    Node: "nodes",
    Namespace: "namespaces",
    Pod: "pods",
    NetworkPolicy: "networkpolicies",
}

ports = st.builds(
    ServicePort,
    name=st.sampled_from(("", "http")),
    protocol=st.sampled_from(("TCP", "UDP", "SCTP")),
    port=st.sampled_from((53, 80)),
    node_port=st.sampled_from((0, 0, 30080, 30053)),
)
services = st.builds(
    Service,
    namespace=st.sampled_from(NAMESPACES),
    name=st.sampled_from(NAMES),
    created=st.sampled_from(("", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z")),
    type=st.sampled_from(("ClusterIP", "NodePort", "ExternalName")),
    cluster_ips=st.lists(st.sampled_from(V4 + V6), max_size=2, unique=True).map(tuple),
    ports=st.lists(ports, max_size=3).map(tuple),
    headless=st.sampled_from((False, False, False, True)),
    proxy_name=st.sampled_from((None, None, None, "kube-router", "other")),
)


@st.composite
def _endpoints(draw: st.DrawFn, addresses: Sequence[str]) -> Endpoint:
    ready = draw(st.booleans())
    return Endpoint(
        addresses=(draw(st.sampled_from(addresses)),),
        ready=ready,
        serving=ready or draw(st.booleans()),
        terminating=not ready and draw(st.booleans()),
    )


@st.composite
def slices(draw: st.DrawFn) -> EndpointSlice:
    """A slice of some Service of the small world, or of none."""
    ipv6 = draw(st.booleans())
    namespace = draw(st.sampled_from(NAMESPACES))
    owner = draw(st.sampled_from((*NAMES, "")))
    port = st.builds(
        EndpointPort,
        name=st.sampled_from(("", "http")),
        protocol=st.sampled_from(("TCP", "UDP", "SCTP")),
        port=st.sampled_from((8080, 5353)),
    )
    return EndpointSlice(
        namespace=namespace,
        name=draw(st.sampled_from(("s1", "s2", "s3"))),
        service=f"{namespace}/{owner}" if owner else "",
        address_type="IPv6" if ipv6 else "IPv4",
        ports=tuple(draw(st.lists(port, max_size=2))),
        endpoints=tuple(draw(st.lists(_endpoints(POD_V6 if ipv6 else POD_V4), max_size=3))),
    )


nodes = st.builds(
    Node,
    name=st.just("node-1"),
    addresses=st.lists(
        st.builds(
            NodeAddress,
            type=st.sampled_from(("InternalIP", "ExternalIP")),
            address=st.sampled_from(("192.0.2.1", "192.0.2.2", "2001:db8::1")),
        ),
        max_size=3,
    ).map(tuple),
    pod_cidrs=st.lists(st.sampled_from(("10.244.1.0/24", "fd00:244:1::/64")), max_size=2, unique=True).map(tuple),
)


def by_key(objects: Iterable[Object]) -> dict[tuple[str, str], Object]:
    """Return objects as a world; the last of a name counts."""
    return {(RESOURCES[type(obj)], obj.key): obj for obj in objects}


# The state of a small cluster: (resource, key) → object.
worlds = st.lists(st.one_of(services, slices(), nodes), max_size=12).map(by_key)
World = dict[tuple[str, str], Object]
NOBODY = (("services", "prod/nobody"), ("endpointslices", "a/none"))


def steps_between(old: World, new: World) -> list[tuple[str, str, Object | None]]:
    """Return what turns one world into another: (resource, key, object or None for a delete)."""
    gone = [(*ref, None) for ref in old if ref not in new]
    return [*gone, *((*ref, obj) for ref, obj in new.items() if old.get(ref) != obj)]


def records(steps: Sequence[tuple[str, str, Object | None]], seq: int = 0) -> list[AnyRecord]:
    """Return steps as journal records, numbered on from ``seq``."""
    return [
        Put(seq=seq + n, t=n, r=r, key=key, obj=obj) if obj is not None else Delete(seq=seq + n, t=n, r=r, key=key)
        for n, (r, key, obj) in enumerate(steps, 1)
    ]


Batches = list[list[tuple[str, str, Object | None]]]


@st.composite
def batches_through(draw: st.DrawFn, way: Sequence[World], nobody: Sequence[tuple[str, str]] = NOBODY) -> Batches:
    """Batches of steps by way of these worlds, permuted, duplicated, with spurious deletes."""
    batches = []
    at: World = {}
    for world in way:
        steps = draw(st.permutations(steps_between(at, world)))
        doubled = [step for step in steps for _ in range(draw(st.sampled_from((1, 1, 2))))]
        absent = [ref for ref in nobody if ref not in world]
        doubled += [(*ref, None) for ref in absent if draw(st.booleans())]
        cut = draw(st.integers(0, len(doubled)))
        batches += [doubled[:cut], doubled[cut:]]
        at = world
    return batches


@st.composite
def routes(
    draw: st.DrawFn, among: st.SearchStrategy[World] = worlds, nobody: Sequence[tuple[str, str]] = NOBODY
) -> tuple[World, Batches]:
    """A world and a route to it by way of others."""
    target = draw(among)
    way = [*draw(st.lists(among, max_size=3)), *draw(st.sampled_from(([], [{}]))), target]
    return target, draw(batches_through(way, nobody))
