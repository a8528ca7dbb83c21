"""What a table cannot say: ICMP, the node, connections that outlive a policy, and the options that change verdicts."""

import contextlib
import secrets
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from harness.machine import until
from harness.policed import Policed, policed
from harness.reach import REACHED, REFUSED, Target, reach

from kube_router.core.ask import ask
from kube_router.lab import netns

pytestmark = [pytest.mark.root, pytest.mark.slow]

DENY_ALL = "x/deny: {podSelector: {}, policyTypes: [Ingress, Egress]}"
UNKNOWN = "10.244.1.200"


@pytest.fixture(scope="module", name="lab")
def _lab() -> Iterator[Policed]:
    with policed("special") as made:
        yield made


@pytest.fixture(scope="module", name="strict")
def _strict() -> Iterator[Policed]:
    with policed("strict", "--netpol-strict", "--netpol-judge-icmp", "--netpol-default-deny") as made:
        yield made


def ping(lab: Policed, source: str, address: str, tries: int = 3) -> str:
    """Return what becomes of an echo request; one that gets no answer at all is sent again, as ping does."""
    for _ in range(tries - 1):
        with contextlib.suppress(TimeoutError):
            return _ping_once(lab, source, address)
    return _ping_once(lab, source, address)


def _ping_once(lab: Policed, source: str, address: str) -> str:
    def body() -> str:
        kind = socket.getprotobyname("ipv6-icmp" if ":" in address else "icmp")
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_RAW, kind) as raw:
            raw.settimeout(3)
            identifier = secrets.randbelow(1 << 16)  # a new flow each time
            request = struct.pack("!BBHHH", 128 if ":" in address else 8, 0, 0, identifier, 1)
            checksum = ~sum(struct.unpack("!4H", request)) & 0xFFFF  # the kernel does it for IPv6
            raw.sendto(request[:2] + struct.pack("!H", checksum - (checksum >> 16)) + request[4:], (address, 0))
            reply, error = (129, 1) if ":" in address else (0, 3)
            while True:
                data = raw.recv(1000)
                message = data if ":" in address else data[20:]
                if message[0] == reply and message[4:6] == struct.pack("!H", identifier):
                    return REACHED
                if message[0] == error:
                    return REFUSED

    return netns.run_in(lab.lab.machines.namespace_of(source), body)


@contextmanager
def connection(lab: Policed, source: str, target: str) -> Iterator[socket.socket]:
    """Keep a TCP connection that has been used."""
    address = (lab.reach.address(target, 4), 80)
    namespace = lab.lab.machines.namespace_of(source)
    client = netns.run_in(namespace, partial(socket.create_connection, address, timeout=5))
    with client:
        assert echoes(client)
        yield client


def echoes(client: socket.socket) -> bool:
    """Return whether the other end still answers."""
    try:
        client.sendall(b"who\n")
        return bool(client.recv(100))
    except OSError:
        return False


def one(lab: Policed, source: str, address: str, port: int = 80) -> str:
    return reach(lab.lab.machines.namespace_of(source), [Target(address, port, "tcp")])[0]


@pytest.mark.parametrize("family", [4, 6])
def test_an_echo_request_passes_whatever_policies_say(lab: Policed, family: int) -> None:
    lab.enforce(DENY_ALL)
    assert one(lab, "x/a", lab.reach.address("x/b", family)) == REFUSED
    assert ping(lab, "x/a", lab.reach.address("x/b", family)) == REACHED


@pytest.mark.parametrize("family", [4, 6])
def test_an_echo_request_is_judged_where_that_is_asked_for(strict: Policed, family: int) -> None:
    strict.enforce(
        "x/in: {podSelector: {matchLabels: {app: b}}, ingress: [{from: [{podSelector: {matchLabels: {app: c}}}]}]}"
    )
    assert ping(strict, "x/a", strict.reach.address("x/b", family)) == REFUSED
    assert ping(strict, "x/c", strict.reach.address("x/b", family)) == REACHED
    strict.enforce("x/in: {podSelector: {matchLabels: {app: b}}, ingress: [{ports: [{port: 80}]}]}")
    assert ping(strict, "x/c", strict.reach.address("x/b", family)) == REFUSED


@pytest.mark.parametrize("family", [4, 6])
def test_a_pod_s_packets_to_its_own_node_are_judged_as_egress(lab: Policed, family: int) -> None:
    node = lab.reach.address("node-1", family)  # where y/host serves
    lab.enforce("")
    assert one(lab, "x/a", node) == REACHED
    lab.enforce("x/deny: {podSelector: {matchLabels: {app: a}}, policyTypes: [Egress]}")
    assert [one(lab, "x/a", node), one(lab, "x/c", node)] == [REFUSED, REACHED]
    lab.enforce("x/out: {podSelector: {matchLabels: {app: a}}, policyTypes: [Egress], egress: [{ports: [{port: 80}]}]}")
    assert [one(lab, "x/a", node, 80), one(lab, "x/a", node, 81)] == [REACHED, REFUSED]


def test_a_pod_on_the_host_s_network_is_subject_to_no_policy(lab: Policed) -> None:
    lab.enforce("y/deny: {podSelector: {matchLabels: {app: host}}, policyTypes: [Ingress, Egress]}")
    node = lab.reach.address("node-1", 4)
    assert [one(lab, "x/b", node), one(lab, "y/host", lab.reach.address("x/b", 4))] == [REACHED, REACHED]


def test_an_established_connection_outlives_a_policy_that_denies_it(lab: Policed) -> None:
    lab.enforce("")
    with connection(lab, "x/a", "x/b") as client:
        lab.enforce(DENY_ALL)
        assert one(lab, "x/a", lab.reach.address("x/b", 4)) == REFUSED
        for _ in range(20):
            assert echoes(client)


def test_a_strict_firewall_ends_what_a_policy_denies_and_nothing_else(strict: Policed) -> None:
    strict.enforce("")
    with connection(strict, "x/a", "x/b") as denied, connection(strict, "x/c", "x/b") as allowed:
        strict.enforce(
            "x/in: {podSelector: {matchLabels: {app: b}}, ingress: [{from: [{podSelector: {matchLabels: {app: c}}}]}]}"
        )
        until(lambda: strict.status("node-2")["changes"].get("flow cut", 0) >= 1, what="the connection to be cut")
        assert not echoes(denied)
        for _ in range(20):
            assert echoes(allowed)


def _reaches(lab: Policed) -> bool:
    return one(lab, "node-1", UNKNOWN) == REACHED


def test_an_unknown_address_is_denied_where_that_is_asked_for(lab: Policed, strict: Policed) -> None:
    for each, outcome in ((lab, REACHED), (strict, REFUSED)):
        each.enforce("")
        each.lab.machines.run("x/a", ["ip", "addr", "add", f"{UNKNOWN}/32", "dev", "eth0"])
        try:
            until(partial(_reaches, each), what="the node to reach its own pods")
            assert one(each, "x/c", UNKNOWN) == outcome
            assert one(each, "x/b", UNKNOWN) == outcome
            assert one(each, "outside", UNKNOWN) == outcome
            assert one(each, "x/c", each.reach.address("x/b", 4)) == REACHED
        finally:
            each.lab.machines.run("x/a", ["ip", "addr", "del", f"{UNKNOWN}/32", "dev", "eth0"])


def test_denied_packets_are_told_with_names(lab: Policed) -> None:
    lab.enforce(DENY_ALL)
    before = time.time()
    assert one(lab, "x/a", lab.reach.address("x/b", 4), 81) == REFUSED

    def told() -> bool:
        drops = ask(str(lab.lab.agent("node-1").control_socket), "ask", plugin="firewall", what="drops")["drops"]
        found = [drop for drop in drops if drop["t"] >= before * 1000 - 1 and drop["port"] == 81]
        told = [[drop[word] for word in ("source_pod", "destination_pod", "direction", "policies")] for drop in found]
        return ["x/a", "x/b", "egress", ["x/deny"]] in told

    until(told, what="the drop")
