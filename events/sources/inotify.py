"""Be woken by the kernel when something changes in a folder: inotify(7), by ctypes, for one folder at a time.

It says that and where something happened, not what the folder holds: whoever is woken looks again. Events that the
kernel had to drop are no loss for the same reason.
"""

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

# <sys/inotify.h>
IN_MODIFY, IN_ATTRIB, IN_CLOSE_WRITE = 0x2, 0x4, 0x8
IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE = 0x40, 0x80, 0x100, 0x200
IN_DELETE_SELF, IN_MOVE_SELF, IN_ONLYDIR = 0x400, 0x800, 0x01000000
IN_CLOEXEC, IN_NONBLOCK = os.O_CLOEXEC, os.O_NONBLOCK
WATCHED = (
    IN_MODIFY
    | IN_ATTRIB
    | IN_CLOSE_WRITE
    | IN_MOVED_FROM
    | IN_MOVED_TO
    | IN_CREATE
    | IN_DELETE
    | IN_DELETE_SELF
    | IN_MOVE_SELF
    | IN_ONLYDIR
)
READ_BYTES = 64 << 10
_HEAD = struct.Struct("=iIII")

_libc = ctypes.CDLL(None, use_errno=True)


class Event(NamedTuple):
    """``name`` is the entry's, "" for the folder itself."""

    mask: int
    name: str


@dataclass(frozen=True, slots=True)
class Watch:
    """An open inotify descriptor that watches one folder, readable when there is something to read."""

    fd: int
    identity: tuple[int, int]  # device and inode of the folder

    def read(self) -> list[Event]:
        """Return what has happened since, without waiting."""
        try:
            return list(_events(os.read(self.fd, READ_BYTES)))
        except BlockingIOError:
            return []

    def close(self) -> None:
        os.close(self.fd)


def watch(folder: Path) -> Watch:
    """Return a watch of the folder. OSError where there is no such folder, or no inotify (left)."""
    fd = _checked(_libc.inotify_init1(IN_CLOEXEC | IN_NONBLOCK), folder)
    try:
        _checked(_libc.inotify_add_watch(fd, os.fsencode(folder), WATCHED), folder)
        return Watch(fd, identity(folder))
    except BaseException:
        os.close(fd)
        raise


def identity(folder: Path) -> tuple[int, int]:
    """Return what tells this folder from another one put in its place."""
    status = folder.stat()
    return status.st_dev, status.st_ino


def no_inotify(error: OSError) -> bool:
    """Tell whether the machine has no (more) inotify for us, while the folder may be fine."""
    return error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.ENOSYS, errno.ENOMEM)


def _checked(result: int, folder: Path) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(folder))
    return result


def _events(buffer: bytes) -> Iterator[Event]:
    position = 0
    while position < len(buffer):
        _, mask, _, length = _HEAD.unpack_from(buffer, position)
        position += _HEAD.size
        name = buffer[position : position + length].rstrip(b"\0")
        position += length
        yield Event(mask, os.fsdecode(name))
