"""Metrics of several registries, some of which fail."""

from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from kube_router.core.agent import metrics_text


class Broken(Collector):
    def collect(self) -> Iterator[Metric]:
        yield Metric("heat", "heat", "gauge")
        raise RuntimeError("the device is on fire")


def test_a_collector_that_raises_costs_only_what_it_did_not_give(caplog: pytest.LogCaptureFixture) -> None:
    good, bad = CollectorRegistry(), CollectorRegistry()
    Gauge("depth", "depth", registry=good).set(3)
    bad.register(Broken())
    assert metrics_text([bad, good]).decode().splitlines() == [
        "# HELP heat heat",
        "# TYPE heat gauge",
        "# HELP depth depth",
        "# TYPE depth gauge",
        "depth 3.0",
    ]
    assert "metrics_not_collected" in caplog.text
    assert "the device is on fire" in caplog.text
