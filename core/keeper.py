"""Keeps the journal: recovers it at start, flushes and snapshots it while the agent runs, closes it at the end.

All of it that can block runs in the keeper's own worker thread; an event never waits for the disk: ``write``
comes before the plugins are woken, ``fdatasync`` at most once a second.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import anyio

from kube_router import __version__
from kube_router.core.intake import Intake
from kube_router.core.metrics import Metrics
from kube_router.core.state import State
from kube_router.core.worker import Worker
from kube_router.events.event import SCHEMA, Segment
from kube_router.events.journal import Journal

logger = logging.getLogger(__name__)

FLUSH_S = 1.0
CHECKPOINT_S = 10.0
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Keeper:
    """The journal of this node and its upkeep. Building it recovers the journal into the state."""

    def __init__(
        self,
        directory: Path,
        *,
        size_max: int,
        state: State,
        node: str,
        options: Mapping[str, str],
        now_ms: Callable[[], int],
        boot: str | None = None,
    ) -> None:
        self._state, self._node, self._options, self._now_ms = state, node, options, now_ms
        self._boot = boot_id() if boot is None else boot
        self.journal = Journal.open(
            directory, objects=state.catalogue.decoders, apply=state.apply, now_ms=now_ms, size_max=size_max
        )
        state.seq = self.journal.last_seq
        if state.agent != __version__:
            # Another version may have watched with other selectors, so its position is of another stream.
            state.rvs.clear()
        found = self.journal.recovery
        # The kernel outlives the agent but not the boot; a journal that stopped before the agent did lags behind it.
        self.kernel_may_be_newer = found.last_seq > 0 and not found.complete and found.boot == self._boot
        self._worker = Worker("journal")
        self.journal.begin(self._head(state.cluster))

    async def run(self, intake: Intake, metrics: Metrics) -> None:
        """Flush every second, journal positions every ten, snapshot when due, until cancelled."""
        checkpoint_at = anyio.current_time() + CHECKPOINT_S
        while True:
            await anyio.sleep(FLUSH_S)
            if anyio.current_time() >= checkpoint_at:
                intake.checkpoint()
                checkpoint_at = anyio.current_time() + CHECKPOINT_S
            with anyio.CancelScope(shield=True):
                await self._worker.run(self.journal.flush)
                if self.journal.snapshot_due():
                    await self._worker.run(
                        self.journal.snapshot, self._head(self._state.cluster), list(self._state.puts())
                    )
            self.export(metrics)

    def new_cluster(self, cluster: str) -> None:
        """Begin a log for a cluster; what was recovered of another one is dropped from the state."""
        old = self._state.cluster
        if old:
            logger.warning("other_cluster journal=%s source=%s now='what the journal held is dropped'", old, cluster)
        head = self._head(cluster)
        self.journal.begin(head)
        self._state.apply(head)

    def close(self) -> None:
        """Write a snapshot, so that the next start is quick, and let go of the journal. Blocks."""
        self._worker.close()
        self.journal.snapshot(self._head(self._state.cluster), list(self._state.puts()))
        self.journal.close()

    def export(self, metrics: Metrics) -> None:
        """Set the journal's metrics."""
        metrics.journal_size.set(self.journal.size_bytes)
        metrics.journal_lag.set(self.journal.lag_records)
        metrics.journal_seq.set(self.journal.last_seq)
        metrics.journal_stopped.set(bool(self.journal.stopped))

    def status(self) -> dict[str, object]:
        """Return what ``kr status`` shows of the journal."""
        return {
            "dir": str(self.journal.directory),
            "last_seq": self.journal.last_seq,
            "size_bytes": self.journal.size_bytes,
            "stopped": self.journal.stopped,
            "lag_records": self.journal.lag_records,
            "recovered": self.journal.recovery.last_seq,
            "lost": list(self.journal.recovery.cut),
        }

    def _head(self, cluster: str) -> Segment:
        return Segment(
            seq=self._state.seq + 1,
            t=self._now_ms(),
            v=SCHEMA,
            cluster=cluster,
            node=self._node,
            boot=self._boot,
            agent=__version__,
            options=self._options,
            rv={resource: rv for resource, rv in self._state.rvs.items() if rv},
            synced=tuple(sorted(self._state.synced)),
        )


def boot_id() -> str:
    """Return the kernel's id of this boot, "" where it has none."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""
