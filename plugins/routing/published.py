"""What was learned, as objects of the state: in the journal while it is few, a digest of it once it is too many.

The fold of a journal must be the same whichever snapshot it starts from. So when routes leave the journal, all of them
do: those in it are deleted there, and all are in the state alone from then on. A replay then knows how many there were
and has none of them; it never shows routes that may have been other ones by then.

Nothing is awaited in between: plans see every route before and after it.
"""

from collections.abc import Sequence

from kube_router.core.api import ClusterView, Context
from kube_router.plugins.routing.facts import Route, RouteDigest, Session
from kube_router.plugins.routing.learned import DIGEST

JOURNALED_MAX = 20_000  # routes; more are no longer journaled one by one


class Published:
    """The routes that are published, those of an earlier run among them."""

    def __init__(self, context: Context) -> None:
        self.is_volatile = False
        self.tellers: frozenset[str] | None = None  # whose routes an earlier run has left, None where that is not known
        self._context = context
        self._journaled: dict[str, Route] = {}
        self._is_new = True

    def recover(self, view: ClusterView) -> None:
        """Know what an earlier run has published. The first time nothing of this one is in the view."""
        if self._is_new:
            self.tellers, self._is_new = _tellers(view), False
        if not self.is_volatile:
            self._journaled = {route.name: route for route in view.each(Route)}

    def change(self, routes: Sequence[Route], gone: Sequence[str]) -> None:
        """Publish routes that are new or others, and that some are gone."""
        if not self.is_volatile:
            before = list(self._journaled)
            for name in gone:
                self._journaled.pop(name, None)
            self._journaled.update((route.name, route) for route in routes)
            if len(self._journaled) > JOURNALED_MAX:
                self._context.note(f"more than {JOURNALED_MAX} routes: from now on a digest of them is journaled")
                self._context.publish(Route, gone=before)
                self.is_volatile = True
                routes, gone, self._journaled = list(self._journaled.values()), (), {}
        self._context.publish(Route, routes, gone, journaled=not self.is_volatile)

    def confirm(self, view: ClusterView, sessions: Sequence[str]) -> None:
        """Say that what is published is all there is, and that there are these sessions alone."""
        strangers = {session.name for session in view.each(Session)}.difference(sessions)
        self._context.publish(Session, gone=sorted(strangers))
        if not self.is_volatile:
            self._context.publish(RouteDigest, gone=[DIGEST])
        for kind in (Route, Session, RouteDigest):
            self._context.confirm(kind)

    def tell(self, digest: RouteDigest) -> None:
        """Journal what stands for the routes, since they are too many to be journaled."""
        self._context.publish(RouteDigest, [digest])


def _tellers(view: ClusterView) -> frozenset[str] | None:
    """Return whose routes an earlier run has left, ``None`` where there was none, or more than the journal keeps."""
    if not list(view.each(Session)) or list(view.each(RouteDigest)):
        return None
    return frozenset(peer for route in view.each(Route) for peer in route.peers)
