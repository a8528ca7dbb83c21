"""Network namespaces: make and remove them, run code and ``ip`` inside, find the processes in them.

Named namespaces as ``ip netns`` has them (/run/netns). Code enters one in a thread of its own, which the kernel lets
belong to another namespace than the rest of the process; a socket keeps the namespace in which it was made.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from kube_router.events.errors import KernelError

T = TypeVar("T")
FOLDER = Path("/run/netns")
CLONE_NEWNET = 0x40000000
BATCH_TIMEOUT_S = 120
END_TIMEOUT_S = 30
_libc = ctypes.CDLL(None, use_errno=True)


def names() -> set[str]:
    """Return the names of all named namespaces."""
    return set(os.listdir(FOLDER)) if FOLDER.is_dir() else set()


def enter(name: str) -> None:
    """Move this thread into a namespace. KernelError if there is none of that name."""
    enter_path(FOLDER / name)


def enter_path(path: Path) -> None:
    """Move this thread into the namespace that a file stands for, such as /proc/PID/ns/net. KernelError if none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError(f"network namespace {path}: {error.strerror}", error.errno or 0) from error
    try:
        if _libc.setns(fd, CLONE_NEWNET):
            code = ctypes.get_errno()
            raise KernelError(f"network namespace {path}: cannot be entered: {os.strerror(code)}", code)
    finally:
        os.close(fd)


def run_in(name: str, body: Callable[[], T]) -> T:
    """Return what ``body`` returns, called inside the namespace ("" is our own); raise what it raises.

    The body bounds its own waits.
    """
    return run_in_path(FOLDER / name, body) if name else body()


def run_in_path(path: Path, body: Callable[[], T]) -> T:
    """As ``run_in``, in the namespace that a file stands for."""
    results: list[T] = []
    errors: list[BaseException] = []

    def inside() -> None:
        try:
            enter_path(path)
            results.append(body())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            errors.append(error)

    thread = threading.Thread(target=inside, name=f"in-{path.name}", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def ip_batch(lines: Sequence[str], *, namespace: str = "") -> None:
    """Run lines of ``ip`` in a namespace. KernelError names the first line that failed."""
    if not lines:
        return
    argv = ["ip", *(["-n", namespace] if namespace else []), "-batch", "-"]
    done = subprocess.run(
        argv, input="\n".join(lines) + "\n", capture_output=True, text=True, timeout=BATCH_TIMEOUT_S, check=False
    )
    if done.returncode:
        raise KernelError(f"ip in {namespace or 'the host'}: {_first_failure(done.stderr, lines)}")


def _first_failure(stderr: str, lines: Sequence[str]) -> str:
    """Return the kernel's words and the line they are about: ``Command failed -:7`` counts from 1."""
    words = " ".join(stderr.split())
    number = words.rpartition("Command failed -:")[2].split()
    if number and number[0].isdigit() and 1 <= int(number[0]) <= len(lines):
        return f"{words}: {lines[int(number[0]) - 1]}"
    return words


def write_sysctls(values: Mapping[str, str]) -> None:
    """Write sysctls (``net/ipv4/ip_forward``) of this thread's namespace; those this kernel has not are left out."""
    for name, value in values.items():
        path = Path("/proc/sys") / name
        if path.exists():
            path.write_text(value)


def add(wanted: Iterable[str]) -> None:
    """Make namespaces."""
    ip_batch([f"netns add {name}" for name in wanted])


def remove(unwanted: Iterable[str]) -> None:
    """Remove namespaces that are there; their interfaces go with them once no process is left inside."""
    there = names()
    ip_batch([f"netns del {name}" for name in unwanted if name in there])


def processes_in(namespaces: Iterable[str]) -> dict[int, str]:
    """Return the processes inside some namespaces: pid → namespace. Ourselves are left out."""
    inodes = {}
    for name in namespaces:
        path = FOLDER / name
        if path.exists():
            inodes[path.stat().st_ino] = name
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            inode = _namespace_of(int(entry))
            if inode in inodes:
                found[int(entry)] = inodes[inode]
    return found


def is_in(pid: int, namespace: str) -> bool:
    """Tell whether a process is alive and inside a namespace."""
    path = FOLDER / namespace
    return path.exists() and _namespace_of(pid) == path.stat().st_ino


def _namespace_of(pid: int) -> int:
    """Return the inode of a process's network namespace, 0 for one that is gone (a zombie has none either)."""
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino
    except OSError:
        return 0


def end(pids: Iterable[int], *, number: signal.Signals = signal.SIGTERM, grace_s: float = END_TIMEOUT_S) -> None:
    """Send a signal to processes and wait for their end; what is left after the grace is killed."""
    waiting = {}
    for pid in pids:
        try:
            waiting[os.pidfd_open(pid)] = pid
            os.kill(pid, number)
        except ProcessLookupError:  # it ended by itself
            continue
    deadline = time.monotonic() + grace_s
    for fd, pid in waiting.items():
        if not _ended(fd, max(0.0, deadline - time.monotonic())):
            with contextlib.suppress(ProcessLookupError):  # it ended in this very moment
                signal.pidfd_send_signal(fd, signal.SIGKILL)
            _ended(fd, END_TIMEOUT_S)
        os.close(fd)
        _reap(pid)


def _ended(pidfd: int, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:  # it was another process's child
        return
