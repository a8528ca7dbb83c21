"""Mirror one resource of an API server into the sink: the reflector's hands; its head is reflector.py.

A full list is asked for as a stream (WatchList: the objects as they are, in any order, and a bookmark that says where
the list ends and what resourceVersion it stands for; the same stream then goes on as the watch). Where the server does
not know that, or the stream breaks before its end, the list is fetched in pages. Either way it is handed over whole.

An object that cannot be normalized is reported, and the last good one stands. The position moves past it: after a
restart its report returns with the next change or full list.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import anyio.lowlevel
from msgspec import Raw

from kube_router.events.errors import ConfigError, KubeRouterError, PeerError, Problem
from kube_router.events.resource import Redact, Resource
from kube_router.events.sink import Sink
from kube_router.events.sources.apiserver import ApiServer
from kube_router.events.sources.listing import Bad, Listing, normalize
from kube_router.events.sources.reflector import (
    Broken,
    Chance,
    Course,
    Refused,
    Step,
    Timing,
    is_malformed,
    is_older,
)
from kube_router.events.sources.wire import (
    Event,
    LineSplitter,
    decode_bookmark,
    decode_event,
    decode_meta,
    decode_page,
    refusal,
)

logger = logging.getLogger(__name__)

YIELD_OBJECTS = 500  # the loop is given a turn at least this often while a list is decoded


class Reflector:
    """Mirrors one resource until cancelled. ``changed_state`` is told in a word where it stands."""

    def __init__(
        self,
        *,
        resource: Resource,
        sink: Sink,
        server: ApiServer,
        redact: Redact,
        timing: Timing,
        chance: Chance,
        rewound: Callable[[], Awaitable[None]],
        changed_state: Callable[[str, str], None],
    ) -> None:
        self._resource, self._sink, self._server, self._redact = resource, sink, server, redact
        self._timing, self._chance = timing, chance
        self._rewound, self._changed_state = rewound, changed_state
        self._path = f"{resource.api}/{resource.name}"
        self._bad: set[str] = set()
        self._troubled = self._is_identity_due = False
        self._scope = anyio.CancelScope()
        self.course = Course(rv="", timing=timing, chance=chance, now=0)

    async def run(self) -> None:
        """Mirror until cancelled. Nothing that goes wrong ends it."""
        rv = self._sink.rv(self._resource.name)
        self.course = Course(rv=rv, timing=self._timing, chance=self._chance, now=anyio.current_time())
        while True:
            wait_s = 0.0
            try:
                with anyio.CancelScope() as self._scope:
                    await self._step()
            except (PeerError, ConfigError) as error:
                wait_s = self._failed(error)
            except Exception as error:
                logger.exception(f"reflector_crashed resource={self._resource.name}")
                wait_s = self._failed(Broken(f"our own error: {error!r}"))
            await anyio.sleep(wait_s)

    def forget(self) -> None:
        """Take nothing for known: the cluster is another one."""
        self.course.need_sync("rewind")
        self._scope.cancel()

    # -- steps ---------------------------------------------------------------------------------------------------------

    async def _step(self) -> None:
        if self._is_identity_due:
            await self._rewound()
            self._is_identity_due = False
        planned = self.course.next(anyio.current_time())
        if planned.step is Step.SYNC:
            self._changed_state("syncing", "")
            await self._sync(planned.why)
        elif planned.step is Step.RESUME:
            self._changed_state("resuming", "")
            await self._resume()
        elif not planned.guard or await self._guard() is not None:
            await self._watch(self.course.watch_timeout_s())

    async def _guard(self) -> str | None:
        """Return the server's present revision, None if it lies before ours."""
        query = (("limit", "1"), ("resourceVersion", ""))
        body = await self._server.get(self._path, query, bytes_max=self._timing.page_bytes_max)
        present = decode_page(body).rv
        if self.course.guarded(present, anyio.current_time()):
            return present
        logger.warning(f"history_rewound resource={self._resource.name} ours={self.course.rv} server={present}")
        self._is_identity_due = True
        return None

    async def _resume(self) -> None:
        present = await self._guard()
        if present is None:
            return
        if is_older(self.course.rv, present) is None and self.course.rv != present:
            self.course.need_sync("resume")
        elif self.course.rv == present:
            self._confirm()
        else:
            with anyio.move_on_after(self._timing.prove_s):
                await self._watch(int(max(1, self._timing.probe_s)), goal=present)
            if not self.course.is_confirmed:
                self.course.need_sync("resume")

    def _confirm(self) -> None:
        self.course.confirmed()
        self._sink.confirm(self._resource.name, self.course.rv)
        self._well()
        self._changed_state("connected", "")
        logger.info(f"resumed resource={self._resource.name} rv={self.course.rv}")

    async def _sync(self, why: str) -> None:
        if self.course.use_watch_list:
            try:
                await self._stream_list(why)
            except _NotServed as error:
                self.course.watch_list_served = False
                logger.info(
                    f"watch_list_not_served resource={self._resource.name} answer={str(error)!r} now=paged list"
                )
            else:
                return
        await self._page_list(why)

    # -- full lists ----------------------------------------------------------------------------------------------------

    async def _stream_list(self, why: str) -> None:
        """List and then watch over one stream."""
        query = [
            *self._watch_query("", self.course.watch_timeout_s()),
            ("sendInitialEvents", "true"),
            ("resourceVersionMatch", "NotOlderThan"),
        ]
        splitter = LineSplitter(self._timing.line_bytes_max)
        opened = synced = False
        try:
            async with self._server.stream(self._path, query, stall_s=self._timing.stall_s) as chunks:
                opened = True
                rest = await self._read_streamed_list(chunks, splitter, why)
                synced = True
                self.course.opened(anyio.current_time())
                await self._apply_all(rest)
                await self._follow(chunks, splitter)
        except Refused as error:
            if not synced and is_malformed(error):
                raise _NotServed(error.status, str(error)) from error
            raise
        except Broken:
            if opened and not synced:
                self.course.streamed_list_broke()
            raise
        self.course.closed(anyio.current_time())

    async def _read_streamed_list(self, chunks: AsyncIterator[bytes], splitter: LineSplitter, why: str) -> list[bytes]:
        """Hand over the list once its end has come; return the lines behind it."""
        listing = Listing(self._timing.list_objects_max)
        while True:
            with anyio.fail_after(self._timing.list_stall_s):
                chunk = await anext(chunks, None)
            if chunk is None:
                splitter.finish()
                raise Broken("the API server ended a streamed list before its last bookmark")
            lines = splitter.feed(chunk)
            for number, line in enumerate(lines, 1):
                rv = listing.take_event(decode_event(line), self._resource, self._redact)
                if rv:
                    self._replace(listing, rv, why)
                    return lines[number:]
                if number % YIELD_OBJECTS == 0:
                    await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()

    async def _page_list(self, why: str) -> None:
        """List page by page. All pages are of one revision; a token that has expired starts over (Expired)."""
        listing = Listing(self._timing.list_objects_max)
        token = ""
        for _ in range(self._timing.list_pages_max):
            query = [*self._selectors(), ("limit", str(self._timing.page_objects))]
            query.append(("continue", token) if token else ("resourceVersion", ""))
            body = await self._server.get(self._path, query, bytes_max=self._timing.page_bytes_max)
            page = decode_page(body)
            for number, raw in enumerate(page.items, 1):
                listing.take(normalize(self._resource, raw, self._redact))
                if number % YIELD_OBJECTS == 0:
                    await anyio.lowlevel.checkpoint()
            if page.token and page.token == token:
                raise Broken("the API server repeats a page of a list")
            token = page.token
            if not token:
                self._replace(listing, page.rv, why)
                return
        raise Broken(f"a list does not end within {self._timing.list_pages_max} pages")

    def _replace(self, listing: Listing, rv: str, why: str) -> None:
        name = self._resource.name
        self._sink.replace(name, listing.with_known(self._sink.current(name)), rv, why)
        for key in self._bad - listing.bad.keys():
            self._sink.problem(f"{name}/{key}", ())
        for key, bad in listing.bad.items():
            self._sink.problem(f"{name}/{key}", (bad.problem,))
        self._bad = set(listing.bad)
        self.course.synced(rv, anyio.current_time())
        self._well()
        self._changed_state("connected", "")
        logger.info(f"synced resource={name} why={why} objects={len(listing)} rv={rv}")

    # -- the watch -----------------------------------------------------------------------------------------------------

    async def _watch(self, timeout_s: int, goal: str = "") -> None:
        """Follow a watch from our resourceVersion to its end; with a goal, confirm when it is reached."""
        query = self._watch_query(self.course.rv, timeout_s)
        async with self._server.stream(self._path, query, stall_s=self._timing.stall_s) as chunks:
            self.course.opened(anyio.current_time())
            self._changed_state("resuming" if goal else "connected", "")
            await self._follow(chunks, LineSplitter(self._timing.line_bytes_max), goal)
        self.course.closed(anyio.current_time())
        self._well()

    async def _follow(self, chunks: AsyncIterator[bytes], splitter: LineSplitter, goal: str = "") -> None:
        async for chunk in chunks:
            lines = splitter.feed(chunk)
            await self._apply_all(lines)
            if goal and not is_older(self.course.rv, goal):
                self._confirm()
                goal = ""
        splitter.finish()

    async def _apply_all(self, lines: list[bytes]) -> None:
        for line in lines:
            self._apply(decode_event(line))
        if lines:
            self._well()
        await anyio.lowlevel.checkpoint()

    def _apply(self, event: Event) -> None:
        name = self._resource.name
        if event.type in ("ADDED", "MODIFIED"):
            found = normalize(self._resource, event.object, self._redact)
            self._move(found.rv)
            if isinstance(found, Bad):
                self._bad.add(found.key)
                self._sink.problem(f"{name}/{found.key}", (found.problem,))
                self._sink.advance(name, self.course.rv)
            else:
                self._good(found.obj.key)
                self._sink.put(name, found)
        elif event.type == "DELETED":
            self._delete(event.object)
        elif event.type == "BOOKMARK":
            self._move(decode_bookmark(event.object)[0])
            self._sink.advance(name, self.course.rv)
        elif event.type == "ERROR":
            raise refusal(0, bytes(event.object))
        else:
            raise Broken(f"an event is of the unknown type {event.type!r}")

    def _delete(self, raw: Raw) -> None:
        meta = decode_meta(raw)
        if meta is None:
            # What is gone we cannot tell: only the full list can.
            self.course.need_sync("expired")
            raise Broken("a DELETED event names no object")
        # Aggregated API servers may name the object's last resourceVersion instead of its deletion's.
        if not is_older(meta.rv, self.course.rv):
            self._move(meta.rv)
        self._good(meta.key)
        self._sink.delete(self._resource.name, meta.key, self.course.rv)

    def _move(self, rv: str) -> None:
        """Advance our position. A stream that goes backwards belongs to another history."""
        if not rv:
            return
        if is_older(rv, self.course.rv):
            self.course.need_sync("rewind")
            self._is_identity_due = True
            raise Broken(f"the resourceVersion of {self._resource.name} went back from {self.course.rv} to {rv}")
        self.course.rv = rv

    def _good(self, key: str) -> None:
        if key in self._bad:
            self._bad.discard(key)
            self._sink.problem(f"{self._resource.name}/{key}", ())

    # -- what both need ------------------------------------------------------------------------------------------------

    def _selectors(self) -> list[tuple[str, str]]:
        return list(self._resource.selectors.items()) if self.course.use_selectors else []

    def _watch_query(self, rv: str, timeout_s: int) -> list[tuple[str, str]]:
        return [
            *self._selectors(),
            ("watch", "1"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", rv),
            ("timeoutSeconds", str(timeout_s)),
        ]

    def _failed(self, error: KubeRouterError) -> float:
        name = self._resource.name
        if isinstance(error, Refused) and self.course.give_up_selectors(error, bool(self._resource.selectors)):
            logger.warning(f"selectors_not_served resource={name} answer={str(error)!r} now=without selectors")
            return 0
        wait_s = self.course.failed(error, anyio.current_time())
        self._troubled = True
        self._changed_state("waiting", str(error))
        # The sink logs a problem when it appears and when it ends; a server that is down for a night fills no log.
        self._sink.problem(f"stream/{name}", (Problem("API server", name, str(error)),))
        logger.debug(
            f"watch_failed resource={name} what={str(error)!r} next_try_s={wait_s:.1f} failures={self.course.failures}"
        )
        return wait_s

    def _well(self) -> None:
        if self._troubled:
            self._troubled = False
            self._sink.problem(f"stream/{self._resource.name}", ())


class _NotServed(Refused):
    """The server knows no WatchList."""
