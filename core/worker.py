"""One worker thread per plugin, for blocking kernel calls.

A thread cannot be killed. A call that hangs is given up: the thread is told by its fence to stop before its next
kernel write, a new one takes its place, and what the old one still returns is thrown away. Threads are daemons, so a
hung one never keeps the process from ending.
"""

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import anyio
from anyio import from_thread
from anyio.lowlevel import EventLoopToken, current_token


class _Call:
    """One call on its way through the thread and back."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.function, self.args = function, args
        self.done = anyio.Event()
        self.result: Any = None
        self.error: BaseException | None = None


class _Thread:
    """A thread that takes calls until it is given ``None``. ``fenced`` is set when it was given up."""

    def __init__(self, name: str, token: EventLoopToken) -> None:
        self.calls: SimpleQueue[_Call | None] = SimpleQueue()
        self.fenced = threading.Event()
        self._token = token
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def _run(self) -> None:
        while (call := self.calls.get()) is not None:
            try:
                call.result = call.function(*call.args)
            except BaseException as error:  # noqa: BLE001  (carried to the caller, who raises it)
                call.error = error
            if not self.fenced.is_set():
                try:
                    from_thread.run_sync(call.done.set, token=self._token)
                except RuntimeError:  # the loop has ended meanwhile: nobody waits any more
                    return


class Worker:
    """Runs blocking calls, one at a time, in a thread of its own that is started on first use."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.abandoned = 0  # threads given up so far
        self._thread: _Thread | None = None
        self._fence = threading.local()

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run ``function(*args)`` in the thread and return its result or raise its error.

        When cancelled while the call is under way the thread is given up.
        """
        if self._thread is None:
            self._thread = _Thread(f"{self.name}-{self.abandoned}", current_token())
        thread = self._thread
        call = _Call(self._fenced_call(thread, function), args)
        thread.calls.put(call)
        try:
            await call.done.wait()
        except BaseException:
            if not call.done.is_set():
                self._give_up(thread)
            raise
        if call.error is not None:
            raise call.error
        return call.result

    def fenced(self) -> bool:
        """Return, when called in a worker thread, whether that thread was given up. False elsewhere."""
        thread: _Thread | None = getattr(self._fence, "thread", None)
        return thread is not None and thread.fenced.is_set()

    def close(self) -> None:
        """Let the thread end after its current call."""
        if self._thread is not None:
            self._thread.calls.put(None)
            self._thread = None

    def _fenced_call(self, thread: _Thread, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            self._fence.thread = thread
            return function(*args)

        return call

    def _give_up(self, thread: _Thread) -> None:
        thread.fenced.set()
        thread.calls.put(None)
        self._thread = None
        self.abandoned += 1


class InlineWorker(Worker):
    """Runs the calls at once, in the event loop: for tests on virtual time."""

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        await anyio.lowlevel.checkpoint()
        return function(*args)
