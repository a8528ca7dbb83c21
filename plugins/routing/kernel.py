"""Routing's part of this node's kernel: observed, changed, cleaned (I/O)."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from kube_router.events.errors import KernelError
from kube_router.plugins.routing.model import Actual, Step


class Failed(NamedTuple):
    """A step that was not done, and why."""

    step: Step
    error: KernelError


@dataclass(slots=True)
class Applied:
    """What came of some steps: kernel writes by what they were, and the steps that were not done."""

    changes: Counter[str] = field(default_factory=Counter)
    failed: list[Failed] = field(default_factory=list)


class Kernel:
    """What routing may do to the kernel."""

    def observe(self) -> Actual:
        """Return what of ours the kernel holds. Raises ``KernelError``."""
        raise NotImplementedError

    def apply(self, steps: Sequence[Step], *, fenced: Callable[[], bool] = lambda: False) -> Applied:
        """Do the steps in order, as far as ``fenced`` allows. Raises where the kernel cannot be talked to at all."""
        raise NotImplementedError

    def cleanup(self) -> Counter[str]:
        """Remove what is ours and only that; return what was removed. Raises ``KernelError``."""
        raise NotImplementedError
