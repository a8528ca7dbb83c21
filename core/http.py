"""A small HTTP/1.1 server for GET: health and metrics. One request per connection, every wait with a deadline."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import anyio
from anyio.abc import SocketStream

logger = logging.getLogger(__name__)

REQUEST_MAX = 8192
REQUEST_S = 5
CONNECTIONS_MAX = 64


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


REASONS = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 500: "Internal Server Error"}
Pages = Mapping[str, Callable[[], Awaitable[Answer]]]


async def serve(host: str, port: int, pages: Pages) -> None:
    """Serve the pages until cancelled. OSError where the address cannot be bound."""
    listener = await anyio.create_tcp_listener(local_host=host or None, local_port=port)
    limiter = anyio.CapacityLimiter(CONNECTIONS_MAX)

    async def one(stream: SocketStream) -> None:
        async with stream, limiter:
            try:
                with anyio.move_on_after(REQUEST_S):
                    await stream.send(await _response(await _request_line(stream), pages))
            except (OSError, anyio.BrokenResourceError, anyio.EndOfStream) as error:
                logger.debug("http_client_gone error=%r", error)

    async with listener:
        await listener.serve(one)


async def _request_line(stream: SocketStream) -> str:
    data = b""
    while b"\r\n\r\n" not in data and len(data) < REQUEST_MAX:
        data += await stream.receive(REQUEST_MAX)
    return data.split(b"\r\n", 1)[0].decode("latin-1")


async def _response(request_line: str, pages: Pages) -> bytes:
    method, _, rest = request_line.partition(" ")
    path = rest.partition(" ")[0].partition("?")[0]
    if method not in ("GET", "HEAD"):
        answer = Answer(405, b"only GET\n")
    elif (page := pages.get(path)) is None:
        answer = Answer(404, b"not here: " + " ".join(sorted(pages)).encode() + b"\n")
    else:
        answer = await page()
    head = (
        f"HTTP/1.1 {answer.status} {REASONS[answer.status]}\r\nContent-Type: {answer.content_type}\r\n"
        f"Content-Length: {len(answer.body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if method == "HEAD" else answer.body)
