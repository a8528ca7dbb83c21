"""Run nftables transactions, as text, through libnftables or else by starting ``nft``.

One ``run`` is one transaction: the kernel takes all of it or nothing. libnftables does in 0.15 ms what a started
process does in 17 ms, so it is used where it is found: ``$KR_LIBNFTABLES``, ``libnftables.so.1``, or whatever the
linker finds under that name; docs/decisions/0002-libnftables-by-ctypes.md says why by ctypes. A context is not
thread-safe, hence the lock; it lives in the network namespace in which it was first used.

Blocking: for worker threads. A running transaction cannot be cancelled.
"""

import ctypes
import ctypes.util
import json
import logging
import os
import re
import subprocess
import threading
from typing import Any, Protocol

from kube_router.events.errors import KernelError

logger = logging.getLogger(__name__)

OUTPUT_JSON, OUTPUT_NUMERIC_ALL = 1 << 4, 0b1111 << 7  # NFT_CTX_OUTPUT_* of nftables/libnftables.h
_PLACE = re.compile(r"^\S+?:(\d+):\d+-\d+: Error: ")
SPAWN_TIMEOUT_S = 60
MESSAGE_MAX = 500
HOW_TO_INSTALL = (
    "install it with `apt-get install nftables` or `apk add nftables`, or name the library in $KR_LIBNFTABLES"
)


class _Backend(Protocol):
    name: str

    def run(self, text: str, *, as_json: bool) -> tuple[int, str, str]:
        """Return the status, the output and the messages."""
        ...


class _Library:
    """libnftables, loaded with ctypes."""

    def __init__(self, library: ctypes.CDLL, path: str) -> None:
        self.name = f"libnftables ({path})"
        self._lib = library
        library.nft_ctx_new.restype = ctypes.c_void_p
        library.nft_ctx_new.argtypes = [ctypes.c_uint32]
        library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
        library.nft_ctx_output_set_flags.restype = None  # an int since nftables 1.0.9, not needed
        library.nft_run_cmd_from_filename.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        for function in ("nft_ctx_buffer_output", "nft_ctx_buffer_error", "nft_ctx_free"):
            getattr(library, function).argtypes = [ctypes.c_void_p]
        for function in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
            getattr(library, function).argtypes = [ctypes.c_void_p]
            getattr(library, function).restype = ctypes.c_char_p
        self._ctx = library.nft_ctx_new(0)
        if not self._ctx:
            raise KernelError("nftables: no context: the kernel refused a netlink socket, or there is no memory")
        library.nft_ctx_buffer_output(self._ctx)
        library.nft_ctx_buffer_error(self._ctx)

    def run(self, text: str, *, as_json: bool) -> tuple[int, str, str]:
        self._lib.nft_ctx_output_set_flags(self._ctx, OUTPUT_JSON | OUTPUT_NUMERIC_ALL if as_json else 0)
        if as_json:  # which makes a file be taken for JSON
            status = self._lib.nft_run_cmd_from_buffer(self._ctx, text.encode())
        else:
            status = self._run_file(text)
        output = self._lib.nft_ctx_get_output_buffer(self._ctx) or b""
        messages = self._lib.nft_ctx_get_error_buffer(self._ctx) or b""
        return int(status), output.decode(errors="replace"), messages.decode(errors="replace")

    def _run_file(self, text: str) -> int:
        """Run a transaction from memory as a file: from a buffer nft cites its first line, whichever is wrong."""
        with open(os.memfd_create("nft"), "wb") as file:
            file.write(text.encode())
            file.flush()
            return int(self._lib.nft_run_cmd_from_filename(self._ctx, f"/proc/self/fd/{file.fileno()}".encode()))

    def __del__(self) -> None:
        if getattr(self, "_ctx", None):
            self._lib.nft_ctx_free(self._ctx)


class _Program:
    """The program ``nft``, started for each transaction."""

    name = "nft -f -"

    def run(self, text: str, *, as_json: bool) -> tuple[int, str, str]:
        # With -j a file would be taken for JSON.
        command = ["nft", "-j", "-n", text] if as_json else ["nft", "-f", "-"]
        try:
            done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=SPAWN_TIMEOUT_S)
        except FileNotFoundError as e:
            raise KernelError(f"neither libnftables nor the program nft is there: {HOW_TO_INSTALL}") from e
        except subprocess.TimeoutExpired as e:
            raise KernelError(f"nft did not end within {SPAWN_TIMEOUT_S} s") from e
        return done.returncode, done.stdout, done.stderr


def _load() -> _Backend:
    for name in (os.environ.get("KR_LIBNFTABLES"), "libnftables.so.1", ctypes.util.find_library("nftables")):
        if not name:
            continue
        try:
            return _Library(ctypes.CDLL(name), name)
        except OSError as e:
            logger.debug(f"libnftables_not_loaded name={name} error={str(e)!r}")
    logger.warning(f'libnftables_missing instead="nft -f -, a hundred times slower" do="{HOW_TO_INSTALL}"')
    return _Program()


class Nft:
    """One user's way to nftables."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._backend: _Backend | None = None

    @property
    def backend(self) -> str:
        """What runs the transactions, for ``kr status``; "" before the first."""
        return self._backend.name if self._backend else ""

    def run(self, text: str) -> None:
        """Commit ``text`` as one transaction.

        Raises ``KernelError`` with nft's own message and the line it is about; nothing is changed then.
        """
        self._run(text, as_json=False)

    def list_text(self, command: str) -> str:
        """Return what a ``list`` command prints, in nft's own syntax. Raises ``KernelError``."""
        return self._run(command, as_json=False)

    def list_json(self, command: str) -> list[dict[str, Any]]:
        """Return the objects that a ``list`` command tells of, each as {kind: fields} (libnftables-json(5)).

        Raises ``KernelError``, for an object that is not there with ENOENT's words.
        """
        output = self._run(command, as_json=True)
        return [entry for entry in json.loads(output)["nftables"] if "metainfo" not in entry] if output.strip() else []

    def _run(self, text: str, *, as_json: bool) -> str:
        with self._lock:
            if self._backend is None:
                self._backend = _load()
            status, output, messages = self._backend.run(text + "\n", as_json=as_json)
        if status:
            raise KernelError(f"nftables refused: {_first_error(messages)}", _errno(messages))
        return output


def _first_error(messages: str) -> str:
    """Return the first of nft's messages with its line, on one line."""
    lines = [line.strip() for line in messages.splitlines() if line.strip(" ^~\t")]
    return _PLACE.sub(r"line \1: ", " | ".join(lines[:2]))[:MESSAGE_MAX] or "no reason given"


def _errno(messages: str) -> int:
    """Return the errno that nft tells of in words only, 0 for its own errors."""
    known = (2, 17, 16, 1)  # ENOENT, EEXIST, EBUSY, EPERM
    return next((number for number in known if os.strerror(number) in messages), 0)
