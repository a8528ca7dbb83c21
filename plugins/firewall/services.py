"""What answers at an address and port: a Service's endpoints, or nobody but the address itself (pure).

For questions only: the table judges packets after a Service has been translated, and knows none.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import NamedTuple

from kube_router.core.view import ClusterView
from kube_router.events.model import Endpoint, EndpointSlice, Node, Service, ServicePort


class Frontend(NamedTuple):
    """One port of a Service, as it was asked for: by an address of its own, a node's, or its name."""

    service: Service
    port: ServicePort


class Backend(NamedTuple):
    address: str
    port: int


class Services:
    """The Services of one state, by where they are reached."""

    def __init__(self, view: ClusterView) -> None:
        self._view = view

    def at(self, address: str) -> list[Service]:
        """Return the Services that have an address as their own."""
        return self._by_address.get(address, [])

    def port_of(self, services: Iterable[Service], port: int | str | None, protocol: str) -> Frontend | None:
        """Return the first port of some Services that has a number or a name, None where none has."""
        for service in services:
            for each in service.ports:
                if each.protocol == protocol and (each.port == port if isinstance(port, int) else each.name == port):
                    return Frontend(service, each)
        return None

    def at_node(self, address: str, port: int | str, protocol: str) -> Frontend | None:
        """Return the Service that has a node's port, None where the address is no node's."""
        if address not in self._node_addresses or isinstance(port, str):
            return None
        return self._by_node_port.get((port, protocol))

    def backends(self, frontend: Frontend, family: str) -> list[Backend]:
        """Return the endpoints of a family that a connection may be sent to, in order.

        They are the ready ones; where none is, those that are terminating and still serving.
        """
        found = [
            (endpoint, Backend(endpoint.addresses[0], port))
            for piece, port in self._slices(frontend)
            if piece.address_type == family
            for endpoint in piece.endpoints
            if endpoint.addresses
        ]
        ready = {backend for endpoint, backend in found if _is_ready(endpoint)}
        serving = {backend for endpoint, backend in found if endpoint.terminating and endpoint.serving}
        return sorted(ready or serving)

    def _slices(self, frontend: Frontend) -> Iterator[tuple[EndpointSlice, int]]:
        for piece in self._view.slices_of(frontend.service.key):
            for port in piece.ports:
                if (port.name, port.protocol) == (frontend.port.name, frontend.port.protocol):
                    yield piece, port.port

    @cached_property
    def _by_address(self) -> Mapping[str, list[Service]]:
        found: dict[str, list[Service]] = defaultdict(list)
        for service in sorted(self._view.each(Service), key=lambda service: service.key):
            for address in dict.fromkeys(_addresses(service)):
                found[address].append(service)
        return found

    @cached_property
    def _by_node_port(self) -> Mapping[tuple[int, str], Frontend]:
        services = sorted(self._view.each(Service), key=lambda service: service.key)
        return {
            (port.node_port, port.protocol): Frontend(service, port)
            for service in services
            for port in service.ports
            if port.node_port
        }

    @cached_property
    def _node_addresses(self) -> frozenset[str]:
        return frozenset(each.address for node in self._view.each(Node) for each in node.addresses)


def _addresses(service: Service) -> Iterable[str]:
    return (*service.cluster_ips, *service.external_ips, *service.load_balancer_ips)


def _is_ready(endpoint: Endpoint) -> bool:
    return endpoint.ready and not endpoint.terminating
