"""The sockets on which neighbours connect to us.

IPv4 and IPv6 listen apart: a key of TCP MD5 belongs to one family. The kernel checks signatures before it tells us of a
connection, so every neighbour's password is there before. What answers a SYN goes out with TTL 255, as a neighbour
with GTSM demands; the accepted connection then gets the neighbour's own.
"""

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable, Mapping, Sequence

from kube_router.events.errors import KernelError
from kube_router.plugins.routing.bgp import sockopt
from kube_router.plugins.routing.bgp.peer import Peer

logger = logging.getLogger(__name__)

BACKLOG = 512
ACCEPTS_PER_TURN = 32
EXHAUSTED_S = 1.0  # how long nothing is accepted when this process has no file or memory left
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Listener:
    """Listens on each address with a socket of its own. ``find`` returns the Peer of an address, None for a stranger.

    ``strangers`` counts connections from addresses of no peer; they are closed at once.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        port: int,
        *,
        find: Callable[[str], Peer | None],
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.strangers = 0
        self._addresses = tuple(addresses)
        self._port = port
        self._find = find
        self._loop = loop or asyncio.get_running_loop()
        self._keys: dict[str, str] = {}
        self._owed: set[str] = set()  # peers whose password some open socket may not know yet
        self._sockets: dict[str, socket.socket] = {}

    def open(self) -> None:
        """Open the sockets that are not open yet, and give all the passwords they lack.

        What fails harms only itself. KernelError names the first: call again later.
        """
        failures = []
        for address in self._addresses:
            if address not in self._sockets:
                try:
                    self._sockets[address] = self._listen(address)
                except KernelError as error:
                    failures.append(error)
        for peer in sorted(self._owed):
            try:
                for sock in self._sockets.values():
                    _set_key(sock, peer, self._keys.get(peer, ""))
                self._owed.discard(peer)
            except KernelError as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def set_keys(self, keys: Mapping[str, str]) -> None:
        """Have exactly these passwords by peer address (TCP MD5), now and on sockets opened later.

        Otherwise as ``open``; who lacks its password is not let in.
        """
        old, self._keys = self._keys, dict(keys)
        self._owed |= {peer for peer in {*old, *keys} if old.get(peer, "") != keys.get(peer, "")}
        if self._sockets:
            self.open()

    def close(self) -> None:
        """Stop listening."""
        for sock in self._sockets.values():
            self._loop.remove_reader(sock)
            sock.close()
        self._sockets.clear()

    def _listen(self, address: str) -> socket.socket:
        try:
            sock = socket.socket(sockopt.family_of(address), socket.SOCK_STREAM)
        except OSError as error:
            raise self._cannot_listen(address, error) from error
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if sock.family is socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sockopt.set_common(sock)
            sockopt.set_ttl(sock, sockopt.TTL_MAX)
            sockopt.save_syn(sock)
            for peer, password in self._keys.items():
                try:
                    _set_key(sock, peer, password)
                except KernelError:  # ``open`` tries again, and says it
                    self._owed.add(peer)
            sock.bind(sockopt.endpoint(address, self._port))
            sock.listen(BACKLOG)
        except OSError as error:
            sock.close()
            raise self._cannot_listen(address, error) from error
        except KernelError:
            sock.close()
            raise
        self._loop.add_reader(sock, self._accept, sock)
        return sock

    def _cannot_listen(self, address: str, error: OSError) -> KernelError:
        number = error.errno or 0
        return KernelError(f"cannot listen on {address} port {self._port}: {os.strerror(number)}", number)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                sock, address = listening.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._rest(listening, error)
                    return
                continue  # that connection is gone again
            self._dispatch(sock, str(address[0]))

    def _dispatch(self, sock: socket.socket, address: str) -> None:
        peer = self._find(address)
        if peer is None:
            self.strangers += 1
            sock.close()
        elif address in self._owed:  # its SYN was not checked
            sock.close()
        else:
            peer.accepted(sock)

    def _rest(self, listening: socket.socket, error: OSError) -> None:
        logger.warning("bgp_listener error=%r now='accepts again in %g s'", os.strerror(error.errno or 0), EXHAUSTED_S)
        self._loop.remove_reader(listening)
        self._loop.call_later(EXHAUSTED_S, self._resume, listening)

    def _resume(self, listening: socket.socket) -> None:
        if listening in self._sockets.values():
            self._loop.add_reader(listening, self._accept, listening)


def _set_key(sock: socket.socket, peer: str, password: str) -> None:
    if sockopt.family_of(peer) is sock.family:
        sockopt.set_key(sock, peer, password)
