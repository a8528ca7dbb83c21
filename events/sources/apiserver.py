"""A connection to the API server: GET a body or stream one, with the client renewed whenever that may help.

Requests go through kubernetes-asyncio's ApiClient, which adds the authentication; its aiohttp session is replaced by
one that keeps connections honest: TCP keepalive and TCP_USER_TIMEOUT notice a dead peer within half a minute (aiohttp
sets neither), and proxies are decided in access.py. Everything that goes wrong becomes Broken, Refused or Expired
(reflector.py) or ConfigError, with words that say what happened.

Credentials and clients are built anew, with all files read again, when one of the files has changed, after a TLS error
and after a 401. Streams that run over an old client go on; it is closed when the last has ended.

There may be several API servers to ask: servers.py decides which, and each has a client of its own. One that does not
take the connection, whose certificate is not what it should be, or that does not begin to answer, has failed; then the
same request is made to the next, until one answers or all have failed. What a server answers is its word, whatever it
is. A stream that breaks later is the reflector's affair, whose next request finds out what works. Credentials are sent
over a connection that stands, so with TLS to nobody who was not verified.
"""

import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

import aiohttp
import anyio
from aiohttp.connector import AddrInfoType

from kube_router import __version__
from kube_router.events.errors import ConfigError
from kube_router.events.model import EndpointSlice
from kube_router.events.sources.access import Access, Login, log_in
from kube_router.events.sources.library import library
from kube_router.events.sources.reflector import Broken, Timing
from kube_router.events.sources.servers import Choice, Server, endpoints
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
    """The ApiClient for one server, and how many use it."""

    def __init__(self, api: Any) -> None:
        self.api = api
        self.users = 0
        self.retired = False


class _Session:
    """One login: its clients, and the choice among its servers."""

    def __init__(self, login: Login, tls: ssl.SSLContext, built_at: float, begin: Server | None) -> None:
        self.login, self.tls, self.built_at = login, tls, built_at
        self.choice = Choice(begin)
        self.clients: dict[Server, _Client] = {}
        self.retired = False


class ApiServer:
    """The API server as the reflectors use it. ``slices`` are the EndpointSlices known now, if any are."""

    def __init__(
        self,
        access: Access,
        timing: Timing,
        *,
        slices: Callable[[], Iterable[EndpointSlice]] = tuple,
        salt: str = "",
    ) -> None:
        self._access, self._timing = access, timing
        self._slices, self._salt = slices, salt
        self._session: _Session | None = None
        self._building = anyio.Lock()
        self._renew_why = ""
        self._server: Server | None = None
        self.requests = 0

    @property
    def server(self) -> str:
        """Return in words which server answered last, "" before the first answer."""
        return "" if self._server is None else str(self._server)

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
        async with self._answered(path, query, stall_s) as response:
            with _translated(path, self):
                async with response:
                    await self._check(response)
                    yield response.content.iter_any()

    async def close(self) -> None:
        """Close all that is not in use."""
        if self._session is not None:
            await self._retire(self._session)
            self._session = None

    def renew(self, why: str) -> None:
        """Have the next request log in anew, at most once in a while."""
        self._renew_why = why

    # -- which server --------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _answered(self, path: str, query: Query, stall_s: float) -> AsyncIterator[aiohttp.ClientResponse]:
        """Yield the answer of the first server that gives one. Raises Broken with what each of them did."""
        session = await self._logged_in()
        failed: dict[Server, Broken] = {}
        self._offer(session)
        while (server := session.choice.next(failed, anyio.current_time())) is not None:
            client = await self._client(session, server)
            try:
                try:
                    with _translated(path, self):
                        response = await self._request(client, path, query, stall_s, self._connect_s(session))
                except Broken as error:
                    failed[server] = error
                    session.choice.failed(server)
                    logger.debug(f"api_server_failed server={str(server)!r} what={str(error)!r}")
                    continue
                self._works(session, server)
                yield response
                return
            finally:
                client.users -= 1
                if client.retired and not client.users:
                    await _close(client)
        if len(failed) == 1:
            raise next(iter(failed.values()))
        raise Broken("; ".join(f"{server}: {error}" for server, error in failed.items()))

    def _offer(self, session: _Session) -> None:
        """Tell the choice which servers there are now."""
        login = session.login
        known = endpoints(self._slices(), name=login.endpoints, salt=self._salt) if login.endpoints else ()
        session.choice.offer((*login.servers, *known))

    def _works(self, session: _Session, server: Server) -> None:
        session.choice.worked(server, anyio.current_time())
        if server != self._server:
            logger.info(f"api_server_chosen server={str(server)!r} before={self.server!r}")
            self._server = server

    def _connect_s(self, session: _Session) -> float:
        """Return how long a connection may take: not long where there is another server to ask."""
        return self._timing.connect_next_s if len(session.choice.servers) > 1 else self._timing.connect_s

    async def _request(
        self, client: _Client, path: str, query: Query, stall_s: float, connect_s: float
    ) -> aiohttp.ClientResponse:
        self.requests += 1
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_s, sock_read=stall_s)
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

    # -- who we are ----------------------------------------------------------------------------------------------------

    async def _logged_in(self) -> _Session:
        async with self._building:
            session = self._session
            if session is not None and not self._is_stale(session):
                return session
            why, self._renew_why = self._renew_why or "files changed", ""
            # Built before the old one goes: where it cannot be built the old one may still serve, next time.
            fresh = await self._build(session.choice.current if session is not None else None)
            if session is not None:
                logger.info(f"client_renewed why={why!r} server={fresh.login.configuration.host}")
                await self._retire(session)
            self._session = fresh
            return fresh

    def _is_stale(self, session: _Session) -> bool:
        if self._renew_why and anyio.current_time() - session.built_at >= self._timing.renew_s:
            return True
        return session.login.changed()

    async def _build(self, begin: Server | None) -> _Session:
        login = await log_in(self._access)
        try:
            return _Session(login, _tls_context(login.configuration), anyio.current_time(), begin)
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot use the certificates of the API server's client: {error}") from error

    async def _client(self, session: _Session, server: Server) -> _Client:
        """Return the client for a server with one user more; those of servers that are gone are given up."""
        async with self._building:
            gone = [session.clients.pop(other) for other in session.clients.keys() - {*session.choice.servers}]
            if (client := session.clients.get(server)) is None:
                client = await _connected(session, server)
                client.retired = session.retired  # by somebody who logged in anew meanwhile
                if not client.retired:
                    session.clients[server] = client
        client.users += 1
        await _give_up(gone)
        return client

    async def _retire(self, session: _Session) -> None:
        session.retired = True
        clients, session.clients = list(session.clients.values()), {}
        await _give_up(clients)


async def _connected(session: _Session, server: Server) -> _Client:
    """Return a new client for a server. It connects when it is used."""
    try:
        api = library().ApiClient(session.login.configured(server))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot use the certificates of the API server's client: {error}") from error
    await api.rest_client.close()
    api.user_agent = f"kube-router/{__version__}"
    api.rest_client.pool_manager = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=session.tls, limit=0, socket_factory=keepalive_socket),
        read_bufsize=READ_BUFFER_BYTES,
        trust_env=False,
    )
    return _Client(api)


async def _give_up(clients: Iterable[_Client]) -> None:
    """Close those that nobody uses now, and have the others closed by their last user."""
    for client in clients:
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

    def __init__(self, path: str, server: ApiServer) -> None:
        self._path, self._server = path, server

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
