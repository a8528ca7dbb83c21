"""What routing exports, by kube-router's names where it has them (I/O).

What neighbours are and what they said is read from the speaker when somebody asks, in the thread that collects.
"""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kube_router.plugins.routing.bgp.model import Kind, SpeakerConfig

PREFIX = "kube_router_"


class PeerFigures:
    """What is exported of one neighbour. ``state`` as BGP calls it, in lower case."""

    __slots__ = ("address", "asn", "faults", "flaps", "mesh", "received", "sent", "stale", "state")

    def __init__(
        self,
        address: str,
        asn: int,
        *,
        mesh: bool,
        state: str,
        flaps: int = 0,
        received: int = 0,
        stale: int = 0,
        sent: int = 0,
        faults: int = 0,
    ) -> None:
        self.address, self.asn, self.mesh, self.state = address, asn, mesh, state
        self.flaps, self.received, self.stale, self.sent, self.faults = flaps, received, stale, sent, faults


class Metrics:
    """Routing's metrics in the registry of its context. ``peers`` returns the figures of all neighbours."""

    def __init__(self, registry: CollectorRegistry, peers: Callable[[], list[PeerFigures]]) -> None:
        def counter(name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
            return Counter(PREFIX + name, text, labels, registry=registry)

        def histogram(name: str, text: str) -> Histogram:
            return Histogram(PREFIX + name, text, registry=registry)

        self.sync_time = histogram("controller_routes_sync_time", "Duration of one reconcile in seconds")
        self.peers_sync_time = histogram(
            "controller_bgp_internal_peers_sync_time", "Duration of configuring the BGP speaker in seconds"
        )
        self.kernel_time = histogram("host_routes_sync_time", "The kernel's share of a reconcile in seconds")
        self.synced = Gauge(f"{PREFIX}host_routes_synced", "Routes of ours in the kernel", registry=registry)
        self.added = counter("host_routes_added", "Routes added to the kernel or changed in it")
        self.removed = counter("host_routes_removed", "Routes removed from the kernel")
        self.received = counter("controller_bgp_advertisements_received", "Changes of best paths")
        self.sent = counter(
            "controller_bgp_advertisements_sent", "Prefixes that this node began or ceased to announce", ("type",)
        )
        registry.register(_Peers(peers))

    def count_announced(self, before: SpeakerConfig | None, now: SpeakerConfig) -> None:
        """Count what this node begins and ceases to announce."""
        old = before.originated if before is not None else {}
        for prefix, kind in now.originated.items():
            if prefix not in old:
                self.sent.labels("pod-route" if kind is Kind.POD else "advertise-vip").inc()
        for prefix, kind in old.items():
            if prefix not in now.originated and kind is Kind.SERVICE:
                self.sent.labels("withdraw-vip").inc()


class _Peers(Collector):
    def __init__(self, peers: Callable[[], list[PeerFigures]]) -> None:
        self._peers = peers

    def collect(self) -> Iterator[Metric]:
        found = self._peers()
        info = GaugeMetricFamily(
            f"{PREFIX}bgp_peer_info", "A BGP neighbour and its state", labels=("address", "type", "asn", "state")
        )
        for peer in found:
            info.add_metric([peer.address, "internal" if peer.mesh else "external", str(peer.asn), peer.state], 1)
        yield info
        gauges = (
            ("bgp_peer_paths_received", "Paths that a neighbour has announced", "received"),
            ("bgp_peer_paths_stale", "Paths kept of a neighbour that restarts", "stale"),
            ("bgp_peer_prefixes_sent", "Prefixes that a neighbour is told", "sent"),
        )
        for name, text, field in gauges:
            gauge = GaugeMetricFamily(PREFIX + name, text, labels=("address",))
            for peer in found:
                gauge.add_metric([peer.address], getattr(peer, field))
            yield gauge
        counters = (
            ("bgp_peer_flaps", "Sessions with a neighbour that ended", "flaps"),
            ("bgp_peer_faulty_updates", "UPDATEs whose routes were taken as withdrawn (RFC 7606)", "faults"),
        )
        for name, text, field in counters:
            total = CounterMetricFamily(PREFIX + name, text, labels=("address",))
            for peer in found:
                total.add_metric([peer.address], getattr(peer, field))
            yield total
