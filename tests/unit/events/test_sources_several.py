"""Several API servers: one that fails costs a few seconds, none is trusted without its certificate, one is kept.

The Service's address is 127.0.0.2 here, where nobody listens unless a test does; endpoints are ports of 127.0.0.1.
"""

import asyncio
import shutil
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import anyio
import pytest
from doubles.apiserver import Request, Wire, parse_head
from doubles.reflecting import FAST
from harness.certificates import certificate
from harness.daemon import free_ports

from kube_router.events.model import Endpoint, EndpointPort, EndpointSlice
from kube_router.events.sources import servers
from kube_router.events.sources.access import Access
from kube_router.events.sources.apiserver import ApiServer
from kube_router.events.sources.reflector import Broken

pytestmark = [pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make certificates")]

SERVICE = "127.0.0.2"
QUICK = replace(FAST, connect_next_s=0.3)


@pytest.fixture(name="account")
def _account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A service account whose CA has signed what is called good and named."""
    certificate(tmp_path, "good", SERVICE)
    certificate(tmp_path, "named", "127.0.0.1")
    certificate(tmp_path, "foreign", SERVICE)
    (tmp_path / "ca.crt").write_text((tmp_path / "good.crt").read_text() + (tmp_path / "named.crt").read_text())
    (tmp_path / "token").write_text("secret")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", SERVICE)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(free_ports(1)[0]))
    return tmp_path


@dataclass
class Served:
    """An endpoint: what it was asked, and whether it is there."""

    port: int = 0
    requests: list[Request] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"


@asynccontextmanager
async def serving(folder: Path, name: str, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Served]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}.crt", folder / f"{name}.key")
    served = Served()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        served.requests.append(parse_head(head.decode()))
        await Wire(writer).answer(200, name.encode())
        writer.close()

    async with await asyncio.start_server(connected, host, port, ssl=context) as listening:
        served.port = listening.sockets[0].getsockname()[1]
        yield served


class Cluster:
    """The slices that the agent knows, and its connection."""

    def __init__(self, account: Path, *ports: int) -> None:
        self.ports = list(ports)
        self.api = ApiServer(Access(service_account=account), QUICK, slices=self._slices)

    def _slices(self) -> Iterator[EndpointSlice]:
        for port in self.ports:
            yield EndpointSlice(
                namespace="default",
                name=f"kubernetes-{port}",
                service="default/kubernetes",
                ports=(EndpointPort(name="https", port=port),),
                endpoints=(Endpoint(addresses=("127.0.0.1",)),),
            )

    async def get(self) -> bytes:
        return await self.api.get("/api", bytes_max=100)


@asynccontextmanager
async def cluster(account: Path, *ports: int) -> AsyncIterator[Cluster]:
    made = Cluster(account, *ports)
    try:
        yield made
    finally:
        await made.api.close()


async def test_an_endpoint_is_asked_where_the_service_does_not_answer_and_verified_for_the_service(
    account: Path,
) -> None:
    async with serving(account, "good") as endpoint, cluster(account, endpoint.port) as known:
        assert known.api.server == ""
        assert await known.get() == b"good"
        assert known.api.server == f"{endpoint.url} (endpoint of default/kubernetes)"
        assert [request.headers["authorization"] for request in endpoint.requests] == ["Bearer secret"]


@pytest.mark.parametrize("name", ["foreign", "named"])
async def test_a_certificate_of_another_ca_or_another_name_gets_no_token_and_the_next_is_asked(
    account: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    async with serving(account, name) as wrong, serving(account, "good") as right:
        monkeypatch.setattr(servers, "crc32", lambda url: str(wrong.port).encode() not in url)  # the wrong one first
        async with cluster(account, wrong.port, right.port) as known:
            assert await known.get() == b"good"
            assert wrong.requests == []
            assert len(right.requests) == 1
            known.ports.remove(right.port)
            known.api.renew("test")
            await anyio.sleep(QUICK.renew_s)
            with pytest.raises(Broken, match="certificate verify failed") as told:
                await known.get()
            assert f"{wrong.url} (endpoint of default/kubernetes): " in str(told.value)
            assert wrong.requests == []


async def test_a_black_hole_costs_its_share_and_is_not_asked_again(
    account: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server((SERVICE, 0)) as hole:  # the kernel takes the connection, and nobody says a word
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(hole.getsockname()[1]))
        async with serving(account, "good") as endpoint, cluster(account, endpoint.port) as known:
            with anyio.fail_after(QUICK.connect_s):
                assert await known.get() == b"good"
            requests = known.api.requests
            assert requests == 2
            assert await known.get() == b"good"
            assert known.api.requests == requests + 1


async def test_when_the_one_in_use_goes_another_is_asked_and_kept(account: Path) -> None:
    async with serving(account, "good") as second:
        async with serving(account, "good") as first:
            known = Cluster(account, first.port)
            assert await known.get() == b"good"
            known.ports.append(second.port)
            assert await known.get() == b"good"
            assert len(first.requests) == 2
        for _ in range(2):
            assert await known.get() == b"good"
        assert known.api.server == f"{second.url} (endpoint of default/kubernetes)"
        assert len(second.requests) == 2
        await known.api.close()


async def test_what_the_slices_say_now_is_followed(account: Path) -> None:
    async with (
        serving(account, "good") as old,
        serving(account, "good") as new,
        cluster(account, old.port) as known,
    ):
        assert await known.get() == b"good"
        known.ports[:] = [new.port]
        assert await known.get() == b"good"
        assert (len(old.requests), len(new.requests)) == (1, 1)


async def test_the_service_s_address_is_used_again_once_it_works(
    account: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (port,) = free_ports(1)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(port))
    monkeypatch.setattr(servers, "BACK_S", 0.0)
    async with serving(account, "good") as endpoint, cluster(account, endpoint.port) as known:
        assert await known.get() == b"good"
        async with serving(account, "good", SERVICE, port) as usual:
            assert await known.get() == b"good"
            assert known.api.server == f"https://{SERVICE}:{port} (the Service's address)"
            assert (len(endpoint.requests), len(usual.requests)) == (1, 1)
        assert await known.get() == b"good"
        assert len(endpoint.requests) == 2


async def test_a_new_login_goes_on_with_the_one_that_works(account: Path) -> None:
    async with serving(account, "good") as endpoint, cluster(account, endpoint.port) as known:
        await known.get()
        requests = known.api.requests
        known.api.renew("test")
        await anyio.sleep(QUICK.renew_s)
        assert await known.get() == b"good"
        assert known.api.requests == requests + 1


async def test_many_requests_at_once_find_the_one_that_works_even_while_logging_in_anew(account: Path) -> None:
    async with serving(account, "good") as endpoint, cluster(account, *free_ports(2), endpoint.port) as known:
        found: list[bytes] = []

        async def ask(number: int) -> None:
            await anyio.sleep(number / 1000)
            if number % 5 == 0:
                known.api.renew("test")
            found.append(await known.get())

        async with anyio.create_task_group() as tasks:
            for number in range(40):
                tasks.start_soon(ask, number)
        assert found == [b"good"] * 40


async def test_all_that_failed_are_told_each_with_its_reason(account: Path) -> None:
    (port,) = free_ports(1)
    async with cluster(account, port) as known:
        with pytest.raises(Broken) as told:
            await known.get()
        first, second = str(told.value).split("; ")
        assert first.startswith(f"https://{SERVICE}:")
        assert "(the Service's address): the connection to the API server failed: " in first
        assert second.startswith(f"https://127.0.0.1:{port} (endpoint of default/kubernetes): ")
