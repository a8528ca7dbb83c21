"""The reflector against a well-behaved server: full lists, watching, resuming, and what it puts into the journal."""

import anyio
import pytest
from doubles.apiserver import FakeApiServer
from doubles.memory_sink import MemorySink
from doubles.reflecting import FAST, PODS, mirrored, running, until

from kube_router.events.sources.access import Access
from kube_router.events.sources.kubernetes import KubernetesSource
from kube_router.events.sources.reflector import Timing


async def test_a_fresh_node_streams_the_full_list_and_then_follows_the_changes() -> None:
    async with FakeApiServer().serve() as api:
        api.put("a")
        api.put("b")
        sink = MemorySink()
        async with running(api, sink) as source:
            await until(lambda: sink.live == {"services"})
            api.put("c")
            api.put("a", "10.96.0.9")
            api.delete("b")
            await until(lambda: sink.rv("services") == "105")
            assert source.status()["services"].state == "connected"
        assert sink.clusters == ["uid-of-kube-system"]
        assert sink.names() == ["default/a", "default/c"]
        assert sink.history() == [
            "put default/b",
            "put default/a",
            "sync initial",
            "put default/c",
            "put default/a",
            "del default/b",
        ]
        assert api.kinds() == ["identity", "stream-list"]


async def test_a_server_without_watch_list_is_listed_in_pages() -> None:
    async with FakeApiServer(serves_watch_list=False).serve() as api:
        for number in range(7):
            api.put(f"s{number}")
        sink = MemorySink()
        async with running(api, sink, Timing(page_objects=3)):
            await until(lambda: api.open_watches == 1)
            api.delete("s3")
            await until(lambda: sink.rv("services") == "108")
        assert sink.names() == [f"default/s{number}" for number in (0, 1, 2, 4, 5, 6)]
        assert api.kinds() == ["identity", "stream-list", "page", "page", "page", "watch 107"]


async def test_a_resume_with_nothing_new_is_confirmed_without_a_list() -> None:
    async with FakeApiServer().serve() as api:
        api.put("a")
        sink = await mirrored(api)
        async with running(api, sink):
            await until(lambda: len(api.requests) == 3)
        assert sink.syncs() == ["resume"]
        assert api.kinds() == ["identity", "guard", "watch 101"]


async def test_a_resume_is_confirmed_only_when_all_changes_since_are_applied() -> None:
    async with FakeApiServer().serve() as api:
        api.put("gone")
        api.put("stays")
        sink = await mirrored(api)
        api.delete("gone")
        api.put("new")
        async with running(api, sink):
            await until(lambda: sink.live == {"services"})
        assert sink.history() == ["del default/gone", "put default/new", "sync resume"]
        assert api.kinds() == ["identity", "guard", "watch 102"]


async def test_a_resume_of_a_quiet_resource_in_a_busy_cluster_is_confirmed_by_a_bookmark() -> None:
    async with FakeApiServer().serve() as api:
        api.put("a")
        sink = await mirrored(api)
        api.rv = 5000
        async with running(api, sink):
            await until(lambda: sink.live == {"services"})
        assert sink.history() == ["sync resume"]
        assert sink.rv("services") == "5000"
        assert api.kinds() == ["identity", "guard", "watch 101"]


async def test_a_resume_that_never_reaches_the_present_falls_back_to_a_full_list() -> None:
    async with FakeApiServer(bookmark_s=60).serve() as api:
        api.put("a")
        sink = await mirrored(api)
        api.rv = 5000
        async with running(api, sink):
            await until(lambda: sink.live == {"services"})
        assert sink.history() == ["sync resume"]
        assert api.kinds() == ["identity", "guard", "watch 101", "stream-list"]


async def test_a_server_that_holds_a_resume_open_for_ever_costs_a_full_list() -> None:
    async with FakeApiServer(bookmark_s=60, watch_min_s=60).serve() as api:
        api.put("a")
        sink = await mirrored(api)
        api.rv = 5000
        async with running(api, sink):
            await until(lambda: sink.live == {"services"})
        assert api.kinds() == ["identity", "guard", "watch 101", "stream-list"]


async def test_a_journal_of_another_cluster_is_not_resumed() -> None:
    async with FakeApiServer().serve() as api:
        api.put("a")
        sink = await mirrored(api)
        api.uid = "another"
        async with running(api, sink):
            await until(lambda: sink.live == {"services"})
        assert sink.clusters == ["another"]


@pytest.mark.parametrize("serves", [True, False])
async def test_selectors_are_sent_and_given_up_once_where_the_server_does_not_know_them(serves: bool) -> None:
    async with FakeApiServer(serves_selectors=serves).serve() as api:
        sink = MemorySink()
        source = KubernetesSource(
            sink=sink, resources=[PODS], access=Access(master=api.url), redact=str, timing=FAST, chance=lambda: 0.5
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(source.run)
            await until(lambda: sink.live == {"pods"})
            tasks.cancel_scope.cancel()
        sent = ["fieldSelector" in request.query for request in api.requests[1:]]
        assert sent == ([True] if serves else [True, True, False])
