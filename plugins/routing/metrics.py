"""What routing exports, by kube-router's names where it has them (I/O)."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

PREFIX = "kube_router_"


class Metrics:
    """Routing's metrics in the registry of its context."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str) -> Counter:
            return Counter(PREFIX + name, text, registry=registry)

        def histogram(name: str, text: str) -> Histogram:
            return Histogram(PREFIX + name, text, registry=registry)

        self.sync_time = histogram("host_routes_sync_time", "Duration of one reconcile in seconds")
        self.synced = Gauge(f"{PREFIX}host_routes_synced", "Routes of ours in the kernel", registry=registry)
        self.added = counter("host_routes_added", "Routes added to the kernel or changed in it")
        self.removed = counter("host_routes_removed", "Routes removed from the kernel")
        self.received = counter("controller_bgp_advertisements_received", "Changes of best paths")
