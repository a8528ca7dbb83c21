"""The reflector when history is rewound, the cluster is another one, or objects cannot be used."""

import anyio
from doubles.apiserver import FakeApiServer, Request, Wire
from doubles.memory_sink import MemorySink
from doubles.moods import streaming
from doubles.reflecting import mirrored, running, until


async def test_a_rewound_server_is_noticed_at_the_next_resume() -> None:
    async with FakeApiServer().serve() as api:
        api.put("old")
        api.rv = 5000
        api.put("lost")
        sink = await mirrored(api)
        restored = FakeApiServer(rv=200)
        restored.put("old")
        async with restored.serve(), running(restored, sink):
            await until(lambda: sink.live == {"services"})
        assert sink.history() == ["del default/lost", "sync rewind"]
        assert restored.kinds() == ["identity", "guard", "identity", "stream-list"]


async def test_a_server_rewound_behind_a_broken_connection_is_noticed_before_the_next_watch() -> None:
    async with FakeApiServer().serve() as api:
        api.rv = 5000
        api.put("a")
        sink = await mirrored(api)

        async def rewind(wire: Wire) -> None:
            api.rv = 200
            api.objects.clear()
            api.history.clear()
            api.put("b")
            wire.abort()

        api.moods.append(streaming(rewind, times=1))
        async with running(api, sink):
            await until(lambda: sink.syncs()[-1:] == ["rewind"])
        assert sink.names() == ["default/b"]
        assert sink.rv("services") == "201"


async def test_a_stream_whose_resource_versions_go_backwards_is_another_history() -> None:
    async with FakeApiServer().serve() as api:
        api.put("a")
        sink = await mirrored(api)

        async def backwards(wire: Wire) -> None:
            stale = {
                **api.objects["default/a"],
                "metadata": {"namespace": "default", "name": "x", "resourceVersion": "7"},
            }
            await wire.event("ADDED", stale)
            await anyio.sleep(30)

        api.moods.append(streaming(backwards, times=1))
        async with running(api, sink):
            await until(lambda: "rewind" in sink.syncs())
        assert sink.names() == ["default/a"]


async def test_another_cluster_behind_the_same_address_is_mirrored_from_nothing() -> None:
    async with FakeApiServer().serve() as api:
        api.rv = 5000
        api.put("theirs")
        sink = await mirrored(api)
        other = FakeApiServer(rv=10)
        other.put("ours")

        async def swap(wire: Wire) -> None:
            api.uid, api.rv, api.objects, api.history = "other", other.rv, other.objects, other.history
            wire.abort()

        api.moods.append(streaming(swap, times=1))
        async with running(api, sink):
            await until(lambda: sink.syncs()[-1:] == ["rewind"])
        assert sink.clusters == ["other"]
        assert "default/ours" in sink.names()


async def test_the_identity_is_asked_for_until_it_is_known_before_a_rewound_history_is_mirrored() -> None:
    async with FakeApiServer().serve() as api:
        api.rv = 5000
        api.put("theirs")
        sink = await mirrored(api)
        other = FakeApiServer(uid="other", rv=10)
        other.put("ours")
        asked = 0

        async def second_identity_fails(request: Request, wire: Wire) -> bool:
            nonlocal asked
            asked += request.kind == "identity"
            if request.kind != "identity" or asked not in (2, 3):
                return False
            other.uid = "other"
            wire.abort()
            return True

        other.uid = api.uid
        other.moods.append(second_identity_fails)
        async with other.serve(), running(other, sink):
            await until(lambda: sink.live == {"services"})
        assert other.kinds() == ["identity", "guard", "identity", "identity", "identity", "stream-list"]
        assert sink.clusters == ["other"]


async def test_an_object_that_cannot_be_used_is_reported_and_its_last_good_state_stands() -> None:
    async with FakeApiServer().serve() as api:
        api.put("a")
        api.put("b")
        sink = MemorySink()
        async with running(api, sink):
            await until(lambda: sink.live == {"services"})
            api.put("a", ports="none of them is a list")
            api.put("c")
            await until(lambda: "default/c" in sink.names())
            assert sink.names() == ["default/a", "default/b", "default/c"]
            assert [text.partition(":")[0] for text in sink.problem_texts()] == ["default/a"]
            api.put("a")
            await until(lambda: not sink.problem_texts())


async def test_an_object_that_cannot_be_used_is_not_taken_for_deleted_by_a_full_list() -> None:
    async with FakeApiServer().serve() as api:
        api.put("a")
        api.put("b")
        sink = await mirrored(api)
        api.put("a", ports="none of them is a list")
        api.put("new", ports=7)
        api.forget_history()
        async with running(api, sink):
            await until(lambda: sink.live == {"services"})
            assert sink.history() == ["sync expired"]
            assert sink.names() == ["default/a", "default/b"]
            assert sorted(text.partition(":")[0] for text in sink.problem_texts()) == ["default/a", "default/new"]
            api.delete("new")
            api.delete("a")
            await until(lambda: sink.names() == ["default/b"] and not sink.problem_texts())
