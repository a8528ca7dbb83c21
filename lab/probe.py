"""Ask a port many times who answers, from inside any namespace of a lab, and count.

    python -m kube_router.lab.probe [--netns NAME] [--count N] [--client] ADDRESS:PORT[/PROTOCOL]

One new connection (or, for UDP, one new socket) each time, so that a load balancer decides anew. What goes wrong is
counted by one word: refused, timeout, unreachable, reset, closed.
"""

import argparse
import errno
import json
import socket
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from kube_router.events.errors import ConfigError, KernelError
from kube_router.lab import netns
from kube_router.lab.servers import IPPROTO, LINE_MAX

TIMEOUT_S = 3.0
DEADLINE_S = 60.0
PROTOCOLS = ("tcp", "udp", "sctp", "http")
_WORDS = {
    errno.ECONNREFUSED: "refused",
    errno.ETIMEDOUT: "timeout",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.ECONNRESET: "reset",
    errno.EPIPE: "reset",
    errno.EPROTONOSUPPORT: "unsupported",
}


@dataclass(frozen=True, slots=True)
class Counts:
    """How often who answered, and how often what went wrong."""

    answers: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Target:
    """Where to, over ``tcp``, ``udp``, ``sctp`` or ``http``."""

    address: str
    port: int
    protocol: str = "tcp"

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}/{self.protocol}"


def target(text: str) -> Target:
    """Return the target that ``ADDRESS:PORT[/PROTOCOL]`` names; IPv6 as ``[a]:80``. ConfigError if it names none."""
    place, _, protocol = text.partition("/")
    address, colon, port = place.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535 or not address:
        raise ConfigError(f"{text!r}: not ADDRESS:PORT, such as 10.96.0.10:80 or [fd00:96::a]:80/udp")
    if (protocol or "tcp").lower() not in PROTOCOLS:
        raise ConfigError(f"{text!r}: the protocol is none of {', '.join(PROTOCOLS)}")
    return Target(address.removeprefix("[").removesuffix("]"), int(port), (protocol or "tcp").lower())


def probe(
    where: Target, *, count: int = 1, namespace: str = "", question: str = "who", timeout_s: float = TIMEOUT_S
) -> Counts:
    """Return who answered ``count`` questions. ``question`` is ``who`` or ``client`` (what the pod sees of us).

    All together at most DEADLINE_S: what was not asked by then counts as ``not tried``.
    """
    answers: Counter[str] = Counter()
    errors: Counter[str] = Counter()

    def ask_all() -> None:
        deadline = time.monotonic() + DEADLINE_S
        for number in range(count):
            if time.monotonic() > deadline:
                errors["not tried"] = count - number
                return
            try:
                answers[ask(where, question=question, timeout_s=timeout_s)] += 1
            except TimeoutError:
                errors["timeout"] += 1
            except OSError as error:
                errors[_WORDS.get(error.errno or 0, error.strerror or str(error))] += 1

    netns.run_in(namespace, ask_all)
    return Counts(dict(answers), dict(errors))


def ask(where: Target, *, question: str = "who", timeout_s: float = TIMEOUT_S) -> str:
    """Return one answer, in this thread's namespace. OSError (TimeoutError) if there is none."""
    kind = socket.SOCK_DGRAM if where.protocol == "udp" else socket.SOCK_STREAM
    protocol = IPPROTO["TCP" if where.protocol == "http" else where.protocol.upper()]
    with socket.socket(socket.AF_INET6 if ":" in where.address else socket.AF_INET, kind, protocol) as client:
        client.settimeout(timeout_s)
        client.connect((where.address, where.port))
        if where.protocol == "http":
            client.sendall(f"GET /{question} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n".encode())
            return _receive(client, until_closed=True).partition(b"\r\n\r\n")[2].decode().strip()
        client.sendall(f"{question}\n".encode())
        return _receive(client, until_closed=False).decode().strip()


def _receive(client: socket.socket, *, until_closed: bool) -> bytes:
    received = b""
    while len(received) < LINE_MAX:
        chunk = client.recv(LINE_MAX)
        received += chunk
        if not chunk or (received.endswith(b"\n") and not until_closed):
            break
    if not received:
        raise OSError(0, "closed")
    return received


def main(words: Sequence[str] | None = None) -> int:
    """Probe and print the counts as JSON. Status 0 if every question was answered, else 1."""
    parser = argparse.ArgumentParser(prog="python -m kube_router.lab.probe", description=__doc__)
    parser.add_argument("target", metavar="ADDRESS:PORT[/PROTOCOL]")
    parser.add_argument("--netns", default="", metavar="NAME")
    parser.add_argument("--count", type=int, default=1, metavar="N")
    parser.add_argument("--client", action="store_true", help="ask for the client's address as the pod sees it")
    given = parser.parse_args(words)
    try:
        question = "client" if given.client else "who"
        counts = probe(target(given.target), count=given.count, namespace=given.netns, question=question)
    except (ConfigError, KernelError) as error:
        print(f"probe: {error}", file=sys.stderr)
        return 2
    print(json.dumps({"answers": counts.answers, "errors": counts.errors}, sort_keys=True))
    return 1 if counts.errors else 0


if __name__ == "__main__":
    sys.exit(main())
