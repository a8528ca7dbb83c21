"""Tests marked ``guest`` run in the VM: all that were selected, in one boot, reported here one by one.

They need a kernel that this machine may not have (ip_vs, dummy, ipip, sctp). Where it has, and inside the VM, they run
like any other test. Elsewhere the first of them boots the lab's VM with one pytest in it that is given exactly the
selected tests; every report it makes (set-up, call, tear-down, with its traceback and captured output) comes back as a
line of JSON in a shared folder, and is replayed as the report of the same test here. So ``-k``, node ids, ``-x`` and
skips mean what they always mean.

Guest tests are moved behind all others, as one block: nothing of ours runs on this machine beside the VM.
"""

import ctypes
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from harness import machine

from kube_router.lab import vm

REPORTS = "KR_GUEST_REPORTS"
BOOT_S_MAX = 240.0  # from start to collected; a kernel to be fetched included
SILENCE_S_MAX = 1200.0  # the longest a guest may go without a report: its own tests' time limits are shorter
PR_SET_PDEATHSIG = 1
MEMORY_MIB = 1536
TAIL_LINES = 60
POLL_S = 0.1
Say = Callable[[str], None]


class Guest:
    """One VM with one pytest in it, and its reports as they come."""

    def __init__(self, nodeids: Sequence[str], *, options: Sequence[str], say: Say) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="kr-guest-"))
        self._say = say
        self._up = False
        self._shown = 0
        self._reports: dict[str, list[dict[str, Any]]] = {}
        self._started = self._heard = time.monotonic()
        (self.folder / "tests").write_text("".join(f"{nodeid}\n" for nodeid in nodeids))
        (self.folder / "reports").touch()
        self._inbox = (self.folder / "reports").open()
        self._log = (self.folder / "log").open("w+")
        self._pytest = [sys.executable, "-m", "pytest", "-q", *options, f"@{self.folder / 'tests'}"]
        self._count = len(nodeids)
        self._process: subprocess.Popen[bytes] | None = None
        self._partial = ""

    def start(self, *, env: Sequence[str]) -> None:
        """Boot, with these variables ("NAME=value") for the tests. What the VM says until its pytest is up is shown."""
        self._say(f"guest: booting a VM for {self._count} tests, log {self.folder / 'log'}")
        variables = [f"{machine.IN_GUEST}=1", f"{REPORTS}={self.folder / 'reports'}", *env]
        machine_wanted = vm.Machine(memory_mib=MEMORY_MIB, writable=(str(self.folder),))
        argv = vm.argv(["env", *variables, *self._pytest], vm=machine_wanted)
        self._process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, preexec_fn=_die_with_parent
        )

    def reports(self, nodeid: str) -> list[dict[str, Any]]:
        """Return all reports of a test, waiting for them; fewer, or none, if the guest ended or fell silent first."""
        while not _complete(self._reports.get(nodeid, [])):
            running = self._process is not None and self._process.poll() is None
            self._read()
            limit_s = SILENCE_S_MAX if self._up else BOOT_S_MAX
            if running and time.monotonic() - self._heard > limit_s:
                self._say(f"guest: silent for {limit_s:g} s, given up")
                self.stop()
            if not running:
                break
            time.sleep(POLL_S)
        return self._reports.get(nodeid, [])

    def stop(self) -> None:
        """End the VM, if it still runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def close(self) -> None:
        """End the VM and remove the shared folder."""
        self.stop()
        self._inbox.close()
        self._log.close()
        shutil.rmtree(self.folder)

    def last_words(self) -> str:
        """Return how the guest ended and the end of what it printed."""
        status = None if self._process is None else self._process.poll()
        with (self.folder / "log").open(errors="replace") as log:
            tail = "".join(deque(log, TAIL_LINES))
        return f"The guest gave no report of this test (exit status {status}). It ended with:\n{tail}"

    def _read(self) -> None:
        *lines, self._partial = (self._partial + self._inbox.read()).split("\n")
        if not self._up:
            self._show_boot(up=bool(lines))
        for line in lines:
            report = json.loads(line)
            self._heard = time.monotonic()
            if "nodeid" in report:
                self._reports.setdefault(report["nodeid"], []).append(report)

    def _show_boot(self, *, up: bool) -> None:
        with (self.folder / "log").open(errors="replace") as log:
            log.seek(self._shown)
            for line in iter(log.readline, ""):
                if not up:
                    self._say(f"guest: {line.rstrip()}")
            self._shown = log.tell()
        if up:
            self._up = True
            self._say(f"guest: up after {time.monotonic() - self._started:.1f} s")


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _complete(reports: Sequence[dict[str, Any]]) -> bool:
    return bool(reports) and reports[-1]["when"] == "teardown"


class ReportWriter:
    """Inside the guest: writes every report, as pytest serialises it, to the shared folder."""

    def __init__(self, config: pytest.Config, path: str) -> None:
        self._config = config
        self._outbox = Path(path).open("a", buffering=1)  # noqa: SIM115 - written to until the process ends

    def pytest_collection_finish(self) -> None:
        self._outbox.write('{"up": true}\n')

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._outbox.write(json.dumps(data, default=str) + "\n")


def replayed(config: pytest.Config, data: dict[str, Any]) -> pytest.TestReport:
    """Return the report that the guest serialised."""
    if isinstance(data["longrepr"], list):  # a skip's (path, line, reason): JSON has no tuples, pytest insists on one
        data = data | {"longrepr": tuple(data["longrepr"])}
    report: pytest.TestReport = config.hook.pytest_report_from_serializable(config=config, data=data)
    return report


def failed_report(item: pytest.Item, text: str) -> pytest.TestReport:
    """Return the report of a test of which the guest gave none."""
    return pytest.TestReport(item.nodeid, item.location, dict(item.keywords), "failed", text, "call")


def guest_options(config: pytest.Config) -> list[str]:
    """Return this pytest's options that matter inside."""
    options = [f"--tb={config.option.tbstyle}"]
    if config.option.showlocals:
        options.append("--showlocals")
    if config.option.maxfail:
        options.append(f"--maxfail={config.option.maxfail}")
    return options
