"""Runs ``kr`` within the test's process: fast, and errors keep their meaning as exit status."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple
from unittest.mock import patch

from kube_router.cli import main


class Done(NamedTuple):
    status: int
    out: str
    err: str


def kr(*argv: str, stdin: bytes = b"") -> Done:
    """Return what ``kr ARGV`` printed and its exit status."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin))):
        status = main.guarded("kr", lambda: main.invoke(argv))
    return Done(status, out.getvalue(), err.getvalue())
