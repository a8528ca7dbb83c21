"""Two third-party plugins for an agent in a test: one that works, one that does not (installed by ``install``)."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from harness.machine import until

from kube_router.core.ask import ask

STEADY = """
import os, time
from kube_router.core.api import Receipt, hookimpl
from kube_router.events.model import Service


class Steady:
    name, needs = "steady", frozenset({Service})

    async def reconcile(self, view, dirty):
        with open(os.environ["SEEN"], "a") as seen:
            for ref in dirty.refs:
                seen.write(f"{ref.key} {time.time()}\\n")
        return Receipt()

    async def cleanup(self):
        pass

    def render(self, view):
        return ()

    def status(self):
        return {"mood": "calm"}

    def answer(self, question):
        if question.get("what") != "time":
            raise ValueError("ask me for the time")
        self.context.note("was asked for the time")
        return {"time": 12}

    def explain(self, view, question):
        return {"services": sorted(service.key for service in view.each(Service)), "seq": view.seq}


@hookimpl
def kube_router_plugin(context):
    steady = Steady()
    steady.context = context
    return steady
"""

BAD = """
import os, time
import anyio
from kube_router.core.api import Receipt, hookimpl
from kube_router.events.model import Service


class Bad:
    name, needs, deadline_s = "bad", frozenset({Service}), 0.3

    def __init__(self, context):
        self.context = context

    async def reconcile(self, view, dirty):
        how = os.environ["HOW"]
        if how == "raise":
            raise RuntimeError("I never work")
        if how == "hang":
            await anyio.sleep_forever()
        if how == "hang once in a thread" and not os.path.exists(os.environ["SEEN"] + ".hung"):
            open(os.environ["SEEN"] + ".hung", "w").close()
            await self.context.run(time.sleep, 3600)
        if how == "block" and dirty.refs:
            time.sleep(1.5)
        return Receipt()

    async def cleanup(self):
        pass

    def render(self, view):
        return ()


@hookimpl
def kube_router_plugin(context):
    return Bad(context)
"""


def install(site: Path) -> None:
    """Put both into a folder as a wheel would: with it on PYTHONPATH they are installed."""
    info = site / "crowd-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: crowd\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[kube_router.plugins]\nsteady = crowd_steady\nbad = crowd_bad\n")
    (site / "crowd_steady.py").write_text(STEADY)
    (site / "crowd_bad.py").write_text(BAD)


CHANGES = 12


class Crowd:
    """An agent with the plugins ``steady`` and ``bad``, fed from a folder of manifests."""

    def __init__(self, folder: Path, how: str) -> None:
        self.folder, self.seen = folder, folder / "seen"
        self.manifests, self.socket = folder / "manifests", folder / "kr.sock"
        self.manifests.mkdir()
        install(folder / "site")
        environ = {**os.environ, "PYTHONPATH": str(folder / "site"), "HOW": how, "SEEN": str(self.seen)}
        flags = [f"--manifests={self.manifests}", f"--journal-dir={folder / 'journal'}", "--health-port=0"]
        argv = [sys.executable, "-m", "kube_router.cli", "run", *flags, f"--control-socket={self.socket}"]
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [*argv, "--run-proxy=false", "--run-firewall=false", "--run-router=false"],
                env=environ,
                stdout=log,
                stderr=log,
            )

    def plugin(self, name: str) -> dict[str, Any]:
        status = ask(str(self.socket), "status")
        return next(plugin for plugin in status["plugins"] if plugin["name"] == name)

    def latencies_s(self) -> list[float]:
        """Change one Service after the other; return how long each took to reach ``steady``."""
        taken = []
        for number in range(CHANGES):
            written = time.time()
            self.write(number)
            at = until(partial(self._seen_at, f"default/tick-{number}"), what=f"tick {number}")
            taken.append(at - written)
        return taken

    def write(self, number: int) -> None:
        text = f"apiVersion: v1\nkind: Service\nmetadata: {{name: tick-{number}}}\nspec: {{ports: [{{port: 80}}]}}\n"
        temporary = self.folder / "temporary"
        temporary.write_text(text)
        temporary.rename(self.manifests / f"{number}.yaml")

    def _seen_at(self, key: str) -> float:
        lines = self.seen.read_text().splitlines() if self.seen.exists() else []
        times = [float(line.split()[1]) for line in lines if line.split()[0] == key]
        return times[0] if times else 0.0


@contextmanager
def crowd(folder: Path, how: str) -> Iterator[Crowd]:
    folder.mkdir()
    made = Crowd(folder, how)
    try:
        until(made.socket.exists, what="the agent")
        until(lambda: made.plugin("steady")["reconciles"], what="the first reconcile")
        yield made
        assert made.process.poll() is None, (folder / "log").read_text()
    finally:
        made.process.send_signal(signal.SIGTERM)
        made.process.wait(20)
