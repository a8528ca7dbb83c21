"""What the proxy exports, by kube-router's names (I/O).

The traffic of each Service is read from IPVS when somebody asks: one dump over a netlink socket of its own, which takes
no lock of the plugin's. ``/metrics`` is collected in a thread, so the event loop does not wait for the dump.

As in kube-router all of it are gauges, also what only grows. A virtual service that belongs to no Service of ours is
counted in ``controller_ipvs_services`` and has no series of its own.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from kube_router.events.errors import KernelError
from kube_router.plugins.proxy import host, stats
from kube_router.plugins.proxy.model import ServiceId

logger = logging.getLogger(__name__)

PREFIX = "kube_router_"
SERVICES = "controller_ipvs_services"
# In the order of stats.Traffic.
TRAFFIC = {
    "service_total_connections": "Connections since the virtual service was added",
    "service_packets_in": "Packets from clients",
    "service_packets_out": "Packets to clients",
    "service_bytes_in": "Bytes from clients",
    "service_bytes_out": "Bytes to clients",
    "service_cps": "Connections per second",
    "service_pps_in": "Packets per second from clients",
    "service_pps_out": "Packets per second to clients",
    "service_bps_in": "Bytes per second from clients",
    "service_bps_out": "Bytes per second to clients",
}

Owners = Mapping[ServiceId, str]


def read_traffic() -> stats.Table:
    """Return IPVS's statistics of all virtual services. Raises ``KernelError``."""
    with host.ipvs_link() as (link, packer):
        return stats.parse(link.dump(packer.get_services()))


class Metrics:
    """The proxy's metrics in the registry of its context. ``owners`` returns the Service's key of each place."""

    def __init__(
        self,
        registry: CollectorRegistry,
        owners: Callable[[], Owners],
        *,
        read: Callable[[], stats.Table] = read_traffic,
    ) -> None:
        self.sync_time = Histogram(
            f"{PREFIX}controller_ipvs_services_sync_time",
            "Duration of one reconcile of the proxy in seconds",
            registry=registry,
        )
        export_time = Histogram(
            f"{PREFIX}controller_ipvs_metrics_export_time",
            "Duration of reading the statistics of all services in seconds",
            registry=registry,
        )
        registry.register(_Traffic(owners, read, export_time))


class _Traffic(Collector):
    def __init__(self, owners: Callable[[], Owners], read: Callable[[], stats.Table], export_time: Histogram) -> None:
        self._owners, self._read, self._export_time = owners, read, export_time

    def collect(self) -> Iterator[Metric]:
        """Yield what IPVS says now, nothing where it does not answer: the other metrics must not suffer."""
        started = time.monotonic()
        try:
            table = self._read()
        except KernelError as error:
            logger.warning("ipvs_statistics_not_read error=%r", str(error))
            return
        yield from families(table, self._owners())
        self._export_time.observe(time.monotonic() - started)


def families(table: stats.Table, owners: Owners) -> Iterator[Metric]:
    """Return the number of virtual services, and the traffic of those that belong to a Service."""
    count = Metric(PREFIX + SERVICES, "Virtual services of this node, foreign ones too", "gauge")
    count.add_sample(PREFIX + SERVICES, {}, table.total)
    yield count
    rows = [(_labels(place, owners[place]), its) for place, its in sorted(table.traffic.items()) if place in owners]
    for column, (name, text) in enumerate(TRAFFIC.items()):
        metric = Metric(PREFIX + name, text, "gauge")
        metric.samples = [Sample(PREFIX + name, labels, its[column]) for labels, its in rows]
        yield metric


def _labels(place: ServiceId, owner: str) -> dict[str, str]:
    namespace, _, name = owner.partition("/")
    return {
        "svc_namespace": namespace,
        "service_name": name,
        "service_vip": place.address,
        "protocol": place.protocol.lower(),
        "port": str(place.port),
    }
