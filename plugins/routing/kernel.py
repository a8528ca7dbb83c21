"""Routing's part of this node's kernel: observed, changed, cleaned (I/O).

Blocking, for the plugin's worker thread. Sockets are opened for each call, in the network namespace of its thread.
"""

from collections import Counter
from collections.abc import Callable, Sequence

from kube_router.plugins.routing import observe
from kube_router.plugins.routing.apply import Applied, Failed, apply
from kube_router.plugins.routing.model import Actual, Step, Wanted
from kube_router.plugins.routing.plan import plan

__all__ = ["Applied", "Failed", "Kernel"]


class Kernel:
    """What routing may do to the kernel."""

    def observe(self) -> Actual:
        """Return what of ours the kernel holds. Raises ``KernelError``."""
        return observe.actual()

    def apply(self, steps: Sequence[Step], *, fenced: Callable[[], bool] = lambda: False) -> Applied:
        """Do the steps in order, as far as ``fenced`` allows. Raises where the kernel cannot be talked to at all."""
        return apply(steps, fenced=fenced)

    def cleanup(self) -> Counter[str]:
        """Remove what is ours and only that; return what was removed. Raises ``KernelError``."""
        applied = self.apply(plan(Wanted(), self.observe(), in_sync=True))
        if applied.failed:
            raise applied.failed[0].error
        return applied.changes
