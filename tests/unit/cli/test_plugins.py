"""What is said of installed plugins, and how log lines look."""

import json
import logging
from importlib.metadata import EntryPoint

import pytest
from harness.command import kr

from kube_router.cli import logs
from kube_router.core import registry


def install(monkeypatch: pytest.MonkeyPatch, *points: EntryPoint) -> None:
    monkeypatch.setattr(registry, "entry_points", lambda group: points)


PROXY = EntryPoint("proxy", "kube_router.plugins.proxy.plugin", registry.GROUP)
BROKEN = EntryPoint("broken", "no_such_module_of_a_third_party", registry.GROUP)


def test_a_plugin_that_cannot_be_loaded_is_listed_with_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, PROXY, BROKEN)
    done = kr("plugins")
    assert done.status == 1
    assert done.out.splitlines() == [
        "broken  no_such_module_of_a_third_party  cannot be loaded: ModuleNotFoundError: "
        "No module named 'no_such_module_of_a_third_party'",
        "proxy   kube_router.plugins.proxy.plugin  usable",
    ]


def test_plugins_are_listed_with_their_options_for_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, PROXY)
    (row,) = json.loads(kr("plugins", "-o", "json").out)
    assert row["name"] == "proxy"
    assert row["options"] == ["--run-proxy", "--ipvs-sync-period", "--masquerade-all", "--excluded-cidrs"]


def test_a_log_line_is_time_level_and_event() -> None:
    record = logging.LogRecord(
        "kube_router.core", logging.INFO, "x.py", 1, "server_added service=%s", ("prod/web",), None
    )
    record.created = 1_795_377_241.25
    assert logs.Line().format(record) == "2026-11-22T19:54:01.250Z INFO server_added service=prod/web"
