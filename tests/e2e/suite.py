"""The suite's program, run against a test cluster (I/O)."""

import subprocess
import time
from pathlib import Path

from cluster.cluster import Cluster
from cluster.layout import FABRIC, inside
from e2e import junit
from e2e.results import Result
from harness.daemon import Daemon
from harness.gomodules import KUBERNETES, Say

RUN_S_MAX = 7200
PROGRESS_S = 60.0
DRY_RUN_S_MAX = 120
REPORT = "junit_01.xml"
NO_CLUSTER = ("--provider=skeleton", "--kubeconfig=/dev/null")


def run(
    cluster: Cluster, folder: Path, *, focus: str, skip: str = "", at_once: int = 1, say: Say | None = None
) -> list[Result]:
    """Run the specs that a regular expression selects, some at once; return what came out.

    RuntimeError with its last words where the program itself fails, or where it takes too long.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log, report = folder / "e2e.log", folder / REPORT
    process = Daemon([*inside(FABRIC), *_argv(cluster, folder, focus=focus, skip=skip, at_once=at_once)], log)
    process.start()
    try:
        _wait_ended(process, log, say)
    finally:
        process.stop()
    if not report.exists():
        raise RuntimeError(f"the suite wrote no report:\n{process.last_words()}")
    return junit.read(report)


def _wait_ended(process: Daemon, log: Path, say: Say | None) -> None:
    deadline = time.monotonic() + RUN_S_MAX
    while process.pid:
        try:
            process.wait_ended(PROGRESS_S)
        except subprocess.TimeoutExpired:
            if say is not None:
                say(f"{log.read_text(errors='replace').count('•')} specs have ended")
        if time.monotonic() > deadline:
            raise RuntimeError(f"the suite took more than {RUN_S_MAX} s:\n{process.last_words()}")


def selected(folder: Path, *, focus: str, skip: str = "") -> list[str]:
    """Return the names of the specs that the suite itself would run, without a cluster."""
    argv = [str(KUBERNETES.program("e2e.test")), *_selecting(focus, skip), "--ginkgo.dry-run", f"--report-dir={folder}"]
    subprocess.run([*argv, *NO_CLUSTER], check=True, capture_output=True, timeout=DRY_RUN_S_MAX)
    return [result.name for result in junit.read(folder / REPORT)]


def _argv(cluster: Cluster, folder: Path, *, focus: str, skip: str, at_once: int) -> list[str]:
    access = cluster.plane.access
    return [
        str(KUBERNETES.program("ginkgo")),
        f"--procs={at_once}",
        "--no-color",
        f"--timeout={RUN_S_MAX}s",
        str(KUBERNETES.program("e2e.test")),
        "--",
        *_selecting(focus, skip),
        f"--kubeconfig={access.kubeconfig}",
        f"--kubectl-path={access.kubectl}",
        f"--report-dir={folder}",
        "--provider=skeleton",
        "--allowed-not-ready-nodes=-1",
        f"--num-nodes={len(cluster.seats)}",
        "--prepull-images=false",
    ]


def _selecting(focus: str, skip: str) -> list[str]:
    return [f"--ginkgo.focus={focus}", *([f"--ginkgo.skip={skip}"] if skip else [])]
