"""An agent process on this machine, whose proxy has no kernel (benchmarks/shadow.py): started, asked, ended."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks import shadow
from kube_router.core.ask import ask
from kube_router.events.errors import PeerError

READY_S_MAX = 120
POLL_S = 0.1
STOP_S_MAX = 60


class Agent:
    """``with Agent(folder, url) as agent``: the folder keeps its journal and log, so that a second one is a restart."""

    def __init__(self, folder: Path, url: str, **env: str) -> None:
        site = folder / "site"
        if not site.exists():
            shadow.install(site)
        root = Path(__file__).parents[1]
        self.socket = folder / "kr.sock"
        path = os.pathsep.join([str(site), str(root)])
        argv = [sys.executable, "-m", "kube_router.cli", "run", f"--master={url}", "--hostname-override=node-1"]
        argv += [
            "--run-proxy=false",
            "--run-firewall=false",
            "--run-router=false",
            "--run-shadow",
            "--health-port=0",
            f"--journal-dir={folder / 'journal'}",
        ]
        with (folder / "agent.log").open("ab") as log:
            self._began = time.monotonic()
            self._process = subprocess.Popen(
                [*argv, f"--control-socket={self.socket}"],
                env=os.environ | {"PYTHONPATH": path} | env,
                stdout=log,
                stderr=log,
            )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def in_sync(self) -> float:
        """Return the seconds from its start until it is in sync."""
        while self.status().get("state") != "in sync":
            if time.monotonic() - self._began > READY_S_MAX or self._process.poll() is not None:
                raise RuntimeError(f"the agent is not in sync after {READY_S_MAX} s: {self.status()}")
            time.sleep(POLL_S)
        return time.monotonic() - self._began

    def status(self) -> dict[str, Any]:
        """Return the plugin's part of the status, nothing while the agent does not answer."""
        try:
            found = ask(str(self.socket), "status")
        except PeerError:
            return {}
        return next((dict(plugin) for plugin in found["plugins"] if plugin["name"] == "shadow"), {})
