"""Two nodes in network namespaces, with a router between their subnets, to try routes and overlays with real packets.

    krrt-X-a 10.0.1.2, fd00:1::2 ── krrt-X-r ── krrt-X-b 10.0.2.2, fd00:2::2

Each has a pod's address on kube-bridge: 10.244.1.1 and fd00:244:1::1, 10.244.2.1 and fd00:244:2::1. Nothing but what a
test adds leads from one to the other.
"""

import os
import secrets
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from harness import machine
from harness.netns import run_in, sh

from kube_router.plugins.routing.kernel import Kernel
from kube_router.plugins.routing.model import Actual, Wanted
from kube_router.plugins.routing.plan import plan

IP_MTU_DISCOVER, IP_PMTUDISC_DO, IPV6_DONTFRAG = 10, 2, 62
ANSWER_S = 2.0 if not os.environ.get(machine.IN_GUEST) else 20.0


class Pair(NamedTuple):
    """The names of the namespaces."""

    a: str
    b: str


def ends(number: int) -> tuple[str, str, str, str]:
    """Return the node's addresses and its pods' CIDRs: IPv4, IPv6, IPv4, IPv6."""
    return f"10.0.{number}.2", f"fd00:{number}::2", f"10.244.{number}.0/24", f"fd00:244:{number}::/64"


@contextmanager
def pair() -> Iterator[Pair]:
    """Yield two nodes; they are gone afterwards."""
    prefix = f"krrt-{secrets.token_hex(3)}"
    router, names = f"{prefix}-r", Pair(f"{prefix}-a", f"{prefix}-b")
    try:
        sh(f"ip netns add {router}; ip -n {router} link set lo up")
        sh(f"ip netns exec {router} sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
        for number, name in enumerate(names, 1):
            _node(name, router, number)
        yield names
    finally:
        for name in (*names, router):
            sh(f"ip netns del {name} 2>/dev/null || true")


def _node(name: str, router: str, number: int) -> None:
    address, address6, _, _ = ends(number)
    sh(
        f"""
        ip netns add {name}
        ip -n {name} link set lo up
        ip -n {name} link add eth0 type veth peer name to{number} netns {router}
        ip -n {router} addr add 10.0.{number}.1/24 dev to{number}
        ip -n {router} addr add fd00:{number}::1/64 dev to{number} nodad
        ip -n {router} link set to{number} up
        ip -n {name} addr add {address}/24 dev eth0
        ip -n {name} addr add {address6}/64 dev eth0 nodad
        ip -n {name} link set eth0 up
        ip -n {name} route add default via 10.0.{number}.1
        ip -n {name} route add default via fd00:{number}::1
        ip -n {name} link add kube-bridge type bridge
        ip -n {name} addr add 10.244.{number}.1/24 dev kube-bridge
        ip -n {name} addr add fd00:244:{number}::1/64 dev kube-bridge nodad
        ip -n {name} link set kube-bridge up
        ip netns exec {name} sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
        """
    )


def bring_about(name: str, wanted: Wanted) -> Actual:
    """Bring a node's kernel to what is wanted, see that it then has it, and return it."""

    def inside() -> Actual:
        kernel = Kernel()
        applied = kernel.apply(plan(wanted, kernel.observe(), in_sync=True))
        refused = [str(failed.error) for failed in applied.failed]
        assert refused == [], refused
        actual = kernel.observe()
        left = plan(wanted, actual, in_sync=True)
        assert left == [], left
        return actual

    return run_in(name, inside)


def pings(name: str, source: str, destination: str, *, size: int = 56) -> bool:
    """Return whether an ICMP echo with this much data gets through in one piece, and is answered."""
    return run_in(name, lambda: _ping(source, destination, size))


def _ping(source: str, destination: str, size: int) -> bool:
    six = ":" in destination
    request, reply = (128, 129) if six else (8, 0)
    data = secrets.token_bytes(size)
    packet = struct.pack("!BBHHH", request, 0, 0, 7, 1) + data
    if not six:  # of ICMPv6 the kernel itself fills in the checksum
        packet = packet[:2] + _checksum(packet) + packet[4:]
    family, protocol = (socket.AF_INET6, socket.IPPROTO_ICMPV6) if six else (socket.AF_INET, socket.IPPROTO_ICMP)
    with socket.socket(family, socket.SOCK_RAW, protocol) as pinger:
        level, option = (socket.IPPROTO_IPV6, IPV6_DONTFRAG) if six else (socket.IPPROTO_IP, IP_MTU_DISCOVER)
        pinger.setsockopt(level, option, 1 if six else IP_PMTUDISC_DO)
        pinger.bind((source, 0))
        pinger.settimeout(ANSWER_S)
        try:
            pinger.sendto(packet, (destination, 0))
            while True:
                got = pinger.recv(65536)
                header = 0 if six else (got[0] & 15) * 4
                if got[header] == reply and got[header + 8 :] == data:
                    return True
        except OSError:
            return False


def _checksum(packet: bytes) -> bytes:
    words = struct.unpack(f"!{len(packet) // 2}H", packet[: len(packet) & ~1])
    total = sum(words) + (packet[-1] << 8 if len(packet) % 2 else 0)
    total = (total & 0xFFFF) + (total >> 16)
    folded: int = ~(total + (total >> 16)) & 0xFFFF
    return folded.to_bytes(2, "big")
