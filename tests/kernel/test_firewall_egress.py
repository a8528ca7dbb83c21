"""What a pod may reach, with real packets: egress to pods, blocks and the outside, and both ends' say together.

The lab is harness/policed.py's; policies select x/a, and a table has its row alone.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from harness.policed import PODS, Policed, policed
from harness.reach import REACHED, REFUSED, Reach, Target, reach

from kube_router.lab import netns
from kube_router.lab.fabric import outside_addresses

pytestmark = [pytest.mark.root, pytest.mark.slow]

OUT = "x/out: {podSelector: {matchLabels: {app: a}}, policyTypes: [Egress], egress: [%s]}"
Y_B = "{namespaceSelector: {matchLabels: {team: y}}, podSelector: {matchLabels: {app: b}}}"
HEADER = "x/a x/b x/c y/a y/b\nx/a "


@pytest.fixture(scope="module", name="lab")
def _lab() -> Iterator[Policed]:
    with policed("egress") as made:
        yield made


def expect(lab: Policed, port: str, row: str, *, families: tuple[int, ...] = (4, 6)) -> None:
    Reach(lab.lab, ("x/a",), PODS).expect(port, HEADER + row, families=families)


@pytest.mark.parametrize(
    ("peers", "row"),
    [
        pytest.param("{podSelector: {}}", ". . . x x", id="all pods of the policy's namespace"),
        pytest.param("{podSelector: {matchLabels: {app: b}}}", ". . x x x", id="pods of the policy's namespace"),
        pytest.param("{namespaceSelector: {}}", ". . . . .", id="all pods"),
        pytest.param("{namespaceSelector: {matchLabels: {team: y}}}", ". x x . .", id="a namespace"),
        pytest.param(Y_B, ". x x x .", id="both"),
        pytest.param(
            "{namespaceSelector: {matchLabels: {team: y}}}, {podSelector: {matchLabels: {app: b}}}",
            ". . x . .",
            id="either",
        ),
        pytest.param(
            "{namespaceSelector: {matchExpressions: [{key: team, operator: NotIn, values: [x]}]}}",
            ". x x . .",
            id="NotIn",
        ),
        pytest.param(
            "{namespaceSelector: {}, podSelector: {matchExpressions: [{key: tier, operator: DoesNotExist}]}}",
            ". x . . .",
            id="DoesNotExist",
        ),
        pytest.param("{podSelector: {matchLabels: {tier: ''}}}", ". . x x x", id="an empty value is a value"),
        pytest.param("{podSelector: {matchLabels: {app: nobody}}}", ". x x x x", id="nobody, but always itself"),
    ],
)  # fmt: skip
def test_an_egress_peer_selects(lab: Policed, peers: str, row: str) -> None:
    lab.enforce(OUT % f"{{to: [{peers}]}}")
    expect(lab, "80/tcp", row)
    expect(lab, "53/udp", row)


def test_rules_of_one_and_of_several_policies_are_a_union(lab: Policed) -> None:
    lab.enforce(
        """
        x/one:
            podSelector: {matchLabels: {app: a}}
            policyTypes: [Egress]
            egress:
                - {to: [{podSelector: {matchLabels: {app: b}}}], ports: [{port: 80}]}
                - {to: [{podSelector: {matchLabels: {app: c}}}], ports: [{port: 81}]}
        x/two:
            podSelector: {}
            policyTypes: [Egress]
            egress: [{to: [{namespaceSelector: {matchLabels: {team: y}}}], ports: [{port: 53, protocol: UDP}]}]
        """
    )
    expect(lab, "80/tcp", ". . x x x")
    expect(lab, "81/tcp", ". x . x x")
    expect(lab, "53/udp", ". x x . .")


def test_a_range_of_udp_ports_is_of_udp_alone(lab: Policed) -> None:
    lab.enforce(OUT % "{ports: [{port: 50, endPort: 60, protocol: UDP}, {port: 81, endPort: 81}]}")
    expect(lab, "53/udp", ". . . . .")
    expect(lab, "81/tcp", ". . . . .")
    expect(lab, "80/tcp", ". x x x x")


def test_both_ends_have_to_agree(lab: Policed) -> None:
    lab.enforce(
        """
        x/out:
            podSelector: {matchLabels: {app: a}}
            policyTypes: [Egress]
            egress: [{to: [{podSelector: {}}]}]
        x/in:
            podSelector: {matchLabels: {app: b}}
            ingress: [{from: [{namespaceSelector: {matchLabels: {team: y}}}]}]
        y/in:
            podSelector: {}
            ingress: [{from: [{namespaceSelector: {}}]}]
        """
    )
    # x/a may go to x/b, which lets only y in; y lets x/a in, which may not go there.
    expect(lab, "80/tcp", ". x . x x")
    there = Reach(lab.lab, ("x/c", "y/a", "y/b"), PODS)
    there.expect(
        "80/tcp",
        """
             x/a x/b x/c y/a y/b
        x/c   .   x   .   .   .
        y/a   .   .   .   .   .
        y/b   .   .   .   .   .
        """,
    )


@contextmanager
def serving_outside(lab: Policed) -> Iterator[None]:
    """Answer on TCP 80 in the world outside for the block."""
    listener = netns.run_in(
        lab.lab.topology.outside,
        lambda: socket.create_server(("::", 80), family=socket.AF_INET6, dualstack_ipv6=True),
    )
    ended = threading.Event()

    def serve() -> None:
        while True:
            client, _ = listener.accept()
            with client:
                if ended.is_set():
                    return
                if client.recv(100):
                    client.sendall(b"outside\n")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        netns.run_in(lab.lab.topology.outside, lambda: socket.create_connection(("127.0.0.1", 80), timeout=5).close())
        thread.join(5)
        listener.close()


def outside(lab: Policed, family: int, source: str = "x/a") -> str:
    namespace = lab.lab.machines.namespace_of(source)
    address = outside_addresses(lab.lab.topology)[family == 6]
    return reach(namespace, [Target(address, 80, "tcp")])[0]


@pytest.mark.parametrize(
    ("peers", "row", "outside_4", "outside_6"),
    [
        pytest.param(
            "{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}, {ipBlock: {cidr: '::/0', except: ['fc00::/7']}}",
            ". x x x x", REACHED, REFUSED, id="the world but private addresses, of which IPv6's outside is one"
        ),
        pytest.param("{ipBlock: {cidr: 172.30.255.0/24}}", ". x x x x", REACHED, REFUSED, id="IPv4 alone"),
        pytest.param("{ipBlock: {cidr: 'fd30:0:0:ff::/64'}}", ". x x x x", REFUSED, REACHED, id="IPv6 alone"),
        pytest.param("{namespaceSelector: {}}", ". . . . .", REFUSED, REFUSED, id="all pods are not the outside"),
    ],
)  # fmt: skip
def test_what_lies_outside_is_reached_by_its_address(
    lab: Policed, peers: str, row: str, outside_4: str, outside_6: str
) -> None:
    with serving_outside(lab):
        lab.enforce("")
        assert [outside(lab, 4), outside(lab, 6)] == [REACHED, REACHED]
        lab.enforce(OUT % f"{{to: [{peers}]}}")
        expect(lab, "80/tcp", row)
        assert [outside(lab, 4), outside(lab, 6)] == [outside_4, outside_6]
        assert [outside(lab, 4, "x/c"), outside(lab, 6, "x/c")] == [REACHED, REACHED]


def test_a_block_reaches_pods_by_their_addresses(lab: Policed) -> None:
    lab.enforce(OUT % "{to: [{ipBlock: {cidr: 10.244.2.0/24}}]}, {to: [{ipBlock: {cidr: 'fd00:10:244:1::/64'}}]}")
    expect(lab, "80/tcp", ". . x . x", families=(4,))  # those of node-2
    expect(lab, "80/tcp", ". x . x .", families=(6,))  # those of node-1


@pytest.mark.parametrize(
    ("peers", "outcome"),
    [
        ("{namespaceSelector: {}}", REFUSED),
        ("{namespaceSelector: {}, podSelector: {matchLabels: {app: host}}}", REFUSED),
        ("{ipBlock: {cidr: 172.30.0.0/24}}, {ipBlock: {cidr: 'fd30::/64'}}", REACHED),
    ],
)
def test_a_node_is_reached_by_its_address_and_by_no_selector(lab: Policed, peers: str, outcome: str) -> None:
    """By a pod of its own and by one of another node; y/host serves there, on the host's network."""
    lab.enforce(f"x/out: {{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: [{peers}]}}]}}")
    for source in ("x/a", "x/b"):
        namespace = lab.lab.machines.namespace_of(source)
        for family in (4, 6):
            assert reach(namespace, [Target(lab.reach.address("node-1", family), 80, "tcp")]) == [outcome]
