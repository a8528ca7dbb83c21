"""Finds plugins, checks them, and knows which are enabled. pluggy does the finding and the checking of signatures.

Entry points are loaded one by one: one that fails to import is reported and skipped, the others run. The name of the
entry point is the plugin's name, and ``--run-<name>`` switches it.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

from kube_router.core.api import PROJECT, Context, Plugin
from kube_router.core.hookspecs import Hooks
from kube_router.core.options import Option
from kube_router.events.errors import ConfigError, Problem
from kube_router.events.normalize import BUILTIN
from kube_router.events.resource import Catalogue

logger = logging.getLogger(__name__)

GROUP = "kube_router.plugins"


@dataclass(frozen=True, slots=True)
class Found:
    """One installed plugin. ``error`` says in words why it cannot be used, "" if it can."""

    name: str
    origin: str  # distribution and version, or the module
    error: str = ""


class Registry:
    """The installed plugins."""

    def __init__(self, points: Iterable[EntryPoint] | None = None) -> None:
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(Hooks)
        self.found: list[Found] = []
        for point in sorted(entry_points(group=GROUP) if points is None else points, key=lambda point: point.name):
            self._load(point)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the plugins that can be used."""
        return tuple(found.name for found in self.found if not found.error)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """One for each plugin that cannot be used."""
        return tuple(Problem("Plugin", found.name, found.error) for found in self.found if found.error)

    def register(self, name: str, plugin: object, *, origin: str) -> None:
        """Register a module or object with hook implementations. ConfigError if its hooks do not fit."""
        try:
            self._manager.register(plugin, name)
            self._manager.check_pending()
        except (pluggy.PluginValidationError, ValueError) as error:
            if self._manager.has_plugin(name):
                self._manager.unregister(name=name)
            raise ConfigError(f"plugin {name} ({origin}): {error}; see docs/plugins.md for the hooks") from error
        self.found.append(Found(name, origin))

    def options(self) -> dict[str, Sequence[Option]]:
        """Return the options that each usable plugin brings, by the plugin's name."""
        brought: dict[str, Sequence[Option]] = self._ask(self._manager.hook.kube_router_options)
        return {name: brought.get(name, ()) for name in self.names}

    def catalogue(self) -> Catalogue:
        """Return the built-in kinds and those that plugins bring. ConfigError if two bring the same."""
        catalogue = Catalogue(BUILTIN)
        for resources in self._ask(self._manager.hook.kube_router_resources).values():
            for resource in resources:
                try:
                    catalogue.add(resource)
                except ValueError as error:
                    raise ConfigError(f"{error}; two plugins bring the same Kubernetes kind") from error
        return catalogue

    def commands(self) -> Sequence[object]:
        """Return the click commands that plugins add to ``kr``."""
        return [command for some in self._ask(self._manager.hook.kube_router_commands).values() for command in some]

    def spoil(self, name: str, error: Exception) -> None:
        """Take a plugin out: what it was asked for at start ended in an error of its own."""
        words = f"cannot be used: {type(error).__name__}: {error}"
        self.found = [replace(found, error=words) if found.name == name else found for found in self.found]
        logger.error("plugin_skipped plugin=%s error=%r", name, error, exc_info=error)

    def build(self, name: str, context: Context) -> Plugin:
        """Build a plugin. ConfigError if it has no ``kube_router_plugin`` hook or what that returns is no Plugin."""
        module = self._manager.get_plugin(name)
        if module is None:
            known = ", ".join(self.names) or "none"
            raise ConfigError(f"there is no plugin {name!r}; installed and usable: {known}")
        others = self._manager.get_plugins() - {module}
        built = self._manager.subset_hook_caller("kube_router_plugin", others)(context=context)
        if len(built) != 1 or not isinstance(built[0], Plugin):
            got = type(built[0]).__name__ if built else "nothing"
            raise ConfigError(f"plugin {name}: kube_router_plugin returned {got}, not a kube_router.core.api.Plugin")
        plugin: Plugin = built[0]
        if plugin.name != name:
            raise ConfigError(f"plugin {name}: calls itself {plugin.name!r}; name the entry point and the plugin alike")
        return plugin

    def _ask(self, hook: pluggy.HookCaller) -> dict[str, Sequence[Any]]:
        """Return what each usable plugin answers; one that raises is taken out."""
        answers: dict[str, Sequence[Any]] = {}
        for implementation in hook.get_hookimpls():
            name = implementation.plugin_name
            if name in self.names:
                try:
                    answer: Iterable[Any] = implementation.function()  # type: ignore[assignment]  # pluggy is untyped
                    answers[name] = tuple(answer)
                except Exception as error:  # noqa: BLE001  (a third party's hook may raise anything)
                    self.spoil(name, error)
        return answers

    def _load(self, point: EntryPoint) -> None:
        origin = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
        try:
            self.register(point.name, point.load(), origin=origin)
        except Exception as error:  # noqa: BLE001  (a third party's module may raise anything at import)
            self.found.append(Found(point.name, origin, f"cannot be loaded: {type(error).__name__}: {error}"))
            logger.warning("plugin_skipped plugin=%s origin=%r error=%r", point.name, origin, error)
