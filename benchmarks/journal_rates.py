"""Print how many events per second the journal appends, recovers and reads. Bar: 200k/s for append and recovery.

Recovery alone is the journal's work; what the agent does at a restart is recovery into its state, told besides. The
reader behind ``kr replay`` also says what is wrong with a damaged file.

The mix is that of a busy cluster: 60% pods, 30% EndpointSlices (three endpoints), 10% Services. CPU seconds of this
process; append includes the ``write()``, in batches of 100 records as they come from a watch.
"""

import argparse
import gc
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Figure, report
from kube_router.core.state import State
from kube_router.events.event import Put, Segment
from kube_router.events.journal import Journal
from kube_router.events.model import (
    ContainerPort,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Object,
    Pod,
    Service,
    ServicePort,
)
from kube_router.events.normalize import BUILTIN
from kube_router.events.reading import Damage, read
from kube_router.events.recovery import Apply
from kube_router.events.resource import Catalogue

BAR = 200_000
BATCH = 100
OBJECTS = Catalogue(BUILTIN).decoders


def pod(i: int) -> Pod:
    return Pod(
        namespace=f"ns{i % 50}",
        name=f"web-{i % 1000}-7d9f8c6b5d-x{i % 97:02}",
        uid=f"{i:08x}-1111-2222-3333-444444444444",
        labels={"app": f"web-{i % 1000}", "pod-template-hash": "7d9f8c6b5d", "tier": "front"},
        node_name=f"node-{i % 100}",
        ips=(f"10.1.{i // 256 % 256}.{i % 256}",),
        phase="Running",
        ports=(ContainerPort(name="http", port=8080),),
    )


def endpoint_slice(i: int) -> EndpointSlice:
    service = f"ns{i % 50}/web-{i % 1000}"
    endpoints = tuple(
        Endpoint(addresses=(f"10.1.{n}.{i % 256}",), node_name=f"node-{n}", zone="a", pod=f"{service}-{n}")
        for n in range(3)
    )
    return EndpointSlice(
        namespace=f"ns{i % 50}",
        name=f"web-{i % 1000}-x7",
        uid=f"{i:08x}-1111-2222-3333-444444444444",
        service=service,
        ports=(EndpointPort(name="http", port=8080),),
        endpoints=endpoints,
    )


def service(i: int) -> Service:
    return Service(
        namespace=f"ns{i % 50}",
        name=f"web-{i % 1000}",
        uid=f"{i:08x}-1111-2222-3333-444444444444",
        created="2026-01-01T00:00:00Z",
        cluster_ips=(f"10.96.{i // 256 % 256}.{i % 256}",),
        ports=(ServicePort(name="http", port=80),),
        ip_families=("IPv4",),
    )


def puts(count: int) -> Iterator[Put]:
    for i in range(count):
        obj: Object
        if i % 10 < 6:
            resource, obj = "pods", pod(i)
        elif i % 10 < 9:
            resource, obj = "endpointslices", endpoint_slice(i)
        else:
            resource, obj = "services", service(i)
        yield Put(seq=i + 1, t=1_767_323_045_678 + i, r=resource, key=obj.key, rv=str(100_000 + i), obj=obj)


def append_all(directory: Path, records: list[Put]) -> float:
    """Return the CPU seconds it took to append the records to a new journal."""
    journal = Journal.open(directory, objects=OBJECTS, apply=lambda record: None, now_ms=lambda: 1)
    with journal:
        journal.begin(Segment(seq=1, t=1, v=1, cluster="benchmark"))
        began = time.process_time()
        for start in range(0, len(records), BATCH):
            journal.append(records[start : start + BATCH])
        return time.process_time() - began


def recover_all(directory: Path, apply: Apply = lambda record: None) -> float:
    """Return the CPU seconds of a recovery."""
    gc.collect()
    began = time.process_time()
    with Journal.open(directory, objects=OBJECTS, apply=apply, now_ms=lambda: 1):
        return time.process_time() - began


def read_all(directory: Path) -> float:
    """Return the CPU seconds of a reader."""
    began = time.process_time()
    assert not any(isinstance(record, Damage) for record in read(directory, OBJECTS))
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3, help="the best one counts: other load only slows")
    options = parser.parse_args()
    records = list(puts(options.events))
    with tempfile.TemporaryDirectory(prefix="kr-journal-") as folder:
        directories = [Path(folder) / str(round_) for round_ in range(options.rounds)]
        took = min(append_all(directory, records) for directory in directories)
        # A restarted agent does not hold what it is about to read.
        del records
        gc.collect()
        directory = directories[0]
        size = sum(log.stat().st_size for log in directory.glob("*.log"))
        count = options.events
        print(f"{count:,} events, {size / count:.0f} bytes each; best of {options.rounds}")
        folded = [recover_all(directory, State(Catalogue(BUILTIN)).apply) for directory in directories]
        best = {
            "append": took,
            "recovery": min(recover_all(directory) for directory in directories),
            "recovery into the state": min(folded),
            "reading (kr replay)": min(read_all(directory) for directory in directories),
        }
        for what, seconds in best.items():
            bar = BAR if what in ("append", "recovery") else None
            report(Figure(f"journal {what}", count / seconds, "events/s", bar=bar, at_least=True))


if __name__ == "__main__":
    main()
