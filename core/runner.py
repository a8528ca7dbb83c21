"""One supervised task per plugin: gather what is dirty, let it settle, reconcile, back off on failure, start again.

A plugin never delays another: it has its own cursor on the log, its own task and its own worker thread. Events that
arrive while it works coalesce, since only *what* is dirty counts. A failed reconcile forgets nothing: the next one
gets everything dirty. An exception other than KernelError or PeerError, or a missed deadline, means the plugin's own
memory cannot be trusted: it is built anew.

When a reconcile may start: once the full list of every kind the plugin needs from the source is known, by the
journal or by the live source; only by the live source where the kernel may be newer than the journal (``hold``).
"""

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass

import anyio
from prometheus_client import CollectorRegistry

from kube_router.core.api import Plugin, Receipt
from kube_router.core.intake import Intake
from kube_router.core.metrics import Metrics
from kube_router.core.state import View
from kube_router.core.view import Dirty, Ref
from kube_router.core.worker import Worker
from kube_router.events.errors import KernelError, PeerError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """How eager a runner is, in seconds. ``abandoned_max`` threads given up end the process."""

    debounce_s: float = 0.05
    latency_max_s: float = 0.5
    resync_s: float = 300
    deadline_s: float = 60
    backoff_s: float = 0.2
    backoff_max_s: float = 30
    healthy_s: float = 60
    abandoned_max: int = 3


class Hopeless(Exception):
    """A plugin has hung so many threads that only a new process helps."""


class Runner:
    """Runs one plugin. ``build`` makes it, the first time and again after a failure of its own."""

    def __init__(
        self,
        name: str,
        *,
        build: Callable[[CollectorRegistry, Worker], Plugin],
        view: Callable[[Plugin], View],
        intake: Intake,
        metrics: Metrics,
        now_ms: Callable[[], int],
        worker: Worker | None = None,
        pace: Pace = Pace(),
        hold: bool = False,
    ) -> None:
        self.name, self.pace, self.hold = name, pace, hold
        self.worker = worker or Worker(name)
        self.state = "starting"
        self.reconciles = 0
        self.restarts = 0
        self.last_error = ""
        self.last_ms = 0.0
        self.last_upto = 0
        self.backoff_s = 0.0
        self.totals: dict[str, int] = {}
        self.confirmed = False  # whether a reconcile of a confirmed state has succeeded
        self.sourced = False  # the same of a state in which only the plugin's own kinds were unconfirmed
        self.stopping = False
        self._build, self._make_view = build, view
        self._intake, self._log = intake, intake.log
        self._metrics, self._now_ms = metrics, now_ms
        self._position = self._log.head
        self._dirty: dict[Ref, int] = {}
        self._everything = True
        self._failures = 0
        self._failed_at = 0.0
        self._watching = anyio.CancelScope()
        for counter in (metrics.failures, metrics.restarts):
            counter.labels(name)  # exported from the start: an increase from nothing is none to Prometheus
        self._renew()

    @property
    def plugin(self) -> Plugin:
        """The plugin as it is built now."""
        return self._plugin

    @property
    def registry(self) -> CollectorRegistry:
        """The metrics of the plugin as it is built now."""
        return self._registry

    async def run(self) -> None:
        """Run until cancelled or told to stop. Raises Hopeless."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch)
            await self._attempts()
            tasks.cancel_scope.cancel()

    @property
    def ready(self) -> bool:
        """Whether the plugin has reconciled what the source confirmed, and says of itself that it is ready."""
        ready = getattr(self._plugin, "ready", None)
        try:
            return self.sourced and (bool(ready()) if callable(ready) else True)
        except Exception as error:  # noqa: BLE001  (as in _says; the pages that ask serve all plugins)
            logger.warning("readiness_not_said plugin=%s error=%r", self.name, error)
            return False

    def stop(self) -> None:
        """Let the reconcile that is under way finish and start no other."""
        self.stopping = True
        self._log.wake()

    def status(self) -> dict[str, object]:
        """Return what ``kr status`` shows of the plugin."""
        return {
            "name": self.name,
            "state": self.state,
            "ready": self.ready,
            "reconciles": self.reconciles,
            "upto": self.last_upto,
            "last_ms": round(self.last_ms, 1),
            "changes": dict(self.totals),
            "problems": [str(problem) for problem in self._intake.problems.at(f"plugin/{self.name}")],
            "restarts": self.restarts,
            "threads_given_up": self.worker.abandoned,
            "last_error": self.last_error,
            "backoff_s": round(self.backoff_s, 1),
            "says": self._says(),
        }

    def _says(self) -> dict[str, str]:
        """Return what the plugin itself says; a plugin that fails at it must not hide the rest."""
        status = getattr(self._plugin, "status", None)
        try:
            return {str(word): str(said) for word, said in status().items()} if callable(status) else {}
        except Exception as error:  # noqa: BLE001  (a third party's method may raise anything)
            return {"status": f"{type(error).__name__}: {error}"}

    async def _attempts(self) -> None:
        while await self._until_due():
            await self._attempt()

    # -- waiting -------------------------------------------------------------------------------------------------------

    async def _until_due(self) -> bool:
        """Return True when there is something to do, after it has settled; False when told to stop."""
        resync_at = anyio.current_time() + getattr(self._plugin, "resync_s", self.pace.resync_s)
        while not self.stopping:
            self._pull()
            if not self._may_start():
                self.state = "waiting for the first list"
                await self._log.wait()
            elif self._everything:
                return True
            elif self._dirty:
                await self._settle()
                return True
            elif anyio.current_time() >= resync_at:
                self._everything = True
            else:
                self.state = "in sync" if self._view.in_sync else "presumed from the journal"
                with anyio.move_on_at(resync_at):
                    await self._log.wait()
        return False

    def _may_start(self) -> bool:
        return self._view.confirmed if self.hold else self._view.recovered

    def _pull(self) -> None:
        """Move the cursor to the head of the log."""
        entries = self._log.since(self._position)
        self._position = self._log.head
        if entries is None:
            self._everything, self.confirmed, self.sourced = True, False, False
            return
        resources = self._view.resources
        for ref, since_ms in entries:
            if ref.resource in resources:
                self._dirty.setdefault(ref, since_ms)
        if self._view.in_sync and not self.confirmed:
            self._everything = True  # deletions are allowed from now on
        if self._view.confirmed and not self.sourced:
            self._everything = True  # what the plugin itself confirms may have waited for it

    async def _settle(self) -> None:
        """Wait until nothing has happened for the debounce time, at most for the maximal latency."""
        end = anyio.current_time() + self.pace.latency_max_s
        debounce_s = getattr(self._plugin, "debounce_s", self.pace.debounce_s)
        while (left := end - anyio.current_time()) > 0:
            with anyio.move_on_after(min(debounce_s, left)) as quiet:
                await self._log.wait()
            self._pull()
            if quiet.cancelled_caught:
                return

    # -- working -------------------------------------------------------------------------------------------------------

    async def _attempt(self) -> None:
        self._pull()
        dirty, everything = self._dirty, self._everything
        confirmed, sourced, upto = self._view.in_sync, self._view.confirmed, self._view.seq
        self._dirty, self._everything = {}, False
        self.state = "reconciling"
        started, deadline_s = anyio.current_time(), getattr(self._plugin, "deadline_s", self.pace.deadline_s)
        try:
            with anyio.fail_after(deadline_s):
                receipt = await self._plugin.reconcile(self._view, Dirty(frozenset(dirty), everything))
        except Exception as error:  # noqa: BLE001  (whatever a plugin raises must not reach its siblings)
            self._dirty = dirty | self._dirty
            self._everything = True
            await self._failed(error, deadline_s)
            return
        self._account(receipt, took_s=anyio.current_time() - started, upto=upto)
        if receipt.failed:
            self._dirty = dirty | self._dirty
            self._everything = True
            await self._failed(KernelError(receipt.failed), deadline_s)
            return
        self._succeeded(dirty)
        self.confirmed, self.sourced = confirmed, sourced
        if anyio.current_time() - self._failed_at >= self.pace.healthy_s:
            self._failures = 0

    def _succeeded(self, dirty: dict[Ref, int]) -> None:
        self.last_error, self.backoff_s = "", 0
        now_ms, watched = self._now_ms(), self._view.watched
        observe = self._metrics.convergence.labels(self.name).observe
        for ref, since_ms in dirty.items():
            if ref.resource in watched:  # what the plugin itself found out is no change in the cluster
                observe(max(0, now_ms - since_ms) / 1000)

    def _account(self, receipt: Receipt, *, took_s: float, upto: int) -> None:
        """Tell metrics, log, status and journal what was done."""
        self.reconciles += 1
        self.last_ms, self.last_upto = took_s * 1000, upto
        self._metrics.reconcile.labels(self.name).observe(took_s)
        for what, count in receipt.changes.items():
            self.totals[what] = self.totals.get(what, 0) + count
            self._metrics.writes.labels(self.name, what).inc(count)
        self._intake.problems.set(f"plugin/{self.name}", receipt.problems)
        if receipt.changes:
            words = " ".join(f"{what.replace(' ', '_')}={count}" for what, count in receipt.changes.items())
            logger.info("reconciled plugin=%s upto=%d took_ms=%.1f %s", self.name, upto, self.last_ms, words)
            problems = [str(problem) for problem in receipt.problems[:20]]
            self._intake.receipt(self.name, upto=upto, took_ms=self.last_ms, changes=receipt.changes, problems=problems)

    async def _failed(self, error: Exception, deadline_s: float) -> None:
        words = f"no answer within {deadline_s:g} s" if isinstance(error, TimeoutError) else f"{error}"
        self.last_error = f"{type(error).__name__}: {words}"
        self._metrics.failures.labels(self.name).inc()
        self._failures += 1
        self._failed_at = anyio.current_time()
        expected = isinstance(error, KernelError | PeerError)
        logger.error(
            "reconcile_failed plugin=%s error=%r", self.name, self.last_error, exc_info=None if expected else error
        )
        if not expected:
            self._intake.note(self.name, f"built anew after {self.last_error}")
            self.restarts += 1
            self._metrics.restarts.labels(self.name).inc()
        if self.worker.abandoned >= self.pace.abandoned_max:
            raise Hopeless(f"plugin {self.name} has hung {self.worker.abandoned} threads; {self.last_error}")
        if not expected:
            try:
                self._renew()
            except Exception as again:
                self.last_error = f"cannot be built anew: {type(again).__name__}: {again}"
                logger.error("plugin_not_built plugin=%s error=%r", self.name, again, exc_info=again)
        await self._back_off()

    async def _back_off(self) -> None:
        exponent = min(self._failures - 1, 16)
        self.backoff_s = min(self.pace.backoff_s * 2**exponent, self.pace.backoff_max_s)
        self.state = "backing off"
        end = anyio.current_time() + self.backoff_s * random.uniform(0.5, 1)
        while not self.stopping and anyio.current_time() < end:
            with anyio.move_on_at(end):
                await self._log.wait()

    def _renew(self) -> None:
        """Build the plugin, anew, with everything dirty."""
        registry = CollectorRegistry()
        plugin = self._build(registry, self.worker)
        self._view = self._make_view(plugin)
        self._plugin, self._registry = plugin, registry
        self._everything = True
        self._watching.cancel()  # it was the old plugin's, and would take the new one's writes for somebody else's

    # -- what others do to the kernel ----------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Run the plugin's own watch, if it has one, again and again."""
        while watch := getattr(self._plugin, "watch", None):
            with anyio.CancelScope() as self._watching:
                try:
                    await watch(self._changed)
                except Exception as error:  # noqa: BLE001  (as in _attempt)
                    logger.warning("watch_failed plugin=%s error=%r", self.name, error)
                await anyio.sleep(self.pace.backoff_max_s / 6)

    def _changed(self) -> None:
        self._everything = True
        self._log.wake()
