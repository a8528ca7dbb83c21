"""The reflector against a real kube-apiserver, and the double that the other tests use held against it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from doubles.apiserver import FakeApiServer
from doubles.memory_sink import MemorySink
from doubles.reflecting import until
from harness.client import Client, Manifest
from harness.remote import Plane, outage

from kube_router.events.normalize import BUILTIN
from kube_router.events.resource import Resource
from kube_router.events.sources.access import Access
from kube_router.events.sources.kubernetes import KubernetesSource
from kube_router.events.sources.reflector import Timing

pytestmark = [pytest.mark.controlplane, pytest.mark.timeout(180)]

SERVICES = tuple(each for each in BUILTIN if each.name == "services")
CLOSE_TO_REAL = replace(Timing(), backoff_min_s=0.1, backoff_max_s=1)


@asynccontextmanager
async def mirroring(
    plane: Plane, sink: MemorySink, resources: Sequence[Resource] = BUILTIN
) -> AsyncIterator[KubernetesSource]:
    access = Access(kubeconfig=str(plane.access.kubeconfig))
    source = KubernetesSource(
        sink=sink, resources=resources, access=access, redact=lambda secret: "digest", timing=CLOSE_TO_REAL
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(source.run)
        yield source
        tasks.cancel_scope.cancel()


def service(name: str, namespace: str) -> Manifest:
    """One without a selector, so that no controller makes anything of it."""
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 80}]}}


def restarted(sink: MemorySink) -> MemorySink:
    """Return what an agent has recovered from the journal of another."""
    return MemorySink(sink.journal, cluster=sink.state.cluster)


async def test_all_kinds_are_mirrored_resumed_and_follow_what_happened_meanwhile(
    control_plane: Plane, api: Client, namespace: str
) -> None:
    everything = {resource.name for resource in BUILTIN}
    api.create(*(service(f"s{number}", namespace) for number in range(700)))
    first = MemorySink()
    async with mirroring(control_plane, first) as source:
        await until(lambda: first.live == everything)
        assert source.requests == 7
    assert len([name for name in first.names() if name.startswith(namespace)]) == 700
    api.delete(service("s7", namespace))
    api.create(service("new", namespace))
    second = restarted(first)
    async with mirroring(control_plane, second) as source:
        await until(lambda: second.live == everything)
        assert source.requests <= 19
    assert set(second.syncs()) == {"resume"}
    assert [words for words in second.history() if namespace in words] == [
        f"del {namespace}/s7",
        f"put {namespace}/new",
    ]


async def test_an_outage_is_survived_and_nothing_of_it_missed(
    control_plane: Plane, api: Client, namespace: str
) -> None:
    sink = MemorySink()
    async with mirroring(control_plane, sink, SERVICES) as source:
        await until(lambda: sink.live == {"services"})
        with outage(control_plane):
            await until(lambda: source.status()["services"].state == "waiting")
        api.create(service("after", namespace))
        await until(lambda: f"{namespace}/after" in sink.names(), within_s=30)
        await until(lambda: source.status()["services"].state == "connected" and not sink.problem_texts())


async def test_a_position_from_before_the_servers_history_costs_one_full_list(
    control_plane: Plane, api: Client, namespace: str
) -> None:
    api.create(service("kept", namespace), service("gone", namespace))
    sink = MemorySink()
    async with mirroring(control_plane, sink, SERVICES):
        await until(lambda: sink.live == {"services"})
    stale = restarted(sink)
    stale.state.rvs["services"] = "1"
    api.delete(service("gone", namespace))
    async with mirroring(control_plane, stale, SERVICES):
        await until(lambda: stale.live == {"services"}, within_s=30)
    assert stale.syncs() in (["expired"], ["resume"])
    assert [name for name in stale.names() if namespace in name] == [f"{namespace}/kept"]


async def test_a_position_from_the_future_is_a_rewound_history(control_plane: Plane) -> None:
    sink = MemorySink()
    async with mirroring(control_plane, sink, SERVICES):
        await until(lambda: sink.live == {"services"})
    ahead = restarted(sink)
    ahead.state.rvs["services"] = "999999999"
    async with mirroring(control_plane, ahead, SERVICES):
        await until(lambda: ahead.live == {"services"})
    assert ahead.syncs() == ["rewind"]


async def test_a_wrong_token_is_told_and_waited_with(control_plane: Plane, tmp_path: Path) -> None:
    right = control_plane.access.kubeconfig.read_text()
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(right.replace(control_plane.access.token, "wrong"))
    sink = MemorySink()
    source = KubernetesSource(
        sink=sink, resources=SERVICES, access=Access(kubeconfig=str(kubeconfig)), redact=str, timing=CLOSE_TO_REAL
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(source.run)
        await until(lambda: "401 Unauthorized" in source.status()["services"].last_error)
        kubeconfig.write_text(right)
        await until(lambda: sink.live == {"services"}, within_s=30)
        tasks.cancel_scope.cancel()


async def test_the_double_says_what_the_real_server_says(control_plane: Plane, api: Client, namespace: str) -> None:
    """The same story told to both: what is journaled, and how many requests it took, must be the same."""
    real, fake = MemorySink(), MemorySink()
    story = service("story", namespace)
    async with mirroring(control_plane, real, SERVICES) as source:
        await until(lambda: real.live == {"services"})
        real.journal.clear()
        api.create(story)
        api.patch(story, {"spec": {"ports": [{"port": 81}]}})
        api.delete(story)
        await until(lambda: f"del {namespace}/story" in real.history())
        real_requests = source.requests
    async with FakeApiServer().serve() as served:
        double = KubernetesSource(sink=fake, resources=SERVICES, access=Access(master=served.url), redact=str)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(double.run)
            await until(lambda: fake.live == {"services"})
            fake.journal.clear()
            served.put("story", namespace=namespace)
            served.put("story", "10.96.0.2", namespace=namespace)
            served.delete("story", namespace=namespace)
            await until(lambda: f"del {namespace}/story" in fake.history())
            tasks.cancel_scope.cancel()
    told = [words for words in real.history() if namespace in words]
    assert told == fake.history()
    assert told == [f"{what} {namespace}/story" for what in ("put", "put", "del")]
    assert real_requests == double.requests == 2
