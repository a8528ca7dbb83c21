"""The same control plane seen from inside the VM: its API directly, its stopping and starting through a small door.

The host opens a ``Door``, an HTTP server on its loopback, and writes how to reach API and door into the folder it
shares with the guest; there ``Remote`` offers what ``ControlPlane`` offers. Guest tests talk to the API server
themselves, at 10.0.2.2.
"""

import http.server
import json
import shutil
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from harness.client import Access, Client, kubectl
from harness.controlplane import VM_HOST, ControlPlane

DOOR_S_MAX = 90  # longer than the API server may take to become ready


class Plane(Protocol):
    """What tests may do with a control plane, wherever they run."""

    access: Access

    def client(self) -> Client: ...
    def kubectl(self, *arguments: str, stdin: str = "") -> str: ...
    def stop_api(self, *, kill: bool = True) -> None: ...
    def start_api(self) -> None: ...


class Door:
    """Stops and starts a control plane's API server for whoever knows its token."""

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        self._plane = plane
        # One thread for all requests: the API server it starts ends with the thread that started it.
        self._server = http.server.HTTPServer(("127.0.0.1", 0), _handler(plane))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.handover = folder / "controlplane.json"
        self._write_handover(folder)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _write_handover(self, folder: Path) -> None:
        here = self._plane.access
        there = replace(
            here,
            url=here.url.replace("127.0.0.1", VM_HOST),
            ca_file=folder / "ca.crt",
            kubeconfig=folder / "kubeconfig",
        )
        shutil.copy(here.ca_file, there.ca_file)
        there.write_kubeconfig()
        door = f"http://{VM_HOST}:{self._server.server_port}"
        access = {name: str(getattr(there, name)) for name in ("url", "token", "ca_file", "kubeconfig", "kubectl")}
        self.handover.write_text(json.dumps({"access": access, "door": door}))


class Remote:
    """The control plane of the machine that runs this VM."""

    def __init__(self, handover: Path) -> None:
        data = json.loads(handover.read_text())
        there = data["access"]
        paths = {name: Path(there[name]) for name in ("ca_file", "kubeconfig", "kubectl")}
        self.access = Access(url=there["url"], token=there["token"], **paths)
        self._door = data["door"]

    def client(self) -> Client:
        return Client(self.access)

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        return kubectl(self.access, *arguments, stdin=stdin)

    def stop_api(self, *, kill: bool = True) -> None:
        self._knock("kill" if kill else "stop")

    def start_api(self) -> None:
        self._knock("start")

    def _knock(self, what: str) -> None:
        headers = {"Authorization": f"Bearer {self.access.token}"}
        request = urllib.request.Request(f"{self._door}/{what}", method="POST", headers=headers)
        with urllib.request.urlopen(request, timeout=DOOR_S_MAX) as answer:
            assert answer.status == 200, answer.read()


@contextmanager
def outage(plane: Plane) -> Iterator[None]:
    """The API server is away within this block, and back and ready after it."""
    plane.stop_api()
    try:
        yield
    finally:
        plane.start_api()


def _handler(plane: ControlPlane) -> type[http.server.BaseHTTPRequestHandler]:
    acts = {
        "/kill": plane.stop_api,
        "/stop": lambda: plane.stop_api(kill=False),
        "/start": plane.start_api,
    }

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            if self.headers["Authorization"] != f"Bearer {plane.access.token}" or self.path not in acts:
                self.send_error(404)
                return
            try:
                acts[self.path]()
            except RuntimeError as error:
                self.send_error(500, explain=str(error))
                return
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing: what is asked here, the test says."""

    return Handler
