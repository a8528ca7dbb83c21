"""A folder of manifests as a source: a cluster without an API server.

The folder is watched by inotify, or polled where there is none. Whatever happens in it, after a short silence the whole
of it is looked at again (only changed files are read, in a worker thread) and the resources that have changed are
delivered as full lists. A file that is being written counts as before until its writer closes it.

A folder that is missing or cannot be read is *not in sync* and never an empty cluster: nothing is delivered, what is
known stands, and it is tried again. Where a file has never been read in whole, what the journal recovered stands too.
Subfolders are not followed.
"""

import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread

from kube_router.events.errors import ConfigError, Problem
from kube_router.events.manifests import File, Manifests, Ref, merge, parse
from kube_router.events.resource import Normalized, Redact, Resource
from kube_router.events.sink import Sink
from kube_router.events.sources import inotify
from kube_router.events.sources.scan import Scanner, read_text

logger = logging.getLogger(__name__)

POLL_S = 2.0  # where there is no folder, or no inotify
RESCAN_S = 10.0  # where there is: for file systems that change without telling this kernel
SETTLE_S, SETTLE_S_MAX = 0.05, 0.5  # silence to wait for, and how long at most
WRITING_S_MAX = 10.0  # a file that somebody has kept open for longer is read as it is
WRITTEN = inotify.IN_CLOSE_WRITE | inotify.IN_DELETE | inotify.IN_MOVED_FROM | inotify.IN_MOVED_TO


@dataclass(frozen=True, slots=True)
class FolderStatus:
    """How the folder stands. ``state``: waiting | watched | polled; ``since`` is Unix time."""

    state: str
    since: float
    last_error: str = ""
    files: int = 0
    objects: int = 0


class FolderSource:
    """Delivers what a folder of manifests declares to the sink."""

    def __init__(self, *, sink: Sink, resources: Sequence[Resource], folder: Path, redact: Redact) -> None:
        self._sink = sink
        self._resources = tuple(resources)
        self._folder = Path(os.path.abspath(folder))
        self._scanner = Scanner(self._folder, resources=self._resources, redact=redact)
        self._watch: inotify.Watch | None = None
        self._writing: dict[str, float] = {}  # who is being written, and until when that is respected
        self._delivered: dict[str, tuple[Normalized, ...]] = {}
        self._reported: frozenset[str] = frozenset()
        self._status = FolderStatus("waiting", time.time())

    def status(self) -> Mapping[str, FolderStatus]:
        """Return how the folder stands."""
        return {"manifests": self._status}

    async def run(self) -> None:
        """Deliver until cancelled."""
        self._sink.identify(f"folder:{self._folder}")
        try:
            while True:
                if self._look_after_watch() and self._delivered:
                    await self._settle()  # the folder is another one, and may still be filled
                await self._scan()
                await self._wait()
        finally:
            self._unwatch()

    async def _scan(self) -> None:
        now = time.monotonic()
        self._writing = {name: until for name, until in self._writing.items() if until > now}
        try:
            manifests = await anyio.to_thread.run_sync(
                self._scanner.scan, frozenset(self._writing), abandon_on_cancel=True
            )
        except OSError as error:
            self._unwatch()
            self._waiting(error.strerror or str(error))
            return
        self._sink.problem(str(self._folder), ())
        self._deliver(manifests)
        self._stand("polled" if self._watch is None else "watched")

    def _deliver(self, manifests: Manifests) -> None:
        """Give the sink what has changed; the first time everything, which is the sync of every resource."""
        for resource in self._resources:
            objects = manifests.objects[resource.name] + self._unknown(resource.name, manifests)
            delivered = self._delivered.get(resource.name)
            if delivered != objects:
                why = "initial" if delivered is None else "changed"
                self._sink.replace(resource.name, objects, "", why)
                self._delivered[resource.name] = objects
        places = {f"{self._folder}/{name}": found for name, found in manifests.problems.items() if found}
        for place in self._reported - places.keys():
            self._sink.problem(place, ())
        for place, found in places.items():
            self._sink.problem(place, found)
        self._reported = frozenset(places)

    def _unknown(self, resource: str, manifests: Manifests) -> tuple[Normalized, ...]:
        """Return the known objects of which no good version was read and which may still be declared."""
        if not manifests.bad and not manifests.cut:
            return ()
        declared = {new.obj.key for new in manifests.objects[resource]}
        return tuple(
            Normalized(known.obj, known.rv)
            for key, known in sorted(self._sink.current(resource).items())
            if key not in declared and (manifests.cut or Ref(resource, key) in manifests.bad)
        )

    # -- when to look again ------------------------------------------------------------------------------------------

    async def _wait(self) -> None:
        """Return when there is reason to look again: something happened and has settled, or it is time."""
        if self._watch is None:
            await anyio.sleep(POLL_S)
            return
        wait_s = RESCAN_S
        if self._writing:
            wait_s = max(0.0, min(self._writing.values()) - time.monotonic())
        if await self._happens(self._watch, wait_s):
            await self._settle()

    async def _settle(self) -> None:
        """Return when nothing has happened for a moment, or at last."""
        with anyio.move_on_after(SETTLE_S_MAX):
            while self._watch is not None and await self._happens(self._watch, SETTLE_S):
                pass

    async def _happens(self, watch: inotify.Watch, timeout_s: float) -> bool:
        """Tell whether something happens within the time, and note who is writing."""
        with anyio.move_on_after(timeout_s):
            await anyio.wait_readable(watch.fd)
            events = watch.read()
            for mask, name in events:
                if mask & WRITTEN:
                    self._writing.pop(name, None)
                elif mask & inotify.IN_MODIFY:
                    self._writing.setdefault(name, time.monotonic() + WRITING_S_MAX)
            return bool(events)
        return False

    def _look_after_watch(self) -> bool:
        """Watch the folder that is there now, and tell whether that is another one than before."""
        try:
            if self._watch is not None and self._watch.identity == inotify.identity(self._folder):
                return False
            self._unwatch()
            self._watch = inotify.watch(self._folder)
        except OSError as error:  # the scan says what is wrong with the folder
            self._unwatch()
            if inotify.no_inotify(error):
                logger.warning("folder_polled folder=%s reason=%r every_s=%g", self._folder, error.strerror, POLL_S)
            return False
        return True

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        self._writing.clear()

    # -- how it stands -----------------------------------------------------------------------------------------------

    def _waiting(self, reason: str) -> None:
        text = f"{reason}; not in sync, what is known stands, tried again every {POLL_S:g} s"
        self._sink.problem(str(self._folder), (Problem("Manifests", str(self._folder), text),))
        self._stand("waiting", error=reason)

    def _stand(self, state: str, *, error: str = "") -> None:
        since = self._status.since if self._status.state == state else time.time()
        objects = sum(map(len, self._delivered.values()))
        self._status = FolderStatus(state, since, error, len(self._scanner), objects)


def read_folder(path: Path, resources: Sequence[Resource], redact: Redact) -> Manifests:
    """Return what a folder of manifests, or a single file, declares. ConfigError if it cannot be read."""
    try:
        if path.is_dir():
            return Scanner(path, resources=resources, redact=redact).scan()
        file: File = parse(read_text(path), file=path.name, resources=resources, redact=redact)
        return merge({path.name: file}, resources)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
