"""Print what it costs to decode a LIST of 10k pods: our models against kubernetes-asyncio's typed ones.

Both read the same generated pages of 500 pods, 9 KB each with managedFields as a real pod has them, in child processes
of their own; CPU seconds and growth of the resident set, with everything decoded held. Bar for ours: 0.4 s.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, report

PAGE = 500
BAR_S = 0.4


def managed_fields() -> list[dict[str, Any]]:
    labels: dict[str, Any] = {f"f:label-{n}": {} for n in range(12)}
    conditions: dict[str, Any] = {
        f'k:{{"type":"Condition{n}"}}': {".": {}, "f:lastProbeTime": {}, "f:status": {}, "f:type": {}} for n in range(8)
    }
    container: dict[str, Any] = {
        f"f:{name}": {} for name in ("image", "imagePullPolicy", "name", "resources", "terminationMessagePath")
    }
    spec = {"f:containers": {f'k:{{"name":"c{n}"}}': container for n in range(3)}, "f:dnsPolicy": {}}
    return [
        {
            "manager": "kube-controller-manager",
            "operation": "Update",
            "apiVersion": "v1",
            "fieldsType": "FieldsV1",
            "time": "2026-01-02T03:04:05Z",
            "fieldsV1": {"f:metadata": {"f:labels": labels}, "f:spec": spec},
        },
        {
            "manager": "kubelet",
            "operation": "Update",
            "apiVersion": "v1",
            "fieldsType": "FieldsV1",
            "time": "2026-01-02T03:04:06Z",
            "fieldsV1": {"f:status": {"f:conditions": conditions}},
            "subresource": "status",
        },
    ]


def container(name: str) -> dict[str, Any]:
    env: list[dict[str, Any]] = [{"name": f"SETTING_{n}", "value": f"value-{n}-of-some-length"} for n in range(16)]
    env.append({"name": "POD_IP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}})
    return {
        "name": name,
        "image": f"registry.example.com/team/{name}@sha256:{'ab' * 32}",
        "imagePullPolicy": "IfNotPresent",
        "ports": [
            {"name": "http", "containerPort": 8080, "protocol": "TCP"},
            {"containerPort": 9090, "protocol": "TCP"},
        ],
        "env": env,
        "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m"}},
        "volumeMounts": [
            {"name": f"volume-{n}", "mountPath": f"/var/lib/volume-{n}", "readOnly": True} for n in range(6)
        ],
        "livenessProbe": {"httpGet": {"path": "/healthz", "port": "http", "scheme": "HTTP"}, "periodSeconds": 10},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
    }


def pod(i: int) -> dict[str, Any]:
    names = ("app", "sidecar", "metrics")
    app = f"web-{i // 20}"
    return {
        "metadata": {
            "name": f"{app}-7d9f8c6b5d-x{i:05}",
            "namespace": f"team-{i % 50}",
            "uid": f"{i:08x}-1111-2222-3333-444444444444",
            "generateName": f"{app}-7d9f8c6b5d-",
            "resourceVersion": str(100_000 + i),
            "creationTimestamp": "2026-01-02T03:04:05Z",
            "labels": {"app": app, "pod-template-hash": "7d9f8c6b5d", "tier": "front", "team": f"team-{i % 50}"},
            "annotations": {"kubernetes.io/config.seen": "2026-01-02T03:04:05Z", "checksum/config": "cd" * 32},
            "managedFields": managed_fields(),
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": app, "uid": "u", "controller": True}
            ],
        },
        "spec": {
            "nodeName": f"node-{i % 100}",
            "serviceAccountName": "default",
            "restartPolicy": "Always",
            "dnsPolicy": "ClusterFirst",
            "containers": [container(name) for name in names],
            "volumes": [
                {"name": f"volume-{n}", "configMap": {"name": f"config-{n}", "defaultMode": 420}} for n in range(6)
            ],
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}],
        },
        "status": {
            "phase": "Running",
            "hostIP": "192.0.2.1",
            "podIP": f"10.{i // 65536}.{i // 256 % 256}.{i % 256}",
            "podIPs": [{"ip": f"10.{i // 65536}.{i // 256 % 256}.{i % 256}"}],
            "qosClass": "Burstable",
            "conditions": [
                {"type": f"Condition{n}", "status": "True", "lastTransitionTime": "2026-01-02T03:04:05Z"}
                for n in range(5)
            ],
            "containerStatuses": [
                {
                    "name": name,
                    "ready": True,
                    "restartCount": 0,
                    "image": name,
                    "imageID": f"sha256:{'ef' * 32}",
                    "state": {"running": {"startedAt": "2026-01-02T03:04:05Z"}},
                }
                for name in names
            ],
        },
    }


def write_pages(folder: Path, count: int) -> int:
    """Write the LIST as the API server pages it; return its size."""
    for start in range(0, count, PAGE):
        items = [pod(i) for i in range(start, min(start + PAGE, count))]
        page = {"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "200000"}, "items": items}
        (folder / f"{start:08}.json").write_text(json.dumps(page, separators=(",", ":")))
    return sum(path.stat().st_size for path in folder.iterdir())


def decode_ours(pages: list[Path]) -> tuple[float, int, int]:
    import msgspec

    from kube_router.events.normalize import normalize_pod
    from kube_router.events.resource import Normalized

    class Page(msgspec.Struct):
        items: list[msgspec.Raw]

    decoder = msgspec.json.Decoder(Page)
    normalize_pod(b'{"metadata":{"name":"warm"}}', str)
    before, began = rss(), time.process_time()
    held: list[Normalized] = []
    for page in pages:
        held += [normalize_pod(item, str) for item in decoder.decode(page.read_bytes()).items]
    return time.process_time() - began, rss() - before, len(held)


@dataclass
class Response:
    """What the library's decoder asks of an HTTP response."""

    data: str


def decode_typed(pages: list[Path]) -> tuple[float, int, int]:
    from kubernetes_asyncio.client import ApiClient, Configuration

    client = ApiClient.__new__(ApiClient)  # its constructor wants an event loop; decoding does not
    client.configuration = Configuration()
    before, began = rss(), time.process_time()
    held: list[Any] = []
    for page in pages:
        held += client.deserialize(Response(page.read_text()), "V1PodList").items
    return time.process_time() - began, rss() - before, len(held)


def rss() -> int:
    """Return the resident set in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def child(which: str, folder: Path) -> None:
    pages = sorted(folder.iterdir())
    seconds, grown, count = decode_ours(pages) if which == "ours" else decode_typed(pages)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "grown": grown, "peak": peak, "count": count}))


def measure(which: str, folder: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.list_decode", "--child", which, "--folder", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=10_000)
    parser.add_argument("--child", choices=["ours", "typed"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.folder)
        return
    with tempfile.TemporaryDirectory(prefix="kr-list-") as folder:
        size = write_pages(Path(folder), options.pods)
        print(f"LIST of {options.pods:,} pods, {size / options.pods / 1000:.1f} KB each, {PAGE} a page")
        found = {which: measure(which, Path(folder)) for which in ("ours", "typed")}
    ours, typed = found["ours"], found["typed"]
    peer, bar = "kubernetes-asyncio", BAR_S * options.pods / 10_000
    what = f"LIST of {options.pods:,} pods"
    report(Figure(f"{what} decoded", ours["seconds"], "CPU s", peer=typed["seconds"], peer_name=peer, bar=bar))
    report(Figure("  memory it takes", ours["grown"] / 1e6, "MB", peer=typed["grown"] / 1e6, peer_name=peer))
    report(Figure("  peak RSS of the process", ours["peak"] / 1e6, "MB", peer=typed["peak"] / 1e6, peer_name=peer))


if __name__ == "__main__":
    main()
