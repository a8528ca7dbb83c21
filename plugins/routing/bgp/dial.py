"""Open a TCP connection to a neighbour, and say in words why there is none.

The connect does not block: the event loop's writer tells when it is done. How long it may take is the FSM's to say,
whose timer then cancels it. A neighbour with another password answers nothing at all: the kernel drops its SYN or
ours silently, so that looks like a neighbour that is down.
"""

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from kube_router.events.errors import KernelError
from kube_router.plugins.routing.bgp import sockopt
from kube_router.plugins.routing.bgp.model import PeerConfig
from kube_router.plugins.routing.bgp.session import Channel, Session

Done = Callable[[Channel | str], None]  # the connection, or why there is none


class Attempt(Protocol):
    """A connect under way."""

    def cancel(self) -> None:
        """Give it up; ``done`` is not called any more."""


class Dialer(Protocol):
    """What opens connections."""

    def __call__(self, config: PeerConfig, done: Done) -> Attempt:
        """Begin to connect; ``done`` is called once, later."""


class TcpDialer:
    """Opens TCP connections on this node."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def __call__(self, config: PeerConfig, done: Done) -> Attempt:
        return _TcpAttempt(config, done, self._loop)


class _TcpAttempt:
    def __init__(self, config: PeerConfig, done: Done, loop: asyncio.AbstractEventLoop) -> None:
        self._config = config
        self._done: Done | None = done
        self._loop = loop
        self._sock: socket.socket | None = None
        try:
            self._sock = socket.socket(sockopt.family_of(config.address), socket.SOCK_STREAM)
            self._begin(self._sock)
        except KernelError as error:
            loop.call_soon(self._tell, str(error))
        except OSError as error:
            loop.call_soon(self._tell, why_not(config, error.errno or 0))

    def cancel(self) -> None:
        self._done = None
        if self._sock is not None and self._sock.fileno() >= 0:
            self._loop.remove_writer(self._sock)
            self._sock.close()

    def _begin(self, sock: socket.socket) -> None:
        config = self._config
        sockopt.set_common(sock)
        sockopt.set_hops(sock, internal=config.internal, ttl=config.ttl, ttl_security=config.ttl_security)
        if config.password:
            sockopt.set_key(sock, config.address, config.password)
        if config.local_address:
            sock.bind(sockopt.endpoint(config.local_address, 0))
        with suppress(BlockingIOError):
            sock.connect(sockopt.endpoint(config.address, config.port))
        self._loop.add_writer(sock, self._finish, sock)

    def _finish(self, sock: socket.socket) -> None:
        self._loop.remove_writer(sock)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._tell(why_not(self._config, code))
        elif self._done is not None:
            done, self._done = self._done, None
            done(Session(sock, self._loop))

    def _tell(self, words: str) -> None:
        """Say why there is no connection."""
        done, self._done = self._done, None
        if done is None:
            return
        if self._sock is not None:
            self._sock.close()
        done(words)


def why_not(config: PeerConfig, code: int) -> str:
    """Return in words why a connect failed, whose fault it may be."""
    where = f"port {config.port}"
    if code == errno.ECONNREFUSED:
        return f"it refuses connections to {where}: does a BGP speaker listen there, and does it know us?"
    if code == errno.EADDRNOTAVAIL:
        return f"this node has no address {config.local_address or 'to connect from'}"
    if code in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        near = not config.internal and config.ttl <= 1 and not config.ttl_security
        return "this node has no way to it" + (" (or it is more than one hop away: multihop TTL)" if near else "")
    if code == errno.ETIMEDOUT:
        return f"no answer from {where}: is the peer up, and do both have the same password?"
    return f"no connection to {where}: {os.strerror(code)}"
