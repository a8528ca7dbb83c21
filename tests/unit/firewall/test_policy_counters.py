"""What policies admitted and directions denied, as metrics made of the kernel's counters."""

import logging
from collections.abc import Mapping

import pytest
from prometheus_client import CollectorRegistry

from kube_router.core.exposition import exposition
from kube_router.events.errors import KernelError
from kube_router.plugins.firewall.metrics import Metrics, families
from kube_router.plugins.firewall.model import Direction
from kube_router.plugins.firewall.nfgen import Count

OWNERS: Mapping[str, tuple[Direction, str]] = {
    "pi_1": ("ingress", "prod/web"),
    "pe_2": ("egress", "prod/web"),
    "pi_3": ("ingress", "prod/new"),
}
COUNTS = {
    "denied_egress": Count(1, 60),
    "denied_ingress": Count(2, 120),
    "pi_1": Count(3, 180),
    "pe_2": Count(4, 240),
    "pi_gone": Count(5, 300),
}


def samples(counts: Mapping[str, Count], owners: Mapping[str, tuple[Direction, str]]) -> dict[str, float]:
    """Return each sample by its name and its labels' values."""
    return {
        " ".join([each.name, *each.labels.values()]): each.value
        for family in families(counts, owners)
        for each in family.samples
    }


def test_packets_and_bytes_are_told_by_policy_and_direction() -> None:
    assert samples(COUNTS, OWNERS) == {
        "kube_router_policy_admitted_packets_total prod web egress": 4,
        "kube_router_policy_admitted_packets_total prod web ingress": 3,
        "kube_router_policy_denied_packets_total ingress": 2,
        "kube_router_policy_denied_packets_total egress": 1,
        "kube_router_policy_admitted_bytes_total prod web egress": 240,
        "kube_router_policy_admitted_bytes_total prod web ingress": 180,
        "kube_router_policy_denied_bytes_total ingress": 120,
        "kube_router_policy_denied_bytes_total egress": 60,
    }


def test_without_a_table_there_are_no_samples() -> None:
    assert samples({}, OWNERS) == {}


def test_they_are_read_when_somebody_asks() -> None:
    registry = CollectorRegistry()
    counts = dict(COUNTS)
    Metrics(registry, lambda: OWNERS, read=lambda: counts)
    counts["pi_1"] = Count(9, 540)
    labels = {"policy_namespace": "prod", "policy_name": "web", "direction": "ingress"}
    assert registry.get_sample_value("kube_router_policy_admitted_packets_total", labels) == 9


def test_a_kernel_that_does_not_answer_harms_no_other_metric(caplog: pytest.LogCaptureFixture) -> None:
    def read() -> Mapping[str, Count]:
        if asked:
            raise KernelError("no answer")
        return {}

    asked: list[bool] = []
    registry = CollectorRegistry()
    Metrics(registry, lambda: OWNERS, read=read).repairs.inc()
    asked.append(True)
    with caplog.at_level(logging.WARNING):
        text = exposition(registry.collect()).decode()
    assert "kube_router_policy_table_repairs_total 1.0" in text
    assert "admitted" not in text
    assert caplog.messages == ["policy_counters_not_read error='no answer'"]
