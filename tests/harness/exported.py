"""What the agent exports: the names and labels of its metrics, from the registries of the code that exports them."""

import re

from prometheus_client import CollectorRegistry

from kube_router.core.exposition import exposition
from kube_router.core.metrics import Metrics
from kube_router.plugins.firewall.metrics import Metrics as FirewallMetrics
from kube_router.plugins.firewall.nfgen import Count
from kube_router.plugins.proxy.metrics import Metrics as ProxyMetrics
from kube_router.plugins.proxy.model import ServiceId
from kube_router.plugins.proxy.stats import Table, Traffic
from kube_router.plugins.routing.metrics import Metrics as RoutingMetrics
from kube_router.plugins.routing.metrics import PeerFigures


def core_metrics() -> dict[str, set[str]]:
    """Return the labels of each metric of the agent itself."""
    return exported(_core())


def proxy_metrics() -> dict[str, set[str]]:
    """Return the labels of each metric of the service proxy."""
    return exported(_proxy())


def firewall_metrics() -> dict[str, set[str]]:
    """Return the labels of each metric of the firewall."""
    return exported(_firewall())


def routing_metrics() -> dict[str, set[str]]:
    """Return the labels of each metric of routing."""
    return exported(_routing())


def series() -> dict[str, set[str]]:
    """Return the labels of each series by its name, as a query selects it; a histogram has several."""
    found: dict[str, set[str]] = {}
    for registry in (_core(), _proxy(), _firewall(), _routing()):
        for sample in (sample for family in registry.collect() for sample in family.samples):
            found.setdefault(sample.name, set()).update(sample.labels)
    return {name: labels for name, labels in found.items() if not name.endswith("_created")}


def exported(registry: CollectorRegistry) -> dict[str, set[str]]:
    """Return the labels of each metric that a registry exports, by the name it is exposed under."""
    families = list(registry.collect())
    shown = re.findall(r"^# TYPE (\S+)", exposition(families).decode(), re.MULTILINE)
    labels = [{label for sample in each.samples for label in sample.labels} - {"le"} for each in families]
    return dict(zip(shown, labels, strict=True))


def _core() -> CollectorRegistry:
    metrics = Metrics(version="3")
    for one in (metrics.convergence, metrics.reconcile, metrics.failures, metrics.restarts, metrics.ready):
        one.labels("proxy")
    metrics.connected.labels("services")
    metrics.writes.labels("proxy", "service added")
    return metrics.registry


def _proxy() -> CollectorRegistry:
    place = ServiceId("TCP", "10.96.0.10", 80)
    registry = CollectorRegistry()
    ProxyMetrics(registry, lambda: {place: "prod/web"}, read=lambda: Table(1, {place: Traffic()}))
    return registry


def _firewall() -> CollectorRegistry:
    registry = CollectorRegistry()
    counts = {"pi_1": Count(1, 60), "denied_ingress": Count(2, 120)}
    FirewallMetrics(registry, lambda: {"pi_1": ("ingress", "prod/web")}, read=lambda: counts)
    return registry


def _routing() -> CollectorRegistry:
    registry = CollectorRegistry()
    peer = PeerFigures("172.30.0.2", 65001, mesh=False, state="established")
    RoutingMetrics(registry, lambda: [peer]).sent.labels("pod-route")
    return registry
