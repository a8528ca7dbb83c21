"""All servers of all pods of a lab, in one process: small TCP, UDP, SCTP and HTTP servers that say their pod's name.

    line ``client`` → the address the pod sees as its client's      any other line → the pod's name
    ``GET /client``, ``GET /…`` → the same by HTTP                  each UDP datagram is answered like a line

A connection stays open until the client closes it, so that what happens to established ones can be watched.

A socket belongs for ever to the network namespace in which it was made; so one thread enters a pod's namespace, makes
the listening sockets and leaves, and one loop serves them all. That matters in an emulated VM, where each Python
process takes seconds to start. What is to be served comes over a unix socket as one JSON document (``want``), and the
answer says what could not be.
"""

import contextlib
import json
import resource
import selectors
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from kube_router.events.errors import KernelError
from kube_router.lab import netns

LINE_MAX = 8192
BACKLOG = 512
ASK_TIMEOUT_S = 30
DEMAND_MAX = 16 << 20
IPPROTO = {"TCP": socket.IPPROTO_TCP, "UDP": socket.IPPROTO_UDP, "SCTP": 132}


@dataclass(frozen=True, slots=True, order=True)
class Listener:
    """One port of one pod. ``name`` is what it answers."""

    namespace: str
    protocol: str
    port: int
    name: str


@dataclass(slots=True)
class Connection:
    """A client's connection: what it has said and not yet been answered."""

    name: str
    client: str
    buffer: bytes = b""


@dataclass(slots=True)
class Servers:
    """The loop."""

    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    listening: dict[Listener, socket.socket] = field(default_factory=dict)
    stopped: bool = False

    def want(self, wanted: Iterable[Listener]) -> list[str]:
        """Serve exactly these; return in words what cannot be served."""
        target = set(wanted)
        for listener in set(self.listening) - target:
            self._drop(self.listening.pop(listener))
        problems = []
        by_namespace: dict[str, list[Listener]] = {}
        for listener in sorted(target - set(self.listening)):
            by_namespace.setdefault(listener.namespace, []).append(listener)
        for namespace, listeners in by_namespace.items():
            try:
                problems += netns.run_in(namespace, partial(self._open, listeners))
            except KernelError as error:
                problems.append(str(error))
        return problems

    def _open(self, listeners: Sequence[Listener]) -> list[str]:
        problems = []
        for listener in listeners:
            try:
                opened = open_socket(listener)
            except OSError as error:
                problems.append(f"{listener.name}: {listener.protocol} {listener.port}: {error.strerror}")
                continue
            self.listening[listener] = opened
            answer = self._datagram if listener.protocol == "UDP" else self._accept
            self.selector.register(opened, selectors.EVENT_READ, (answer, listener.name))
        return problems

    def run(self) -> None:
        """Serve until told to stop."""
        while not self.stopped:
            for key, _ in self.selector.select():
                callback, extra = key.data
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                with contextlib.suppress(BlockingIOError):
                    callback(sock, extra)

    def _accept(self, listening: socket.socket, name: str) -> None:
        try:
            accepted, address = listening.accept()
        except OSError:  # the client was gone before we looked, or we are out of descriptors
            return
        accepted.setblocking(False)
        self.selector.register(accepted, selectors.EVENT_READ, (self._read, Connection(name, plain(address[0]))))

    def _read(self, sock: socket.socket, connection: Connection) -> None:
        try:
            chunk = sock.recv(LINE_MAX)
            connection.buffer += chunk
            answer, done = reply(connection)
            if answer:
                sock.sendall(answer)
        except OSError:  # reset, or a client that does not read
            chunk, done = b"", True
        if done or not chunk:
            self._drop(sock)

    def _datagram(self, sock: socket.socket, name: str) -> None:
        datagram, address = sock.recvfrom(LINE_MAX)
        client = plain(address[0])
        with contextlib.suppress(OSError):  # the way back may be gone
            sock.sendto((client if datagram.strip() == b"client" else name).encode() + b"\n", address)

    def _drop(self, sock: socket.socket) -> None:
        self.selector.unregister(sock)
        sock.close()


def reply(connection: Connection) -> tuple[bytes, bool]:
    """Return the answer to all complete requests in the buffer, which are taken out, and whether to hang up."""
    if connection.buffer.startswith(b"GET "):
        head, end, _ = connection.buffer.partition(b"\r\n\r\n")
        if not end:
            return b"", len(connection.buffer) >= LINE_MAX
        path = head.split(b" ")[1].partition(b"?")[0]
        body = (connection.client if path == b"/client" else connection.name).encode() + b"\n"
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body), True
    *lines, connection.buffer = connection.buffer.split(b"\n")
    answers = [connection.client if line.strip() == b"client" else connection.name for line in lines]
    return "".join(f"{answer}\n" for answer in answers).encode(), len(connection.buffer) >= LINE_MAX


def plain(address: str) -> str:
    """Return an IPv4 address as such where a socket of both families shows it mapped."""
    return address.removeprefix("::ffff:") if "." in address else address


def open_socket(listener: Listener) -> socket.socket:
    """Return a socket that serves both families, in this thread's namespace."""
    kind = socket.SOCK_DGRAM if listener.protocol == "UDP" else socket.SOCK_STREAM
    opened = socket.socket(socket.AF_INET6, kind | socket.SOCK_NONBLOCK, IPPROTO[listener.protocol])
    try:
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if kind == socket.SOCK_STREAM:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(("::", listener.port))
        if kind == socket.SOCK_STREAM:
            opened.listen(BACKLOG)
    except OSError:
        opened.close()
        raise
    return opened


# -- control ---------------------------------------------------------------------------------------------------------


def ask(path: Path, wanted: Sequence[Listener], *, timeout_s: float = ASK_TIMEOUT_S) -> list[str]:
    """Tell the process at ``path`` what to serve; return what it could not. OSError if it does not answer in time.

    Waits for a process that is still starting.
    """
    deadline = time.monotonic() + timeout_s
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(timeout_s)
        while True:
            try:
                client.connect(str(path))
                break
            except (FileNotFoundError, ConnectionRefusedError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        client.sendall(json.dumps([[one.namespace, one.protocol, one.port, one.name] for one in wanted]).encode())
        client.shutdown(socket.SHUT_WR)
        return [str(problem) for problem in json.loads(_read_all(client) or b'["the servers gave no answer"]')]


def _read_all(sock: socket.socket) -> bytes:
    data = b""
    while (chunk := sock.recv(65536)) and len(data) < DEMAND_MAX:
        data += chunk
    return data


def _demand(servers: Servers) -> Callable[[socket.socket, object], None]:
    def answer(control: socket.socket, _extra: object) -> None:
        client, _ = control.accept()
        with client, contextlib.suppress(OSError, ValueError, TypeError):  # whoever asks badly gets no answer
            client.settimeout(ASK_TIMEOUT_S)
            rows = json.loads(_read_all(client))
            client.sendall(json.dumps(servers.want([Listener(*row) for row in rows])).encode())

    return answer


def listeners(pods: Iterable[tuple[str, str, Sequence[tuple[str, int]]]]) -> list[Listener]:
    """Return the listeners of pods, each given as namespace, key and ports."""
    return [
        Listener(namespace, protocol, port, spoken_name(key))
        for namespace, key, ports in pods
        for protocol, port in ports
    ]


def spoken_name(key: str) -> str:
    """Return how a pod calls itself: without the namespace in ``default``."""
    return key.removeprefix("default/")


def spread(counts: Mapping[str, int]) -> str:
    """Return counts in words: ``web-1 20, web-2 20``."""
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "nothing"


def main(path: str, home: str) -> int:
    """Serve what is asked for at the unix socket ``path`` until killed; ``home`` is the namespace to be found in."""
    netns.enter(home)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    servers = Servers()
    with socket.socket(socket.AF_UNIX) as control:
        Path(path).unlink(missing_ok=True)
        control.bind(path)
        control.listen()
        servers.selector.register(control, selectors.EVENT_READ, (_demand(servers), None))
        servers.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
