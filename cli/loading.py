"""Which plugins a command loads: for looking at a journal third parties' (they bring kinds) and the one asked for.

Importing a plugin costs time and its libraries; ``kr replay`` is to start fast and to run where those are missing. So
the kinds that our own plugins bring are found without them, by the entry points of ``kube_router.kinds``.
"""

from importlib.metadata import EntryPoint, entry_points

from kube_router.core import pflag
from kube_router.core.registry import GROUP, Registry
from kube_router.events.errors import ConfigError
from kube_router.events.resource import Catalogue

DISTRIBUTION = "kube-router"
KINDS = "kube_router.kinds"


def is_ours(point: EntryPoint) -> bool:
    """Say whether an entry point belongs to this distribution."""
    return point.dist is not None and point.dist.name == DISTRIBUTION


def offline_registry(plugin: str = "") -> Registry:
    """Return a registry of third parties' plugins and of ``plugin``. ConfigError where it is not installed."""
    points = entry_points(group=GROUP)
    if plugin and plugin not in points.names:
        known = ", ".join(sorted(points.names)) or "none"
        hint = pflag.did_you_mean(plugin, points.names)
        raise ConfigError(f"there is no plugin {plugin!r}{hint or f'; installed: {known}'}")
    registry = Registry(point for point in points if point.name == plugin or not is_ours(point))
    for found in registry.found:
        if found.name == plugin and found.error:
            raise ConfigError(f"plugin {plugin} {found.error}")
    return registry


def offline_catalogue(registry: Registry) -> Catalogue:
    """Return the kinds of a registry's plugins, and those of our own plugins that it does not hold."""
    catalogue = registry.catalogue()
    for point in entry_points(group=KINDS):
        for resource in point.load():
            if resource.name not in catalogue:
                catalogue.add(resource)
    return catalogue
