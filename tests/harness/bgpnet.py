"""A network for BGP in tests: namespaces on one link, and on a second one behind a router for multihop.

    near ── 10.66.0.0/24, fd66::/64 ── router ── 10.66.1.0/24, fd66:1::/64 ── far

Each namespace has an address on its link by its number, a default route over the router, and, on its loopback, the
addresses that it is to be reached at through routes that BGP has brought.
"""

import os
import socket
import tempfile
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.netns import run_in, sh

TALK_S_MAX = 1.0
WORDS = b"hello"
_numbers = count()


class Network:
    """Made for a ``with``; everything in it is removed at its end."""

    def __init__(self) -> None:
        self._prefix = f"krbgp{os.getpid()}-{next(_numbers)}"
        self._names: list[str] = []
        self._folder = tempfile.TemporaryDirectory(prefix="krbgp-")

    def __enter__(self) -> Self:
        try:
            router = self._make("router")
            sh(f"ip netns exec {router} sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
            for link in range(2):
                sh(
                    f"ip -n {router} link add link{link} type bridge\n"
                    f"ip -n {router} addr add 10.66.{link}.254/24 dev link{link}\n"
                    f"ip -n {router} addr add {_network(link)}::ffff/64 dev link{link} nodad\n"
                    f"ip -n {router} link set link{link} up"
                )
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Remove it all."""
        for name in self._names:
            sh(f"ip netns del {name}")
        self._names.clear()
        self._folder.cleanup()

    def add(self, name: str, number: int, *loopbacks: str, link: int = 0) -> str:
        """Add a namespace with the addresses of this number on a link; return what ``ip netns`` calls it."""
        netns, router = self._make(name), self.netns("router")
        loopback = "".join(f"ip -n {netns} addr add {each} dev lo nodad\n" for each in loopbacks)
        sh(
            f"ip -n {netns} link add eth0 type veth peer name port{link}-{number} netns {router}\n"
            f"ip -n {router} link set port{link}-{number} master link{link} up\n"
            f"ip -n {netns} link set lo up\n"
            f"ip -n {netns} addr add 10.66.{link}.{number}/24 dev eth0\n"
            f"ip -n {netns} addr add {_network(link)}::{number:x}/64 dev eth0 nodad\n"
            f"ip -n {netns} link set eth0 up\n"
            f"ip -n {netns} route add 10.66.0.0/15 via 10.66.{link}.254\n"
            f"ip -n {netns} route add fd66::/31 via {_network(link)}::ffff\n{loopback}"
        )
        return netns

    def netns(self, name: str) -> str:
        """Return what ``ip netns`` calls a namespace."""
        return f"{self._prefix}-{name}"

    def folder(self, name: str) -> Path:
        """Return where a daemon may keep its files."""
        return Path(self._folder.name, name)

    def set_link(self, name: str, *, up: bool) -> None:
        """Cut a namespace's cable, which nobody is told of, or mend it."""
        number = sh(f"ip -n {self.netns(name)} -o -4 addr show dev eth0").split()[3].partition("/")[0].split(".")
        sh(f"ip -n {self.netns('router')} link set port{number[2]}-{number[3]} {'up' if up else 'down'}")

    def route_back(self, prefix: str, via: str) -> None:
        """Let the router know a prefix, which it learns by no protocol."""
        sh(f"ip -n {self.netns('router')} route replace {prefix} via {via}")

    def talks(self, name: str, source: str, other: str, target: str) -> bool:
        """Tell whether a TCP connection from an address in one namespace to one in another carries words both ways."""
        return talks(self.netns(name), source, self.netns(other), target)

    def _make(self, name: str) -> str:
        netns = self.netns(name)
        sh(f"ip netns add {netns}")
        self._names.append(netns)
        return netns


def talks(one: str, source: str, other: str, target: str) -> bool:
    """Tell whether a TCP connection from an address in a namespace to one in another carries words both ways.

    Whoever accepts it sees the source as it was.
    """

    def connect() -> socket.socket:
        return socket.create_connection((target, port), timeout=TALK_S_MAX, source_address=(source, 0))

    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    with run_in(other, lambda: socket.create_server((target, 0), family=family)) as server:
        server.settimeout(TALK_S_MAX)
        port = server.getsockname()[1]
        try:
            with run_in(one, connect) as client:
                accepted, sender = server.accept()
                with accepted:
                    return sender[0] == source and _carries(client, accepted) and _carries(accepted, client)
        except OSError:
            return False


def _carries(one: socket.socket, other: socket.socket) -> bool:
    other.settimeout(TALK_S_MAX)
    one.sendall(WORDS)
    return other.recv(len(WORDS)) == WORDS


def _network(link: int) -> str:
    return "fd66:1" if link else "fd66"
