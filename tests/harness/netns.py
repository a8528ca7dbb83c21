"""A network namespace of its own for a piece of a test, in a thread of its own.

Programs started from that thread run in the namespace too, and /proc/sys/net is the namespace's.
"""

import ctypes
import os
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Self, TypeVar

T = TypeVar("T")
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def run_in_new(body: Callable[[], T], *, timeout_s: float = 300) -> T:
    """Return what ``body`` returns, run in a new network namespace with its loopback up; raise what it raises."""
    return _run(_enter_new, body, timeout_s)


def run_in(name: str, body: Callable[[], T], *, timeout_s: float = 300) -> T:
    """Return what ``body`` returns, run in the namespace that ``ip netns`` knows by this name; raise what it raises."""

    def enter() -> None:
        with open(f"/run/netns/{name}") as namespace:
            _check(_libc.setns(namespace.fileno(), CLONE_NEWNET))

    return _run(enter, body, timeout_s)


class Inside:
    """A new network namespace with its loopback up, gone when left: what is called runs in its one thread.

    What is started there (a Daemon, threads) is in the namespace too, and lives until it is left.
    """

    def __enter__(self) -> Self:
        self._thread = ThreadPoolExecutor(1)
        self.run(_enter_new)
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()

    def run(self, body: Callable[[], T], *, timeout_s: float = 300) -> T:
        """Return what ``body`` returns; raise what it raises."""
        return self._thread.submit(body).result(timeout_s)


def _enter_new() -> None:
    _check(_libc.unshare(CLONE_NEWNET))
    sh("ip link set lo up")


def _check(status: int) -> None:
    if status:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _run(enter: Callable[[], None], body: Callable[[], T], timeout_s: float) -> T:
    results: list[T] = []
    errors: list[BaseException] = []

    def inside() -> None:
        try:
            enter()
            results.append(body())
        except BaseException as e:  # noqa: BLE001 (it is raised again where the test waits)
            errors.append(e)

    thread = threading.Thread(target=inside, daemon=True)
    thread.start()
    thread.join(timeout_s)
    if thread.is_alive():
        raise TimeoutError(f"not done after {timeout_s} s")
    if errors:
        raise errors[0]
    return results[0]


def sh(command: str, *, stdin: str | None = None) -> str:
    """Return the standard output of a shell command, which must succeed."""
    done = subprocess.run(["/bin/sh", "-ec", command], capture_output=True, text=True, input=stdin, timeout=120)
    if done.returncode:
        raise AssertionError(f"{command!r} ended with {done.returncode}: {done.stderr or done.stdout}")
    return done.stdout
