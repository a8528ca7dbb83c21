"""Tests of plugins/proxy/stats.py and metrics.py: from the kernel's bytes to what Prometheus reads."""

import struct
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from kube_router.core import nlmsg
from kube_router.core.exposition import exposition
from kube_router.events.errors import KernelError
from kube_router.plugins.proxy import ipvs, stats
from kube_router.plugins.proxy.metrics import Metrics
from kube_router.plugins.proxy.model import ServiceId
from kube_router.plugins.proxy.stats import Traffic

WEB = ServiceId("TCP", "10.96.0.10", 80)
DNS6 = ServiceId("UDP", "fd00:96::a", 53)
COUNTED = Traffic(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)


def body(id: ServiceId, counters: bytes) -> memoryview:
    """Return one payload of a dump, as the kernel gives it, less what is not looked at."""
    family, address = ipvs.packed(id.address)
    service = nlmsg.nested(
        ipvs.ATTR_SERVICE,
        nlmsg.u16(ipvs.SVC_AF, family),
        nlmsg.u16(ipvs.SVC_PROTOCOL, ipvs.PROTOCOLS[id.protocol]),
        nlmsg.attr(ipvs.SVC_ADDR, address),
        nlmsg.attr(ipvs.SVC_PORT, id.port.to_bytes(2, "big")),
        counters,
    )
    return memoryview(bytes(4) + service)


def counters(values: Mapping[int, int]) -> bytes:
    return nlmsg.nested(ipvs.SVC_STATS64, *(nlmsg.attr(kind, struct.pack("=Q", n)) for kind, n in values.items()))


FIREWALL_MARK = memoryview(
    bytes(4)
    + nlmsg.nested(ipvs.ATTR_SERVICE, nlmsg.u16(ipvs.SVC_AF, nlmsg.AF_INET), nlmsg.u32(ipvs.SVC_FWMARK, 7))
)  # fmt: skip


def test_all_ten_statistics_are_read_in_the_kernels_order() -> None:
    table = stats.parse([body(WEB, counters(dict(enumerate(COUNTED, 1))))])
    assert table == stats.Table(1, {WEB: COUNTED})


def test_statistics_in_another_order_are_read_too() -> None:
    table = stats.parse([body(DNS6, counters({10: 10, 2: 2, 1: 1}))])
    assert table.traffic == {DNS6: Traffic(connections=1, packets_in=2, bytes_out_per_s=10)}


def test_a_service_without_statistics_counts_nothing() -> None:
    assert stats.parse([body(WEB, b"")]).traffic == {WEB: Traffic()}


def test_a_firewall_mark_is_counted_but_has_no_traffic_of_its_own() -> None:
    assert stats.parse([FIREWALL_MARK]) == stats.Table(1, {})


@given(st.binary(max_size=200))
def test_any_bytes_give_a_table_or_a_kernel_error(data: bytes) -> None:
    try:
        stats.parse([memoryview(data)])
    except KernelError:
        return


def exported(
    table: stats.Table, owners: Mapping[ServiceId, str]
) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    registry = CollectorRegistry()
    Metrics(registry, lambda: owners, read=lambda: table)
    families = text_string_to_metric_families(exposition(registry.collect()).decode())
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for each in families for one in each.samples}


def test_traffic_is_exported_by_kube_routers_names_and_labels() -> None:
    found = exported(stats.Table(3, {WEB: COUNTED, DNS6: Traffic()}), {WEB: "prod/web"})
    labels = (
        ("port", "80"), ("protocol", "tcp"), ("service_name", "web"), ("service_vip", "10.96.0.10"),
        ("svc_namespace", "prod"),
    )  # fmt: skip
    assert found["kube_router_controller_ipvs_services", ()] == 3
    assert {name: value for (name, its), value in found.items() if its == labels} == {
        "kube_router_service_total_connections": 1,
        "kube_router_service_packets_in": 2,
        "kube_router_service_packets_out": 3,
        "kube_router_service_bytes_in": 4,
        "kube_router_service_bytes_out": 5,
        "kube_router_service_cps": 6,
        "kube_router_service_pps_in": 7,
        "kube_router_service_pps_out": 8,
        "kube_router_service_bps_in": 9,
        "kube_router_service_bps_out": 10,
    }


def test_a_virtual_service_that_is_nobodys_has_no_series() -> None:
    assert not [
        name for name, labels in exported(stats.Table(1, {DNS6: COUNTED}), {}) if labels and "vip" in str(labels)
    ]


def test_a_kernel_that_does_not_answer_costs_only_its_own_metrics(caplog: pytest.LogCaptureFixture) -> None:
    def read() -> stats.Table:
        raise KernelError("no answer within 10 s")

    registry = CollectorRegistry()
    Metrics(registry, dict, read=read).sync_time.observe(0.2)
    text = exposition(registry.collect()).decode()
    assert "kube_router_controller_ipvs_services_sync_time_count 1.0" in text
    assert "kube_router_controller_ipvs_services " not in text
    assert "ipvs_statistics_not_read error='no answer within 10 s'" in caplog.text
