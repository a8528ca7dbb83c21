"""The reflector against a server that misbehaves at random while its objects change: in the end both hold the same."""

import json
import random

import anyio
import pytest
from doubles.apiserver import FakeApiServer, Request, Wire, status
from doubles.memory_sink import MemorySink
from doubles.moods import HTML, TOO_MANY
from doubles.reflecting import running, until

REQUESTS_OF_CHAOS = 15


class Chaos:
    """A mood that answers most requests badly, until it has had its fill."""

    def __init__(self, api: FakeApiServer, chance: random.Random) -> None:
        self.api, self.chance = api, chance
        self.left = REQUESTS_OF_CHAOS

    async def __call__(self, request: Request, wire: Wire) -> bool:
        self.change()
        if self.left <= 0 or self.chance.random() < 0.2:
            return False
        self.left -= 1
        if request.is_watch and self.chance.random() < 0.6:
            await self.play_stream(request, wire)
        else:
            await self.refuse(wire)
        return True

    def change(self) -> None:
        """Let the cluster go on, whatever its API server does."""
        for _ in range(self.chance.randrange(3)):
            name = f"s{self.chance.randrange(6)}"
            if f"default/{name}" in self.api.objects and self.chance.random() < 0.5:
                self.api.delete(name)
            else:
                self.api.put(name, f"10.96.0.{self.chance.randrange(1, 250)}")
        if self.chance.random() < 0.1:
            self.api.forget_history()

    async def refuse(self, wire: Wire) -> None:
        gone = json.dumps(status(410, "Expired", "too old")).encode()
        answers = [(401, b"Unauthorized"), (429, TOO_MANY), (503, HTML), (410, gone), (200, b"<html>"), (200, b"")]
        pick = self.chance.randrange(len(answers) + 1)
        if pick == len(answers):
            wire.abort()
        else:
            await wire.answer(*answers[pick])

    async def play_stream(self, request: Request, wire: Wire) -> None:
        """Tell a part of the truth, and then break off in one way or another."""
        await wire.open_stream()
        position = int(request.query.get("resourceVersion") or 0)
        if request.is_streamed_list:
            for obj in list(self.api.objects.values())[: self.chance.randrange(4)]:
                await wire.event("ADDED", obj)
        elif position < self.api.floor:
            await wire.event("ERROR", status(410, "Expired", "too old"))
        else:
            news = [each for each in self.api.history if each[0] > position]
            for _, kind, obj in news[: self.chance.randrange(4)]:
                await wire.event(kind, obj)
        end = self.chance.randrange(5)
        if end == 0:
            wire.abort()
        elif end == 1:
            await wire.event("ERROR", status(self.chance.choice([410, 429, 500]), "Chaos"))
        elif end == 2:
            await wire.chunk(b'{"type":"ADDED","object":{"meta')
        elif end == 3:
            await wire.chunk(b"no event at all\n")
        else:
            await anyio.sleep(0.1)
        await wire.end_stream()


@pytest.mark.parametrize("seed", range(4))
async def test_after_any_chaos_the_node_holds_what_the_server_holds(seed: int) -> None:
    chance = random.Random(seed)
    async with FakeApiServer(serves_watch_list=chance.random() < 0.7, watch_max_s=0.3).serve() as api:
        for number in range(6):
            api.put(f"s{number}")
        chaos = Chaos(api, chance)
        api.moods.append(chaos)
        sink = MemorySink()
        async with running(api, sink, chance=chance.random):
            await until(lambda: chaos.left == 0, within_s=30)
            api.moods.clear()
            api.watch_max_s = 30
            api.put("last")
            await until(lambda: holds(sink) == wanted(api), within_s=15)
            await until(lambda: sink.live == {"services"})
        assert len(api.requests) <= 2 * REQUESTS_OF_CHAOS + 20


def holds(sink: MemorySink) -> dict[str, str]:
    return {key: known.obj.cluster_ips[0] for key, known in sink.current("services").items()}


def wanted(api: FakeApiServer) -> dict[str, object]:
    return {key: obj["spec"]["clusterIP"] for key, obj in api.objects.items()}  # type: ignore[index]
