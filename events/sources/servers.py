"""Which API server is asked next (pure: no clock, I/O or chance).

In a cluster the API server's usual address is a ClusterIP, which on this node this very agent serves. Until it does,
and whenever it cannot, the node has to find another way in: the endpoints of the Service default/kubernetes, as the
journal or the API server last told them. So there is a list of servers, best first, and a ``Choice`` among them:

* the one that worked last is asked first, for as long as it works;
* if it does not, the others follow in their order, each once, before the request has failed;
* every ``BACK_S`` one request asks the best one first, if that is another: the usual address comes back once it works;
* one that worked and is no longer on the list becomes the last: the new ones are tried first, and nothing is lost where
  they cannot be reached.

Endpoints stand in an order of each node's own (``salt``), so that nodes which boot together do not all ask the same.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from zlib import crc32

from kube_router.events.model import EndpointSlice

SERVICE, PORT_NAME = "default/kubernetes", "https"
ENDPOINTS_MAX = 16
BACK_S = 600.0


@dataclass(frozen=True, slots=True)
class Server:
    """One way in. ``name`` is what the certificate is verified for, "" for the URL's own host."""

    url: str
    what: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.url} ({self.what})"


def endpoints(slices: Iterable[EndpointSlice], *, name: str, salt: str) -> tuple[Server, ...]:
    """Return the ready endpoints of default/kubernetes, whose certificates are verified for ``name``."""
    found = {
        f"https://[{address}]:{port.port}" if ":" in address else f"https://{address}:{port.port}"
        for piece in slices
        if piece.service == SERVICE and piece.address_type in ("IPv4", "IPv6")
        for port in piece.ports
        if port.name == PORT_NAME and port.protocol == "TCP"
        for endpoint in piece.endpoints
        if endpoint.ready and not endpoint.terminating
        for address in endpoint.addresses[:1]  # more would be the same endpoint's
    }
    ordered = sorted(found, key=lambda url: (crc32(f"{salt}{url}".encode()), url))
    return tuple(Server(url, f"endpoint of {SERVICE}", name) for url in ordered[:ENDPOINTS_MAX])


class Choice:
    """Among the servers offered. ``current`` is the one that worked last and has not failed since.

    ``begin`` is asked first, if it is offered.
    """

    def __init__(self, begin: Server | None = None) -> None:
        self.current: Server | None = None
        self._begin = begin
        self._offered: tuple[Server, ...] = ()
        self._left: Server | None = None  # it worked, and is offered no more
        self._back_at = 0.0

    @property
    def servers(self) -> tuple[Server, ...]:
        """All that may be asked, best first."""
        left = self._left
        return self._offered if left is None or left in self._offered else (*self._offered, left)

    def offer(self, servers: Sequence[Server]) -> None:
        """Take note of the servers there are, best first."""
        self._offered = tuple(servers)
        if self.current is not None and self.current not in self._offered:
            self._left, self.current, self._begin = self.current, None, None

    def next(self, tried: Collection[Server], now: float) -> Server | None:
        """Return the server that a request is to ask which has asked those in vain, None after all of them."""
        servers = self.servers
        if self.current not in (None, *servers[:1]) and now >= self._back_at and not tried:
            self._back_at = now + BACK_S
            return servers[0]
        at = servers.index(self._begin) if self._begin in servers else 0
        return next((server for server in (*servers[at:], *servers[:at]) if server not in tried), None)

    def worked(self, server: Server, now: float) -> None:
        """Take note of an answer."""
        if server != self.current:
            self._back_at = now + BACK_S
            self._left = None if server in self._offered else server
        self.current = self._begin = server

    def failed(self, server: Server) -> None:
        """Take note that a server could not be asked: the one behind it is now the first to be."""
        servers = self.servers
        begin = self._begin if self._begin in servers else servers[0]
        if server == begin:
            self._begin = servers[(servers.index(server) + 1) % len(servers)]
        if server == self.current:
            self.current = None
        if server == self._left:
            self._left = None
