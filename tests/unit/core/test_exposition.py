"""Tests of core/exposition.py against prometheus_client's own writer and reader."""

import math

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from kube_router.core.exposition import exposition


def text(registry: CollectorRegistry) -> str:
    return exposition(registry.collect()).decode()


def test_it_says_what_the_library_says_less_the_created_samples() -> None:
    registry = CollectorRegistry()
    Gauge("depth", 'a "quoted" text\nof two lines \\ and more', ["where"], registry=registry).labels('a"b\\c\nd').set(1)
    Counter("seen", "counted", ["kind"], registry=registry).labels("x").inc(2)
    Histogram("took", "seconds", registry=registry, buckets=(0.5, 1)).observe(0.7)
    Info("built", "by whom", registry=registry).info({"version": "3"})
    theirs = generate_latest(registry).decode().splitlines()
    kept = [line for line in theirs if "_created" not in line]
    assert text(registry).splitlines() == kept


def test_a_counter_is_exposed_under_the_name_its_samples_have() -> None:
    registry = CollectorRegistry()
    Counter("seen_total", "counted", registry=registry).inc()
    assert text(registry) == "# HELP seen_total counted\n# TYPE seen_total counter\nseen_total 1.0\n"


def test_what_is_no_number_is_written_as_prometheus_writes_it() -> None:
    registry = CollectorRegistry()
    gauge = Gauge("odd", "odd values", ["which"], registry=registry)
    for which, value in (("nan", math.nan), ("up", math.inf), ("down", -math.inf), ("large", 1e22)):
        gauge.labels(which).set(value)
    assert text(registry).splitlines()[2:] == [
        'odd{which="nan"} NaN',
        'odd{which="up"} +Inf',
        'odd{which="down"} -Inf',
        'odd{which="large"} 1e+22',
    ]


def test_labels_that_samples_share_are_each_samples_own() -> None:
    metric = Metric("load", "shared labels", "gauge")
    labels = {"node": "n1"}
    metric.add_sample("load", labels, 1)
    metric.add_sample("load", {"node": "n2"}, 2)
    metric.add_sample("load", labels, 3)
    (family,) = text_string_to_metric_families(exposition([metric]).decode())
    assert [(sample.labels["node"], sample.value) for sample in family.samples] == [("n1", 1), ("n2", 2), ("n1", 3)]
