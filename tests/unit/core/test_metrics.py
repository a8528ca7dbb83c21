"""Metrics of several registries, some of which fail."""

from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from kube_router.core.agent import metrics_text
from kube_router.core.metrics import Metrics
from kube_router.events.sources.folder import FolderStatus
from kube_router.events.sources.kubernetes import StreamStatus


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


def connected(metrics: Metrics) -> dict[str, float]:
    (family,) = metrics.connected.collect()
    return {sample.labels["stream"]: sample.value for sample in family.samples}


def test_a_stream_is_connected_while_its_source_hears_of_changes() -> None:
    metrics = Metrics(version="test")
    states = ("connecting", "syncing", "resuming", "connected", "waiting")
    metrics.note_streams({state: StreamStatus(state, since=0) for state in states})
    metrics.note_streams({"manifests": FolderStatus("polled", since=0)})
    assert connected(metrics) == {
        "connecting": 0,
        "syncing": 0,
        "resuming": 0,
        "connected": 1,
        "waiting": 0,
        "manifests": 1,
    }


def test_a_source_that_has_no_streams_costs_no_metric() -> None:
    metrics = Metrics(version="test")
    for said in (None, "reading", {"lines": 3}):
        metrics.note_streams(said)
    assert connected(metrics) == {}
