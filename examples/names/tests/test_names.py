"""Tests of the plugin with kube-router's test kit: no cluster, no root, no kernel."""

from collections.abc import Mapping
from pathlib import Path

import anyio
import kube_router_names
import pytest

from kube_router.core.api import KernelError
from kube_router.lab.testkit import Bench

WEB = """
kind: Service
metadata: {name: web, namespace: prod}
spec: {clusterIP: 10.96.0.10, ports: [{port: 80}]}
---
kind: Service
metadata: {name: peers, namespace: prod}
spec: {clusterIP: None, ports: [{port: 7000}]}
"""
DNS = """
kind: Service
metadata: {name: dns, namespace: kube-system}
spec: {clusterIP: 10.96.0.53, ports: [{port: 53, protocol: UDP}]}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "names"


@pytest.fixture
def bench(file: Path) -> Bench:
    return Bench("names", kube_router_names, flags=[f"--names-file={file}"])


def reconcile(bench: Bench, *, everything: bool = False) -> Mapping[str, int]:
    return anyio.run(lambda: bench.reconcile(everything=everything)).changes


def test_a_line_names_the_service_that_caused_it(bench: Bench) -> None:
    bench.apply(WEB)
    (line,) = bench.render()
    assert line.text == "10.96.0.10 web.prod.svc"
    assert [cause.object for cause in line.because] == ["Service prod/web"]


def test_the_file_holds_all_services_with_an_address_and_follows_them(bench: Bench, file: Path) -> None:
    bench.apply(WEB, DNS)
    assert reconcile(bench) == {"name added": 2}
    assert file.read_text() == "10.96.0.53 dns.kube-system.svc\n10.96.0.10 web.prod.svc\n"
    bench.delete("Service", "prod/web")
    assert reconcile(bench) == {"name removed": 1}
    assert file.read_text() == "10.96.0.53 dns.kube-system.svc\n"


def test_nothing_is_written_when_nothing_has_changed(bench: Bench, file: Path) -> None:
    bench.apply(WEB)
    reconcile(bench)
    before = file.stat()
    assert reconcile(bench, everything=True) == {}
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_name_goes_only_once_the_cluster_has_confirmed_that_it_is_gone(bench: Bench, file: Path) -> None:
    file.write_text("10.96.0.99 old.prod.svc\n")
    bench.in_sync = False
    bench.apply(WEB)
    reconcile(bench)
    assert file.read_text() == "10.96.0.10 web.prod.svc\n10.96.0.99 old.prod.svc\n"
    bench.in_sync = True
    reconcile(bench, everything=True)
    assert file.read_text() == "10.96.0.10 web.prod.svc\n"


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    bench = Bench("names", kube_router_names, flags=[f"--names-file={tmp_path}/missing/names"])
    bench.apply(WEB)
    with pytest.raises(KernelError, match=r"--names-file .*/missing/names: No such file or directory"):
        reconcile(bench)


def test_cleanup_removes_the_file_and_may_be_called_without_one(bench: Bench, file: Path) -> None:
    bench.apply(WEB)
    reconcile(bench)
    anyio.run(bench.plugin.cleanup)
    anyio.run(bench.plugin.cleanup)
    assert not file.exists()
