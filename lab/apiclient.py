"""A small client of a real API server for the lab's kubelet: one request at a time, JSON in and out.

kubeconfig is read by the agents' own code (events/sources/access.py), so that what works for them works here.
"""

import json
import ssl
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

import anyio

from kube_router.events.errors import ConfigError, PeerError
from kube_router.events.sources.access import Access, log_in

TIMEOUT_S = 15
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
NOT_FOUND, CONFLICT = 404, 409
Json = dict[str, Any]


class ApiClient:
    """The API server of a kubeconfig. Every request opens a connection of its own."""

    def __init__(self, kubeconfig: str) -> None:
        configuration = anyio.run(log_in, Access(kubeconfig=kubeconfig)).configuration
        url = urlsplit(configuration.host)
        if not url.hostname:
            raise ConfigError(f"kubeconfig {kubeconfig}: server {configuration.host!r} is no URL")
        self.host, self.port = url.hostname, url.port or (443 if url.scheme == "https" else 80)
        self._headers = {"Accept": "application/json", "Host": url.netloc}
        if token := configuration.api_key.get("BearerToken"):
            self._headers["Authorization"] = token
        self._tls: ssl.SSLContext | None = None
        if url.scheme == "https":
            self._tls = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
            if not configuration.verify_ssl:
                self._tls.check_hostname, self._tls.verify_mode = False, ssl.CERT_NONE
            if configuration.cert_file:
                self._tls.load_cert_chain(configuration.cert_file, configuration.key_file)

    def get(self, path: str) -> Json:
        """Return a document. PeerError for any other answer, or none."""
        return self._expect("GET", path)

    def create(self, path: str, obj: Mapping[str, object]) -> None:
        """Create an object; one that exists already is left alone."""
        self._expect("POST", path, obj, tolerate=CONFLICT)

    def patch(self, path: str, change: Mapping[str, object], *, kind: str = STRATEGIC_PATCH) -> None:
        """Change an object; one that is gone is left alone."""
        self._expect("PATCH", path, change, kind=kind, tolerate=NOT_FOUND)

    def delete(self, path: str) -> None:
        """Delete an object at once; one that is gone is left alone."""
        self._expect("DELETE", f"{path}?gracePeriodSeconds=0", tolerate=NOT_FOUND)

    def _expect(
        self, method: str, path: str, body: object = None, *, kind: str = "application/json", tolerate: int = 0
    ) -> Json:
        status, text = self._request(method, path, body, kind)
        if status == tolerate:
            return {}
        try:
            found = json.loads(text)
        except ValueError:
            found = {}
        if status >= 300 or not isinstance(found, dict):
            words = found.get("message") if isinstance(found, dict) else None
            raise PeerError(f"{method} {path}: HTTP {status}: {words or text[:200]!r}")
        return found

    def _request(self, method: str, path: str, body: object, kind: str) -> tuple[int, bytes]:
        if self._tls is None:
            connection = HTTPConnection(self.host, self.port, timeout=TIMEOUT_S)
        else:
            connection = HTTPSConnection(self.host, self.port, timeout=TIMEOUT_S, context=self._tls)
        try:
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, path, data, self._headers | ({"Content-Type": kind} if data else {}))
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, HTTPException) as error:
            raise PeerError(f"{method} {path}: the API server at {self.host}:{self.port}: {error}") from error
        finally:
            connection.close()
