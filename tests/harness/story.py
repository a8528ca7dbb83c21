"""A short history of a node, as a journal on disk: for the tests of what is said about journals."""

import zlib
from collections.abc import Iterable
from pathlib import Path

from msgspec import structs

from kube_router.events.event import (
    SCHEMA,
    Advance,
    AnyRecord,
    Delete,
    End,
    Note,
    Put,
    ReceiptRecord,
    Segment,
    Sync,
    encode,
)
from kube_router.events.model import Endpoint, EndpointPort, EndpointSlice, Node, NodeAddress, Service, ServicePort

T = 1_795_377_241_000  # 2026-11-22T19:54:01Z
MINUTE = 60_000

NODE = Node(
    name="n1", uid="n", addresses=(NodeAddress(type="InternalIP", address="192.0.2.1"),), pod_cidrs=("10.0.3.0/24",)
)
WEB = Service(
    namespace="prod",
    name="web",
    uid="s",
    cluster_ips=("10.96.0.10",),
    ports=(ServicePort(name="http", port=80),),
    ip_families=("IPv4",),
)
A = Endpoint(addresses=("10.0.3.7",), node_name="n1")
B = Endpoint(addresses=("10.0.4.8",), node_name="n2")
SLICE = EndpointSlice(
    namespace="prod",
    name="web-x7",
    uid="e",
    service="prod/web",
    ports=(EndpointPort(name="http", port=8080),),
    endpoints=(A, B),
)
WITHOUT_B = structs.replace(SLICE, endpoints=(A,))
DRAINING = structs.replace(SLICE, endpoints=(A, structs.replace(B, ready=False, terminating=True)))
HEAD = Segment(
    seq=1, t=T, v=SCHEMA, cluster="c0ffee", node="n1", boot="b1", agent="3.0.0", options={"ipvs-sync-period": "1m"}
)

FIRST: tuple[AnyRecord, ...] = (
    HEAD,
    Put(seq=1, t=T, r="nodes", key="n1", rv="10", obj=NODE),
    Put(seq=2, t=T + 1, r="services", key="prod/web", rv="11", obj=WEB),
    Put(seq=3, t=T + 2, r="endpointslices", key="prod/web-x7", rv="12", obj=SLICE),
    Sync(seq=4, t=T + 3, r="nodes", rv="12", n=1),
    Sync(seq=5, t=T + 4, r="services", rv="12", n=1),
    Sync(seq=6, t=T + 5, r="endpointslices", rv="12", n=1),
    ReceiptRecord(
        seq=7, t=T + 60, plugin="proxy", upto=6, took_ms=8.25, changes={"services added": 1, "servers added": 2}
    ),
    Advance(seq=8, t=T + MINUTE, r="services", rv="20"),
)
SECOND: tuple[AnyRecord, ...] = (
    structs.replace(HEAD, seq=9, t=T + 2 * MINUTE, agent="3.0.1", synced=("endpointslices", "nodes", "services")),
    Note(seq=9, t=T + 2 * MINUTE, about="agent", text="started"),
    Put(seq=10, t=T + 3 * MINUTE, r="endpointslices", key="prod/web-x7", rv="21", obj=DRAINING),
    Put(seq=11, t=T + 4 * MINUTE, r="endpointslices", key="prod/web-x7", rv="22", obj=WITHOUT_B),
    Delete(seq=12, t=T + 600 * MINUTE, r="services", key="prod/web", rv="30"),
)
SNAPSHOT: tuple[AnyRecord, ...] = (
    structs.replace(HEAD, seq=9, t=T + MINUTE, synced=("endpointslices", "nodes", "services")),
    Put(seq=1, t=T, r="nodes", key="n1", rv="10", obj=NODE),
    Put(seq=2, t=T + 1, r="services", key="prod/web", rv="11", obj=WEB),
    Put(seq=3, t=T + 2, r="endpointslices", key="prod/web-x7", rv="12", obj=SLICE),
    End(seq=8, t=T + MINUTE, n=3),
)


def line(record: AnyRecord) -> bytes:
    """Return the record as a line of the journal."""
    text = encode(record)
    return b"%08x " % zlib.crc32(text) + text + b"\n"


def write(path: Path, records: Iterable[AnyRecord]) -> Path:
    """Write one file of a journal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(map(line, records)))
    return path


def journal(folder: Path) -> Path:
    """Write the whole story as a journal of two segments."""
    write(folder / f"{1:020}.log", FIRST)
    write(folder / f"{9:020}.log", SECOND)
    return folder


def journal_of_another_node(folder: Path) -> Path:
    """Write a node's journal that overlaps in time with the story's: a snapshot and what followed."""
    head = structs.replace(SNAPSHOT[0], node="n2", options={})
    write(folder / f"{8:020}.snap", [head, *SNAPSHOT[1:]])
    later = T + 2 * MINUTE + 30_000
    write(
        folder / f"{9:020}.log",
        [
            structs.replace(head, t=later),
            Note(seq=9, t=later, about="agent", text="started"),
            Put(seq=10, t=later + MINUTE, r="endpointslices", key="prod/web-x7", rv="22", obj=WITHOUT_B),
        ],
    )
    return folder
