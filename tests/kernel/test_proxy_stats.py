"""The traffic of Services as IPVS counts it and ``/metrics`` shows it."""

import socket
from functools import partial

import pytest
from harness import machine
from harness.netns import run_in_new, sh
from prometheus_client import CollectorRegistry

from kube_router.core.exposition import exposition
from kube_router.plugins.proxy.kernel import Kernel
from kube_router.plugins.proxy.metrics import Metrics, read_traffic
from kube_router.plugins.proxy.model import (
    AddAddress,
    AddServer,
    AddService,
    Masquerade,
    Server,
    ServerId,
    ServiceId,
    Settings,
    Step,
    WriteTable,
)
from kube_router.plugins.proxy.stats import Traffic

pytestmark = [pytest.mark.guest, pytest.mark.timeout(120)]

NODE = "192.0.2.1"
WEB, WEB6 = ServiceId("TCP", "10.96.0.10", 80), ServiceId("TCP", "fd00:96::10", 80)
LABELS = 'port="80",protocol="tcp",service_name="web",service_vip="10.96.0.10",svc_namespace="prod"'


def prepared() -> None:
    """Make a node that is its own only server."""
    sh(f"ip link set lo up; ip addr add {NODE}/32 dev lo")
    kernel = Kernel()
    kernel.prepare()
    steps: list[Step] = [
        WriteTable(Masquerade((), (NODE,)), (WEB, WEB6)),
        AddAddress(WEB.address, NODE),
        AddService(WEB, Settings()),
        AddService(WEB6, Settings()),
        AddServer(WEB, ServerId(NODE, 8080), Server()),
    ]
    assert kernel.apply(steps).failed == []


def connect(times: int) -> None:
    with socket.create_server((NODE, 8080)) as server:
        for _ in range(times):
            with (
                socket.create_connection((WEB.address, WEB.port), timeout=20) as client,
                server.accept()[0] as accepted,
            ):
                client.sendall(b"0123456789")
                assert accepted.recv(10)


def counted(connections: int) -> bool:
    return read_traffic().traffic[WEB].connections == connections


def test_connections_packets_and_bytes_are_counted_for_the_service_that_had_them() -> None:
    def test() -> None:
        prepared()
        connect(3)
        machine.until(partial(counted, 3), what="the kernel to sum up its counters")
        table = read_traffic()
        assert (table.total, set(table.traffic)) == (2, {WEB, WEB6})
        assert table.traffic[WEB6] == Traffic()
        web = table.traffic[WEB]
        assert web.packets_in >= 9
        assert web.bytes_in > web.packets_in * 40

    run_in_new(test)


def test_the_traffic_shows_under_the_service_s_name() -> None:
    def test() -> None:
        prepared()
        connect(2)
        machine.until(partial(counted, 2), what="the kernel to sum up its counters")
        registry = CollectorRegistry()
        Metrics(registry, lambda: {WEB: "prod/web"})
        text = exposition(registry.collect()).decode()
        assert f"kube_router_service_total_connections{{{LABELS}}} 2\n" in text
        assert "kube_router_controller_ipvs_services 2\n" in text
        assert WEB6.address not in text

    run_in_new(test)
