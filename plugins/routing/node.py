"""This node's kernel and files as routing changes them, all parts in one place: for the worker thread (I/O)."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from kube_router.events.errors import KernelError
from kube_router.plugins.routing import cnifile, forward, hostsettings
from kube_router.plugins.routing.egress import Egress
from kube_router.plugins.routing.kernel import Applied, Kernel
from kube_router.plugins.routing.model import Actual, AddDevice, RouteId
from kube_router.plugins.routing.plan import carry_out, plan, plan_routes
from kube_router.plugins.routing.settings import RoutingOptions
from kube_router.plugins.routing.wanted import Cluster

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Work:
    """What there is to do. ``routes`` None: more than routes has changed; ``look``: the host's settings too.

    ``withdrawn`` are routes that have gone from the state: who announced them has taken them back.
    """

    cluster: Cluster
    routes: frozenset[RouteId] | None
    look: bool
    in_sync: bool
    withdrawn: frozenset[RouteId] = frozenset()


@dataclass(slots=True)
class Done:
    """What was done: writes by what they were; in words what hinders nothing else, and what the kernel refused."""

    changes: Counter[str] = field(default_factory=Counter)
    troubles: list[str] = field(default_factory=list)
    failed: str = ""


class NodeKernel:
    """What routing holds in the kernel of this node. One thread at a time."""

    def __init__(self, options: RoutingOptions, cni: Path, *, fenced: Callable[[], bool]) -> None:
        self._options, self._cni, self._fenced = options, cni, fenced
        self._kernel: Kernel | None = None
        self._egress = Egress()
        self._troubles: list[str] = []  # with what is only looked at as a whole, as of the last look
        self._actual: Actual | None = None

    @property
    def is_known(self) -> bool:
        """Whether what the kernel holds is known exactly."""
        return self._actual is not None

    @property
    def routes(self) -> Iterable[RouteId]:
        """The routes of ours that the kernel holds, as far as that is known."""
        return self._actual.routes if self._actual is not None else ()

    def look(self, besides: Callable[[], T]) -> T:
        """Read what the kernel holds, and return what ``besides`` finds."""
        found = besides()
        if self._kernel is None:
            self._kernel = Kernel()
        self._actual = self._kernel.observe()
        self._egress.doubt()
        return found

    def bring(self, work: Work) -> Done:
        """Make the kernel hold what is wanted. Raises ``KernelError`` where it cannot be talked to at all."""
        done = Done()
        if work.look:
            self._prepare(work.cluster, done)
            self._troubles, done.troubles = done.troubles, []
        done.troubles += self._troubles
        if work.routes is None:
            self._masquerade(work, done)
        self._route(work, done)
        return done

    def _prepare(self, cluster: Cluster, done: Done) -> None:
        around, mtu = cluster.surroundings, cluster.pod_mtu
        changes, troubles = hostsettings.prepare(around.links, families=cluster.families, bridge_mtu=mtu)
        done.changes += changes
        done.troubles += troubles
        if mtu and troubles:  # pods must not send what the bridge cannot take
            mtu = hostsettings.bridge_mtu() or mtu
        if self._options.enable_cni and around.pods:
            changes, words = cnifile.bring(self._cni, around.pods, mtu)
            done.changes += changes
            done.troubles += words
        changes, troubles = forward.bring()
        done.changes += changes
        done.troubles += troubles

    def _masquerade(self, work: Work, done: Done) -> None:
        enabled = self._options.enable_pod_egress
        try:
            done.changes += self._egress.bring(**work.cluster.egress, enabled=enabled, in_sync=work.in_sync)
        except KernelError as error:
            done.failed = f"pod egress: {error}"

    def _route(self, work: Work, done: Done) -> None:
        assert self._kernel is not None
        assert self._actual is not None
        wanted, actual = work.cluster.wanted, self._actual
        if work.routes is None:
            steps = plan(wanted, actual, in_sync=work.in_sync)
            if not work.in_sync:  # what was withdrawn need not wait for it
                steps += plan_routes({}, actual, work.withdrawn - wanted.routes.keys(), in_sync=True)
        else:
            steps = plan_routes(wanted.routes, actual, work.routes, in_sync=True)
        if not steps:
            return
        self._actual = None  # until all of it is known to be done
        applied: Applied = self._kernel.apply(steps, fenced=self._fenced)
        done.changes += applied.changes
        if made := [step.name for step in steps if isinstance(step, AddDevice)]:
            done.changes["sysctl set"] += hostsettings.loosen(made)[0]
        if applied.failed:
            step, error = applied.failed[0]
            more = f" (and {len(applied.failed) - 1} more)" if len(applied.failed) > 1 else ""
            done.failed = f"{type(step).__name__}: {error}{more}"
            return
        carry_out(actual, steps)
        self._actual = actual

    def cleanup(self) -> None:
        """Remove all of ours from the kernel. Raises ``KernelError`` after having tried all of it."""
        errors = []
        for part in ((self._kernel or Kernel()).cleanup, self._egress.cleanup):
            try:
                part()
            except KernelError as error:
                errors.append(str(error))
        errors += forward.cleanup()[1]
        if errors:
            raise KernelError("; ".join(errors))
