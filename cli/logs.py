"""Log lines as they leave the process: one event per line on stderr, UTC, name first, then key=value."""

import logging
import sys
from datetime import UTC, datetime


class Line(logging.Formatter):
    """``2026-11-22T19:54:01.250Z INFO endpoint_added service=prod/web``; a traceback follows on lines of its own."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # the name is logging's
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def configure(verbosity: int) -> None:
    """Log to stderr: what changes and what is wrong, with ``verbosity`` 1 debugging too, from 2 the libraries' also."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Line())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.DEBUG if verbosity >= 2 else logging.WARNING)
    logging.getLogger("kube_router").setLevel(logging.DEBUG if verbosity >= 1 else logging.INFO)
