"""The API server as a source: one reflector per resource, all of them supervised, none able to harm another.

Before anything else the cluster is identified by its kube-system Namespace's uid: what a journal recovered of another
cluster must not be resumed. Until the API server can be reached that is tried again and again, and the agent lives on
what the journal recovered. Then the reflectors run side by side: reflector.py decides, follow.py does, apiserver.py
talks, wire.py reads, servers.py chooses among several API servers. After a rewound history the identity is checked
again, for it may be another cluster's.

Typed models and watch.Watch of kubernetes-asyncio are not used: they cost 90 times the CPU, and Watch takes a
plain-text refusal for an event, hammers a server that closes at once, and never notices a silent one.
"""

import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import time

import anyio
import anyio.to_thread

from kube_router.events.errors import ConfigError, PeerError, Problem
from kube_router.events.model import EndpointSlice
from kube_router.events.resource import Redact, Resource
from kube_router.events.sink import Sink
from kube_router.events.sources.access import Access, check
from kube_router.events.sources.apiserver import ApiServer
from kube_router.events.sources.follow import Reflector
from kube_router.events.sources.library import library
from kube_router.events.sources.reflector import Chance, Course, Timing
from kube_router.events.sources.wire import decode_uid

logger = logging.getLogger(__name__)

IDENTITY_PATH = "/api/v1/namespaces/kube-system"
IDENTITY_BYTES_MAX = 4 << 20
SLICES = "endpointslices"


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """How one resource's stream stands. ``state``: connecting | syncing | resuming | connected | waiting.

    ``since`` is Unix time; ``last_error`` is the last one there was, also while connected. ``server`` says in words
    which API server answered last.
    """

    state: str
    since: float
    last_error: str = ""
    rv: str = ""
    server: str = ""

    def __str__(self) -> str:
        position = f" at resourceVersion {self.rv}" if self.rv else ""
        reason = f": {self.last_error}" if self.last_error and self.state in ("waiting", "connecting") else ""
        return f"{self.state}{position}{reason}"


class KubernetesSource:
    """Delivers resources of an API server to the sink."""

    def __init__(
        self,
        *,
        sink: Sink,
        resources: Sequence[Resource],
        access: Access,
        redact: Redact,
        timing: Timing | None = None,
        chance: Chance = random.random,
    ) -> None:
        self._sink, self._chance, self._access = sink, chance, access
        self._timing = timing or Timing()
        knows_slices = any(resource.model is EndpointSlice for resource in resources)
        slices = self._slices if knows_slices else tuple
        self._server = ApiServer(access, self._timing, slices=slices, salt=f"{chance()}")
        self._cluster = ""
        self._status = {resource.name: StreamStatus("connecting", time()) for resource in resources}
        self._reflectors = {
            resource.name: Reflector(
                resource=resource,
                sink=sink,
                server=self._server,
                redact=redact,
                timing=self._timing,
                chance=chance,
                rewound=self._identify,
                changed_state=partial(self._note_state, resource.name),
            )
            for resource in resources
        }

    @property
    def requests(self) -> int:
        """How many requests have been sent."""
        return self._server.requests

    def status(self) -> Mapping[str, StreamStatus]:
        """Return how each resource's stream stands."""
        server = self._server.server
        return {
            name: replace(status, rv=self._reflectors[name].course.rv, server=server)
            for name, status in self._status.items()
        }

    async def run(self) -> None:
        """Deliver until cancelled. Raises ConfigError at once for access that can never work."""
        await anyio.to_thread.run_sync(library)  # a quarter of a second that the loop need not miss
        check(self._access)
        try:
            await self._identify_at_last()
            async with anyio.create_task_group() as tasks:
                for name, reflector in self._reflectors.items():
                    tasks.start_soon(reflector.run, name=f"reflector {name}")
        finally:
            await self._server.close()

    def _slices(self) -> Iterator[EndpointSlice]:
        """Yield the EndpointSlices as the journal, or the API server itself, last told them."""
        for known in self._sink.current(SLICES).values():
            if isinstance(known.obj, EndpointSlice):
                yield known.obj

    async def _identify_at_last(self) -> None:
        course = Course(rv="", timing=self._timing, chance=self._chance, now=anyio.current_time())
        while True:
            try:
                await self._identify()
            except (PeerError, ConfigError) as error:
                wait_s = course.failed(error, anyio.current_time())
                for name in self._status:
                    self._note_state(name, "connecting", str(error))
                # The sink logs it when it appears and when it ends; a server that is down for a night fills no log.
                self._sink.problem("stream/identity", (Problem("API server", "identity", str(error)),))
                logger.debug(f"api_server_unreachable what={str(error)!r} next_try_s={wait_s:.1f}")
                await anyio.sleep(max(wait_s, self._timing.backoff_min_s / 2))
            else:
                self._sink.problem("stream/identity", ())
                return

    async def _identify(self) -> None:
        cluster = decode_uid(await self._server.get(IDENTITY_PATH, bytes_max=IDENTITY_BYTES_MAX))
        if cluster == self._cluster:
            return
        is_first, self._cluster = not self._cluster, cluster
        logger.info(f"cluster_identified uid={cluster}")
        self._sink.identify(cluster)
        if not is_first:
            for reflector in self._reflectors.values():
                reflector.forget()

    def _note_state(self, name: str, state: str, error: str) -> None:
        old = self._status[name]
        if state != old.state or error:
            since = old.since if state == old.state else time()
            self._status[name] = replace(old, state=state, since=since, last_error=error or old.last_error)
