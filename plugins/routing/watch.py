"""Notice when somebody else takes away what is ours, and when the node's own addresses change."""

from collections.abc import Callable

from kube_router.plugins.routing.model import RouteId, Rule


class Watch:
    """``wanted`` says of a route or rule whether it has to be there, ``uses`` of a device whether routes need it."""

    def __init__(self, *, wanted: Callable[[RouteId | Rule], bool], uses: Callable[[str], bool]) -> None:
        self._wanted, self._uses = wanted, uses

    async def run(self, changed: Callable[[], None], host_changed: Callable[[], None]) -> None:
        """Call ``changed`` or ``host_changed`` whenever that is so, until cancelled. Raises ``KernelError``."""
        raise NotImplementedError

    def begin(self) -> None:
        """Our own writes begin."""

    def end(self) -> None:
        """Our own writes are done."""
