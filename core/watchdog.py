"""Names what blocks the event loop.

The loop beats ten times a second; a thread looks whether it does. A loop that has not beaten for ``BLOCKED_S`` is
blocked by whatever its thread is doing right then: its stack is logged, with the plugin whose code is on it. Past
``FATAL_S`` the process ends with status 70, for its supervisor to start anew: the kernel keeps what it holds.

The lag of each beat is the loop's lateness, exported as a metric.
"""

import logging
import os
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from types import FrameType

import anyio

logger = logging.getLogger(__name__)

BEAT_S = 0.1
BLOCKED_S = 1.0
FATAL_S = 10.0
EXIT_STATUS = 70  # sysexits.h: EX_SOFTWARE
REMEMBERED = 5


class Watchdog:
    """``packages`` maps a plugin's name to the top of its package, to name who is on the stack."""

    def __init__(
        self,
        packages: Mapping[str, str],
        *,
        clock: Callable[[], float] = time.monotonic,
        blocked_s: float = BLOCKED_S,
        fatal_s: float = FATAL_S,
        end: Callable[[int], object] = os._exit,
    ) -> None:
        self.lag_s = 0.0
        self.blocked: deque[str] = deque(maxlen=REMEMBERED)  # what was found on the stack, the newest last
        self._packages, self._clock = packages, clock
        self._blocked_s, self._fatal_s, self._end = blocked_s, fatal_s, end
        self._beat_at = clock()
        self._thread_id = 0
        self._stop = threading.Event()

    @property
    def since_beat_s(self) -> float:
        """Seconds since the loop last beat."""
        return self._clock() - self._beat_at

    async def run(self, beat: Callable[[float], None] = lambda lag_s: None) -> None:
        """Beat until cancelled; ``beat`` is told the lag each time."""
        self._thread_id = threading.get_ident()
        self._beat_at = self._clock()
        threading.Thread(target=self._look, name="watchdog", daemon=True).start()
        try:
            while True:
                before = self._clock()
                await anyio.sleep(BEAT_S)
                self._beat_at = self._clock()
                self.lag_s = max(0.0, self._beat_at - before - BEAT_S)
                beat(self.lag_s)
        finally:
            self._stop.set()

    def _look(self) -> None:
        reported_at = 0.0
        while not self._stop.wait(self._blocked_s / 4):
            since_s = self.since_beat_s
            if since_s < self._blocked_s:
                continue
            if self._beat_at != reported_at:
                reported_at = self._beat_at
                self._report(since_s)
            if since_s >= self._fatal_s:
                logger.critical("loop_blocked_for_good seconds=%.1f exit=%d", since_s, EXIT_STATUS)
                self._end(EXIT_STATUS)
                return

    def _report(self, since_s: float) -> None:
        frame = sys._current_frames().get(self._thread_id)
        who = self._who(frame)
        stack = "".join(traceback.format_stack(frame)) if frame else ""
        where = stack.strip().splitlines()[-2].strip() if stack else "unknown"
        self.blocked.append(f"{who}: {where}")
        logger.error("loop_blocked by=%s seconds=%.1f at=%r stack:\n%s", who, since_s, where, stack)

    def _who(self, frame: FrameType | None) -> str:
        """Return the plugin whose package is innermost on the stack."""
        while frame is not None:
            module = str(frame.f_globals.get("__name__", ""))
            for name, package in self._packages.items():
                if module == package or module.startswith(package + "."):
                    return name
            frame = frame.f_back
        return "the agent"
