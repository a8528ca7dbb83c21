"""A short history of a node that routes, as a journal on disk: three nodes, two address families, an overlay."""

from ipaddress import ip_address
from pathlib import Path

from harness.story import HEAD, MINUTE, T, write
from msgspec import structs

from kube_router.events.event import AnyRecord, Delete, Put, Sync
from kube_router.events.model import Endpoint, EndpointPort, EndpointSlice, Node, NodeAddress, Service, ServicePort
from kube_router.plugins.routing.facts import Gateway, Host, Link, Route, RouteDigest, Session

OPTIONS = {
    "advertise-cluster-ip": "true",
    "advertise-external-ip": "true",
    "advertise-loadbalancer-ip": "true",
    "service-external-ip-range": "198.51.100.0/24",
    "loadbalancer-ip-range": "198.51.101.0/24",
    "cluster-asn": "64512",
    "peer-router-ips": "192.0.2.254",
    "peer-router-asns": "65000",
}


def node(i: int, subnet: int) -> Node:
    """Return a node with addresses and pods of both families."""
    return Node(
        name=f"n{i}",
        addresses=(
            NodeAddress(type="InternalIP", address=f"10.{subnet}.0.{i}"),
            NodeAddress(type="InternalIP", address=str(ip_address(f"fd00:{subnet}::{i}"))),
        ),
        pod_cidrs=(f"10.244.{i}.0/24", f"fd00:244:{i}::/64"),
    )


def route(prefix: str, hop: str, **more: object) -> Route:
    return Route(name=prefix, next_hops=(hop,), peers=(hop,), local_pref=100, why="only path", **more)  # type: ignore[arg-type]


WEB = Service(
    namespace="prod",
    name="web",
    type="LoadBalancer",
    cluster_ips=("10.96.0.10", "fd00:96::10"),
    external_ips=("198.51.100.7",),
    load_balancer_ips=("198.51.101.8",),
    external_traffic_policy="Local",
    ports=(ServicePort(name="http", port=80),),
    ip_families=("IPv4", "IPv6"),
)
SLICE = EndpointSlice(
    namespace="prod",
    name="web-x7",
    service="prod/web",
    ports=(EndpointPort(name="http", port=8080),),
    endpoints=(
        Endpoint(addresses=("10.244.1.7",), node_name="n1"),
        Endpoint(addresses=("10.244.2.8",), node_name="n2"),
    ),
)
ELSEWHERE = structs.replace(SLICE, endpoints=SLICE.endpoints[1:])
HOST = Host(
    name="n1",
    links=(Link(name="eth0", mtu=1500, addresses=("10.0.0.1/24", "fd00::1/64", "192.0.2.1/24")),),
    gateways=(Gateway(destination="0.0.0.0/0", via="10.0.0.254", device="eth0"),),
)
ROUTES = (
    route("10.244.2.0/24", "10.0.0.2"),
    route("fd00:244:2::/64", "fd00::2"),
    route("10.244.3.0/24", "10.1.0.3"),
    route("fd00:244:3::/64", "fd00:1::3"),
    Route(
        name="203.0.113.0/24",
        next_hops=("10.0.0.2", "10.1.0.3"),
        peers=("10.0.0.2", "10.1.0.3"),
        as_path="65000 65010",
        local_pref=100,
        med=20,
        communities=("65000:100",),
        why="as good as another",
    ),
    Route(
        name="198.18.0.0/15",
        next_hops=("192.0.2.254",),
        peers=("192.0.2.254",),
        internal=False,
        as_path="65000",
        why="only path",
    ),
)

_FACTS: tuple[AnyRecord, ...] = (
    Put(seq=1, t=T, r="nodes", key="n1", rv="10", obj=node(1, 0)),
    Put(seq=2, t=T, r="nodes", key="n2", rv="10", obj=node(2, 0)),
    Put(seq=3, t=T, r="nodes", key="n3", rv="10", obj=node(3, 1)),
    Put(seq=4, t=T + 1, r="services", key="prod/web", rv="11", obj=WEB),
    Put(seq=5, t=T + 1, r="endpointslices", key="prod/web-x7", rv="11", obj=SLICE),
    Sync(seq=6, t=T + 2, r="nodes", rv="12", n=3),
    Sync(seq=7, t=T + 2, r="services", rv="12", n=1),
    Sync(seq=8, t=T + 2, r="endpointslices", rv="12", n=1),
    Put(seq=9, t=T + 3, r="hosts", key="n1", obj=HOST),
    Put(seq=10, t=T + 4, r="sessions", key="10.0.0.2", obj=Session(name="10.0.0.2", asn=64512, state="established")),
    *(Put(seq=11 + i, t=T + 5, r="routes", key=each.name, obj=each) for i, each in enumerate(ROUTES)),
)
LATER: tuple[AnyRecord, ...] = (
    Put(seq=17, t=T + MINUTE, r="endpointslices", key="prod/web-x7", rv="20", obj=ELSEWHERE),
    Delete(seq=18, t=T + 2 * MINUTE, r="routes", key="198.18.0.0/15"),
)
MANY: tuple[AnyRecord, ...] = (
    *(Delete(seq=19 + i, t=T + 3 * MINUTE, r="routes", key=each.name) for i, each in enumerate(ROUTES[:-1])),
    Put(
        seq=24,
        t=T + 3 * MINUTE + 1,
        r="routedigests",
        key="routes",
        obj=RouteDigest(name="routes", count=31_415, sha256="8d" * 32),
    ),
)


def journal(folder: Path, **options: str) -> Path:
    """Write the story; ``options`` are flags of the agent besides those that it always has here."""
    flags = {name.replace("_", "-"): value for name, value in options.items()}
    records: tuple[AnyRecord, ...] = (structs.replace(HEAD, options=OPTIONS | flags), *_FACTS, *LATER, *MANY)
    write(folder / f"{1:020}.log", records)
    return folder
