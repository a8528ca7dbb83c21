"""An address that leads to a server elsewhere on this machine, as long as the test wants it to."""

import selectors
import socket
import socketserver
import threading
from contextlib import suppress
from typing import Self

Address = tuple[str, int]
CHUNK = 1 << 16


class Relay:
    """Takes TCP connections at an address while it is open; closing it breaks those there are.

    It belongs to the network namespace of the thread that opens it.
    """

    def __init__(self, address: Address, target: Address) -> None:
        self.address, self._target = address, target
        self._server: _Server | None = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Take connections, unless it does."""
        if self._server is None:
            self._server = _Server(self.address, self._target)
            threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        """Refuse connections, and break those there are."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            for end in list(self._server.ends):
                with suppress(OSError):  # closed already
                    end.shutdown(socket.SHUT_RDWR)
            self._server = None


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, address: Address, target: Address) -> None:
        super().__init__(address, _Handler)
        self.target = target
        self.ends: set[socket.socket] = set()


class _Handler(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        try:
            there = socket.create_connection(self.server.target, timeout=10)
        except OSError:
            return
        there.settimeout(None)
        with there:
            ends = {self.request: there, there: self.request}
            self.server.ends |= ends.keys()
            with suppress(OSError):  # it was broken
                _pump(ends)
            self.server.ends -= ends.keys()


def _pump(ends: dict[socket.socket, socket.socket]) -> None:
    """Carry bytes both ways until one end has had enough."""
    with selectors.DefaultSelector() as ready:
        for end in ends:
            ready.register(end, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                assert isinstance(key.fileobj, socket.socket)
                some = key.fileobj.recv(CHUNK)
                if not some:
                    return
                ends[key.fileobj].sendall(some)
