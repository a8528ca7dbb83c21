"""Starts agents by forking a process that has imported everything: in the emulated VM an import takes ten seconds.

What is forked is an agent like any other: it enters its network namespace, reads its flags as ``kr run`` does, has its
own log, and can be killed. The forking process has one thread and runs nothing else.

    python zygote.py             one JSON line in: {"argv": […], "netns": "name or empty", "log": "path", "environ": {}}
                                 one JSON line out: {"pid": 4711}
"""

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self


class Zygote:
    """The forking process, seen from a test."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._process:  # closes both pipes, which ends it, and waits
            pass

    def start(self, argv: list[str], *, netns: str, log: Path, environ: Mapping[str, str] | None = None) -> int:
        """Start an agent, with these variables besides, and return its pid."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"argv": argv, "netns": netns, "log": str(log), "environ": dict(environ or {})}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: dict[str, int] = json.loads(self._process.stdout.readline())
        return answer["pid"]


def serve() -> None:
    """Fork an agent per line of stdin; when it ends, end what still runs."""
    from kube_router.core.registry import Registry
    from kube_router.events.sources.library import library

    for module in ("kube_router.core.agent", "kube_router.events.sources.kubernetes"):
        importlib.import_module(module)
    Registry()  # imports the plugins
    library()  # imports what is used of kubernetes-asyncio
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies: a test sees at once that an agent has ended
    children = []
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _become_agent(json.loads(line))
        children.append(pid)
        print(json.dumps({"pid": pid}), flush=True)
    for pid in filter(runs, children):
        os.kill(pid, signal.SIGKILL)


def _become_agent(request: dict[str, Any]) -> NoReturn:
    from kube_router.cli.main import guarded
    from kube_router.cli.run import run
    from kube_router.lab import netns

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for fd, target in ((0, os.open(os.devnull, os.O_RDONLY)), (1, log), (2, log)):
        os.dup2(target, fd)
    if request["netns"]:
        netns.enter(request["netns"])
    os.environ.update(request["environ"])
    os._exit(guarded("kr", lambda: run(request["argv"], program="kr run")))


def runs(pid: int) -> bool:
    """Tell whether a process is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    serve()
