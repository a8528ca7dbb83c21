"""The watchdog thread, with a loop that is really blocked."""

import logging
import threading
import time

import anyio
import pytest

from kube_router.core.watchdog import Watchdog


def block_the_loop(until: threading.Event) -> None:
    until.wait(5)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_what_blocks_the_loop_is_named_with_its_stack(caplog: pytest.LogCaptureFixture) -> None:
    watchdog = Watchdog({"names": __name__}, blocked_s=0.5)
    seen = threading.Event()

    def look() -> None:
        while not any(found.startswith("names: File ") for found in watchdog.blocked):
            time.sleep(0.01)
        seen.set()

    with caplog.at_level(logging.ERROR):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watchdog.run)
            await anyio.sleep(0.15)
            threading.Thread(target=look, daemon=True).start()
            block_the_loop(seen)
            await anyio.sleep(0.15)
            tasks.cancel_scope.cancel()
    assert seen.is_set()
    assert "in block_the_loop" in caplog.text
    assert watchdog.lag_s >= 0


async def test_a_loop_blocked_for_good_ends_the_process() -> None:
    ended: list[int] = []
    done = threading.Event()

    def end(status: int) -> None:
        ended.append(status)
        done.set()

    watchdog = Watchdog({}, blocked_s=0.05, fatal_s=0.2, end=end)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watchdog.run)
        await anyio.sleep(0.15)
        block_the_loop(done)
        tasks.cancel_scope.cancel()
    assert ended == [70]


async def test_a_free_loop_is_never_reported() -> None:
    watchdog = Watchdog({}, blocked_s=2)
    lags: list[float] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watchdog.run, lags.append)
        await anyio.sleep(0.5)
        tasks.cancel_scope.cancel()
    assert list(watchdog.blocked) == []
    assert len(lags) >= 3
