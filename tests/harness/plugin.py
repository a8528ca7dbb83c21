"""The project's pytest plugin: what the markers ``guest``, ``root``, ``controlplane`` and ``cluster`` mean.

A test that cannot run here is skipped with the reason, or fails with it in CI. Everything about the VM is in
harness/guest.py, everything about
the API server in harness/planes.py.
"""

import os
from collections.abc import Callable, Mapping

import pytest
from harness import guest, machine, planes

GUEST_KEY = pytest.StashKey[guest.Guest]()
WHY_NOT: Mapping[str, Callable[[], str]] = {
    "root": machine.why_no_namespaces,
    "guest": lambda: "" if machine.runs_guest_tests_itself() else machine.why_no_vm(),
    "controlplane": planes.why_none,
    "cluster": machine.why_no_cluster,
}


def pytest_configure(config: pytest.Config) -> None:
    """Inside the guest, report to the host."""
    if path := os.environ.get(guest.REPORTS):
        config.pluginmanager.register(guest.ReportWriter(config, path), "guest-report-writer")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Move guest tests to the end, and give every test the time it needs where it runs."""
    if machine.in_guest():
        for item in items:
            item.add_marker(pytest.mark.timeout(_time_limit_s(item) * machine.GUEST_SLOWNESS), append=False)
    if any(map(_is_guest_test, items)) and not machine.runs_guest_tests_itself():
        items.sort(key=_is_guest_test)  # stable
        for item in filter(_is_guest_test, items):
            item.add_marker(pytest.mark.timeout(0), append=False)  # the guest keeps the time


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what cannot run here, or fail it in CI."""
    for marker, why_not in WHY_NOT.items():
        if item.get_closest_marker(marker) is not None and (reason := why_not()):
            _cannot_run(reason)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """Replay what the guest reports of its tests; the first of them boots it."""
    if not _is_guest_test(item) or machine.runs_guest_tests_itself() or machine.why_no_vm():
        return None
    running = item.session.stash.get(GUEST_KEY, None)
    if running is None:
        running = item.session.stash[GUEST_KEY] = _boot(item.session)
    hook, config = item.ihook, item.config
    hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = [guest.replayed(config, data) for data in running.reports(item.nodeid)]
    for report in reports or [guest.failed_report(item, running.last_words())]:
        hook.pytest_runtest_logreport(report=report)
    if reports and reports[-1].when != "teardown":  # it ended in the middle of this test
        hook.pytest_runtest_logreport(report=guest.failed_report(item, running.last_words()))
    hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Leave no VM behind."""
    if (running := session.stash.get(GUEST_KEY, None)) is not None:
        running.close()
    planes.close(session)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio, as the agent does."""
    return "asyncio"


def _boot(session: pytest.Session) -> guest.Guest:
    items = [item for item in session.items if _is_guest_test(item)]
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    say: guest.Say = print if terminal is None else terminal.write_line
    nodeids = [item.nodeid for item in items]
    running = guest.Guest(nodeids, options=guest.guest_options(session.config), say=say)
    with_api = any(item.get_closest_marker("controlplane") for item in items)
    running.start(env=planes.guest_environment(session, running.folder) if with_api else ())
    return running


def _is_guest_test(item: pytest.Item) -> bool:
    return item.get_closest_marker("guest") is not None


def _time_limit_s(item: pytest.Item) -> float:
    marker = item.get_closest_marker("timeout")
    if marker is not None and marker.args:
        return float(marker.args[0])
    return float(item.config.getini("timeout") or 0)


def need(why_none: str) -> None:
    """Skip the test, or fail it in CI, if there is a reason why what it needs is not here."""
    if why_none:
        _cannot_run(why_none)


def _cannot_run(reason: str) -> None:
    if machine.in_ci():
        pytest.fail(f"cannot run in CI: {reason}", pytrace=False)
    pytest.skip(reason)
