"""One background process with a log, stopped by its pid and never outliving us; and what it needs to start."""

import ctypes
import os
import signal
import socket
import subprocess
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

STOP_S_MAX = 10
LOG_TAIL = 3000
PR_SET_PDEATHSIG = 1
P256_OID = bytes.fromhex("06082a8648ce3d030107")


class Daemon:
    """Can be started again after a stop; its log then goes on.

    To be started from a thread that lives as long as it shall: the kernel ends it with that thread.
    """

    def __init__(self, argv: Sequence[str], log: Path) -> None:
        self._argv, self._log = list(argv), log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """0 while it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else 0

    def start(self) -> None:
        """Start it unless it runs."""
        if self.pid:
            return
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_die_with_parent
            )

    def check(self) -> None:
        """Raise RuntimeError with its last words if it has ended."""
        if not self.pid:
            raise RuntimeError(f"{self._argv[0]} has ended:\n{self.last_words()}")

    def stop(self, *, kill: bool = False) -> None:
        """End it: politely first, unless ``kill``."""
        if self._process is None or self._process.poll() is not None:
            return
        if not kill:
            self._process.terminate()
            try:
                self._process.wait(STOP_S_MAX)
                return
            except subprocess.TimeoutExpired:
                pass  # it was asked; now it is told
        self._process.kill()
        self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self.pid:
            os.kill(self.pid, number)

    def wait_ended(self, timeout_s: float = STOP_S_MAX) -> int:
        """Wait until it has ended by itself, return its status; subprocess.TimeoutExpired where it does not."""
        return 0 if self._process is None else self._process.wait(timeout_s)

    def last_words(self) -> str:
        """Return the end of its log."""
        return self._log.read_text(errors="replace")[-LOG_TAIL:]


def free_ports(count: int) -> list[int]:
    """Return TCP ports of the loopback interface that nobody uses now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [it.getsockname()[1] for it in sockets]
    for it in sockets:
        it.close()
    return ports


def new_private_key() -> str:
    """Return a random P-256 key as PEM (RFC 5915, without the optional public half: who reads it computes it)."""
    scalar = b"\x00" + os.urandom(31)  # surely below the order of the curve
    body = b"\x02\x01\x01" + b"\x04\x20" + scalar + b"\xa0" + bytes([len(P256_OID)]) + P256_OID
    der = b"\x30" + bytes([len(body)]) + body
    return f"-----BEGIN EC PRIVATE KEY-----\n{b64encode(der).decode()}\n-----END EC PRIVATE KEY-----\n"


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
