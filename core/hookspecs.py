"""The hooks, all of them. pluggy finds plugins and checks their signatures; events are never delivered through it."""

from collections.abc import Sequence

import pluggy

from kube_router.core.api import PROJECT, Context, Option, Plugin, Resource

hookspec = pluggy.HookspecMarker(PROJECT)


class Hooks:
    """The namespace pluggy reads the specifications from."""

    @hookspec
    def kube_router_plugin(self, context: Context) -> Plugin:
        """Build the plugin. No I/O, no root."""
        raise AssertionError("a specification is not called")

    @hookspec
    def kube_router_options(self) -> Sequence[Option]:
        """Return the plugin's own flags."""
        raise AssertionError("a specification is not called")

    @hookspec
    def kube_router_resources(self) -> Sequence[Resource]:
        """Return Kubernetes kinds that the plugin brings along."""
        raise AssertionError("a specification is not called")

    @hookspec
    def kube_router_commands(self) -> Sequence[object]:
        """Return click commands to be added to ``kr``."""
        raise AssertionError("a specification is not called")
