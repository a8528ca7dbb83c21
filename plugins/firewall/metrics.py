"""What the firewall exports, by kube-router's names where it has them (I/O).

What each policy admitted and what each direction denied is counted by the kernel, and read when somebody asks: one dump
of named counters, in the thread that collects. A counter begins anew when its policy's rules change.
"""

import logging
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from kube_router.events.errors import KernelError
from kube_router.plugins.firewall import kernel
from kube_router.plugins.firewall.model import DIRECTIONS, Direction
from kube_router.plugins.firewall.nfgen import Count

logger = logging.getLogger(__name__)

PREFIX = "kube_router_"
Owners = Mapping[str, tuple[Direction, str]]
Read = Callable[[], Mapping[str, Count]]


class Metrics:
    """The firewall's metrics in the registry of its context. ``owners`` returns each policy chain's policy."""

    def __init__(self, registry: CollectorRegistry, owners: Callable[[], Owners], *, read: Read | None = None) -> None:
        def gauge(name: str, text: str) -> Gauge:
            return Gauge(PREFIX + name, text, registry=registry)

        self.sync_time = Histogram(
            f"{PREFIX}controller_iptables_sync_time", "Duration of one reconcile in seconds", registry=registry
        )
        self.chains = gauge("controller_policy_chains", "Policy and class chains in the table")
        self.sets = gauge("controller_policy_ipsets", "Sets of peers, blocks and ports in the table")
        self.faulty = gauge("policy_faulty", "Policies that cannot be compiled and admit nothing")
        self.repairs = Counter(
            f"{PREFIX}policy_table_repairs",
            "Times the table was written anew after somebody else's change",
            registry=registry,
        )
        self.cut_flows = Counter(
            f"{PREFIX}policy_flows_cut", "Established connections ended by --netpol-strict", registry=registry
        )
        registry.register(_Counters(owners, read or kernel.counters))


class _Counters(Collector):
    def __init__(self, owners: Callable[[], Owners], read: Read) -> None:
        self._owners, self._read = owners, read

    def collect(self) -> Iterator[Metric]:
        """Yield what the kernel counts now, nothing where it does not answer: the other metrics must not suffer."""
        try:
            counts = self._read()
        except KernelError as error:
            logger.warning("policy_counters_not_read error=%r", str(error))
            return
        yield from families(counts, self._owners())


def families(counts: Mapping[str, Count], owners: Owners) -> Iterator[Metric]:
    """Return the packets and bytes that opened connections, by policy, and what was denied, by direction."""
    labels = ("policy_namespace", "policy_name", "direction")
    for field in Count._fields:
        admitted = CounterMetricFamily(
            f"{PREFIX}policy_admitted_{field}", f"First {field} of connections that a policy admitted", labels=labels
        )
        for chain, (direction, key) in sorted(owners.items()):
            if chain in counts:
                admitted.add_metric([*key.split("/", 1), direction], getattr(counts[chain], field))
        denied = CounterMetricFamily(
            f"{PREFIX}policy_denied_{field}", f"{field.capitalize()} that no policy admitted", labels=("direction",)
        )
        for direction in DIRECTIONS:
            if f"denied_{direction}" in counts:
                denied.add_metric([direction], getattr(counts[f"denied_{direction}"], field))
        yield admitted
        yield denied
