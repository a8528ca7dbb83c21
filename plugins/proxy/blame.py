"""Which object caused each line of the plan (pure): the Service made the place, slices the servers in it."""

from collections.abc import Iterator

from kube_router.core.view import ClusterView, Line, causes_of
from kube_router.events.model import EndpointSlice, Service
from kube_router.plugins.proxy.model import ServerId, ServiceId
from kube_router.plugins.proxy.render import server_line, service_line
from kube_router.plugins.proxy.wanted import Cluster


def lines(cluster: Cluster, view: ClusterView) -> list[Line]:
    """Return the whole plan as ``ipvsadm -Sn`` would print it, in the same order every time."""
    services = sorted(_services(cluster, view), key=lambda line: line.text)
    servers = sorted(_servers(cluster, view), key=lambda line: line.text)
    return services + servers


def _services(cluster: Cluster, view: ClusterView) -> Iterator[Line]:
    for place, service in cluster.services.items():
        yield Line(service_line(place, service.settings), causes_of(view, Service, cluster.owners[place]))


def _servers(cluster: Cluster, view: ClusterView) -> Iterator[Line]:
    for place, service in cluster.services.items():
        slices = view.slices_of(cluster.owners[place])
        for server, settings in service.servers.items():
            keys = [piece.key for piece in slices if _holds(piece, place, server)]
            because = tuple(cause for key in keys for cause in causes_of(view, EndpointSlice, key))
            yield Line(server_line(place, server, settings), because)


def _holds(piece: EndpointSlice, place: ServiceId, server: ServerId) -> bool:
    ports = any((port.protocol, port.port) == (place.protocol, server.port) for port in piece.ports)
    return ports and any(endpoint.addresses[:1] == (server.address,) for endpoint in piece.endpoints)
