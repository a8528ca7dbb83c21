"""The proxy as a plugin: Services → wanted, compared with the kernel, applied.

While what the kernel holds is known exactly (``_actual``) a change costs only its own steps; after a start, an error
or somebody else's change the kernel is read first. Claims are made a few hundred Services at a time with the loop
free in between: what changes meanwhile is dirty for the next reconcile, since a plan depends on state, not on history.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import ip_address, ip_network
from itertools import islice

from anyio.lowlevel import checkpoint

from kube_router.core.api import ClusterView, Context, Dirty, Line, Option, Plugin, Problem, Receipt, hookimpl
from kube_router.core.leftovers import Takeover
from kube_router.events.model import EndpointSlice, Node, Object, Service
from kube_router.plugins.proxy.blame import lines
from kube_router.plugins.proxy.kernel import Applied, Kernel
from kube_router.plugins.proxy.metrics import Metrics
from kube_router.plugins.proxy.model import Actual, ServiceId, Step
from kube_router.plugins.proxy.options import OPTIONS
from kube_router.plugins.proxy.plan import carry_out, plan, plan_places
from kube_router.plugins.proxy.wanted import Cluster, text
from kube_router.plugins.proxy.watch import Watch

SERVICES_AT_ONCE = 200


@hookimpl
def kube_router_options() -> Sequence[Option]:
    return OPTIONS


@hookimpl
def kube_router_plugin(context: Context) -> Plugin:
    return Proxy(context)


class Proxy:
    """Owns IPVS, kube-dummy-if and the nftables table ``inet kube-router-proxy`` of this node."""

    name = "proxy"
    needs: frozenset[type[Object]] = frozenset({Service, EndpointSlice, Node})

    def __init__(self, context: Context) -> None:
        self.resync_s = context.options.seconds("ipvs-sync-period")
        self._excluded = [ip_network(cidr, strict=False) for cidr in context.options.texts("excluded-cidrs")]
        self._context = context
        self._cluster = self._empty()
        self._kernel: Kernel | None = None
        self._actual: Actual | None = None  # None: not known exactly
        self._takeover = Takeover(context.node)
        self._metrics = Metrics(context.metrics, lambda: self._cluster.owners.copy())
        self._watch = Watch(lambda address: self._cluster.address(address) is not None)

    async def reconcile(self, view: ClusterView, dirty: Dirty) -> Receipt:
        self._watch.begin()
        try:
            with self._metrics.sync_time.time():
                return await self._reconcile(view, dirty)
        finally:
            self._watch.end()

    async def _reconcile(self, view: ClusterView, dirty: Dirty) -> Receipt:
        facts = self._cluster.facts
        touched = await self._update(view, dirty)
        writes: Counter[str] = Counter()
        if dirty.everything or self._actual is None or self._cluster.facts != facts:
            actual, prepared = await self._context.run(self._observe)
            writes.update(prepared)
            steps = await self._context.run(self._plan_all, actual, view.in_sync)
        else:
            actual, steps = self._actual, self._plan_places(self._actual, touched, in_sync=view.in_sync)
        if steps:
            self._actual = None  # until all of it is known to be done
            applied: Applied = await self._context.run(self._apply, steps)
            writes.update(applied.changes)
            if applied.failed:
                problems = (*self._cluster.problems, *self._takeover.problems, *self._refusals(applied))
                return Receipt(writes, problems, failed=_words(applied))
            carry_out(actual, steps)
        self._actual = actual
        if self._takeover.is_due(in_sync=view.in_sync, everything=dirty.everything):
            writes.update(self._takeover.note(*await self._context.run(self._take_over)))
        return Receipt(writes, (*self._cluster.problems, *self._takeover.problems))

    async def watch(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` when somebody else takes away what is ours."""
        await self._watch.run(changed)

    def capabilities(self) -> Mapping[str, str]:
        """Return what the process needs to be allowed."""
        return {"NET_ADMIN": "writes IPVS, addresses, nftables and sysctls"}

    async def cleanup(self) -> None:
        await self._context.run(self._cleanup)

    def render(self, view: ClusterView) -> Iterable[Line]:
        cluster = self._empty()
        cluster.update(view, Dirty(everything=True))
        return lines(cluster, view)

    # -- on the loop ---------------------------------------------------------------------------------------------------

    def _empty(self) -> Cluster:
        return Cluster(self._context.node, masquerade_all=self._context.options.flag("masquerade-all"))

    async def _update(self, view: ClusterView, dirty: Dirty) -> set[ServiceId]:
        touched: set[ServiceId] = set()
        keys = iter(sorted(self._cluster.dirty_services(view, dirty)))
        while some := list(islice(keys, SERVICES_AT_ONCE)):
            touched |= self._cluster.reclaim(view, some)
            await checkpoint()
        return touched

    def _plan_places(self, actual: Actual, touched: set[ServiceId], *, in_sync: bool) -> list[Step]:
        addresses = {place.address: self._cluster.address(place.address) for place in touched}
        return plan_places(self._cluster.services, addresses, actual, touched, in_sync=in_sync)

    def _refusals(self, applied: Applied) -> list[Problem]:
        """Return what the kernel refused as problems of the Services it was for."""
        problems = []
        for step, error in applied.failed:
            place = getattr(step, "id", None)
            if place in self._cluster.owners:
                problems.append(Problem("Service", self._cluster.owners[place], f"{text(place)}: {error}"))
        return problems

    # -- in the worker thread ------------------------------------------------------------------------------------------

    def _observe(self) -> tuple[Actual, Counter[str]]:
        if self._kernel is None:
            self._kernel = Kernel()
        prepared = self._kernel.prepare(self._cluster.facts.addresses)
        actual = self._kernel.observe()
        actual.leftovers = frozenset(place for place in actual.leftovers if not self._is_excluded(place.address))
        return actual, Counter(prepared)

    def _is_excluded(self, address: str) -> bool:
        """Return whether ``--excluded-cidrs`` says to leave it alone."""
        return any(ip_address(address) in cidr for cidr in self._excluded)

    def _plan_all(self, actual: Actual, in_sync: bool) -> list[Step]:
        return plan(self._cluster.wanted(), actual, in_sync=in_sync)

    def _apply(self, steps: Sequence[Step]) -> Applied:
        assert self._kernel is not None
        return self._kernel.apply(steps, fenced=self._context.fenced)

    def _take_over(self) -> tuple[Counter[str], list[str]]:
        assert self._kernel is not None
        return self._kernel.take_over()

    def _cleanup(self) -> None:
        (self._kernel or Kernel()).cleanup()


def _words(applied: Applied) -> str:
    """Return what the kernel refused: the first in full, the rest counted."""
    step, error = applied.failed[0]
    more = f" (and {len(applied.failed) - 1} more)" if len(applied.failed) > 1 else ""
    return f"{type(step).__name__}: {error}{more}"
