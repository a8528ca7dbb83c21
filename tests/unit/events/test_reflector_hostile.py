"""The reflector against an API server that refuses: right state in the end, never a flood of requests."""

import json
from dataclasses import replace

import anyio
import pytest
from doubles.apiserver import FakeApiServer, Request, Wire, status
from doubles.memory_sink import MemorySink
from doubles.moods import HTML, TOO_MANY, answering, anything, watching
from doubles.reflecting import FAST, converged, mirrored, running, until

from kube_router.events.sources.access import Access
from kube_router.events.sources.kubernetes import KubernetesSource


@pytest.mark.parametrize(
    ("code", "body", "content_type", "told"),
    [
        pytest.param(
            401,
            json.dumps(status(401, "Unauthorized", "Unauthorized")).encode(),
            "application/json",
            "the API server answered 401 Unauthorized: Unauthorized",
            id="401",
        ),
        pytest.param(
            403,
            json.dumps(status(403, "Forbidden", "services is forbidden")).encode(),
            "application/json",
            "the API server answered 403 Forbidden: services is forbidden",
            id="403",
        ),
        pytest.param(
            429,
            TOO_MANY,
            "text/plain",
            "the API server answered 429: Too many requests, please try again later.",
            id="plain 429",
        ),
        pytest.param(
            503,
            HTML,
            "text/html",
            "the API server answered 503: <html><body><h1>503 Service Unavailable</h1>No server is available."
            "</body></html>",
            id="html 503",
        ),
    ],
)
async def test_a_refusal_is_said_in_status_and_retried_without_a_flood(
    code: int, body: bytes, content_type: str, told: str
) -> None:
    async with FakeApiServer().serve() as api:
        api.put("a")
        sink = await mirrored(api)
        api.moods.append(answering(code, body, content_type, to=lambda request: request.kind != "identity", times=4))
        async with running(api, sink, replace(FAST, backoff_max_s=0.02)) as source:
            await until(lambda: source.status()["services"].state == "waiting")
            assert source.status()["services"].last_error == told
            assert sink.problem_texts() == [f"services: {told}"]
            await converged(api, sink)
            assert source.status()["services"].state == "connected"
            await until(lambda: not sink.problem_texts())
        assert api.kinds()[:6] == ["identity", "guard", "guard", "guard", "guard", "guard"]
        assert len(api.requests) <= 8


async def test_a_server_that_refuses_everything_is_asked_ever_more_rarely() -> None:
    async with FakeApiServer().serve() as api:
        api.moods.append(answering(503, HTML, "text/html", to=anything, times=-1))
        timing = replace(FAST, backoff_min_s=0.05, backoff_max_s=30)
        with anyio.move_on_after(1.2):
            async with running(api, MemorySink(), timing, chance=lambda: 0.999):
                await anyio.sleep_forever()
        # Waits of 0.05, 0.1, 0.2, 0.4 and 0.8 s.
        assert 1 <= len(api.requests) <= 5


async def test_retry_after_is_honoured() -> None:
    async with FakeApiServer().serve() as api:
        at: list[float] = []

        async def mood(request: Request, wire: Wire) -> bool:
            if not request.is_watch:
                return False
            at.append(anyio.current_time())
            if len(at) > 1:
                return False
            await wire.answer(429, TOO_MANY, "text/plain", Retry_After="1")
            return True

        api.moods.append(mood)
        sink = MemorySink()
        async with running(api, sink):
            await converged(api, sink)
        assert len(at) == 2
        assert at[1] - at[0] >= 1.0


async def test_a_410_in_the_stream_leads_to_one_full_list_that_deletes_what_vanished() -> None:
    async with FakeApiServer().serve() as api:
        api.put("gone")
        api.put("stays")
        sink = await mirrored(api)
        api.delete("gone")
        api.put("new")
        api.forget_history()
        async with running(api, sink):
            await until(lambda: sink.live == {"services"})
        assert sink.history() == ["put default/new", "del default/gone", "sync expired"]
        assert api.kinds() == ["identity", "guard", "watch 102", "stream-list"]


async def test_a_410_as_status_leads_to_one_full_list() -> None:
    async with FakeApiServer().serve() as api:
        api.put("a")
        sink = await mirrored(api)
        api.put("b")
        gone = json.dumps(status(410, "Gone", "too old resource version")).encode()
        api.moods.append(answering(410, gone, "application/json", to=watching, times=1))
        async with running(api, sink):
            await converged(api, sink)
        assert sink.syncs() == ["expired"]
        assert api.kinds() == ["identity", "guard", "watch 101", "stream-list"]


async def test_a_server_that_answers_410_to_everything_is_not_hammered() -> None:
    async with FakeApiServer().serve() as api:
        gone = json.dumps(status(410, "Expired", "too old")).encode()
        api.moods.append(
            answering(410, gone, "application/json", to=lambda request: request.kind != "identity", times=-1)
        )
        timing = replace(FAST, backoff_min_s=0.05, backoff_max_s=30)
        with anyio.move_on_after(1.0):
            async with running(api, MemorySink(), timing, chance=lambda: 0.999):
                await anyio.sleep_forever()
        # The first is followed at once, then waits of 0.1, 0.2, 0.4 and 0.8 s.
        assert 2 <= len(api.requests) <= 6


async def test_a_continue_token_that_expires_starts_the_list_over() -> None:
    async with FakeApiServer(serves_watch_list=False).serve() as api:
        for number in range(5):
            api.put(f"s{number}")
        gone = json.dumps(status(410, "Expired", "The provided continue parameter is too old")).encode()
        api.moods.append(
            answering(410, gone, "application/json", to=lambda request: "continue" in request.query, times=1)
        )
        sink = MemorySink()
        async with running(api, sink, replace(FAST, page_objects=3)):
            await converged(api, sink)
        assert sink.syncs() == ["initial"]
        assert api.kinds()[:6] == ["identity", "stream-list", "page", "page", "page", "page"]


async def test_a_server_that_is_not_there_is_waited_for() -> None:
    async with FakeApiServer().serve() as gone:
        pass
    sink = MemorySink()
    source = KubernetesSource(
        sink=sink, resources=[], access=Access(master=gone.url), redact=str, timing=FAST, chance=lambda: 0.5
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(source.run)
        await until(lambda: len(sink.problem_texts()) == 1)
        tasks.cancel_scope.cancel()
    assert "Cannot connect to host 127.0.0.1" in sink.problem_texts()[0]
