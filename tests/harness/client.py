"""Talk to an API server as a test does: create, patch, delete and list, over many connections at once.

Blocking calls; from async code run them in a thread. Not a client for production: no watch, no retries but one for a
connection the server has closed meanwhile. It knows the kinds our tests use, by their manifests.
"""

import http.client
import json
import ssl
import subprocess
from collections import deque
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

Manifest = Mapping[str, Any]
CONNECTIONS = 16
REQUEST_S_MAX, KUBECTL_S_MAX = 120, 900  # kubectl waits for rollouts, on nodes in the VM as well
API_VERSIONS = {
    "EndpointSlice": "discovery.k8s.io/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "Deployment": "apps/v1",
    "ReplicaSet": "apps/v1",
    "DaemonSet": "apps/v1",
    "CustomResourceDefinition": "apiextensions.k8s.io/v1",
}
CLUSTER_SCOPED = {"Node", "Namespace", "CustomResourceDefinition"}
MERGE_PATCH = "application/merge-patch+json"


class ApiError(Exception):
    """The server's refusal."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"HTTP {status}: {body}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach an API server. ``kubectl`` is the program."""

    url: str
    token: str
    ca_file: Path
    kubeconfig: Path
    kubectl: Path

    def write_kubeconfig(self) -> None:
        """Write the file ``kubeconfig``."""
        ca = {"certificate-authority": str(self.ca_file)}  # the server writes it as it starts
        self.kubeconfig.write_text(kubeconfig(self.url, self.token, ca))


def kubeconfig(url: str, token: str, ca: Mapping[str, str]) -> str:
    """Return a kubeconfig (JSON is YAML) that bears a token; ``ca`` is how its cluster names the CA to verify."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": url, **ca}}],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    }
    return json.dumps(config, indent=1)


class Client:
    """``with Client(access) as client: client.create(*manifests)``."""

    def __init__(self, access: Access, *, connections: int = CONNECTIONS) -> None:
        self._host = urlsplit(access.url).netloc
        self._token = access.token
        self._tls = ssl.create_default_context(cafile=str(access.ca_file))
        self._idle: deque[http.client.HTTPSConnection] = deque()  # shared by threads: append and pop are atomic
        self._pool = ThreadPoolExecutor(connections, thread_name_prefix="client")

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()
        self._forget_connections()

    def create(self, *manifests: Manifest) -> list[Any]:
        """Create all, in parallel; return what the server made of them, in order."""
        return list(self._pool.map(self._create, manifests))

    def replace(self, *manifests: Manifest) -> list[Any]:
        """PUT all, in parallel."""
        return list(self._pool.map(lambda it: self.request("PUT", path_of(it), body=it), manifests))

    def delete(self, *manifests: Manifest) -> None:
        """Delete all, in parallel, at once (no grace period)."""
        body = {"gracePeriodSeconds": 0}
        list(self._pool.map(lambda it: self.request("DELETE", path_of(it), body=body), manifests))

    def patch(self, manifest: Manifest, patch: Manifest, *, subresource: str = "") -> Any:
        """Merge-patch the object that the manifest names."""
        return self.request("PATCH", path_of(manifest) + subresource_of(subresource), body=patch, media=MERGE_PATCH)

    def patch_all(self, patches: Iterable[tuple[Manifest, Manifest]], *, subresource: str = "") -> list[Any]:
        """Merge-patch many, in parallel: pairs of a manifest that names the object, and its patch."""
        return list(self._pool.map(lambda pair: self.patch(*pair, subresource=subresource), patches))

    def get(self, kind: str, name: str, *, namespace: str = "") -> Any:
        """Return one object."""
        return self.request("GET", path_of(named(kind, name, namespace=namespace)))

    def list(self, kind: str, *, namespace: str = "", labels: str = "") -> list[Any]:
        """Return the objects of a kind, of all namespaces unless told."""
        query = "?" + urlencode({"labelSelector": labels}) if labels else ""
        items: list[Any] = self.request("GET", collection(kind, namespace=namespace) + query)["items"]
        return items

    def is_ready(self) -> bool:
        """Tell whether the server answers and says that it is ready."""
        try:
            return self._exchange("GET", "/readyz", None, {"Authorization": f"Bearer {self._token}"})[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def request(self, method: str, path: str, *, body: Manifest | None = None, media: str = "application/json") -> Any:
        """Return the answer's JSON. Raises ApiError for what is no 2xx, OSError where nobody answers."""
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": media, "Accept": "application/json"}
        payload = None if body is None else json.dumps(body)
        try:
            status, text = self._exchange(method, path, payload, headers)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError, ssl.SSLError):
            self._forget_connections()  # closed while they were idle
            status, text = self._exchange(method, path, payload, headers)
        if status >= 300:
            raise ApiError(status, text.decode(errors="replace"))
        return json.loads(text)

    def _create(self, manifest: Manifest) -> Any:
        kind, namespace = str(manifest["kind"]), str(manifest["metadata"].get("namespace", "default"))
        return self.request("POST", collection(kind, namespace=namespace), body=manifest)

    def _exchange(self, method: str, path: str, payload: str | None, headers: dict[str, str]) -> tuple[int, bytes]:
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = http.client.HTTPSConnection(self._host, timeout=REQUEST_S_MAX, context=self._tls)
        try:
            connection.request(method, path, body=payload, headers=headers)
            answer = connection.getresponse()
            text = answer.read()
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        return answer.status, text

    def _forget_connections(self) -> None:
        while self._idle:
            self._idle.pop().close()


def named(kind: str, name: str, *, namespace: str = "") -> Manifest:
    """Return the least manifest that names an object."""
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": API_VERSIONS.get(kind, "v1"), "kind": kind, "metadata": metadata}


def collection(kind: str, *, namespace: str = "") -> str:
    """Return the path of all objects of a kind."""
    api_version = API_VERSIONS.get(kind, "v1")
    root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
    plural = kind.lower()
    plural = f"{plural[:-1]}ies" if plural.endswith("y") else f"{plural}s"
    return f"{root}/namespaces/{namespace}/{plural}" if namespace and kind not in CLUSTER_SCOPED else f"{root}/{plural}"


def path_of(manifest: Manifest) -> str:
    """Return the path of the object that a manifest names."""
    metadata = manifest["metadata"]
    return f"{collection(manifest['kind'], namespace=metadata.get('namespace', 'default'))}/{metadata['name']}"


def subresource_of(name: str) -> str:
    """Return the last part of a path."""
    return f"/{name}" if name else ""


def kubectl(access: Access, *arguments: str, stdin: str = "") -> str:
    """Return what kubectl prints; subprocess.CalledProcessError, with its stderr as a note, if it fails."""
    argv = [str(access.kubectl), f"--kubeconfig={access.kubeconfig}", f"--cache-dir={access.kubeconfig}.cache"]
    try:
        done = subprocess.run(
            [*argv, *arguments], input=stdin, capture_output=True, text=True, timeout=KUBECTL_S_MAX, check=True
        )
    except subprocess.CalledProcessError as error:
        error.add_note(error.stderr)
        raise
    return done.stdout
