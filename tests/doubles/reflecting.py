"""Run the source against the double of an API server, with intervals that suit a test."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
from doubles.apiserver import FakeApiServer
from doubles.memory_sink import MemorySink

from kube_router.events.normalize import BUILTIN
from kube_router.events.sources.access import Access
from kube_router.events.sources.kubernetes import KubernetesSource
from kube_router.events.sources.reflector import Timing

SERVICES, PODS = (next(each for each in BUILTIN if each.name == name) for name in ("services", "pods"))
FAST = Timing(
    connect_s=2,
    response_s=1,
    stall_s=3,
    list_stall_s=0.5,
    short_s=0.05,
    backoff_min_s=0.02,
    backoff_max_s=0.1,
    probe_s=1,
    prove_s=1.5,
    renew_s=0.01,
)


@asynccontextmanager
async def running(
    api: FakeApiServer, sink: MemorySink, timing: Timing = FAST, chance: Callable[[], float] = lambda: 0.5
) -> AsyncIterator[KubernetesSource]:
    source = KubernetesSource(
        sink=sink,
        resources=[SERVICES],
        access=Access(master=api.url),
        redact=lambda secret: "redacted",
        timing=timing,
        chance=chance,
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(source.run)
        yield source
        tasks.cancel_scope.cancel()


async def until(condition: Callable[[], bool], within_s: float = 10) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        await anyio.sleep(0.005)


async def mirrored(api: FakeApiServer) -> MemorySink:
    """Return the sink of a restarted agent that had mirrored the server before; its requests are forgotten."""
    before = MemorySink()
    async with running(api, before):
        await until(lambda: before.live == {"services"} and before.rv("services") == str(api.rv))
    api.requests.clear()
    return MemorySink(before.journal, cluster=before.state.cluster)


async def converged(api: FakeApiServer, sink: MemorySink) -> None:
    """The server behaves at last: what it holds arrives, whatever went before."""
    api.put("last")
    await until(lambda: sink.live == {"services"} and sink.names() == sorted(api.objects))
