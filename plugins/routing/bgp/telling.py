"""Tell what has changed in the routing table: gathered for a moment, then some at a time.

A neighbour's whole table comes as thousands of prefixes at once. Telling of them a thousand in a turn of the loop keeps
it free for keepalives, and lets what is done about the first ones begin while the others are still being told.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping

from kube_router.plugins.routing.bgp.best import Selection
from kube_router.plugins.routing.bgp.model import Prefix
from kube_router.plugins.routing.bgp.rib import Rib

GATHER_S = 0.002  # changes within it are told together
AT_ONCE = 1000  # prefixes

Changes = Mapping[Prefix, Selection | None]


class Telling:
    """``tell`` is told of changed selections. No tasks: it goes by timers of the loop that runs."""

    def __init__(self, rib: Rib, tell: Callable[[Changes], None]) -> None:
        self._rib, self._tell = rib, tell
        self._handle: asyncio.Handle | None = None
        self._then: deque[Callable[[], None]] = deque()

    def soon(self) -> None:
        """Something has changed."""
        if self._handle is None:
            self._handle = asyncio.get_running_loop().call_later(GATHER_S, self._some)

    def then(self, do: Callable[[], None]) -> None:
        """Call ``do`` once all that has changed so far is told."""
        self._then.append(do)
        self.soon()

    def all(self) -> None:
        """Tell everything now."""
        self._cancel()
        self._told(self._rib.take_changes())
        self._finish()

    def stop(self) -> None:
        """Tell nothing more; what was to be done then is not done."""
        self._cancel()
        self._then.clear()

    def _some(self) -> None:
        self._handle = None
        self._told(self._rib.take_changes(AT_ONCE))
        if self._rib.has_changes:
            self._handle = asyncio.get_running_loop().call_soon(self._some)
        else:
            self._finish()

    def _told(self, changes: Changes) -> None:
        if changes:
            self._tell(changes)

    def _finish(self) -> None:
        while self._then:
            self._then.popleft()()

    def _cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
