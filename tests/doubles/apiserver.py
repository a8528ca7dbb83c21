"""A small API server for one resource over real sockets, which can be made to misbehave request by request.

It serves what a reflector asks for (kube-system's uid, paged and consistent LIST, WATCH from a resourceVersion with
bookmarks, WatchList) as kube-apiserver 1.36 does; tests/controlplane holds it against the real one. ``moods`` are
consulted before each request: the first that wants the request answers it, however badly.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

Json = dict[str, object]


@dataclass(frozen=True)
class Request:
    path: str
    query: dict[str, str]
    headers: dict[str, str]

    @property
    def is_watch(self) -> bool:
        return self.query.get("watch") == "1"

    @property
    def is_streamed_list(self) -> bool:
        return self.is_watch and self.query.get("sendInitialEvents") == "true"

    @property
    def is_guard(self) -> bool:
        return self.query.get("limit") == "1"

    @property
    def is_page(self) -> bool:
        return not self.is_watch and not self.is_guard and "kube-system" not in self.path

    @property
    def kind(self) -> str:
        """In a word, for tests that write out what was asked."""
        if "kube-system" in self.path:
            return "identity"
        if self.is_streamed_list:
            return "stream-list"
        if self.is_watch:
            return f"watch {self.query['resourceVersion']}"
        return "guard" if self.is_guard else "page"


class Wire:
    """The server's end of one connection."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer

    async def answer(self, status: int, body: bytes, content_type: str = "application/json", **headers: str) -> None:
        lines = [f"HTTP/1.1 {status} X", f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode() + body)
        await self.writer.drain()

    async def open_stream(self) -> None:
        lines = ["HTTP/1.1 200 OK", "Content-Type: application/json", "Transfer-Encoding: chunked", "Connection: close"]
        self.writer.write("\r\n".join([*lines, "", ""]).encode())
        await self.writer.drain()

    async def chunk(self, body: bytes) -> None:
        self.writer.write(f"{len(body):x}\r\n".encode() + body + b"\r\n")
        await self.writer.drain()

    async def event(self, kind: str, obj: Json) -> None:
        await self.chunk(json.dumps({"type": kind, "object": obj}).encode() + b"\n")

    async def end_stream(self) -> None:
        self.writer.write(b"0\r\n\r\n")
        await self.writer.drain()

    def abort(self) -> None:
        self.writer.transport.abort()


Mood = Callable[[Request, Wire], Awaitable[bool]]


def status(code: int, reason: str, message: str = "no") -> Json:
    return {"kind": "Status", "apiVersion": "v1", "code": code, "reason": reason, "message": message}


@dataclass
class FakeApiServer:
    """``objects`` are served; ``history`` is what a watch from an older resourceVersion is told."""

    uid: str = "uid-of-kube-system"
    serves_watch_list: bool = True
    serves_selectors: bool = True
    bookmark_s: float = 0.1
    watch_min_s: float = 0
    watch_max_s: float = 30
    rv: int = 100
    floor: int = 0
    objects: dict[str, Json] = field(default_factory=dict)
    history: list[tuple[int, str, Json]] = field(default_factory=list)
    moods: list[Mood] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    open_watches: int = 0
    url: str = ""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    # -- what tests do to it -------------------------------------------------------------------------------------------

    def put(self, name: str, cluster_ip: str = "10.96.0.1", *, namespace: str = "default", **more: object) -> None:
        key = f"{namespace}/{name}"
        kind = "MODIFIED" if key in self.objects else "ADDED"
        self.rv += 1
        obj: Json = {
            "metadata": {"namespace": namespace, "name": name, "uid": f"u-{name}", "resourceVersion": str(self.rv)},
            "spec": {"type": "ClusterIP", "clusterIP": cluster_ip, "clusterIPs": [cluster_ip], **more},
        }
        self.objects[key] = obj
        self._tell(kind, obj)

    def delete(self, name: str, *, namespace: str = "default") -> None:
        self.rv += 1
        obj = self.objects.pop(f"{namespace}/{name}")
        gone = {**obj, "metadata": {**_meta(obj), "resourceVersion": str(self.rv)}}
        self._tell("DELETED", gone)

    def forget_history(self) -> None:
        """Compact: a watch from before now is answered 410."""
        self.history.clear()
        self.floor = self.rv

    def kinds(self) -> list[str]:
        return [request.kind for request in self.requests]

    def _tell(self, kind: str, obj: Json) -> None:
        self.history.append((self.rv, kind, obj))
        self._changed.set()
        self._changed = asyncio.Event()

    # -- serving -------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def serve(self) -> AsyncIterator["FakeApiServer"]:
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        self.url = f"http://{host}:{port}"
        try:
            yield self
        finally:
            server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            await self._answer(parse_head(head), Wire(writer))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, request: Request, wire: Wire) -> None:
        self.requests.append(request)
        for mood in list(self.moods):
            if await mood(request, wire):
                return
        if "kube-system" in request.path:
            await wire.answer(200, json.dumps({"metadata": {"name": "kube-system", "uid": self.uid}}).encode())
        elif "fieldSelector" in request.query and not self.serves_selectors:
            await wire.answer(400, json.dumps(status(400, "BadRequest", "field label not supported")).encode())
        elif request.is_watch:
            await self._watch(request, wire)
        else:
            await self._list(request, wire)

    async def _list(self, request: Request, wire: Wire) -> None:
        keys = sorted(self.objects)
        after = request.query.get("continue", "")
        rv, _, last = after.partition("|")
        keys = [key for key in keys if key > last]
        limit = int(request.query.get("limit", "1000000"))
        meta: Json = {"resourceVersion": rv or str(self.rv)}
        if len(keys) > limit:
            meta["continue"] = f"{rv or self.rv}|{keys[limit - 1]}"
        body = {"kind": "ServiceList", "metadata": meta, "items": [self.objects[key] for key in keys[:limit]]}
        await wire.answer(200, json.dumps(body).encode())

    async def _watch(self, request: Request, wire: Wire) -> None:
        if request.is_streamed_list and not self.serves_watch_list:
            message = "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"
            await wire.answer(422, json.dumps(status(422, "Invalid", message)).encode())
            return
        await wire.open_stream()
        position = int(request.query.get("resourceVersion") or 0)
        if request.is_streamed_list:
            # As the real one: sorted by nothing in particular, and certainly not by resourceVersion.
            for obj in sorted(self.objects.values(), key=lambda each: str(_meta(each)["name"]), reverse=True):
                await wire.event("ADDED", obj)
            position = self.rv
            await wire.event("BOOKMARK", bookmark(position, is_end=True))
        elif position < self.floor:
            await wire.event("ERROR", status(410, "Expired", f"too old resource version: {position} ({self.floor})"))
            await wire.end_stream()
            return
        self.open_watches += 1
        try:
            asked_s = float(request.query["timeoutSeconds"])
            await self._tell_changes(wire, position, max(self.watch_min_s, min(self.watch_max_s, asked_s)))
        finally:
            self.open_watches -= 1

    async def _tell_changes(self, wire: Wire, position: int, timeout_s: float) -> None:
        loop = asyncio.get_running_loop()
        end, bookmark_at = loop.time() + timeout_s, loop.time() + self.bookmark_s
        while (now := loop.time()) < end:
            changed = self._changed
            for rv, kind, obj in list(self.history):
                if rv > position:
                    await wire.event(kind, obj)
                    position = rv
            try:
                async with asyncio.timeout(max(0.001, min(end, bookmark_at) - now)):
                    await changed.wait()
            except TimeoutError:
                if loop.time() >= bookmark_at:
                    bookmark_at += 60
                    # A future position is accepted silently, as the real one does.
                    if position <= self.rv:
                        position = self.rv
                        await wire.event("BOOKMARK", bookmark(position))
        await wire.end_stream()


def bookmark(rv: int, *, is_end: bool = False) -> Json:
    meta: Json = {"resourceVersion": str(rv)}
    if is_end:
        meta["annotations"] = {"k8s.io/initial-events-end": "true"}
    return {"kind": "Service", "apiVersion": "v1", "metadata": meta, "spec": {}}


def _meta(obj: Json) -> Json:
    meta = obj["metadata"]
    assert isinstance(meta, dict)
    return meta


def parse_head(head: str) -> Request:
    """Return the request whose head this is."""
    first, *lines = head.split("\r\n")
    parts = urlsplit(first.split(" ")[1])
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    return Request(parts.path, dict(parse_qsl(parts.query, keep_blank_values=True)), headers)
