"""The worker thread: results, errors, and a thread that hangs."""

import threading
import time

import anyio
import pytest

from kube_router.core.worker import Worker


async def test_a_call_runs_in_the_plugins_own_thread_and_returns_its_result() -> None:
    worker = Worker("proxy")
    assert await worker.run(lambda a, b: (a + b, threading.current_thread().name), 1, 2) == (3, "proxy-0")
    worker.close()


async def test_an_error_is_raised_where_the_call_was_awaited() -> None:
    worker = Worker("proxy")
    with pytest.raises(ZeroDivisionError):
        await worker.run(lambda: 1 // 0)
    assert await worker.run(lambda: "still alive") == "still alive"
    worker.close()


async def test_a_hung_thread_is_given_up_fenced_and_replaced() -> None:
    worker = Worker("proxy")
    release, hung = threading.Event(), threading.Event()
    fenced: list[bool] = []

    def hang() -> None:
        release.wait(10)
        fenced.append(worker.fenced())
        hung.set()

    started = time.monotonic()
    with anyio.move_on_after(0.05):
        await worker.run(hang)
    assert time.monotonic() - started < 2
    assert worker.abandoned == 1
    assert await worker.run(lambda: (threading.current_thread().name, worker.fenced())) == ("proxy-1", False)
    release.set()
    assert await anyio.to_thread.run_sync(hung.wait, 5)
    assert fenced == [True]
    worker.close()
