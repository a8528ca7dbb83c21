"""Append records to disk before anybody acts on them, and recover them after a restart.

The format is in events/line.py and events/segment.py, recovery in events/recovery.py, snapshots in events/snapshot.py,
reading for people in events/reading.py.

``append`` is one ``write()``: what it returned from survives the process. ``fdatasync`` runs in a worker thread, at
most once a second, and gates nothing: a lost tail is an older position, from which the API server tells again.

A disk that will not take more stops the journal, never the node. Then the kernel moves on and the journal does not, so
the marker ``complete`` is taken away: whoever finds it missing at start knows that the kernel may be newer than the
journal. It comes back once the live source has confirmed every resource that was recovered.

All calls but ``flush`` and ``snapshot`` are for the event loop's thread.
"""

import errno
import fcntl
import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from zlib import crc32

from msgspec.structs import replace

from kube_router.events.errors import ConfigError
from kube_router.events.event import SCHEMA, Change, ObjectDecoder, Put, Segment, Sync, encode
from kube_router.events.line import Position, frame
from kube_router.events.recovery import Apply, Recovery, recover
from kube_router.events.segment import COMPLETE, LOCK, listing, log_path, sync_directory
from kube_router.events.snapshot import remove_unfinished, remove_unneeded, size_of, write_snapshot

logger = logging.getLogger(__name__)

MIB = 1024 * 1024
SEGMENT_BYTES_MAX = 16 * MIB
SEGMENT_AGE_MAX_MS = 3_600_000
SNAPSHOT_TAIL_MIN = 16 * MIB
SIZE_MAX = 128 * MIB

# Rotated logs that wait for the worker thread's fdatasync. More at once means that nobody flushes.
SEALED_MAX = 64


class Journal:
    """The journal of one node, open for appending. One process at a time (flock on LOCK)."""

    def __init__(
        self, directory: Path, *, now_ms: Callable[[], int], size_max: int, segment_bytes_max: int, tail_min: int
    ) -> None:
        self.directory = directory
        self.recovery = Recovery()
        self.stopped = ""  # why nothing is written any more
        self.last_seq = 0
        self.size_bytes = 0
        self._now_ms = now_ms
        self._size_max, self._segment_bytes_max, self._tail_min = size_max, segment_bytes_max, tail_min
        self._position = Position()
        self._head = Segment(seq=1, t=0, v=SCHEMA)
        self._unconfirmed: set[str] = set()  # while not empty the marker is missing
        self._mutex = threading.Lock()  # of what follows: shared with the thread of flush and snapshot
        self._lock_fd = self._fd = -1
        self._sealed: list[int] = []
        self._names_changed = False
        self._offset = self._records = self._since_ms = 0  # of the current log
        self._written_seq = self._synced_seq = 0
        self._tail_bytes = self._snapshot_bytes = 0

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        objects: Mapping[str, ObjectDecoder],
        apply: Apply,
        now_ms: Callable[[], int],
        size_max: int = SIZE_MAX,
        segment_bytes_max: int = SEGMENT_BYTES_MAX,
        tail_min: int = SNAPSHOT_TAIL_MIN,
    ) -> Self:
        """Lock the folder, recover what it holds through ``apply``, and return the journal, ready for ``begin``.

        ConfigError if another process has it or it cannot be used at all; never because of what is in it.
        """
        journal = cls(
            directory, now_ms=now_ms, size_max=size_max, segment_bytes_max=segment_bytes_max, tail_min=tail_min
        )
        journal._lock()
        journal._recover(objects, apply)
        return journal

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def lag_records(self) -> int:
        """How many records are written and not yet known to be on the disk."""
        return self._written_seq - self._synced_seq

    # -- opening -------------------------------------------------------------------------------------------------------

    def _lock(self) -> None:
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.directory.chmod(0o700)
            fd = os.open(self.directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if not _is_disks_fault(error):
                raise ConfigError(f"cannot use {self.directory} as journal folder: {error.strerror}") from error
            self._stop("cannot lock", error)
            return
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(fd)
            raise ConfigError(
                f"journal {self.directory} is in use by process {holder}: stop it, or use another --journal-dir"
            ) from error
        self._lock_fd = fd
        try:
            os.ftruncate(fd, 0)
            os.pwrite(fd, b"%d\n" % os.getpid(), 0)
        except OSError as error:
            logger.warning(f"journal_lock_unsigned directory={self.directory} error={error.strerror!r}")

    def _recover(self, objects: Mapping[str, ObjectDecoder], apply: Apply) -> None:
        try:
            remove_unfinished(self.directory)
        except OSError as error:
            self._stop("cannot clean up", error)
        found = self.recovery = recover(self.directory, objects, apply, self._position)
        if found.unreadable:
            self._stop("cannot read", OSError(errno.EIO, found.unreadable))
        self.last_seq = self._written_seq = self._synced_seq = found.last_seq
        self._tail_bytes, self._snapshot_bytes = found.tail_bytes, found.snapshot_bytes
        if not found.complete:
            self._unconfirmed = set(found.synced)
            self._unmark()
        self._measure()
        for words in found.cut:
            logger.warning(f"journal_damaged directory={self.directory} what={words!r}")
        logger.info(
            f"journal_recovered directory={self.directory} seq={found.last_seq} records={found.records} "
            f"seconds={found.seconds:.3f} complete={found.complete}"
        )

    def _measure(self) -> None:
        folder = listing(self.directory)
        self.size_bytes = sum(size_of(file) for file in folder.files)

    # -- writing -------------------------------------------------------------------------------------------------------

    def begin(self, head: Segment) -> None:
        """Start a log for this run, or for another cluster, whose id then voids what was recovered.

        Of ``head`` cluster, node, boot, agent and options are taken; an empty cluster is the recovered one.
        """
        if self._position.cluster and head.cluster and head.cluster != self._position.cluster:
            self._unconfirmed.clear()
        self._position.head(head)
        self._head = replace(head, v=SCHEMA, cluster=self._position.cluster)
        with self._mutex:
            self._start_log()
        self._mark_if_confirmed()

    def append(self, records: Iterable[Change]) -> None:
        """Write the records, which go on from ``last_seq``, in one piece. Does nothing but count while ``stopped``."""
        if self._fd >= 0 and self._is_rotation_due():
            with self._mutex:
                self._start_log()
        seq, move, written, confirmed = self.last_seq, self._position.move, [], False
        for record in records:
            seq += 1
            assert record.seq == seq, f"record {record.seq} cannot follow {seq - 1}"
            body = encode(record)
            written.append(b"%08x %b\n" % (crc32(body), body))
            move(record)
            if isinstance(record, Sync) and self._unconfirmed:
                self._unconfirmed.discard(record.r)
                confirmed = True
        self.last_seq = seq
        if not self.stopped and written:
            with self._mutex:
                self._write(b"".join(written), records=len(written))
        if confirmed:
            self._mark_if_confirmed()

    def _is_rotation_due(self) -> bool:
        if not self._records:
            return False
        return self._offset >= self._segment_bytes_max or self._now_ms() - self._since_ms >= SEGMENT_AGE_MAX_MS

    def _start_log(self) -> None:
        """Seal the current log and start the next one. Where the current one is empty it is written anew."""
        if self.stopped:
            return
        self._since_ms = self._now_ms()
        head = replace(
            self._head,
            seq=self.last_seq + 1,
            t=self._since_ms,
            rv=dict(self._position.rv),
            synced=tuple(sorted(self._position.synced)),
        )
        path = log_path(self.directory, head.seq)
        try:
            # A new file even under an old name: whoever follows the journal sees that it is another one.
            path.unlink(missing_ok=True)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            self._stop(f"cannot create {path.name}", error)
            return
        self._seal()
        self._fd, self._offset, self._records, self._names_changed = fd, 0, 0, True
        self._write(frame(head), records=0)

    def _seal(self) -> None:
        if self._fd >= 0:
            self._sealed.append(self._fd)
        if len(self._sealed) > SEALED_MAX:
            os.close(self._sealed.pop(0))

    def _write(self, chunk: bytes, *, records: int) -> None:
        """Append the lines. A failed write leaves the file as it was, as far as the disk lets it."""
        assert self._fd >= 0, "begin comes before append"
        rest = memoryview(chunk)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError as error:
            self._stop("cannot write", error)
            self._cut_back()
            return
        self._offset += len(chunk)
        self.size_bytes += len(chunk)
        self._records += records
        if records:
            self._tail_bytes += len(chunk)
            self._written_seq = self.last_seq

    def _cut_back(self) -> None:
        try:
            os.ftruncate(self._fd, self._offset)
        except OSError as error:
            # The unfinished line stays; recovery cuts it.
            logger.warning(f"journal_tail_unfinished directory={self.directory} error={error.strerror!r}")

    # -- stopping, and the marker --------------------------------------------------------------------------------------

    def _stop(self, what: str, error: OSError) -> None:
        if self.stopped:
            return
        self.stopped = f"{what}: {error.strerror}"
        logger.error(
            f"journal_stopped directory={self.directory} seq={self._written_seq} why={self.stopped!r} "
            f"now='running without journal until restarted with room on the disk'"
        )
        self._unmark()

    def _unmark(self) -> None:
        try:
            (self.directory / COMPLETE).unlink(missing_ok=True)
        except OSError as error:
            logger.error(f"journal_marker_stuck path={self.directory / COMPLETE} error={error.strerror!r}")

    def _mark_if_confirmed(self) -> None:
        if self.stopped or self._unconfirmed:
            return
        try:
            os.close(os.open(self.directory / COMPLETE, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            logger.warning(f"journal_marker_missing path={self.directory / COMPLETE} error={error.strerror!r}")

    # -- in the worker thread ------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Make what was written so far durable. Blocks; for a worker thread."""
        with self._mutex:
            fds, self._sealed = self._sealed, []
            seq, renamed, self._names_changed = self._written_seq, self._names_changed, False
            if self._fd >= 0:
                fds.append(os.dup(self._fd))
        try:
            for fd in fds:
                os.fdatasync(fd)
            if renamed:
                sync_directory(self.directory)
            self._synced_seq = max(self._synced_seq, seq)
        except OSError as error:
            with self._mutex:
                self._stop("cannot sync", error)
        finally:
            for fd in fds:
                os.close(fd)

    def snapshot_due(self) -> bool:
        """Whether the logs since the last snapshot outweigh it: more than twice its size, and 16 MiB at least."""
        return not self.stopped and self._tail_bytes > max(2 * self._snapshot_bytes, self._tail_min)

    def snapshot(self, head: Segment, puts: Sequence[Put]) -> None:
        """Write the state and remove what it makes unneeded. Blocks; for a worker thread.

        ``head.seq`` is the state's seq plus one; its ``rv`` and ``synced`` are the state's. A disk that will not take
        it costs the snapshot, not the journal.
        """
        if self.stopped:
            return
        with self._mutex:
            covered = self._tail_bytes
        head = replace(head, v=SCHEMA, rv={r: rv for r, rv in head.rv.items() if rv})
        try:
            self._snapshot_bytes = write_snapshot(self.directory, head, puts)
            remove_unneeded(self.directory, self._size_max)
        except OSError as error:
            logger.warning(f"journal_snapshot_failed directory={self.directory} error={error.strerror!r}")
        with self._mutex:
            self._tail_bytes -= covered
            self._measure()

    def close(self) -> None:
        """Make all durable and let go of the folder. Twice does no harm."""
        self.flush()
        with self._mutex:
            for fd in (self._fd, self._lock_fd):
                if fd >= 0:
                    os.close(fd)
            self._fd = self._lock_fd = -1


def _is_disks_fault(error: OSError) -> bool:
    """Whether the disk is full, broken or write-protected, as against a folder that is not as the operator said."""
    return error.errno in _DISKS_FAULTS


_DISKS_FAULTS = frozenset({errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS})
