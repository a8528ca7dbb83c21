"""The connection: authentication renewed, CA rotation survived, sockets that notice a dead peer."""

import asyncio
import json
import shutil
import socket
import ssl
from pathlib import Path

import anyio
import pytest
from doubles.apiserver import FakeApiServer, Request, Wire, status
from doubles.reflecting import FAST
from harness.certificates import certificate

from kube_router.events.errors import ConfigError
from kube_router.events.sources.access import Access
from kube_router.events.sources.apiserver import ApiServer, keepalive_socket, retry_after_s
from kube_router.events.sources.reflector import Broken, Refused

UNAUTHORIZED = json.dumps(status(401, "Unauthorized")).encode()


async def test_a_401_has_all_credentials_read_again(tmp_path: Path) -> None:
    async def mood(request: Request, wire: Wire) -> bool:
        if request.headers.get("authorization") == "Bearer second":
            return False
        await wire.answer(401, UNAUTHORIZED)
        return True

    async with FakeApiServer(moods=[mood]).serve() as api:
        (tmp_path / "ca.crt").write_text("no certificate: plain HTTP")
        (tmp_path / "token").write_text("first\n")
        config = tmp_path / "kubeconfig"
        config.write_text(
            json.dumps(
                {
                    "clusters": [{"name": "c", "cluster": {"server": api.url}}],
                    "users": [{"name": "u", "user": {"tokenFile": "token"}}],
                    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                    "current-context": "x",
                }
            )
        )
        server = ApiServer(Access(kubeconfig=str(config)), FAST)
        with pytest.raises(Refused, match="401 Unauthorized"):
            await server.get("/api/v1/services", bytes_max=1 << 20)
        (tmp_path / "token").write_text("second\n")
        await anyio.sleep(FAST.renew_s)
        assert b"ServiceList" in await server.get("/api/v1/services", bytes_max=1 << 20)
        await server.close()
        assert [request.headers["authorization"] for request in api.requests] == ["Bearer first", "Bearer second"]


async def test_a_stream_survives_the_renewal_of_the_client() -> None:
    async with FakeApiServer(bookmark_s=30).serve() as api:
        server = ApiServer(Access(master=api.url), FAST)
        query = [("watch", "1"), ("resourceVersion", "100"), ("timeoutSeconds", "30")]
        async with server.stream("/api/v1/services", query, stall_s=5) as chunks:
            server.renew("test")
            await anyio.sleep(FAST.renew_s)
            await server.get("/api/v1/services", bytes_max=1 << 20)
            api.put("a")
            assert b'"default"' in await anext(chunks)
        await server.close()


async def test_an_answer_has_a_bound() -> None:
    async with FakeApiServer().serve() as api:
        api.put("a")
        server = ApiServer(Access(master=api.url), FAST)
        with pytest.raises(Broken, match="the answer to /api/v1/services exceeds 100 bytes"):
            await server.get("/api/v1/services", bytes_max=100)
        await server.close()


async def test_a_kubeconfig_that_vanishes_is_said_and_survived(tmp_path: Path) -> None:
    server = ApiServer(Access(kubeconfig=str(tmp_path / "none")), FAST)
    with pytest.raises(ConfigError, match="there is no such file"):
        await server.get("/", bytes_max=1)
    await server.close()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make certificates")
async def test_a_rotated_ca_is_taken_up_without_a_restart(tmp_path: Path) -> None:
    for name in ("old", "new"):
        certificate(tmp_path, name, "127.0.0.1")
    (tmp_path / "token").write_text("t")
    shutil.copy(tmp_path / "old.crt", tmp_path / "ca.crt")
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(tmp_path / "new.crt", tmp_path / "new.key")

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await Wire(writer).answer(200, b"hello")
        writer.close()

    async with await asyncio.start_server(connected, "127.0.0.1", 0, ssl=serving) as listening:
        port = listening.sockets[0].getsockname()[1]
        server = ApiServer(Access(master=f"https://127.0.0.1:{port}", service_account=tmp_path), FAST)
        with pytest.raises(Broken, match="certificate verify failed"):
            await server.get("/", bytes_max=100)
        shutil.copy(tmp_path / "new.crt", tmp_path / "ca.crt")
        assert await server.get("/", bytes_max=100) == b"hello"
        await server.close()


def test_a_dead_peer_is_noticed_by_the_kernel_within_half_a_minute() -> None:
    made = keepalive_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 0)))
    with made:
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 15
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 5
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 3
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", 0),
        ("7", 7),
        (" 7 ", 7),
        ("-1", 0),
        ("soon", 0),
        ("Thu, 01 Jan 1970 00:00:30 GMT", 20),
        ("Thu, 01 Jan 1970 00:00:01 GMT", 0),
        ("Thu, 99 Jan 1970 00:00:01 GMT", 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str, seconds: float) -> None:
    assert retry_after_s(header, 10.0) == seconds
