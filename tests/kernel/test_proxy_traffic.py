"""Packets through the proxy's kernel objects: services, sources, UDP flows of a server that is gone.

A node with two pods in namespaces of their own and a client outside. The pods' CIDR is 10.244.1.0/24, but the second
pod plays one of another node, so that both kinds of path are walked.
"""

import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

import pytest
from harness import machine
from harness.netns import run_in, run_in_new, sh

from kube_router.plugins.proxy.kernel import Kernel
from kube_router.plugins.proxy.model import (
    AddAddress,
    AddServer,
    AddService,
    FlushFlows,
    Masquerade,
    RemoveServer,
    Server,
    ServerId,
    ServiceId,
    Settings,
    Step,
    WriteTable,
)

pytestmark = [pytest.mark.guest, pytest.mark.timeout(300)]

NODE, NODE6 = "192.0.2.1", "2001:db8:2::1"
CLIENT, CLIENT6 = "192.0.2.2", "2001:db8:2::2"
LOCAL, REMOTE = ("10.244.1.2", "fd00:244:1::2"), ("10.244.2.2", "fd00:244:2::2")
WEB, DNS = ServiceId("TCP", "10.96.0.10", 80), ServiceId("UDP", "10.96.0.10", 53)
WEB6, DNS6 = ServiceId("TCP", "fd00:96::10", 80), ServiceId("UDP", "fd00:96::10", 53)
NODE_PORT = ServiceId("TCP", NODE, 30080)
SERVICES = (WEB, DNS, WEB6, DNS6, NODE_PORT)
PORT = 8080
NAMES = ("kr-px-local", "kr-px-remote", "kr-px-client")


def servers_of(id: ServiceId) -> list[ServerId]:
    return [ServerId(pod[":" in id.address], PORT) for pod in (LOCAL, REMOTE)]


@contextmanager
def node() -> Iterator[Kernel]:
    """Yield the kernel of a node that has the pods, the client and all services."""
    for name, gateway, gateway6, address, address6 in (
        (NAMES[0], "10.244.1.1/24", "fd00:244:1::1/64", f"{LOCAL[0]}/24", f"{LOCAL[1]}/64"),
        (NAMES[1], "10.244.2.1/24", "fd00:244:2::1/64", f"{REMOTE[0]}/24", f"{REMOTE[1]}/64"),
        (NAMES[2], f"{NODE}/24", f"{NODE6}/64", f"{CLIENT}/24", f"{CLIENT6}/64"),
    ):
        sh(f"""
            ip netns add {name}
            ip link add {name} type veth peer name eth0 netns {name}
            ip addr add {gateway} dev {name}; ip addr add {gateway6} dev {name} nodad; ip link set {name} up
            ip -n {name} addr add {address} dev eth0; ip -n {name} addr add {address6} dev eth0 nodad
            ip -n {name} link set eth0 up; ip -n {name} link set lo up
            ip -n {name} route add default via {gateway.split("/")[0]}
            ip -n {name} -6 route add default via {gateway6.split("/")[0]}
        """)
    sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
    kernel = Kernel()
    kernel.prepare()
    steps: list[Step] = [WriteTable(Masquerade(("10.244.1.0/24", "fd00:244:1::/64"), (NODE, NODE6)), SERVICES)]
    steps += [AddAddress(WEB.address, NODE), AddAddress(WEB6.address, NODE6)]
    for id in SERVICES:
        steps.append(AddService(id, Settings()))
        steps += [AddServer(id, server, Server()) for server in servers_of(id)]
    assert kernel.apply(steps).failed == []
    try:
        yield kernel
    finally:
        for name in NAMES:
            sh(f"ip netns del {name}")


@contextmanager
def echo(name: str) -> Iterator[None]:
    """Serve TCP and UDP in a namespace: the answer is the server's name and the client's address as it sees it."""
    tcp, udp = run_in(name, lambda: (_bound(socket.SOCK_STREAM), _bound(socket.SOCK_DGRAM)))
    tcp.listen(64)

    def serve_tcp() -> None:
        while True:
            try:
                peer, address = tcp.accept()
            except OSError:
                return
            with peer:
                peer.sendall(f"{name} {_plain(address[0])}".encode())

    def serve_udp() -> None:
        while True:
            try:
                question, address = udp.recvfrom(100)
                if not question:
                    return  # shut down
                udp.sendto(f"{name} {_plain(address[0])}".encode(), address)
            except OSError:
                return

    threads = [threading.Thread(target=serve, daemon=True) for serve in (serve_tcp, serve_udp)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for sock in (tcp, udp):
            with suppress(OSError):  # an unconnected datagram socket says so, and its receiver wakes up all the same
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


def _bound(kind: socket.SocketKind) -> socket.socket:
    sock = socket.socket(socket.AF_INET6, kind)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind(("::", PORT))
    return sock


def _plain(address: str) -> str:
    return address.removeprefix("::ffff:")


def ask_tcp(id: ServiceId) -> str:
    with socket.create_connection((id.address, id.port), timeout=20) as sock:
        return sock.recv(100).decode()


def udp_client(id: ServiceId) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in id.address else socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(5)
    sock.connect((id.address, id.port))
    return sock


def ask_udp(sock: socket.socket) -> str:
    sock.send(b"who?")
    return sock.recv(100).decode()


def answers(ask: Callable[[], str]) -> Counter[str]:
    return Counter(ask() for _ in range(10))


def walk(test: Callable[[Kernel], None]) -> None:
    """Run a test on a node in a namespace of its own, with both pods serving."""

    def body() -> None:
        with node() as kernel, echo(NAMES[0]), echo(NAMES[1]):
            test(kernel)

    run_in_new(body)


def test_a_client_outside_is_seen_by_a_local_pod_and_masqueraded_to_a_remote_one() -> None:
    def test(_: Kernel) -> None:
        for id, client, own in ((WEB, CLIENT, NODE), (NODE_PORT, CLIENT, NODE), (WEB6, CLIENT6, NODE6)):
            found = run_in(NAMES[2], partial(answers, partial(ask_tcp, id)))
            assert found == {f"{NAMES[0]} {client}": 5, f"{NAMES[1]} {own}": 5}

    walk(test)


def test_the_node_itself_reaches_every_server_with_its_own_address() -> None:
    def test(_: Kernel) -> None:
        assert answers(lambda: ask_tcp(WEB)) == {f"{NAMES[0]} {NODE}": 5, f"{NAMES[1]} {NODE}": 5}
        assert answers(lambda: ask_tcp(WEB6)) == {f"{NAMES[0]} {NODE6}": 5, f"{NAMES[1]} {NODE6}": 5}

    walk(test)


def test_a_pod_keeps_its_own_address_towards_a_remote_pod() -> None:
    def test(kernel: Kernel) -> None:
        # Only the remote server: a pod that is sent back to itself needs hairpin rules, which are not this test's.
        for id in SERVICES:
            assert kernel.apply([RemoveServer(id, servers_of(id)[0])]).failed == []
        found = run_in(NAMES[0], lambda: answers(lambda: ask_tcp(WEB)))
        assert found == {f"{NAMES[1]} {LOCAL[0]}": 10}

    walk(test)


@pytest.mark.parametrize("id", [DNS, DNS6], ids=["ipv4", "ipv6"])
def test_a_udp_client_that_goes_on_sending_gets_another_server_once_its_own_is_gone(id: ServiceId) -> None:
    def test(kernel: Kernel) -> None:
        clients = run_in(NAMES[2], lambda: [udp_client(id) for _ in range(4)])
        first = [ask_udp(sock).split()[0] for sock in clients]
        assert Counter(first) == {NAMES[0]: 2, NAMES[1]: 2}
        gone = servers_of(id)[1]
        applied = kernel.apply([RemoveServer(id, gone), FlushFlows(id, gone)])
        # Since Linux 5.9 IPVS ends the flows itself, a moment later: how many of them are left to be flushed varies.
        assert (applied.failed, applied.changes["server removed"]) == ([], 1)
        for sock in clients:
            with sock:
                # The packet that finds its server gone may only end the connection.
                assert machine.until(partial(_tried, sock), what="an answer").split()[0] == NAMES[0]

    walk(test)


def _tried(sock: socket.socket) -> str:
    sock.settimeout(1)
    try:
        return ask_udp(sock)
    except TimeoutError:
        return ""


def test_flows_of_other_servers_and_services_are_left_alone() -> None:
    def test(kernel: Kernel) -> None:
        clients = run_in(NAMES[2], lambda: [udp_client(id) for id in (DNS, DNS, DNS6, DNS6)])
        for sock in clients:
            ask_udp(sock)
        other = ServiceId("UDP", DNS.address, 54)
        steps: list[Step] = [FlushFlows(other, servers_of(DNS)[0]), FlushFlows(DNS, ServerId("10.244.9.9", PORT))]
        assert dict(kernel.apply(steps).changes) == {}
        both: list[Step] = [FlushFlows(DNS, servers_of(DNS)[0]), FlushFlows(DNS6, servers_of(DNS6)[0])]
        assert dict(kernel.apply(both).changes) == {"flow flushed": 2}
        for sock in clients:
            sock.close()

    walk(test)


def test_a_changed_masquerade_replaces_the_table_under_traffic() -> None:
    def test(kernel: Kernel) -> None:
        everything = WriteTable(Masquerade((), (NODE, NODE6), everything=True), SERVICES)
        assert kernel.apply([everything]).failed == []
        found = run_in(NAMES[2], lambda: answers(lambda: ask_tcp(WEB)))
        assert found == {f"{NAMES[0]} {NODE}": 5, f"{NAMES[1]} {NODE}": 5}

    walk(test)
