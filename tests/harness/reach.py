"""Who reaches whom in a lab: many real connections at once, compared with a table that is written out.

            x/a x/b y/a
    x/a      .   x   .      . reached     x refused at once, as a denied connection is     t no answer in time
    outside  x   x   .

A denied connection is answered (a TCP reset, an ICMP port unreachable), so a table takes milliseconds; ``t`` means that
something is wrong with the lab or with the way denial is told, and is never expected.
"""

import errno
import selectors
import socket
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

from kube_router.lab import netns
from kube_router.lab.cluster import Cluster, slowness

REACHED, REFUSED, SILENT = ".", "x", "t"
IP_RECVERR, IPV6_RECVERR = 11, 25  # linux/in.h, linux/in6.h; not in Python's socket
IPPROTO_SCTP = 132
ANSWER_S = 3.0
CONVERGE_S = 10.0


class Target(NamedTuple):
    address: str
    port: int
    protocol: str  # tcp | udp | sctp


@dataclass
class _Probe:
    """One connection under way: asked once it is connected, and done with the first answer."""

    target: Target
    socket: socket.socket
    result: str = SILENT
    asked: bool = False
    done: bool = False

    def begin(self) -> None:
        self.socket.setblocking(False)
        code = self.socket.connect_ex((self.target.address, self.target.port))
        if code not in (0, errno.EINPROGRESS):
            self._fail(code)

    def advance(self) -> None:
        """Go on as far as the socket lets us."""
        try:
            if error := self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._fail(error)
            elif not self.asked:
                self.socket.send(b"who\n")
                self.asked = True
            elif self.socket.recv(100):
                self.result, self.done = REACHED, True
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(error.errno or 0)

    def _fail(self, code: int) -> None:
        refused = code in (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ECONNRESET)
        self.result, self.done = (REFUSED if refused else f"?{code}"), True


def reach(namespace: str, targets: Sequence[Target]) -> list[str]:
    """Return the outcome of one new connection to each target, all at once, from inside a namespace."""
    return netns.run_in(namespace, lambda: _reach(targets))


def _open(target: Target) -> socket.socket:
    family = socket.AF_INET6 if ":" in target.address else socket.AF_INET
    kind = socket.SOCK_DGRAM if target.protocol == "udp" else socket.SOCK_STREAM
    if target.protocol != "sctp":
        return socket.socket(family, kind)
    opened = socket.socket(family, kind, IPPROTO_SCTP)
    # SCTP keeps ICMP errors to itself until it has given up, which takes minutes, unless it is told to pass them on.
    if family == socket.AF_INET6:
        opened.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
    else:
        opened.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    return opened


def _reach(targets: Sequence[Target]) -> list[str]:
    probes = []
    for target in targets:
        probes.append(_Probe(target, _open(target)))
        probes[-1].begin()
    with selectors.DefaultSelector() as selector:
        for probe in probes:
            if not probe.done:
                selector.register(probe.socket, selectors.EVENT_WRITE, probe)
        deadline = time.monotonic() + ANSWER_S * slowness()
        while selector.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                key.data.advance()
                if key.data.done:
                    selector.unregister(key.fileobj)
                elif key.data.asked:
                    selector.modify(key.fileobj, selectors.EVENT_READ, key.data)
    for probe in probes:
        probe.socket.close()
    return [probe.result for probe in probes]


class Reach:
    """Probes a lab. Places are pods (``ns/name``), nodes and ``outside``; targets are pods and nodes."""

    def __init__(self, lab: Cluster, sources: Sequence[str], targets: Sequence[str]) -> None:
        self.lab, self.sources, self.targets = lab, tuple(sources), tuple(targets)

    def address(self, place: str, family: int) -> str:
        """Return a pod's or node's address of a family, 4 or 6."""
        pod = self.lab.machines.pods.get(place)
        addresses = pod.ips if pod is not None else self.lab.topology.node(place).addresses
        return next(address for address in addresses if (":" in address) == (family == 6))

    def target(self, name: str, port: str, family: int) -> Target:
        """Return what is probed for a column; ``port`` is ``NUMBER/PROTOCOL``."""
        number, _, protocol = port.partition("/")
        return Target(self.address(name, family), int(number), protocol)

    def seen(self, port: str, family: int) -> dict[str, str]:
        """Return each source's row, probed now."""
        targets = [self.target(name, port, family) for name in self.targets]
        with ThreadPoolExecutor(len(self.sources)) as threads:
            found = threads.map(
                lambda source: "".join(reach(self.lab.machines.namespace_of(source), targets)), self.sources
            )
            return dict(zip(self.sources, found, strict=True))

    def expect(self, port: str, table: str, *, families: Sequence[int] = (4, 6)) -> None:
        """Wait until the table is what is seen, in each family; say what differs if it is not in time."""
        expected = self._parse(table)
        for family in families:
            deadline = time.monotonic() + CONVERGE_S * slowness()
            while (seen := self.seen(port, family)) != expected and time.monotonic() < deadline:
                time.sleep(0.05)
            assert seen == expected, f"port {port}, IPv{family}:\n{self._difference(expected, seen)}"

    def _parse(self, table: str) -> dict[str, str]:
        header, *rows = [line.split() for line in table.strip().splitlines()]
        assert tuple(header) == self.targets, f"columns are {self.targets}"
        found = {row[0]: "".join(row[1:]) for row in rows}
        assert tuple(found) == self.sources, f"rows are {self.sources}"
        return found

    def _difference(self, expected: Mapping[str, str], seen: Mapping[str, str]) -> str:
        lines = []
        for source in self.sources:
            for target, wanted, found in zip(self.targets, expected[source], seen[source], strict=True):
                if wanted != found:
                    lines.append(f"{source} → {target}: expected {wanted}, seen {found}")
        return "\n".join(lines)
