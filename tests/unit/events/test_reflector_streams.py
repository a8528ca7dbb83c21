"""The reflector on broken streams: nothing is lost, nothing invented, never a flood of requests."""

import json
from dataclasses import replace

import anyio
from doubles.apiserver import FakeApiServer, Json, Request, Wire, bookmark
from doubles.memory_sink import MemorySink
from doubles.moods import streaming
from doubles.reflecting import FAST, converged, mirrored, running, until


async def test_streams_that_close_at_once_are_not_reopened_in_a_loop() -> None:
    async def nothing(wire: Wire) -> None:
        await wire.end_stream()

    async with FakeApiServer().serve() as api:
        api.put("a")
        sink = await mirrored(api)
        api.moods.append(streaming(nothing, times=-1))
        timing = replace(FAST, backoff_min_s=0.05, backoff_max_s=30)
        with anyio.move_on_after(1.2):
            async with running(api, sink, timing, chance=lambda: 0.999):
                await anyio.sleep_forever()
        # Each attempt is a guard and a watch; waits of 0.05, 0.1, 0.2, 0.4 and 0.8 s.
        assert len(api.requests) <= 11
        api.moods.clear()
        async with running(api, sink):
            await converged(api, sink)


async def test_a_stream_that_closes_at_once_after_every_event_is_not_reopened_in_a_loop() -> None:
    async with FakeApiServer().serve() as api:
        api.put("a")
        sink = await mirrored(api)

        async def one_event(wire: Wire) -> None:
            api.put("a")
            await wire.event("MODIFIED", api.objects["default/a"])
            await wire.end_stream()

        api.moods.append(streaming(one_event, times=-1))
        timing = replace(FAST, backoff_min_s=0.05, backoff_max_s=30)
        with anyio.move_on_after(1.2):
            async with running(api, sink, timing, chance=lambda: 0.999):
                await anyio.sleep_forever()
        assert len(api.requests) <= 11


async def test_a_silent_stream_is_left_and_taken_up_again_from_where_it_was() -> None:
    async def silence(wire: Wire) -> None:
        await anyio.sleep(30)

    async with FakeApiServer().serve() as api:
        api.put("a")
        sink = await mirrored(api)
        api.moods.append(streaming(silence, times=1, to=lambda request: request.kind == "watch 101"))
        async with running(api, sink, replace(FAST, stall_s=0.2)) as source:
            await until(lambda: "silent" in source.status()["services"].last_error)
            await converged(api, sink)
        assert api.kinds()[:5] == ["identity", "guard", "watch 101", "guard", "watch 101"]


async def test_a_server_that_accepts_but_never_answers_is_given_up() -> None:
    async def mood(request: Request, wire: Wire) -> bool:
        if len(api.requests) > 2:
            return False
        await anyio.sleep(30)
        return True

    async with FakeApiServer(moods=[mood]).serve() as api:
        sink = MemorySink()
        async with running(api, sink, replace(FAST, response_s=0.2)):
            await converged(api, sink)
        assert api.kinds()[:3] == ["identity", "identity", "identity"]


async def test_a_truncated_last_line_is_no_event_and_is_asked_for_again() -> None:
    async with FakeApiServer().serve() as api:
        api.put("a")
        sink = await mirrored(api)
        api.put("b")

        async def half(wire: Wire) -> None:
            line = json.dumps({"type": "ADDED", "object": api.objects["default/b"]}).encode()
            await wire.chunk(line[: len(line) // 2])
            await wire.end_stream()

        api.moods.append(streaming(half, times=1))
        async with running(api, sink) as source:
            await until(lambda: "ended within a line" in source.status()["services"].last_error)
            await converged(api, sink)
        assert sorted(sink.history()) == ["put default/b", "put default/last", "sync resume"]
        assert api.kinds() == ["identity", "guard", "watch 101", "guard", "watch 101"]


async def test_a_line_of_six_megabytes_is_an_event_like_any_other() -> None:
    async with FakeApiServer().serve() as api:
        api.put("a")
        sink = MemorySink()
        async with running(api, sink):
            await until(lambda: sink.live == {"services"})
            meta: Json = {"annotations": {"note": "x" * (6 << 20)}, "namespace": "default", "name": "big"}
            api.put("big")
            meta["resourceVersion"] = str(api.rv + 1)
            api.rv += 1
            api.history.append((api.rv, "MODIFIED", {"metadata": meta, "spec": {"clusterIPs": ["10.96.0.8"]}}))
            api.put("after")
            await until(lambda: "default/after" in sink.names())
        assert api.kinds() == ["identity", "stream-list"]


async def test_a_line_beyond_the_bound_is_refused_by_name() -> None:
    async def endless(wire: Wire) -> None:
        for _ in range(100):
            await wire.chunk(b"x" * 65536)

    async with FakeApiServer().serve() as api:
        api.put("a")
        sink = await mirrored(api)
        api.moods.append(streaming(endless, times=1))
        async with running(api, sink, replace(FAST, line_bytes_max=1 << 20)) as source:
            await until(lambda: source.status()["services"].last_error == "a line of a watch exceeds 1048576 bytes")
            await converged(api, sink)


async def test_a_connection_torn_in_the_middle_of_a_stream_loses_nothing() -> None:
    async with FakeApiServer().serve() as api:
        api.put("a")
        sink = await mirrored(api)
        api.put("b")

        async def torn(wire: Wire) -> None:
            await wire.event("ADDED", api.objects["default/b"])
            await wire.chunk(b'{"type":"ADDED","obj')
            wire.abort()

        api.moods.append(streaming(torn, times=1))
        async with running(api, sink):
            await converged(api, sink)
        assert sink.history()[0] == "put default/b"
        # Had the event arrived before the connection was torn or not: asked is from where we were.
        assert len(api.requests) <= 7


async def test_a_streamed_list_may_come_in_any_order_and_its_position_is_the_bookmarks() -> None:
    async with FakeApiServer().serve() as api:
        for name in ("c", "a", "b"):
            api.put(name)
        api.rv = 900

        async def reordered(wire: Wire) -> None:
            for name in ("b", "c", "a"):
                await wire.event("ADDED", api.objects[f"default/{name}"])
            await wire.event("BOOKMARK", bookmark(900, is_end=True))
            await wire.end_stream()

        api.moods.append(streaming(reordered, times=1))
        sink = MemorySink()
        async with running(api, sink):
            await until(lambda: len(api.requests) >= 4)
            await converged(api, sink)
        assert sink.history()[:4] == ["put default/b", "put default/c", "put default/a", "sync initial"]
        # Closed too early to be healthy, so a guard first; and then from the bookmark, not from the last object.
        assert api.kinds()[:4] == ["identity", "stream-list", "guard", "watch 900"]


async def test_a_streamed_list_that_breaks_before_its_end_is_fetched_in_pages_and_deletes_nothing_before() -> None:
    async with FakeApiServer().serve() as api:
        api.put("a")
        api.put("b")
        sink = await mirrored(api)
        api.forget_history()
        api.rv += 1
        api.floor = api.rv

        async def half(wire: Wire) -> None:
            await wire.event("ADDED", api.objects["default/a"])
            await wire.end_stream()

        api.moods.append(streaming(half, times=1, to=lambda request: request.is_streamed_list))
        async with running(api, sink):
            await until(lambda: sink.live == {"services"})
        assert sink.history() == ["sync expired"]
        assert api.kinds()[:5] == ["identity", "guard", "watch 102", "stream-list", "page"]


async def test_a_server_that_ignores_the_wish_for_a_streamed_list_is_listed_in_pages() -> None:
    async def ignorant(wire: Wire) -> None:
        await wire.event("ADDED", api.objects["default/a"])
        await anyio.sleep(30)

    async with FakeApiServer().serve() as api:
        api.put("a")
        api.moods.append(streaming(ignorant, times=-1, to=lambda request: request.is_streamed_list))
        sink = MemorySink()
        async with running(api, sink, replace(FAST, list_stall_s=0.2)):
            await converged(api, sink)
        assert api.kinds()[:3] == ["identity", "stream-list", "page"]
