"""The firewall's metrics belong to the registry they are given: the plugin is built anew after an error."""

from prometheus_client import REGISTRY, CollectorRegistry

from kube_router.plugins.firewall.metrics import Metrics


def test_metrics_are_made_again_with_each_registry_and_never_in_the_process_wide_one() -> None:
    for _ in range(2):
        registry = CollectorRegistry()
        Metrics(registry, lambda: {}, read=lambda: {}).repairs.inc()
        assert registry.get_sample_value("kube_router_policy_table_repairs_total") == 1.0
    assert [family.name for family in REGISTRY.collect() if family.name.startswith("kube_router_")] == []
