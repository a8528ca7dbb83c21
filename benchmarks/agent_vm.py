"""The whole agent against a real API server: from start to full, one endpoint changed, a restart with nothing changed.

    python -m benchmarks.agent_vm [--services 500] [--changes 20]      (root, with ./tests on the path)

The API server runs on this machine, the agent in the lab's VM, in a namespace that plays the node. The VM's CPU is
emulated: seconds are to be compared within one run only. kube-router's figures, printed beside, are NOT of this run:
they were recorded once, kube-router 2.11 in the same VM with the same content. Kernel writes can be compared anywhere.

Each start is done twice: as a process of its own (an import takes ten seconds there), and forked from one that has
imported everything, which is closer to what a real CPU shows. Observation is cheap, so that it does not disturb: the
module's use count says when the table may be full, one netlink dump of a Service's servers when a change is there.
Changes are made by the host, on a line sent over TCP, for the guest's CPU is the scarce one; the time includes that.
"""

import argparse
import os
import socketserver
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.client import Client, named
from harness.controlplane import ControlPlane
from harness.nodes import ADDRESS
from harness.remote import Door

from kube_router.lab import vm

NAMESPACE = "shop"
ENDPOINTS = 3
VM_S_MAX = 900
MEMORY_MIB = 1536


def service(number: int) -> Mapping[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": f"s{number}", "namespace": NAMESPACE},
        "spec": {"ports": [{"name": "main", "port": 80, "protocol": "TCP"}]},
    }


def endpoint_slice(number: int, *, version: int = 0) -> Mapping[str, Any]:
    """Return a Service's slice; each version has another third endpoint."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"s{number}-1",
            "namespace": NAMESPACE,
            "labels": {"kubernetes.io/service-name": f"s{number}"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "main", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address]} for address in addresses(number, version=version)],
    }


def addresses(number: int, *, version: int = 0) -> list[str]:
    base = f"10.244.{number // 64}"
    return [f"{base}.{number % 64 * 3 + 1 + i}" for i in range(ENDPOINTS - 1)] + [
        f"10.245.{number % 250}.{version + 1}"
    ]


def fill(client: Client, services: int) -> dict[int, str]:
    """Create the content; return each Service's cluster IP."""
    client.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}}, named("Namespace", NAMESPACE))
    status = {"status": {"addresses": [{"type": "InternalIP", "address": ADDRESS}]}}
    client.patch(named("Node", "node-1"), status, subresource="status")
    made = client.create(*map(service, range(services)))
    client.create(*map(endpoint_slice, range(services)))
    return {number: one["spec"]["clusterIP"] for number, one in enumerate(made)}


class Orders:
    """Takes ``number version`` lines from the guest, changes that Service's endpoint, and answers ``done``."""

    def __init__(self, client: Client) -> None:
        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                for line in self.rfile:
                    number, version = map(int, line.split())
                    client.replace(endpoint_slice(number, version=version))
                    self.wfile.write(b"done\n")

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=500)
    parser.add_argument("--changes", type=int, default=20)
    options = parser.parse_args()
    with ControlPlane() as plane, plane.client() as client, tempfile.TemporaryDirectory(prefix="kr-bench-") as name:
        folder = Path(name)
        ips = fill(client, options.services)
        (folder / "ips").write_text("\n".join(ips.values()))
        door, orders = Door(plane, folder), Orders(client)
        words = [str(options.services), str(options.changes), str(orders.port), name]
        command = [sys.executable, "-m", "benchmarks.agent_vm_guest", *words]
        figures = os.environ.get("KR_FIGURES")
        writable = (name, *([str(Path(figures).parent)] if figures else []))
        machine = vm.Machine(memory_mib=MEMORY_MIB, timeout_s=VM_S_MAX, writable=writable)
        try:
            return subprocess.run(vm.argv(command, vm=machine), check=False).returncode
        finally:
            orders.close()
            door.close()


if __name__ == "__main__":
    sys.exit(main())
