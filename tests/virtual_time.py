"""An asyncio loop on virtual time: a wait passes at once, and the clock says it has passed.

The loop's selector never sleeps: when nothing is ready it moves the clock to the next timer. Threads do not fit in (a
result that arrives from one is not a timer), so plugins get an InlineWorker.
"""

import asyncio
import selectors


class _JumpingSelector(selectors.SelectSelector):
    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if not events:
            assert timeout is not None, "everything waits for ever"
            self.now_s += max(timeout, 0)
        return events


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """``time`` starts at 0 and jumps from timer to timer."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now_s


BACKEND = ("asyncio", {"loop_factory": VirtualTimeLoop})
