"""A connection to the API server: GET a body or stream one, with the client renewed whenever that may help.

Requests go through kubernetes-asyncio's ApiClient, which adds the authentication; its aiohttp session is replaced by
one that keeps connections honest: TCP keepalive and TCP_USER_TIMEOUT notice a dead peer within half a minute (aiohttp
sets neither), and proxies are decided in access.py. Everything that goes wrong becomes Broken, Refused or Expired
(reflector.py) or ConfigError, with words that say what happened.

The client is built anew, with all files read again, when one of its files has changed, after a TLS error and after a
401. Streams that run over the old one go on; it is closed when the last has ended.
"""

import logging
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

import aiohttp
import anyio
from aiohttp.connector import AddrInfoType

from kube_router import __version__
from kube_router.events.errors import ConfigError
from kube_router.events.sources.access import Access, Login, log_in
from kube_router.events.sources.library import library
from kube_router.events.sources.reflector import Broken, Timing
from kube_router.events.sources.wire import refusal

logger = logging.getLogger(__name__)

Query = Sequence[tuple[str, str]]

KEEPALIVE_IDLE_S = 15
KEEPALIVE_INTERVAL_S = 5
KEEPALIVE_PROBES = 3
USER_TIMEOUT_MS = 30_000
READ_BUFFER_BYTES = 256 << 10
REFUSAL_BYTES_MAX = 64 << 10
CLOSE_S = 2.0
TLS_GOODBYE_S = 0.1  # a TLS connection that is closed stays open until the other end has said goodbye too
_TLS_ERRORS = (ssl.SSLError, aiohttp.ClientSSLError)


def keepalive_socket(address: AddrInfoType) -> socket.socket:
    """Return a TCP socket that notices within half a minute that the other end is gone."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family=family, type=kind, proto=protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
    return made


class _Client:
    """One ApiClient and who uses it."""

    def __init__(self, api: Any, login: Login, built_at: float) -> None:
        self.api, self.login, self.built_at = api, login, built_at
        self.users = 0
        self.retired = False


class ApiServer:
    """The API server as the reflectors use it."""

    def __init__(self, access: Access, timing: Timing) -> None:
        self._access, self._timing = access, timing
        self._current: _Client | None = None
        self._building = anyio.Lock()
        self._renew_why = ""
        self.requests = 0

    async def get(self, path: str, query: Query = (), *, bytes_max: int) -> bytes:
        """Return the body of an answer."""
        async with self.stream(path, query, stall_s=self._timing.list_stall_s) as chunks:
            parts: list[bytes] = []
            held = 0
            async for chunk in chunks:
                parts.append(chunk)
                held += len(chunk)
                if held > bytes_max:
                    raise Broken(f"the answer to {path} exceeds {bytes_max} bytes")
            return b"".join(parts)

    @asynccontextmanager
    async def stream(self, path: str, query: Query, *, stall_s: float) -> AsyncIterator[AsyncIterator[bytes]]:
        """Yield the chunks of an answer's body as they come, once its head says 200."""
        client = await self._client()
        client.users += 1
        try:
            with _translated(path, stall_s, self):
                async with await self._request(client, path, query, stall_s) as response:
                    await self._check(response)
                    yield response.content.iter_any()
        finally:
            client.users -= 1
            if client.retired and not client.users:
                await _close(client)

    async def close(self) -> None:
        """Close all that is not in use."""
        if self._current is not None:
            await self._retire(self._current)
            self._current = None

    def renew(self, why: str) -> None:
        """Have the next request build the client anew, at most once in a while."""
        self._renew_why = why

    async def _request(self, client: _Client, path: str, query: Query, stall_s: float) -> aiohttp.ClientResponse:
        self.requests += 1
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._timing.connect_s, sock_read=stall_s)
        with anyio.fail_after(self._timing.response_s):
            response: aiohttp.ClientResponse = await client.api.call_api(
                path,
                "GET",
                query_params=list(query),
                header_params={"Accept": "application/json"},
                auth_settings=["BearerToken"],
                _preload_content=False,
                _request_timeout=timeout,
            )
        return response

    async def _check(self, response: aiohttp.ClientResponse) -> None:
        if response.status == 200:
            return
        body = await response.content.read(REFUSAL_BYTES_MAX)
        if response.status == 401:
            self.renew("401")
        raise refusal(response.status, body, retry_after_s(response.headers.get("Retry-After", ""), time()))

    async def _client(self) -> _Client:
        async with self._building:
            client = self._current
            if client is not None and not self._is_stale(client):
                return client
            why, self._renew_why = self._renew_why or "files changed", ""
            # Built before the old one goes: where it cannot be built the old one may still serve, next time.
            fresh = await self._build()
            if client is not None:
                logger.info(f"client_renewed why={why!r} server={fresh.login.configuration.host}")
                await self._retire(client)
            self._current = fresh
            return fresh

    def _is_stale(self, client: _Client) -> bool:
        if self._renew_why and anyio.current_time() - client.built_at >= self._timing.renew_s:
            return True
        return client.login.changed()

    async def _build(self) -> _Client:
        login = await log_in(self._access)
        try:
            context = _tls_context(login.configuration)
            api = library().ApiClient(login.configuration)
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot use the certificates of the API server's client: {error}") from error
        await api.rest_client.close()
        api.user_agent = f"kube-router/{__version__}"
        api.rest_client.pool_manager = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=0, socket_factory=keepalive_socket),
            read_bufsize=READ_BUFFER_BYTES,
            trust_env=False,
        )
        return _Client(api, login, anyio.current_time())

    async def _retire(self, client: _Client) -> None:
        client.retired = True
        if not client.users:
            await _close(client)


async def _close(client: _Client) -> None:
    with anyio.move_on_after(CLOSE_S, shield=True):
        await client.api.close()
        if client.api.configuration.host.startswith("https"):
            await anyio.sleep(TLS_GOODBYE_S)


def _tls_context(configuration: Any) -> ssl.SSLContext:
    """Return the context the library would make; its own is out of reach inside its session."""
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, keyfile=configuration.key_file)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class _translated:
    """Turns what aiohttp and the sockets raise into our words."""

    def __init__(self, path: str, stall_s: float, server: ApiServer) -> None:
        self._path, self._stall_s, self._server = path, stall_s, server

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, TimeoutError):
            raise Broken(f"the API server is silent: {self._path}: {str(error) or 'no answer in time'}") from error
        if isinstance(error, _TLS_ERRORS):
            self._server.renew("TLS error")
        if isinstance(error, (aiohttp.ClientError, OSError, EOFError)):
            raise Broken(f"the connection to the API server failed: {type(error).__name__}: {error}") from error


def retry_after_s(header: str, now: float) -> float:
    """Return what a Retry-After header asks for in seconds, 0 for none or nonsense. It may be a date."""
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return 0.0
