"""Agents as processes: one in the network namespace of each node, with folders of its own."""

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from kube_router.core.ask import ask
from kube_router.events.errors import ConfigError
from kube_router.lab import netns


@dataclass(frozen=True, slots=True)
class Agent:
    """A node's agent: where it runs and where its things are. ``source``: flags that say where objects come from."""

    node: str
    namespace: str
    folder: Path
    source: tuple[str, ...]
    plugins: tuple[str, ...] | None = None
    extra: tuple[str, ...] = ()

    @property
    def journal(self) -> Path:
        return self.folder / "journal"

    @property
    def log(self) -> Path:
        return self.folder / "agent.log"

    @property
    def cni(self) -> Path:
        return self.folder / "cni" / "10-kuberouter.conflist"

    @property
    def control_socket(self) -> Path:
        return self.folder / "kr.sock"

    def argv(self) -> list[str]:
        """Return the command line."""
        flags = [f"--hostname-override={self.node}", f"--journal-dir={self.journal}"]
        flags += [f"--control-socket={self.control_socket}", *self.source, *switches(self.plugins), *self.extra]
        return [sys.executable, "-m", "kube_router.cli", "run", *flags]

    def pid(self) -> int:
        """Return its process, 0 if it does not run."""
        try:
            pid = int((self.folder / "agent.pid").read_text())
        except (FileNotFoundError, ValueError):
            return 0
        return pid if netns.is_in(pid, self.namespace) else 0

    def start(self) -> None:
        """Start it; a running one is left alone. Its log is appended to."""
        if self.pid():
            return
        self.journal.mkdir(parents=True, exist_ok=True, mode=0o700)
        # A process begins in the namespace of the thread that starts it.
        pid = netns.run_in(self.namespace, partial(spawn, self.argv(), log=self.log, environ=self._environ()))
        (self.folder / "agent.pid").write_text(f"{pid}\n")

    def _environ(self) -> dict[str, str]:
        """Return its environment: a CNI configuration of its own, since nodes share this machine's files."""
        self.cni.parent.mkdir(exist_ok=True)
        return {**os.environ, "KUBE_ROUTER_CNI_CONF_FILE": str(self.cni)}

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send it a signal and wait for its end."""
        if pid := self.pid():
            netns.end([pid], number=number)

    def status(self) -> dict[str, Any]:
        """Return what it says of itself. PeerError if it does not answer (yet)."""
        found: dict[str, Any] = ask(str(self.control_socket), "status")
        return found

    def last_words(self, count: int = 5) -> str:
        """Return the end of its log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-count:])


def switches(plugins: Sequence[str] | None) -> list[str]:
    """Return the flags that run just these plugins, none for all. ConfigError for one that is not installed."""
    if plugins is None:
        return []
    from importlib.metadata import entry_points  # takes half a second where the CPU is emulated

    installed = sorted({point.name for point in entry_points(group="kube_router.plugins")})
    if unknown := sorted(set(plugins) - set(installed)):
        raise ConfigError(f"no plugin {', '.join(unknown)} is installed; there are {', '.join(installed)}")
    return [f"--run-{name}={'true' if name in plugins else 'false'}" for name in installed]


def spawn(argv: Sequence[str], *, log: Path, environ: Mapping[str, str] | None = None) -> int:
    """Start a process that outlives us, with its output appended to a file; return its pid."""
    program = argv[0]
    write = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), write, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    variables = os.environ if environ is None else environ
    return os.posix_spawnp(program, list(argv), variables, file_actions=actions, setsid=True)
