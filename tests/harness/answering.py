"""A control socket that answers, as an agent's does, in a thread of its own."""

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import anyio
from anyio.from_thread import start_blocking_portal

from kube_router.core import control

WAIT_S = 20


@contextmanager
def answering(path: Path, commands: Mapping[str, control.Command]) -> Iterator[None]:
    """Answer while the body runs. The socket's file is there a moment before it listens: connect to it first."""
    with start_blocking_portal() as portal:
        task = portal.start_task_soon(control.serve, path, commands)
        portal.call(_until_it_listens, path)
        try:
            yield
        finally:
            task.cancel()


async def _until_it_listens(path: Path) -> None:
    with anyio.fail_after(WAIT_S):
        while True:
            with contextlib.suppress(OSError):
                async with await anyio.connect_unix(path):
                    return
            await anyio.sleep(0.001)
