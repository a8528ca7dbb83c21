"""The bus: one in-memory log of dirty references, a cursor per plugin, one event that wakes them all.

The log holds no objects: those are in the state, and a plugin wants to know only *that* something changed. A reader
that falls behind by more than ``LENGTH_MAX`` entries is told to look at everything instead, so memory is bounded and
nobody ever waits for a slow plugin.
"""

from collections.abc import Iterable
from typing import NamedTuple

import anyio

from kube_router.core.view import Ref

LENGTH_MAX = 100_000


class Entry(NamedTuple):
    """``since_ms``: when the cluster, or else this node, learned of the change (Unix ms)."""

    ref: Ref
    since_ms: int


class Log:
    """Single writer, any number of cursors, one event loop."""

    def __init__(self, *, length_max: int = LENGTH_MAX) -> None:
        self._entries: list[Entry] = []
        self._base = 0
        self._length_max = length_max
        self._wake = anyio.Event()

    @property
    def head(self) -> int:
        """Number of entries ever appended."""
        return self._base + len(self._entries)

    def append(self, entries: Iterable[Entry]) -> None:
        """Append entries and wake every waiting reader."""
        self._entries.extend(entries)
        if len(self._entries) > 2 * self._length_max:
            cut = len(self._entries) - self._length_max
            del self._entries[:cut]
            self._base += cut
        self.wake()

    def wake(self) -> None:
        """Wake every waiting reader, also without an entry: something else it looks at has changed."""
        self._wake.set()
        self._wake = anyio.Event()

    def reset(self) -> None:
        """Put every reader behind: nothing they knew holds any more, they have to look at everything."""
        self._base = self.head + 1
        self._entries.clear()
        self.wake()

    async def wait(self) -> None:
        """Return at the next ``wake``."""
        await self._wake.wait()

    def since(self, position: int) -> list[Entry] | None:
        """Return the entries from a position on, None where they are no longer held."""
        if position < self._base:
            return None
        return self._entries[position - self._base :]
