"""The proxy without a kernel, as a third party's plugin: it plans all, holds all, and writes nothing anywhere.

For what is measured where there is no ip_vs: the agent's memory, and the time until a plan is made. What it would have
written counts as done. $SHADOW_NEEDS=all makes it need every built-in kind, as a node with all plugins does;
$SHADOW_LOG names a file to which each reconcile appends ``begun planned slice-key…`` (Unix times).
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio

from kube_router.core.api import ClusterView, Context, Dirty, Plugin, Receipt, hookimpl
from kube_router.events.model import EndpointSlice, Namespace, NetworkPolicy, Node, Object, Pod, Service
from kube_router.plugins.proxy.kernel import Applied
from kube_router.plugins.proxy.model import Actual, Step
from kube_router.plugins.proxy.plugin import Proxy

ALL: frozenset[type[Object]] = frozenset({Service, EndpointSlice, Node, Namespace, Pod, NetworkPolicy})


class Shadow(Proxy):
    """The proxy with an imagined kernel, which starts out empty."""

    name = "shadow"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        if os.environ.get("SHADOW_NEEDS") == "all":
            self.needs = ALL
        self._log = os.environ.get("SHADOW_LOG", "")
        self._imagined = Actual()

    async def reconcile(self, view: ClusterView, dirty: Dirty) -> Receipt:
        begun = time.time()
        receipt = await super().reconcile(view, dirty)
        if self._log:
            self._note(begun, [ref.key for ref in dirty.refs if ref.resource == "endpointslices"])
        return receipt

    def _note(self, begun: float, keys: list[str]) -> None:
        done = time.time()
        with open(self._log, "a") as log:
            log.write(" ".join([str(begun), str(done), *keys]) + "\n")

    async def watch(self, changed: Callable[[], None]) -> None:
        await anyio.sleep_forever()

    def _observe(self) -> tuple[Actual, Counter[str]]:
        return self._imagined, Counter()

    def _apply(self, steps: Sequence[Step]) -> Applied:
        return Applied(Counter({"step imagined": len(steps)}))

    def _take_over(self) -> tuple[Counter[str], list[str]]:
        return Counter(), []


@hookimpl
def kube_router_plugin(context: Context) -> Plugin:
    return Shadow(context)


def install(site: Path) -> None:
    """Put its entry point into a folder as a wheel would: with that on the path the plugin is installed."""
    info = site / "shadow-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shadow\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[kube_router.plugins]\nshadow = benchmarks.shadow\n")
