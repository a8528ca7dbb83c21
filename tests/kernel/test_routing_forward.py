"""Pods pass an iptables FORWARD chain that drops, and nothing is made where there is none: in the real kernel."""

import os
import shutil
import socket
from collections import Counter
from collections.abc import Iterator

import pytest
from harness.netns import run_in, run_in_new, sh

from kube_router.plugins.routing import forward

pytestmark = pytest.mark.timeout(120)
root = pytest.mark.root

BACKENDS = pytest.mark.parametrize("backend", ["nft", "legacy"])
PROGRAMS = ("iptables", "ip6tables")
OURS = [
    "-A FORWARD -i kube-bridge -m comment --comment kube-router -j ACCEPT",
    "-A FORWARD -o kube-bridge -m comment --comment kube-router -j ACCEPT",
    "-A FORWARD -m comment --comment kube-router -m conntrack --ctstate RELATED,ESTABLISHED --ctdir REPLY -j ACCEPT",
]
DOCKER = """\
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -o docker0 -m comment --comment "it is not --comment kube-router" -j DOCKER
-A DOCKER-USER -j RETURN
COMMIT
"""
DOCKERS = [
    "-A FORWARD -j DOCKER-USER",
    '-A FORWARD -o docker0 -m comment --comment "it is not --comment kube-router" -j DOCKER',
]
ADDED = Counter({"forward rule added": 6})


def rules(program: str) -> list[str]:
    """Return the rules of a FORWARD chain, in order."""
    return [line for line in sh(f"{program}-save -t filter").splitlines() if line.startswith("-A FORWARD")]


def both(backend: str) -> list[list[str]]:
    return [rules(f"{program}-{backend}") for program in PROGRAMS]


def run(backend: str, words: str) -> None:
    for program in PROGRAMS:
        sh(f"{program}-{backend} {words}")


def plant(backend: str) -> None:
    for program in PROGRAMS:
        sh(f"{program}-{backend}-restore", stdin=DOCKER)


@root
@BACKENDS
def test_in_a_chain_that_drops_pods_are_accepted_once(backend: str) -> None:
    def inside() -> None:
        run(backend, "-P FORWARD DROP")
        assert forward.bring() == (ADDED, [])
        assert both(backend) == [OURS, OURS]
        assert forward.bring() == ({}, [])

    run_in_new(inside)


@root
@BACKENDS
def test_others_rules_stay_and_their_chain_for_denials_comes_before_ours(backend: str) -> None:
    def inside() -> None:
        plant(backend)
        assert forward.bring() == (ADDED, [])
        assert both(backend) == [[DOCKERS[0], *OURS, DOCKERS[1]]] * 2
        assert forward.bring() == ({}, [])

    run_in_new(inside)


@root
@BACKENDS
def test_rules_that_somebody_took_or_got_ahead_of_are_put_back(backend: str) -> None:
    def inside() -> None:
        plant(backend)
        forward.bring()
        run(backend, "-D FORWARD 2")
        assert forward.bring()[0] == {"forward rule added": 6, "forward rule removed": 4}
        run(backend, "-I FORWARD -i eth9 -j REJECT")
        run(backend, "-I FORWARD 4 -i eth8 -j ACCEPT")
        assert forward.bring()[0] == {"forward rule added": 6, "forward rule removed": 6}
        late = [each for each in rules(f"iptables-{backend}") if "eth" in each]
        assert both(backend)[0] == [late[0], DOCKERS[0], *OURS, late[1], DOCKERS[1]]
        run(backend, "-F FORWARD")
        assert forward.bring()[0] == ADDED
        assert forward.bring() == ({}, [])

    run_in_new(inside)


@root
@BACKENDS
def test_policies_of_kube_router_stay_ahead_of_ours(backend: str) -> None:
    def inside() -> None:
        run(backend, "-N KUBE-ROUTER-FORWARD")
        run(backend, "-A FORWARD -j DROP")
        forward.bring()
        run(backend, '-I FORWARD -m comment --comment "kube-router netpol - X" -j KUBE-ROUTER-FORWARD')
        policies = '-A FORWARD -m comment --comment "kube-router netpol - X" -j KUBE-ROUTER-FORWARD'
        assert forward.bring() == ({}, [])
        assert both(backend) == [[policies, *OURS, "-A FORWARD -j DROP"]] * 2

    run_in_new(inside)


@root
@BACKENDS
def test_a_chain_that_lets_everything_pass_needs_none_of_ours(backend: str) -> None:
    def inside() -> None:
        run(backend, "-A INPUT -i eth9 -j DROP")
        assert forward.bring() == ({}, [])
        assert both(backend) == [[], []]
        run(backend, "-P FORWARD DROP")
        assert forward.bring()[0] == ADDED
        run(backend, "-P FORWARD ACCEPT")
        assert forward.bring()[0] == {"forward rule removed": 6}
        assert both(backend) == [[], []]

    run_in_new(inside)


@root
def test_looking_makes_nothing() -> None:
    def inside() -> None:
        look = "nft list ruleset; cat /proc/net/ip_tables_names /proc/net/ip6_tables_names 2>/dev/null || true"
        sh("nft 'add table ip filter; add chain ip filter INPUT { type filter hook input priority 0; policy drop; }'")
        before = sh(look)
        assert forward.bring() == ({}, [])
        assert forward.cleanup() == ({}, [])
        assert sh(look) == before

    run_in_new(inside)


@root
def test_a_table_whose_program_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def inside() -> None:
        plant("nft")
        with monkeypatch.context() as patched:
            patched.setattr(shutil, "which", lambda name: None)
            assert forward.bring() == (
                {},
                [
                    f"{program}-nft-save is not installed: whether FORWARD drops what pods send is not known"
                    for program in PROGRAMS
                ],
            )

    run_in_new(inside)


@root
def test_both_back_ends_at_once_get_ours() -> None:
    def inside() -> None:
        plant("nft")
        plant("legacy")
        assert forward.bring()[0] == ADDED + ADDED
        for backend in ("nft", "legacy"):
            assert both(backend) == [[DOCKERS[0], *OURS, DOCKERS[1]]] * 2

    run_in_new(inside)


@root
@BACKENDS
def test_cleanup_takes_ours_and_leaves_the_rest(backend: str) -> None:
    def inside() -> None:
        plant(backend)
        run(backend, "-A FORWARD -i eth9 -m comment --comment kube-router -j DROP")
        before = both(backend)
        forward.bring()
        assert forward.cleanup() == ({"forward rule removed": 6}, [])
        assert both(backend) == before

    run_in_new(inside)


@root
def test_a_table_that_iptables_cannot_read_stays_as_it_is() -> None:
    def inside() -> None:
        sh("nft add table ip filter")
        sh("nft 'add chain ip filter FORWARD { type filter hook forward priority 10; policy drop; }'")
        sh("nft add rule ip filter FORWARD ip saddr 192.0.2.1 accept")
        before = sh("nft list ruleset")
        assert forward.bring() == ({}, [])
        assert sh("nft list ruleset") == before

    run_in_new(inside)


# -- packets -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def node() -> Iterator[str]:
    """A node's namespace between a pod's (its name with ``p``) and the world's (with ``w``)."""
    name = f"kfwd{os.getpid()}"
    created = []
    try:
        for each in (name, f"{name}p", f"{name}w"):
            sh(f"ip netns add {each}")
            created.append(each)
            sh(f"ip netns exec {each} sysctl -qw net.ipv6.conf.default.accept_dad=0; ip -n {each} link set lo up")
        for end, link, number in (("p", "kube-bridge", 1), ("w", "eth0", 9)):
            sh(f"""
                ip -n {name} link add {link} type veth peer name eth0 netns {name}{end}
                ip -n {name} addr add 10.244.{number}.1/24 dev {link}
                ip -n {name} addr add fd00:244:{number}::1/64 dev {link}
                ip -n {name} link set {link} up
                ip -n {name}{end} addr add 10.244.{number}.10/24 dev eth0
                ip -n {name}{end} addr add fd00:244:{number}::10/64 dev eth0
                ip -n {name}{end} link set eth0 up
                ip -n {name}{end} route add default via 10.244.{number}.1
                ip -n {name}{end} route add default via fd00:244:{number}::1
            """)
        sh(f"ip netns exec {name} sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
        yield name
    finally:
        for each in created:
            sh(f"ip netns del {each}")


def passes(node: str, *, family: int, to: str, timeout_s: float) -> bool:
    """Whether a word sent from one end comes to the other: ``to`` the pod (p) or the world (w)."""
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    prefix = "10.244.{}.10" if family == 4 else "fd00:244:{}::10"
    address = prefix.format(1 if to == "p" else 9)

    def listen() -> socket.socket:
        made = socket.socket(kind, socket.SOCK_DGRAM)
        made.bind((address, 6000))
        made.settimeout(timeout_s)
        return made

    def send() -> None:
        with socket.socket(kind, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"word", (address, 6000))

    with run_in(node + to, listen) as server:
        run_in(node + ("w" if to == "p" else "p"), send)
        try:
            return server.recv(10) == b"word"
        except TimeoutError:
            return False


@root
@BACKENDS
def test_with_docker_s_policy_pods_are_reached_and_reach_the_world(node: str, backend: str) -> None:
    run_in(node, lambda: plant(backend))
    for family, to in ((4, "p"), (4, "w"), (6, "p"), (6, "w")):
        assert not passes(node, family=family, to=to, timeout_s=0.2)
    run_in(node, forward.bring)
    for family, to in ((4, "p"), (4, "w"), (6, "p"), (6, "w")):
        assert passes(node, family=family, to=to, timeout_s=5)


@pytest.mark.guest
@BACKENDS
def test_with_docker_s_policy_a_service_s_remote_server_is_reached_through_the_node(node: str, backend: str) -> None:
    """The node's IPVS sends the request on; the reply crosses it from eth0 to eth0."""
    sh(f"""
        ip -n {node}w addr add 10.244.2.10/32 dev lo
        ip -n {node} route add 10.244.2.10 via 10.244.9.10
        ip netns exec {node} sysctl -qw net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.eth0.send_redirects=0
        ip netns exec {node} ipvsadm -A -u 10.244.9.1:30080 -s rr
        ip netns exec {node} ipvsadm -a -u 10.244.9.1:30080 -r 10.244.2.10:8080 -m
        ip netns exec {node} sysctl -qw net.ipv4.vs.conntrack=1
        ip netns exec {node} nft add table ip service
        ip netns exec {node} nft 'add chain ip service post {{ type nat hook postrouting priority 100; }}'
        ip netns exec {node} nft add rule ip service post ip daddr 10.244.2.10 snat to 10.244.9.1
    """)
    run_in(node, lambda: plant(backend))
    assert not answered(node, timeout_s=1)
    run_in(node, forward.bring)
    assert answered(node, timeout_s=10)


def answered(node: str, *, timeout_s: float) -> bool:
    """Whether a client in the world gets an answer from the server behind the node's port."""

    def inside() -> bool:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
        ):
            server.bind(("10.244.2.10", 8080))
            server.settimeout(10)
            client.bind(("10.244.9.10", 0))
            client.settimeout(timeout_s)
            client.sendto(b"word", ("10.244.9.1", 30080))
            word, peer = server.recvfrom(10)
            assert peer[0] == "10.244.9.1"
            server.sendto(word, peer)
            try:
                return client.recv(10) == b"word"
            except TimeoutError:
                return False

    return run_in(f"{node}w", inside)
