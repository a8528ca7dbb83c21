"""Established flows that a new policy denies are cut on a real kernel, and the others do not notice.

A pod's and a server's namespace with a router between, which tracks what it forwards. The router is the node: its table
lets established flows pass, as ours does, so that without a cut a denied flow goes on. And it takes no TCP packet that
begins no connection for a new flow, without which a cut flow would come back turned round.
"""

import os
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from harness.netns import run_in, sh

from kube_router.plugins.firewall.conntrack import cut_flows
from kube_router.plugins.firewall.flows import Question

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

POD, POD6, SERVER, SERVER6, VIP = "10.244.1.2", "fd00:244:1::2", "10.244.2.2", "fd00:244:2::2", "10.96.0.10"
TABLE = """
table inet flows {
    chain forward {
        type filter hook forward priority 0
        ct state established,related accept
        tcp flags & (fin | syn | rst | ack) != syn reject with tcp reset
        jump judged
    }
    chain judged { }
    chain services {
        type nat hook prerouting priority -100
        ip daddr 10.96.0.10 tcp dport 80 dnat ip to 10.244.2.2:8080
        ip daddr 10.96.0.10 tcp dport 81 dnat ip to 10.244.2.2:8081
    }
    chain leaving { type nat hook postrouting priority 100; udp dport { 5355, 5356 } masquerade; }
}
"""
DENY = "add rule inet flows judged meta l4proto { tcp, udp } th dport { 8080, 5353, 5355 } reject"


@dataclass(frozen=True)
class Names:
    pod: str
    router: str
    server: str


@pytest.fixture
def names() -> Iterator[Names]:
    its = Names(*(f"flows-{os.getpid()}-{what}" for what in ("pod", "router", "server")))
    created = []
    try:
        for name in (its.pod, its.router, its.server):
            sh(f"ip netns add {name}; ip -n {name} link set lo up")
            created.append(name)
        for name, number in ((its.pod, 1), (its.server, 2)):
            sh(f"""
                ip -n {its.router} link add to{number} type veth peer name eth0 netns {name}
                ip -n {its.router} addr add 10.244.{number}.1/24 dev to{number}
                ip -n {its.router} addr add fd00:244:{number}::1/64 dev to{number} nodad
                ip -n {its.router} link set to{number} up
                ip -n {name} addr add 10.244.{number}.2/24 dev eth0
                ip -n {name} addr add fd00:244:{number}::2/64 dev eth0 nodad
                ip -n {name} link set eth0 up
                ip -n {name} route add default via 10.244.{number}.1
                ip -n {name} route add default via fd00:244:{number}::1
            """)
        sh(f"""
            ip netns exec {its.router} sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
            ip netns exec {its.router} nft '{TABLE}'
        """)
        yield its
    finally:
        for name in created:
            sh(f"ip netns del {name}")


class Flow:
    """One client of the pod's, and who answers it; both ends in this process."""

    def __init__(self, names: Names, kind: socket.SocketKind, to: tuple[str, int], served_at: tuple[str, int]) -> None:
        self.family = socket.AF_INET6 if ":" in to[0] else socket.AF_INET
        self.kind = kind
        listener = run_in(names.server, lambda: self._listen(served_at))
        self.client = run_in(names.pod, lambda: socket.socket(self.family, kind))
        self.client.settimeout(5)
        self.client.connect(to)
        if kind == socket.SOCK_STREAM:
            self.server, _ = listener.accept()
            listener.close()
        else:
            self.server = listener
        self.server.settimeout(5)

    def _listen(self, at: tuple[str, int]) -> socket.socket:
        listener = socket.socket(self.family, self.kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(at)
        if self.kind == socket.SOCK_STREAM:
            listener.listen()
        listener.settimeout(5)
        return listener

    def passes(self) -> bool:
        """Whether a word to the server and its answer come through."""
        try:
            self.client.send(b"word")
            word, peer = self.server.recvfrom(10)
            if self.kind == socket.SOCK_STREAM:
                self.server.send(word)
            else:
                self.server.sendto(word, peer)
            return self.client.recv(10) == b"word"
        except OSError:
            return False

    def close(self) -> None:
        self.client.close()
        self.server.close()


TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
DENIED = [
    (TCP, (SERVER, 8080), (SERVER, 8080)),
    (TCP, (VIP, 80), (SERVER, 8080)),
    (TCP, (SERVER6, 8080), (SERVER6, 8080)),
    (UDP, (SERVER, 5353), (SERVER, 5353)),
    (UDP, (SERVER6, 5353), (SERVER6, 5353)),
    (UDP, (SERVER, 5355), (SERVER, 5355)),  # masqueraded
]
ALLOWED = [
    (TCP, (SERVER, 8081), (SERVER, 8081)),
    (TCP, (VIP, 81), (SERVER, 8081)),
    (TCP, (SERVER6, 8081), (SERVER6, 8081)),
    (UDP, (SERVER, 5354), (SERVER, 5354)),
    (UDP, (SERVER6, 5354), (SERVER6, 5354)),
    (UDP, (SERVER, 5356), (SERVER, 5356)),  # masqueraded
]


def open_flows(names: Names, wanted: list[tuple[socket.SocketKind, tuple[str, int], tuple[str, int]]]) -> list[Flow]:
    flows = []
    for kind, to, served_at in wanted:
        flow = Flow(names, kind, to, served_at)
        assert flow.passes(), (kind, to)
        flows.append(flow)
    return flows


def tracked(names: Names) -> list[str]:
    """Return the protocol and the original direction's destination of each tracked flow, as conntrack prints it."""
    text = "".join(sh(f"ip netns exec {names.router} conntrack -L -f {f} 2>/dev/null") for f in ("ipv4", "ipv6"))
    found = re.findall(r"^(?:ipv6 +\d+ +)?(\w+) .*?dst=(\S+) .*?dport=(\d+)", text, re.MULTILINE)
    return sorted(f"{protocol} {address} {port}" for protocol, address, port in found if protocol in ("tcp", "udp"))


def judge(question: Question) -> bool:
    assert (question.source_is_local, question.destination_is_local) == (True, False)
    assert question.source in (POD, POD6)
    return question.port not in (8080, 5353, 5355)


def test_denied_flows_vanish_from_the_table_and_stop_while_the_others_go_on(names: Names) -> None:
    denied, allowed = open_flows(names, DENIED), open_flows(names, ALLOWED)
    try:
        sh(f"ip netns exec {names.router} nft '{DENY}'")
        assert all(flow.passes() for flow in denied)  # established, whatever the policy says
        assert run_in(names.router, lambda: cut_flows({POD, POD6}, judge)) == 6
        assert tracked(names) == [
            "tcp 10.244.2.2 8081",
            "tcp 10.96.0.10 81",
            "tcp fd00:244:2::2 8081",
            "udp 10.244.2.2 5354",
            "udp 10.244.2.2 5356",
            "udp fd00:244:2::2 5354",
        ]
        for flow in denied:
            flow.client.settimeout(0.3)
            flow.server.settimeout(0.3)
        assert not any(flow.passes() for flow in denied)
        assert all(flow.passes() for flow in allowed)
        assert run_in(names.router, lambda: cut_flows({POD, POD6}, judge)) == 0
    finally:
        for flow in (*denied, *allowed):
            flow.close()


def test_a_server_that_sends_first_does_not_bring_its_flow_back(names: Names) -> None:
    (flow,) = open_flows(names, DENIED[:1])
    try:
        sh(f"ip netns exec {names.router} nft '{DENY}'")
        assert run_in(names.router, lambda: cut_flows({POD}, judge)) == 1
        flow.server.send(b"more")
        with pytest.raises(ConnectionResetError):
            flow.server.recv(10)
        assert tracked(names) == []
        flow.client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            flow.client.recv(10)
        flow.client.send(b"word")
        flow.client.settimeout(5)
        with pytest.raises(ConnectionResetError):
            flow.client.recv(10)
        assert tracked(names) == []
    finally:
        flow.close()


def test_flows_of_pods_that_are_not_this_node_s_are_left_alone(names: Names) -> None:
    (flow,) = open_flows(names, DENIED[:1])
    try:
        assert run_in(names.router, lambda: cut_flows({"10.244.1.3", POD6}, lambda question: False)) == 0
        assert tracked(names) == ["tcp 10.244.2.2 8080"]
    finally:
        flow.close()


def test_among_thousands_of_flows_each_pair_of_ends_is_judged_once(names: Names) -> None:
    questions: list[Question] = []

    def count(question: Question) -> bool:
        questions.append(question)
        return question.port != 5000

    def fill() -> None:
        for _ in range(2000):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                for port in (5000, 5001):
                    client.sendto(b"x", (SERVER, port))

    run_in(names.pod, fill)
    before = len(tracked(names))
    assert before >= 3000  # a port used anew meets its old entry
    started = time.monotonic()
    cut = run_in(names.router, lambda: cut_flows({POD}, count))
    assert time.monotonic() - started < 30
    assert cut + len(tracked(names)) == before
    assert all(line == "udp 10.244.2.2 5001" for line in tracked(names))
    assert sorted(questions) == [
        Question(POD, SERVER, 5000, "UDP", True, False),
        Question(POD, SERVER, 5001, "UDP", True, False),
    ]
