"""Our speaker in a network namespace, as the routing plugin runs it: on an event loop, its routes in the kernel.

It runs in a thread that has entered the namespace. Next hops are reached as the plugin has it (reach.py), the kernel is
changed by plan and steps; only what a cluster's objects would say is given directly, as a ``SpeakerConfig``.
"""

import asyncio
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from ipaddress import ip_address
from itertools import pairwise
from types import TracebackType
from typing import Self, TypeVar

from harness.machine import until
from harness.netns import sh

from kube_router.lab import netns
from kube_router.plugins.routing.bgp.best import Selection
from kube_router.plugins.routing.bgp.model import Family, Path, PeerConfig, Prefix, SpeakerConfig, prefix_of
from kube_router.plugins.routing.bgp.neighbour import Neighbour
from kube_router.plugins.routing.bgp.speaker import Hooks, Speaker
from kube_router.plugins.routing.host import read_host
from kube_router.plugins.routing.kernel import Kernel
from kube_router.plugins.routing.model import Actual, Hop, Route, RouteId
from kube_router.plugins.routing.plan import carry_out, plan_routes
from kube_router.plugins.routing.reach import Reach
from kube_router.plugins.routing.settings import RoutingOptions

ANSWER_S_MAX = 10
WAIT_S_MAX = 20

T = TypeVar("T")


def router_id(text: str) -> int:
    """Return a router id as a number."""
    return int(ip_address(text))


class Speaking:
    """A speaker that runs for the time of a ``with``; it can be ended and started again in between."""

    def __init__(self, config: SpeakerConfig, namespace: str) -> None:
        self.config, self.namespace = config, namespace
        self.sessions: list[tuple[str, bool, str]] = []  # address, up, why not: as they were told
        self.settled = False
        self._speaker: Speaker | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread: threading.Thread | None = None
        self._errors: list[BaseException] = []
        self._kernel, self._actual = Kernel(), Actual()
        self._wanted: dict[RouteId, Route] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    # -- its life

    def start(self) -> None:
        """Start it; what the kernel still holds of its routes it has preserved (RFC 4724's F bit)."""
        started = threading.Event()
        self.settled = False
        self._thread = threading.Thread(target=self._live, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(ANSWER_S_MAX), "the speaker does not start"
        self._check()

    def stop(self) -> None:
        """End it as the agent's end does: silently towards neighbours with graceful restart. Its kernel routes stay."""
        if self._thread is None or self._loop is None or self._task is None:
            return
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(ANSWER_S_MAX)
        assert not self._thread.is_alive(), "the speaker does not end"
        self._thread = None
        self._check()

    def configure(self, config: SpeakerConfig) -> None:
        """Let it be something else."""
        self.config = config
        self.ask(lambda speaker: speaker.configure(config))

    def ask(self, question: Callable[[Speaker], T]) -> T:
        """Return what a function says of the speaker, on its loop."""

        async def answer() -> T:
            assert self._speaker is not None
            return question(self._speaker)

        self._check()
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(answer(), self._loop).result(ANSWER_S_MAX)

    # -- what it knows

    def paths(self, prefix: str) -> tuple[Path, ...]:
        """Return all paths to a prefix, whoever told them."""
        return self.ask(lambda speaker: speaker.rib.paths(prefix_of(prefix)))

    def taken_from(self, address: str) -> set[str]:
        """Return the prefixes that a neighbour has told and that may be used."""
        told = self.ask(lambda speaker: list(speaker.rib.routes_of(address)))
        return {str(prefix) for prefix, path in told if not path.refused}

    def neighbour(self, address: str) -> Neighbour:
        """Return a neighbour, to be read only."""
        return self.ask(lambda speaker: speaker.neighbours[address])

    def is_established(self, address: str) -> bool:
        """Tell whether a session is up."""
        return self.neighbour(address).peer.established_at is not None

    def bfd_is_up(self, address: str) -> bool:
        """Tell whether BFD hears a neighbour, and it us."""
        status = self.ask(lambda speaker: speaker.bfd_status()).get(address)
        return status is not None and status.state.lower() == "up"

    def next_hops(self, prefix: str) -> tuple[str, ...]:
        """Return where the kernel sends packets for a prefix of ours, () where it has no such route."""
        family = "-6" if ":" in prefix else "-4"
        words = sh(f"ip -n {self.namespace} {family} route show {prefix} proto 75").split()
        after = {second for first, second in pairwise(words) if first in ("via", "inet6")}
        return tuple(sorted(after - {"inet6"}))

    def wait_established(self, *addresses: str) -> None:
        """Wait until these sessions are up, all of them without any given."""
        for address in addresses or tuple(self.config.peers):
            self.wait(partial(self.is_established, address), f"the session with {address}")

    def wait_lost(self, address: str, timeout_s: float = WAIT_S_MAX) -> None:
        """Wait until a session is no longer up."""
        self.wait(lambda: not self.is_established(address), f"the end of the session with {address}", timeout_s)

    def wait_route(self, prefix: str, timeout_s: float = WAIT_S_MAX) -> Path:
        """Wait until the kernel has a route to a prefix, and return the best path."""
        self.wait(lambda: self.next_hops(prefix), f"a route to {prefix}", timeout_s)
        selection = self.ask(lambda speaker: speaker.rib.selection(prefix_of(prefix)))
        assert selection is not None
        return selection.best

    def wait_no_route(self, prefix: str, timeout_s: float = WAIT_S_MAX) -> None:
        """Wait until the kernel has no route to a prefix."""
        self.wait(lambda: not self.next_hops(prefix), f"no route to {prefix}", timeout_s)

    def wait(self, condition: Callable[[], object], what: str, timeout_s: float = WAIT_S_MAX) -> None:
        """Wait for a condition; AssertionError with what it knows where it does not come."""
        try:
            until(condition, what=f"{what} at our speaker in {self.namespace}", timeout_s=timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.describe()}") from error

    def describe(self) -> str:
        """Return its sessions and routes in words."""

        def words(speaker: Speaker) -> str:
            peers = [str(neighbour.peer.describe()) for neighbour in speaker.neighbours.values()]
            selections = speaker.rib.each_selection()
            routes = [f"{prefix}: {selection}" for prefix, selection in selections if selection.best.peer]
            return "\n".join([f"listening: {speaker.trouble or 'yes'}", *peers, *routes[:20], f"told: {self.sessions}"])

        return self.ask(words)

    # -- inside of its thread

    def _live(self, started: threading.Event) -> None:
        try:
            netns.enter(self.namespace)
            asyncio.run(self._speak(started))
        except BaseException as error:  # noqa: BLE001 (it is raised again where the test waits)
            self._errors.append(error)
        finally:
            self._speaker = None
            started.set()

    async def _speak(self, started: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._reach = Reach(read_host("node"), RoutingOptions(), {}, ())
        self._actual = self._kernel.observe()
        self._wanted.clear()
        preserved = {Family.IPV6 if ":" in id.destination else Family.IPV4 for id in self._actual.routes}
        hooks = Hooks(routes=self._learned, session=self._session, settled=self._done)
        self._speaker = Speaker(hooks, preserved=preserved)
        self._speaker.configure(self.config)
        started.set()
        try:
            await self._speaker.run()
        except asyncio.CancelledError:
            return  # stop() wants it so

    def _learned(self, changes: Mapping[Prefix, Selection | None]) -> None:
        ids = []
        for prefix, selection in changes.items():
            ids.append(id := RouteId(str(prefix)))
            hops = self._hops(selection.multipath) if selection is not None else ()
            if hops:
                self._wanted[id] = Route(hops)
            else:
                self._wanted.pop(id, None)
        self._bring(ids)

    def _hops(self, paths: Iterable[Path]) -> tuple[Hop, ...]:
        reached = (self._reach(str(ip_address(path.next_hop.address))).hop for path in paths)
        return tuple(sorted({hop for hop in reached if hop is not None}))

    def _bring(self, ids: Collection[RouteId]) -> None:
        steps = plan_routes(self._wanted, self._actual, ids, in_sync=True)
        failed = self._kernel.apply(steps).failed if steps else []
        if failed:
            self._errors.append(failed[0].error)
        carry_out(self._actual, steps)

    def _session(self, address: str, asn: int, up: bool, why: str) -> None:
        self.sessions.append((address, up, why))

    def _done(self) -> None:
        self.settled = True
        self._bring(list(self._actual.routes))

    def _check(self) -> None:
        if self._errors:
            raise self._errors.pop()


def peer(address: str, asn: int, ours: int, **more: object) -> PeerConfig:
    """Return a neighbour of a speaker of AS ``ours``."""
    return PeerConfig(address=address, asn=asn, internal=asn == ours, connect_retry_s=1.0, **more)  # type: ignore[arg-type]
