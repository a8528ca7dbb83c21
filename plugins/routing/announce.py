"""Which service addresses this node announces, and why or why not, kept up incrementally (pure)."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from kube_router.core.view import ClusterView, Dirty
from kube_router.events.errors import Problem
from kube_router.plugins.routing.bgp.model import Kind, Prefix
from kube_router.plugins.routing.options import RoutingOptions


class Claim(NamedTuple):
    """One address of one Service: whether this Service wants it announced, and the reason in words."""

    prefix: Prefix
    service: str  # key; "" for a range of cluster IPs
    announced: bool
    why: str


class AnnounceTable:
    """The service prefixes of one node. ``update`` (or ``dirty_services`` and ``reclaim``) changes it."""

    def __init__(self, options: RoutingOptions, node: str) -> None:
        self.announced: Mapping[Prefix, Kind] = {}
        self.rejected: frozenset[Prefix] = frozenset()

    def update(self, view: ClusterView, dirty: Dirty) -> set[Prefix]:
        """Take in all that is dirty; return the prefixes that are newly announced or no longer."""
        raise NotImplementedError

    def dirty_services(self, view: ClusterView, dirty: Dirty) -> set[str]:
        """Return the keys of the Services to ``reclaim``: all when the node has changed."""
        raise NotImplementedError

    def reclaim(self, view: ClusterView, keys: Iterable[str]) -> set[Prefix]:
        """Judge some Services anew; return the prefixes that are newly announced or no longer."""
        raise NotImplementedError

    def owners(self, prefix: Prefix) -> tuple[str, ...]:
        """Return the keys of the Services for which a prefix is announced, in order."""
        raise NotImplementedError

    def explain(self, address: str) -> tuple[Claim, ...]:
        """Return every claim on an address, announced ones first."""
        raise NotImplementedError

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Return what is wrong with the Services, in order."""
        raise NotImplementedError
