"""Policies and Services with real packets: a connection is judged by the endpoint that it really goes to.

    node-1   x/a (app=a)   x/s (app=s), the only endpoint of the Service ``near``
    node-2   x/b (app=b)   x/t (app=t), the only endpoint of the Service ``far``

Services have ports 80/tcp, 53/udp and 9/sctp; their endpoints 8080, 5353 and 3868, and so have the columns ``s`` and
``t``, which are the pods without a Service. Columns such as ``2:near`` are the Service's node port on that node. A pod
to its own Service is not here: it needs the hairpin rules that the proxy has not.
"""

import socket
from collections.abc import Iterator, Sequence
from functools import partial

import pytest
from harness.machine import until
from harness.policed import Policed, policed
from harness.reach import Reach, Target

from kube_router.lab import netns
from kube_router.lab.cluster import Cluster
from kube_router.lab.objects import Json, key

pytestmark = [pytest.mark.guest, pytest.mark.slow, pytest.mark.timeout(60)]

# name: the Service's port, the endpoint's, the node ports of near and far
PORTS = {
    "web/tcp": (80, 8080, {"near": 30080, "far": 31080}),
    "dns/udp": (53, 5353, {"near": 30053, "far": 31053}),
    "sig/sctp": (9, 3868, {"near": 30868, "far": 31868}),
}
NODES = {"a": "node-1", "s": "node-1", "b": "node-2", "t": "node-2"}
SERVERS = {"near": "s", "far": "t"}


def pod(name: str) -> Json:
    ports: list[Json] = []
    if name in SERVERS.values():
        for port, (_, number, _) in PORTS.items():
            word, protocol = port.split("/")
            ports.append({"name": word, "containerPort": number, "protocol": protocol.upper()})
    metadata = {"namespace": "x", "name": name, "labels": {"app": name}}
    spec = {"nodeName": NODES[name], "containers": [{"name": "c", "image": "none", "ports": ports}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def service(name: str) -> Json:
    ports = []
    for port, (number, _, node_ports) in PORTS.items():
        word, protocol = port.split("/")
        ports.append({"name": word, "port": number, "targetPort": word, "protocol": protocol.upper()})
        ports[-1]["nodePort"] = node_ports[name]
    spec = {
        "type": "NodePort",
        "ipFamilyPolicy": "RequireDualStack",
        "selector": {"app": SERVERS[name]},
        "ports": ports,
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "x", "name": name}, "spec": spec}


class Ways(Reach):
    """Probes Services, node ports, and pods that serve."""

    def target(self, name: str, port: str, family: int) -> Target:
        number, endpoint, node_ports = PORTS[port]
        protocol = port.split("/")[1]
        node, _, behind = name.rpartition(":")
        if node:
            return Target(self.address(f"node-{node}", family), node_ports[behind], protocol)
        if name in SERVERS:
            (addresses,) = [it["spec"]["clusterIPs"] for it in self.lab.objects if key(it) == f"x/{name}"]
            address = next(each for each in addresses if (":" in each) == (family == 6))
            return Target(address, number, protocol)
        return Target(self.address(f"x/{name}", family), endpoint, protocol)


class Lab:
    """The lab with both plugins, and both kinds of tables."""

    def __init__(self, made: Policed) -> None:
        self.made = made
        self.services = Ways(made.lab, ("x/a", "x/b", "node-1", "node-2"), ("near", "far", "s", "t"))
        self.node_ports = Ways(made.lab, ("x/a", "x/b", "node-1", "outside"), ("1:near", "1:far", "2:near", "2:far"))

    def expect(
        self,
        services: str,
        node_ports: str = "",
        *,
        ports: Sequence[str] = tuple(PORTS),
        families: Sequence[int] = (4, 6),
    ) -> None:
        for port in ports:
            self.services.expect(port, services, families=families)
            if node_ports:
                self.node_ports.expect(port, node_ports, families=families)


@pytest.fixture(scope="module", name="lab")
def _lab() -> Iterator[Lab]:
    objects = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}},
        *map(pod, NODES),
        *map(service, SERVERS),
    ]
    with policed("vip", "--netpol-strict", objects=objects, plugins=("proxy", "firewall")) as made:
        for node in ("node-1", "node-2"):
            until(partial(_serves, made.lab, node), what=f"the Services on {node}", timeout_s=20)
        yield Lab(made)


def _serves(lab: Cluster, node: str) -> bool:
    (plugin,) = [each for each in lab.agent(node).status()["plugins"] if each["name"] == "proxy"]
    # two Services with three ports, in two families, on a cluster address and as a node port
    return bool(plugin["state"] == "in sync" and plugin["changes"].get("server added", 0) >= 2 * 3 * 2 * 2)


def test_without_policies_every_way_is_open(lab: Lab) -> None:
    lab.made.enforce("")
    lab.expect(
        """
                near far  s   t
        x/a       .   .   .   .
        x/b       .   .   .   .
        node-1    .   .   .   .
        node-2    .   .   .   .
        """,
        """
                1:near 1:far 2:near 2:far
        x/a       .      .     .      .
        x/b       .      .     .      .
        node-1    .      .     .      .
        outside   .      .     .      .
        """,
    )


def test_egress_through_a_service_is_judged_by_its_endpoint(lab: Lab) -> None:
    lab.made.enforce(
        "x/out: {podSelector: {matchLabels: {app: a}}, policyTypes: [Egress],"
        " egress: [{to: [{podSelector: {matchLabels: {app: s}}}]}]}"
    )
    # A node port of another node is, where it leaves, a connection to that node.
    lab.expect(
        """
                near far  s   t
        x/a       .   x   .   x
        x/b       .   .   .   .
        node-1    .   .   .   .
        node-2    .   .   .   .
        """,
        """
                1:near 1:far 2:near 2:far
        x/a       .      x     x      x
        x/b       .      .     .      .
        node-1    .      .     .      .
        outside   .      .     .      .
        """,
    )


def test_a_rule_s_ports_are_the_endpoint_s_not_the_service_s(lab: Lab) -> None:
    lab.made.enforce(
        """
        x/real:
            podSelector: {matchLabels: {app: a}}
            policyTypes: [Egress]
            egress: [{ports: [{port: 8080, endPort: 8081}, {port: 5353, protocol: UDP}, {port: sig, protocol: SCTP}]}]
        x/service:
            podSelector: {matchLabels: {app: b}}
            policyTypes: [Egress]
            egress: [{ports: [{port: 80}, {port: 53, protocol: UDP}, {port: 9, protocol: SCTP}, {port: 3868}]}]
        """
    )
    lab.expect(
        """
                near far  s   t
        x/a       .   .   .   .
        x/b       x   x   x   x
        node-1    .   .   .   .
        node-2    .   .   .   .
        """
    )


def test_a_block_of_service_addresses_admits_nothing(lab: Lab) -> None:
    lab.made.enforce(
        """
        x/services:
            podSelector: {matchLabels: {app: a}}
            policyTypes: [Egress]
            egress: [{to: [{ipBlock: {cidr: 10.96.0.0/12}}, {ipBlock: {cidr: "fd00:96::/32"}}]}]
        x/pods:
            podSelector: {matchLabels: {app: b}}
            policyTypes: [Egress]
            egress: [{to: [{ipBlock: {cidr: 10.244.2.0/24}}, {ipBlock: {cidr: "fd00:10:244:2::/64"}}]}]
        """
    )
    lab.expect(
        """
                near far  s   t
        x/a       x   x   x   x
        x/b       x   .   x   .
        node-1    .   .   .   .
        node-2    .   .   .   .
        """
    )


def test_ingress_through_a_service_is_judged_by_the_source_as_the_endpoint_s_node_sees_it(lab: Lab) -> None:
    lab.made.enforce(
        """
        x/in:
            podSelector: {matchExpressions: [{key: app, operator: In, values: [s, t]}]}
            ingress: [{from: [{podSelector: {matchLabels: {app: a}}}]}]
        x/quiet:
            podSelector: {matchExpressions: [{key: app, operator: In, values: [s, t]}]}
            policyTypes: [Egress]
        """
    )
    # x/a keeps its address through a Service of its own node, wherever the endpoint is, and through a node port of
    # another node only to an endpoint there; else that node puts its own in place of it.
    lab.expect(
        """
                near far  s   t
        x/a       .   .   .   .
        x/b       x   x   x   x
        node-1    .   x   .   x
        node-2    x   .   x   .
        """,
        """
                1:near 1:far 2:near 2:far
        x/a       .      .     x      .
        x/b       x      x     x      x
        node-1    .      x     x      x
        outside   x      x     x      x
        """,
    )


INGRESS = "x/in: {podSelector: {matchExpressions: [{key: app, operator: In, values: [s, t]}]}, ingress: [{from: [%s]}]}"


def test_an_outside_client_of_a_node_port_is_judged_by_its_own_address_where_that_is_kept(lab: Lab) -> None:
    lab.made.enforce(INGRESS % "{ipBlock: {cidr: 172.30.255.0/24}}, {ipBlock: {cidr: 'fd30:0:0:ff::/64'}}")
    lab.expect(
        """
                near far  s   t
        x/a       x   x   x   x
        x/b       x   x   x   x
        node-1    .   x   .   x
        node-2    x   .   x   .
        """,
        """
                1:near 1:far 2:near 2:far
        x/a       x      x     x      x
        x/b       x      x     x      x
        node-1    .      x     x      x
        outside   .      x     x      .
        """,
    )


def test_an_outside_client_that_a_node_stands_in_for_is_judged_as_that_node(lab: Lab) -> None:
    lab.made.enforce(INGRESS % "{ipBlock: {cidr: 172.30.0.0/24}}, {ipBlock: {cidr: 'fd30::/64'}}")
    lab.expect(
        """
                near far  s   t
        x/a       x   x   x   x
        x/b       x   x   x   x
        node-1    .   .   .   .
        node-2    .   .   .   .
        """,
        """
                1:near 1:far 2:near 2:far
        x/a       x      x     .      x
        x/b       x      .     x      x
        node-1    .      .     .      .
        outside   x      .     .      x
        """,
    )


def test_a_strict_firewall_ends_connections_through_services_that_are_denied_and_no_others(lab: Lab) -> None:
    lab.made.enforce("")
    with connection(lab, "near") as denied, connection(lab, "far") as allowed:
        assert echoes(denied)
        assert echoes(allowed)
        lab.made.enforce(
            "x/out: {podSelector: {matchLabels: {app: a}}, policyTypes: [Egress],"
            " egress: [{to: [{podSelector: {matchLabels: {app: t}}}]}]}"
        )
        until(lambda: not echoes(denied), what="the connection to be cut")
        assert all(echoes(allowed) for _ in range(10))


def connection(lab: Lab, name: str) -> socket.socket:
    target = lab.services.target(name, "web/tcp", 4)
    namespace = lab.made.lab.machines.namespace_of("x/a")
    return netns.run_in(namespace, partial(socket.create_connection, (target.address, target.port), timeout=30))


def echoes(client: socket.socket) -> bool:
    """Return whether the other end still answers."""
    try:
        client.sendall(b"who\n")
        return bool(client.recv(100))
    except OSError:
        return False
