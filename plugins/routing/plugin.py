"""Routing as a plugin: Nodes, Services and what peers tell → what this node tells and holds.

The BGP speaker runs in ``watch``, on the agent's loop. What it learns comes back as objects of local kinds (facts.py),
so that a reconcile sees Nodes, the host's links and routes alike, and plans from the view alone. While what the kernel
holds is known exactly (``_actual``) a route costs only its own step; after a start, an error or somebody else's change
the kernel is read first. Routes are taken in a few hundred at a time with the loop free in between.

Routes of an earlier run stay until the speaker has *settled* (every neighbour has told all it knows, or has had the
time to): then those that nobody told are withdrawn from the state, and the kind is confirmed.
"""

import logging
import math
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path

import anyio
from anyio.lowlevel import checkpoint

from kube_router.core.api import ClusterView, Context, Dirty, Line, Option, Plugin, Problem, Receipt, Resource, hookimpl
from kube_router.core.capabilities import to_listen
from kube_router.core.leftovers import Takeover
from kube_router.events.errors import KernelError
from kube_router.events.model import EndpointSlice, Node, Object, Service
from kube_router.plugins.routing import cnifile, facts, options, show, takeover, values
from kube_router.plugins.routing.announce import AnnounceTable
from kube_router.plugins.routing.bgp.best import Selection
from kube_router.plugins.routing.bgp.model import Prefix
from kube_router.plugins.routing.bgp.speaker import Hooks, Speaker
from kube_router.plugins.routing.blame import lines
from kube_router.plugins.routing.config import Configured, speaker_config
from kube_router.plugins.routing.entrywatch import EntryWatch
from kube_router.plugins.routing.explain import explain
from kube_router.plugins.routing.host import read_host
from kube_router.plugins.routing.learned import digest, routes_of
from kube_router.plugins.routing.metrics import Metrics
from kube_router.plugins.routing.model import MAIN, Forward, Neighbour, RouteId, Rule
from kube_router.plugins.routing.node import NodeKernel, Work
from kube_router.plugins.routing.published import Published
from kube_router.plugins.routing.settings import RoutingOptions, with_passwords
from kube_router.plugins.routing.tablewatch import TableWatch
from kube_router.plugins.routing.wanted import Cluster
from kube_router.plugins.routing.watch import Watch

logger = logging.getLogger(__name__)

AT_ONCE = 200
HEAR_AGAIN_S = 30.0
LATE_S = 30.0  # for a session and its routes, once a password is known
READY_S = 30.0  # a neighbour that is away does not keep the node from being called ready for longer


@hookimpl
def kube_router_options() -> Sequence[Option]:
    return options.OPTIONS


@hookimpl
def kube_router_resources() -> Sequence[Resource]:
    return facts.RESOURCES


@hookimpl
def kube_router_plugin(context: Context) -> Plugin:
    return Routing(context)


class Routing:
    """Owns this node's BGP sessions, routes of protocol 75, tunnels, kube-bridge and ``inet kube-router-routing``."""

    name = "routing"
    needs: frozenset[type[Object]] = frozenset({
        Node, Service, EndpointSlice, facts.Host, facts.Route, facts.RouteDigest, facts.Session
    })  # fmt: skip

    deadline_s = 300.0  # five thousand tunnels take the kernel a minute, an iptables that hangs half of one
    debounce_s = 0.0  # the speaker gathers what it learns, and tells it piece by piece

    def __init__(self, context: Context) -> None:
        self._context = context
        self._options = self._read = options.read(context.options)
        self.resync_s = min(self._options.injected_routes_sync_period_s, self._options.routes_sync_period_s)
        self._cni = cnifile.locate(os.environ)
        self._cni_cidrs: tuple[str, ...] = ()
        self._cluster, self._announced = self._empty()
        self._configured = Configured(config=None)
        self._metrics = Metrics(context.metrics, lambda: show.figures(self._speaker))
        self._kernel = NodeKernel(self._options, self._cni, fenced=context.fenced)
        self._watch = Watch(wanted=self._is_wanted, uses=self._is_used)
        self._speaker = Speaker(Hooks(routes=self._routes, session=self._session, settled=self._settled))
        self._published = Published(context)
        self._tables = TableWatch()
        self._entries = EntryWatch(self._is_entry)
        self._takeover = Takeover(context.node)
        self._untold = False  # whether changed routes may not have been published
        self._ready_at = math.inf
        self._late_until = 0.0  # until then a peer whose password came late may still tell routes of an earlier run
        self._changed: Callable[[], None] = lambda: None

    async def reconcile(self, view: ClusterView, dirty: Dirty) -> Receipt:
        self._watch.begin()
        self._tables.begin()
        try:
            with self._metrics.sync_time.time():
                return await self._reconcile(view, dirty)
        finally:
            self._tables.end()
            self._watch.end()

    async def _reconcile(self, view: ClusterView, dirty: Dirty) -> Receipt:
        if dirty.everything or not self._kernel.is_known:
            dirty = Dirty(dirty.refs, everything=True)
            await self._look(view)
        await self._announce(view, dirty)
        if dirty.everything:
            await self._republish(view)
        work = await self._take(view, dirty)
        with self._metrics.kernel_time.time():
            done = await self._context.run(self._kernel.bring, work)
        self._account(done.changes)
        speaks = self._configured.config is not None  # else its routes are all there is
        if speaks and not done.failed and self._takeover.is_due(in_sync=view.in_sync, everything=dirty.everything):
            removed = await self._context.run(takeover.remove, self._destinations())
            done.changes.update(self._takeover.note(*removed))
        troubles = (*self._troubles(done.troubles), *self._takeover.problems)
        problems = (*self._configured.problems, *self._cluster.problems, *troubles)
        return Receipt(+done.changes, problems, failed=done.failed)

    async def watch(self, changed: Callable[[], None]) -> None:
        """Speak BGP; call ``changed`` when somebody else changes what is ours, or the node's own links change."""
        self._changed = changed
        self._ready_at = anyio.current_time() + READY_S
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._speaker.run)
                tasks.start_soon(self._hear, lambda: self._watch.run(changed, changed))
                tasks.start_soon(self._hear, lambda: self._tables.run(changed))
                if self._options.enable_overlay and self._options.overlay_encap == "vxlan":
                    tasks.start_soon(self._hear, lambda: self._entries.run(changed))
        except ExceptionGroup as errors:  # of which there is one: the runner is to tell its words
            raise errors.exceptions[0] from errors

    async def _hear(self, run: Callable[[], Awaitable[None]]) -> None:
        """Listen to the kernel again and again: that it cannot be heard must not end BGP sessions."""
        while True:
            try:
                await run()
            except KernelError as error:
                logger.warning("kernel_not_heard error=%r again_in=%gs", str(error), HEAR_AGAIN_S)
            await anyio.sleep(HEAR_AGAIN_S)
            self._changed()  # something may have been missed

    def answer(self, question: Mapping[str, object]) -> object:
        """Answer ``kr bgp``."""
        if question.get("what") == "neighbours":
            return {**show.us(self._speaker, self._configured), "neighbours": show.neighbours(self._speaker)}
        if question.get("what") == "routes":
            words = {word: str(question.get(word) or "") for word in ("prefix", "peer")}
            return show.routes(self._speaker, str(question.get("which") or "best"), **words)
        raise ValueError('ask routing {"what": "neighbours"} or {"what": "routes"}')

    def explain(self, view: ClusterView, question: Mapping[str, object]) -> Mapping[str, object]:
        """Answer ``kr explain --route``."""
        return explain(view, question, self._options, self._context.node, cni_cidrs=self._cni_cidrs)

    def status(self) -> Mapping[str, object]:
        """Return what ``kr status`` shows besides."""
        return show.status(self._speaker, self._configured)

    def ready(self) -> bool:
        """Return whether neighbours have told their routes, or have had half a minute to.

        After a restart only those count whose routes were used before: in a large cluster some node is always away.
        """
        return self._speaker.has_heard(self._published.tellers) or anyio.current_time() >= self._ready_at

    def capabilities(self) -> Mapping[str, str]:
        """Return what the process needs to be allowed, which depends on the ports."""
        bfd = self._options.bfd
        ports = {"BGP": self._options.bgp_port} | ({} if bfd is None else {"BFD": bfd.port})
        return {"NET_ADMIN": "writes routes, rules, tunnels, nftables and sysctls", **to_listen(ports)}

    async def cleanup(self) -> None:
        await self._context.run(self._kernel.cleanup)

    def render(self, view: ClusterView) -> Iterable[Line]:
        cluster, announced = self._empty()
        announced.update(view, Dirty(everything=True))
        cluster.update(view, Dirty(everything=True))
        configured = speaker_config(
            view, self._options, self._context.node, lambda digest: "", announced=announced, cni_cidrs=self._cni_cidrs
        )
        egress = self._options.enable_pod_egress
        return lines(view, self._context.node, configured, announced, cluster, egress=egress)

    # -- on the loop ---------------------------------------------------------------------------------------------------

    def _empty(self) -> tuple[Cluster, AnnounceTable]:
        node = self._context.node
        return (
            Cluster(node, self._options, cni_cidrs=self._cni_cidrs),
            AnnounceTable(self._options, node, cni_cidrs=self._cni_cidrs),
        )

    async def _look(self, view: ClusterView) -> None:
        """Read what the node itself has to say: files, links, kernel; and bring the published facts up to date."""
        files, host = await self._context.run(self._read_node)
        if files != (self._options, self._cni_cidrs):
            self._options, self._cni_cidrs = files
            self._cluster, self._announced = self._empty()
        self._context.publish(facts.Host, [host])
        self._context.confirm(facts.Host)
        kept = {values.family(each.destination) for each in self._kernel.routes}
        if not self._speaker.settled:  # after that nobody asks what was kept
            kept |= await self._context.run(takeover.forwarding)  # its routes stay until ours are in place
        self._speaker.set_preserved(kept)
        self._published.recover(view)

    async def _republish(self, view: ClusterView) -> None:
        """Let the state hold exactly what the speaker knows, once it knows all."""
        learned = {str(prefix) for prefix, each in self._speaker.rib.each_selection() if each.best.peer}
        held = {route.name for route in view.each(facts.Route)}
        whole = self._speaker.settled and view.confirmed and anyio.current_time() >= self._late_until
        if self._untold or learned - held or (whole and held - learned):
            routes = routes_of((prefix, each) for prefix, each in self._speaker.rib.each_selection() if each.best.peer)
            self._published.change(routes, sorted(held - learned) if whole else ())
            self._untold = False
        if self._published.is_volatile:
            self._published.tell(await self._context.run(digest, list(view.each(facts.Route))))
        self._retell_sessions(view)
        if whole:
            self._published.confirm(view, list(self._speaker.neighbours))

    async def _announce(self, view: ClusterView, dirty: Dirty) -> None:
        """Take in Services and Nodes, and tell the speaker what it is to be."""
        keys = iter(sorted(self._announced.dirty_services(view, dirty)))
        touched = dirty.everything or any(ref.resource == "nodes" for ref in dirty.refs)
        while some := list(islice(keys, AT_ONCE)):
            touched = bool(self._announced.reclaim(view, some)) or touched
            await checkpoint()
        if not touched:
            return
        waited = set(self._configured.waiting)
        with self._metrics.peers_sync_time.time():
            self._configured = speaker_config(
                view,
                self._options,
                self._context.node,
                self._context.secret,
                announced=self._announced,
                cni_cidrs=self._cni_cidrs,
            )
            if self._configured.config is not None:
                self._metrics.count_announced(self._speaker.config, self._configured.config)
                if waited.difference(self._configured.waiting):
                    self._late_until = anyio.current_time() + LATE_S
                self._speaker.configure(self._configured.config)

    async def _take(self, view: ClusterView, dirty: Dirty) -> Work:
        """Take in routes and nodes; return what the kernel then needs."""
        structural = dirty.everything or any(ref.resource in ("nodes", "hosts") for ref in dirty.refs)
        if structural:  # made beside the old one, which stands until it is whole
            cluster, _ = self._empty()
            cluster.begin(view)
            names = [route.name for route in view.each(facts.Route)]
        else:
            cluster, names = self._cluster, [ref.key for ref in dirty.refs if ref.resource == "routes"]
        for start in range(0, len(names), AT_ONCE):
            structural = cluster.take(view, names[start : start + AT_ONCE]) or structural
            await checkpoint()
        before, self._cluster = self._cluster, cluster
        changed = [ref.key for ref in dirty.refs if ref.resource == "routes"]
        return Work(
            cluster=cluster,
            routes=None if structural else frozenset(RouteId(name, MAIN) for name in names),
            withdrawn=frozenset(RouteId(name, MAIN) for name in changed if view.get(facts.Route, name) is None),
            look=dirty.everything or cluster.host_side != before.host_side,
            in_sync=view.in_sync,
        )

    def _destinations(self) -> frozenset[str]:
        return self._cluster.surroundings.all_pods | {each.destination for each in self._cluster.wanted.routes}

    def _troubles(self, troubles: Iterable[str]) -> list[Problem]:
        return [Problem("Node", self._context.node, words) for words in troubles]

    def _account(self, changes: Counter[str]) -> None:
        self._metrics.synced.set(len(self._cluster.wanted.routes))
        self._metrics.added.inc(changes["route added"] + changes["route set"])
        self._metrics.removed.inc(changes["route removed"])

    def _is_wanted(self, what: RouteId | Rule) -> bool:
        wanted = self._cluster.wanted
        return what in wanted.rules if isinstance(what, Rule) else what in wanted.routes

    def _is_entry(self, entry: Neighbour | Forward) -> bool:
        wanted = self._cluster.wanted
        return entry in wanted.forwards if isinstance(entry, Forward) else entry in wanted.neighbours

    def _is_used(self, device: str) -> bool:
        cluster = self._cluster
        return device in cluster.wanted.devices or device in cluster.devices or device in cluster.surroundings.devices

    # -- what the speaker tells ----------------------------------------------------------------------------------------

    def _routes(self, changes: Mapping[Prefix, Selection | None]) -> None:
        self._metrics.received.inc(len(changes))
        self._untold = True  # should anything here fail
        routes = routes_of(changes.items())
        was_volatile = self._published.is_volatile
        self._published.change(routes, [str(prefix) for prefix, selection in changes.items() if selection is None])
        self._untold = False
        if self._published.is_volatile and not was_volatile:
            self._changed()  # a digest is to be made

    def _session(self, address: str, asn: int, up: bool, why: str) -> None:
        state = "established" if up else "down"
        self._context.publish(facts.Session, [facts.Session(name=address, asn=asn, state=state, error=why)])

    def _retell_sessions(self, view: ClusterView) -> None:
        """Publish sessions that the state holds otherwise: an earlier run's, or none since it is another cluster's."""
        for address, neighbour in self._speaker.neighbours.items():
            held, peer = view.get(facts.Session, address), neighbour.peer
            is_up = peer.established_at is not None
            if is_up != (held is not None and held.state == "established"):
                asn = peer.negotiated.asn if peer.negotiated is not None else neighbour.config.asn
                self._session(address, asn, is_up, "" if is_up else peer.last_error)

    def _settled(self) -> None:
        self._changed()

    # -- in the worker thread ------------------------------------------------------------------------------------------

    def _read_node(self) -> tuple[tuple[RoutingOptions, tuple[str, ...]], facts.Host]:
        return (self._read_passwords(), cnifile.read_pod_cidrs(self._cni)), self._kernel.look(
            lambda: read_host(self._context.node)
        )

    def _read_passwords(self) -> RoutingOptions:
        name = self._read.peer_router_passwords_file
        if not name:
            return self._read
        try:
            return with_passwords(self._read, Path(name).read_text(), before=self._options)
        except (OSError, UnicodeDecodeError) as error:
            words = error.strerror or str(error) if isinstance(error, OSError) else "is no UTF-8 text"
            return with_passwords(self._read, None, words, before=self._options)
