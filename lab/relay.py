"""Carry connections from inside of namespaces to an API server that only the host can reach.

A lab's nodes have no way to the host's network, on purpose. So the API server's own address and port are opened on
each node's loopback, and what connects there is carried, byte for byte, by a process that stands outside: TLS and the
names in certificates stay as they are.
"""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import anyio
from anyio.abc import ByteReceiveStream, ByteStream, SocketListener, SocketStream

from kube_router.lab import netns
from kube_router.lab.topology import IPV6, family_of

CHUNK = 65536
CONNECT_S = 10


@dataclass(frozen=True, slots=True)
class Server:
    """Where the API server is, as an address."""

    address: str
    port: int


def resolve(host: str, port: int) -> Server:
    """Return the address behind a name. OSError if there is none."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return Server(str(found[0][4][0]), port)


def open_doors(server: Server, namespaces: Sequence[str]) -> list[socket.socket]:
    """Return sockets that listen at the API server's address inside of each namespace."""
    length = 128 if family_of(server.address) == IPV6 else 32
    for name in namespaces:
        if server.address not in ("127.0.0.1", "::1"):
            netns.ip_batch([f"addr replace {server.address}/{length} dev lo"], namespace=name)
    return [netns.run_in(name, partial(_listen, server)) for name in namespaces]


def _listen(server: Server) -> socket.socket:
    family = socket.AF_INET6 if family_of(server.address) == IPV6 else socket.AF_INET
    return socket.create_server((server.address, server.port), family=family)


async def carry(doors: Sequence[socket.socket], server: Server) -> None:
    """Carry what comes through the doors, until cancelled."""

    async def one(inside: SocketStream) -> None:
        async with inside:
            try:
                with anyio.fail_after(CONNECT_S):
                    outside = await anyio.connect_tcp(server.address, server.port)
            except (OSError, TimeoutError):  # the API server is away: who asked sees its connection closed
                return
            async with outside, anyio.create_task_group() as both:
                both.start_soon(_pump, inside, outside)
                both.start_soon(_pump, outside, inside)

    async with anyio.create_task_group() as tasks:
        for door in doors:
            listener = await SocketListener.from_socket(door)
            tasks.start_soon(listener.serve, one)


async def _pump(source: ByteReceiveStream, sink: ByteStream) -> None:
    """Copy until the source ends, then tell the sink so."""
    try:
        while True:
            await sink.send(await source.receive(CHUNK))
    except anyio.EndOfStream:
        with anyio.move_on_after(CONNECT_S):
            try:
                await sink.send_eof()
            except (OSError, anyio.BrokenResourceError):
                await sink.aclose()
    except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
        await sink.aclose()
