"""The agent's own metrics. Plugins register theirs in the registry of their context; names follow kube-router's."""

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

PREFIX = "kube_router_"
# From the 50 ms debounce to the 30 s of a back-off: where a change is late, one wants to know by how much.
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
# The states of a stream in which its source hears of changes: of the API server, and of a folder of manifests.
HEARING = frozenset({"connected", "watched", "polled"})


class Metrics:
    """All metrics of the core, in a registry of their own."""

    def __init__(self, *, version: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # memory, CPU and start of this process, by their usual names

        def histogram(name: str, text: str) -> Histogram:
            return Histogram(PREFIX + name, text, ["plugin"], registry=self.registry, buckets=SECONDS)

        def counter(name: str, text: str, labels: Iterable[str]) -> Counter:
            return Counter(PREFIX + name, text, list(labels), registry=self.registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(PREFIX + name, text, registry=self.registry)

        self.convergence = histogram(
            "convergence_seconds",
            "From a change in the cluster (its trigger time, else its arrival) to the kernel's ack",
        )
        self.reconcile = histogram("reconcile_seconds", "Duration of one reconcile")
        self.failures = counter(
            "reconcile_failures_total", "Reconciles that raised or missed their deadline", ["plugin"]
        )
        self.restarts = counter("plugin_restarts_total", "Times a plugin was built anew", ["plugin"])
        self.writes = counter("kernel_writes_total", "Kernel writes by what they were", ["plugin", "what"])
        self.ready = Gauge(
            PREFIX + "plugin_ready",
            "1 once the plugin has reconciled what the source has confirmed, as /readyz has it",
            ["plugin"],
            registry=self.registry,
        )
        self.connected = Gauge(
            PREFIX + "stream_connected",
            "1 while the source hears of changes of this resource",
            ["stream"],
            registry=self.registry,
        )
        self.loop_lag = gauge("loop_lag_seconds", "How late the event loop last was")
        self.problems = gauge("problems", "Objects, files and peers that have something wrong now")
        self.journal_size = gauge("journal_size_bytes", "Size of the journal on disk")
        self.journal_lag = gauge("journal_lag_records", "Records written but not yet known to be on disk")
        self.journal_seq = gauge("journal_seq", "Number of the last record")
        self.journal_stopped = gauge("journal_stopped", "1 while journaling had to stop (disk full or failing)")
        build = Gauge(PREFIX + "build_info", "Version", ["goversion", "version"], registry=self.registry)
        build.labels(goversion="", version=version).set(1)

    def note_streams(self, status: object) -> None:
        """Set the gauges of streams from what a source says of itself, nothing where it has none."""
        for name, stream in status.items() if isinstance(status, Mapping) else ():
            if state := getattr(stream, "state", ""):
                self.connected.labels(name).set(state in HEARING)
