"""One run of specs against a cluster that stands: what came out, and the agents' logs beside the suite's (I/O)."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster import agents
from cluster.cluster import Cluster
from e2e import revision, suite, ways
from e2e.results import Run
from harness.gomodules import KUBERNETES, Say


@dataclass(frozen=True, slots=True)
class Against:
    """What a cluster is, for the page: its heading, a word about it, and who serves Services there."""

    title: str
    about: str
    services_by: str


def measure(
    cluster: Cluster,
    against: Against,
    logs: Path,
    *,
    focus: str,
    at_once: int,
    say: Say,
    skip: str = "",
    left_out: Sequence[str] = (),
) -> Run:
    """Run the specs that a regular expression selects. RuntimeError where the suite itself fails."""
    ways.to_pods(cluster)
    say("the suite begins")
    began = time.monotonic()
    results = suite.run(cluster, logs, focus=focus, skip=skip, at_once=at_once, say=say)
    seconds = round(time.monotonic() - began)
    say(f"the suite has ended: {len(results)} specs in {seconds} s")
    for seat in cluster.seats:
        (logs / f"{seat.name}.log").write_text(agents.logs(cluster, seat.name))
    return Run(
        title=against.title,
        about=against.about,
        services_by=against.services_by,
        kubernetes=KUBERNETES.version,
        commit=revision.commit(),
        nodes=len(cluster.seats),
        at_once=at_once,
        seconds=seconds,
        results=results,
        left_out=list(left_out),
    )
