"""The firewall as a plugin: NetworkPolicies and pods → wanted, compared with the kernel, applied.

While what the kernel holds is known exactly a change costs only its own elements and chains; after a start, an error
or somebody else's change the table is looked at first. Everything is taken in a few hundred objects at a time with the
loop free in between: what changes meanwhile is dirty for the next reconcile, since a plan depends on state, not on
history.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import anyio
from anyio.lowlevel import checkpoint

from kube_router.core.api import ClusterView, Context, Dirty, Line, Option, Plugin, Receipt, hookimpl
from kube_router.core.bridge import prepare_bridge
from kube_router.core.leftovers import Takeover
from kube_router.events.errors import KernelError
from kube_router.events.model import Namespace, NetworkPolicy, Node, Object, Pod
from kube_router.plugins.firewall import takeover
from kube_router.plugins.firewall.blame import lines
from kube_router.plugins.firewall.conntrack import cut_flows
from kube_router.plugins.firewall.drops import Drops
from kube_router.plugins.firewall.evaluate import Settings
from kube_router.plugins.firewall.explain import explain
from kube_router.plugins.firewall.flows import Judge
from kube_router.plugins.firewall.kernel import Kernel
from kube_router.plugins.firewall.metrics import Metrics
from kube_router.plugins.firewall.model import Direction, Touched, is_class_chain, is_policy_chain
from kube_router.plugins.firewall.options import OPTIONS
from kube_router.plugins.firewall.strict import judge_of
from kube_router.plugins.firewall.table import Outcome, Table
from kube_router.plugins.firewall.wanted import Cluster, all_refs
from kube_router.plugins.firewall.watch import Doubt, Watch

logger = logging.getLogger(__name__)

OBJECTS_AT_ONCE = 200
PASSES_MAX = 5  # what all rules depend on may change while everything is taken in


@hookimpl
def kube_router_options() -> Sequence[Option]:
    return OPTIONS


@hookimpl
def kube_router_plugin(context: Context) -> Plugin:
    return Firewall(context)


class Firewall:
    """Owns the nftables table ``inet kube-router-firewall`` of this node."""

    name = "firewall"
    needs: frozenset[type[Object]] = frozenset({Pod, Namespace, NetworkPolicy, Node})

    def __init__(self, context: Context) -> None:
        self.resync_s = context.options.seconds("iptables-sync-period")
        self._context = context
        flag = context.options.flag
        self._settings = Settings(default_deny=flag("netpol-default-deny"), judge_icmp=flag("netpol-judge-icmp"))
        self._strict, self._reads_drops = flag("netpol-strict"), flag("netpol-read-drops")
        self._cluster = self._empty()
        self._owners: Mapping[str, tuple[Direction, str]] = {}
        self._metrics = Metrics(context.metrics, lambda: self._owners)
        self._watch = Watch()
        self._kernel = Kernel(committed=self._watch.committed)
        self._table = Table(self._kernel)
        self._takeover = Takeover(context.node)
        self._drops = Drops(describe=self._pod_at, policies_of=self._policies_of, note=context.note)
        if not self._reads_drops:
            self._drops.state = "not read (--netpol-read-drops=false)"
        self._changed: Callable[[], None] = lambda: None

    async def reconcile(self, view: ClusterView, dirty: Dirty) -> Receipt:
        self._watch.begin()
        try:
            with self._metrics.sync_time.time():
                return await self._reconcile(view, dirty)
        finally:
            if doubt := self._watch.end():
                self._disturbed(doubt)

    async def _reconcile(self, view: ClusterView, dirty: Dirty) -> Receipt:
        anew = await self._update(view, dirty)
        ruleset = self._cluster.ruleset
        touched = ruleset.take_touched()
        outcome = await self._context.run(self._bring, None if anew or dirty.everything else touched, view.in_sync)
        writes = Counter(outcome.changes)
        self._export()
        if self._strict and (anew or outcome.changes):
            judge = judge_of(view, self._settings)
            cut = await self._context.run(self._cut_flows, sorted(self._cluster.local_addresses), judge)
            writes["flow cut"] += cut
            self._metrics.cut_flows.inc(cut)
        if self._takeover.is_due(in_sync=view.in_sync, everything=dirty.everything):
            writes.update(self._takeover.note(*await self._context.run(takeover.remove)))
        return Receipt(+writes, (*self._cluster.problems, *self._takeover.problems))

    async def watch(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` when somebody else changes our table; read what the kernel logs of denied packets."""
        self._changed = changed
        try:
            async with anyio.create_task_group() as tasks:
                if self._reads_drops:
                    tasks.start_soon(self._drops.run)
                tasks.start_soon(self._watch.run, self._disturbed)
        except ExceptionGroup as errors:  # of which there is one: the runner is to tell its words
            raise errors.exceptions[0] from errors

    def answer(self, question: Mapping[str, object]) -> object:
        """Answer ``kr drops``."""
        if question.get("what") != "drops":
            raise ValueError('ask the firewall {"what": "drops"}')
        return self._drops.answer(question)

    def explain(self, view: ClusterView, question: Mapping[str, object]) -> Mapping[str, object]:
        """Answer ``kr explain``."""
        return explain(view, question, self._settings)

    def status(self) -> Mapping[str, object]:
        """Return what ``kr status`` shows besides."""
        return {"nftables": self._kernel.nft_backend or "not used yet", "drops": self._drops.status}

    def capabilities(self) -> Mapping[str, str]:
        """Return what the process needs to be allowed."""
        return {"NET_ADMIN": "writes the nftables table of the policies and reads denied packets"}

    async def cleanup(self) -> None:
        await self._context.run(self._kernel.cleanup)

    def render(self, view: ClusterView) -> Iterable[Line]:
        cluster = self._empty()
        cluster.update(view, Dirty(everything=True))
        return lines(cluster, view)

    # -- on the loop ---------------------------------------------------------------------------------------------------

    def _empty(self) -> Cluster:
        return Cluster(self._context.node, **self._settings._asdict(), strict=self._strict)

    async def _update(self, view: ClusterView, dirty: Dirty) -> bool:
        """Take in what is dirty; return whether everything was taken in anew."""
        if not dirty.everything:
            self._cluster.take(view, dirty.refs)
            if not self._cluster.stale:
                return False
        for _ in range(PASSES_MAX):
            cluster = self._empty()
            cluster.begin(view)
            refs = all_refs(view)
            for start in range(0, len(refs), OBJECTS_AT_ONCE):
                cluster.take(view, refs[start : start + OBJECTS_AT_ONCE])
                await checkpoint()
            if not cluster.stale:
                self._cluster = cluster
                return True
        raise KernelError(f"the node's addresses changed {PASSES_MAX} times while its policies were taken in")

    def _pod_at(self, address: str) -> str:
        return self._cluster.population.at(address)

    def _policies_of(self, address: str, direction: Direction) -> list[str]:
        return self._cluster.policies_of(address, direction)

    def _disturbed(self, doubt: Doubt) -> None:
        if doubt == "foreign":
            self._metrics.repairs.inc()
            self._table.distrust()
        else:
            self._table.doubt()
        self._changed()

    def _export(self) -> None:
        ruleset = self._cluster.ruleset
        self._owners = self._cluster.chain_owners()
        self._metrics.chains.set(sum(is_policy_chain(name) or is_class_chain(name) for name in ruleset.chains))
        self._metrics.sets.set(len(ruleset.sets))
        self._metrics.faulty.set(self._cluster.faulty)

    # -- in the worker thread ------------------------------------------------------------------------------------------

    def _cut_flows(self, addresses: Sequence[str], judge: Judge) -> int:
        return cut_flows(addresses, judge, fenced=self._context.fenced)

    def _bring(self, touched: Touched | None, in_sync: bool) -> Outcome:
        written = 0
        if touched is None:
            written, troubles = prepare_bridge()
            for trouble in troubles:
                logger.warning(f"bridge_not_prepared what={trouble!r}")
        outcome = self._table.bring(self._cluster.ruleset, touched, in_sync=in_sync)
        return outcome if not written else Outcome({**outcome.changes, "sysctl set": written}, outcome.left)
