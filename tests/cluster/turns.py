"""Clusters of several kinds in one session of tests, one after the other."""

from collections.abc import Callable
from contextlib import ExitStack

from cluster.cluster import Cluster


class Clusters:
    """The cluster that runs now: one at a time, for its namespaces' names are those of the process."""

    def __init__(self) -> None:
        self._kind = ""
        self._stack = ExitStack()

    def get(self, kind: str, make: Callable[[], Cluster], prepare: Callable[[Cluster], object]) -> Cluster:
        """Return the cluster of a kind; if another one runs, that ends first."""
        if kind != self._kind:
            self.close()
            self._cluster = self._stack.enter_context(make())
            prepare(self._cluster)
            self._kind = kind
        return self._cluster

    def close(self) -> None:
        """End what runs."""
        self._kind = ""
        self._stack.close()
