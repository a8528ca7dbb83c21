"""The runner on virtual time: when it reconciles, with what, and what a plugin that fails costs."""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from prometheus_client import CollectorRegistry
from virtual_time import BACKEND

from kube_router.core.api import ClusterView, Dirty, KernelError, Line, Plugin, Problem, Receipt, Ref
from kube_router.core.intake import Intake
from kube_router.core.log import Log
from kube_router.core.metrics import Metrics
from kube_router.core.problems import Problems
from kube_router.core.runner import Hopeless, Pace, Runner
from kube_router.core.state import State, View
from kube_router.core.worker import InlineWorker, Worker
from kube_router.events.event import Change, ReceiptRecord
from kube_router.events.model import Namespace, Object, Service
from kube_router.events.normalize import BUILTIN
from kube_router.events.resource import Catalogue, Normalized, local_kind


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return BACKEND


class Recorder:
    """A plugin that notes when it was called with what. ``act`` decides how the call goes."""

    name = "recorder"
    needs: frozenset[type[Object]] = frozenset({Service})

    def __init__(self, calls: list[tuple[float, Dirty, bool]], act: Callable[[int], Any]) -> None:
        self.calls, self.act = calls, act

    async def reconcile(self, view: ClusterView, dirty: Dirty) -> Receipt:
        self.calls.append((anyio.current_time(), dirty, view.in_sync))
        result = self.act(len(self.calls))
        if hasattr(result, "__await__"):
            result = await result
        return result if isinstance(result, Receipt) else Receipt()

    async def cleanup(self) -> None:
        """Nothing to clean."""

    def render(self, view: ClusterView) -> Iterable[Line]:
        return ()


class Journal:
    """Keeps in memory what would go to disk."""

    def __init__(self) -> None:
        self.records: list[Change] = []

    def append(self, records: Iterable[Change]) -> None:
        self.records += records


class Rig:
    """A core without sources: the test is the source, through the intake."""

    def __init__(self) -> None:
        self.journal = Journal()
        self.state = State(Catalogue(BUILTIN))
        self.metrics = Metrics(version="test")
        self.problems = Problems()
        self.intake = Intake(
            state=self.state,
            journal=self.journal,
            log=Log(),
            problems=self.problems,
            now_ms=lambda: round(anyio.current_time() * 1000),
            new_cluster=lambda cluster: None,
        )
        self.calls: list[tuple[float, Dirty, bool]] = []
        self.built = 0

    def runner(
        self,
        act: Callable[[int], Any] = lambda call: None,
        *,
        worker: Worker | None = None,
        needs: frozenset[type[Object]] = Recorder.needs,
        **kw: Any,
    ) -> Runner:
        def build(registry: CollectorRegistry, worker: Worker) -> Plugin:
            self.built += 1
            recorder = Recorder(self.calls, act)
            recorder.needs = needs
            return recorder

        return Runner(
            "recorder",
            build=build,
            view=lambda plugin: View(self.state, plugin.needs, self.intake.live),
            intake=self.intake,
            metrics=self.metrics,
            now_ms=lambda: round(anyio.current_time() * 1000),
            worker=worker or InlineWorker("recorder"),
            **kw,
        )

    def sync(self, *objects: Object, resource: str = "services") -> None:
        self.intake.replace(resource, [Normalized(obj, "1") for obj in objects], "1", "initial")

    def put(self, name: str, **fields: Any) -> None:
        self.intake.put("services", Normalized(Service(namespace="prod", name=name, **fields), "2"))

    def metric(self, name: str) -> float:
        value = self.metrics.registry.get_sample_value(name, {"plugin": "recorder"})
        assert value is not None
        return value


@asynccontextmanager
async def running(runner: Runner) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(runner.run)
        await anyio.sleep(0.001)
        yield
        tasks.cancel_scope.cancel()


def ref(name: str) -> Ref:
    return Ref("services", f"prod/{name}")


async def test_the_first_reconcile_waits_for_the_first_list_and_then_sees_everything() -> None:
    rig = Rig()
    async with running(rig.runner()):
        await anyio.sleep(10)
        assert rig.calls == []
        rig.sync(Service(namespace="prod", name="web"))
        await anyio.sleep(0.1)
    assert [(dirty.everything, in_sync) for _, dirty, in_sync in rig.calls] == [(True, True)]


async def test_recovered_state_is_reconciled_at_once_and_again_with_everything_when_confirmed() -> None:
    rig = Rig()
    rig.sync()
    rig.intake.live.clear()  # as after a restart: the journal has a sync, the live source has not spoken
    async with running(rig.runner()):
        await anyio.sleep(1)
        rig.sync()
        await anyio.sleep(1)
    assert [(dirty.everything, in_sync) for _, dirty, in_sync in rig.calls] == [(True, False), (True, True)]


class Finding(Object, frozen=True, kw_only=True):
    """What the plugin itself finds out."""


async def test_a_plugin_whose_own_kinds_wait_for_the_source_is_called_when_that_has_spoken() -> None:
    rig = Rig()
    rig.state.catalogue = Catalogue((*BUILTIN, local_kind("findings", Finding)))
    rig.sync()
    rig.intake.live.clear()
    runner = rig.runner(needs=frozenset({Service, Finding}))
    async with running(runner):
        await anyio.sleep(5)
        rig.sync()
        await anyio.sleep(5)
        rig.intake.settle(Finding)
        await anyio.sleep(5)
    assert [(dirty.everything, in_sync) for _, dirty, in_sync in rig.calls] == [
        (True, False),
        (True, False),
        (True, True),
    ]


async def test_a_kernel_that_may_be_newer_than_the_journal_is_left_alone_until_the_source_has_spoken() -> None:
    rig = Rig()
    rig.sync()
    rig.intake.live.clear()
    async with running(rig.runner(hold=True)):
        await anyio.sleep(60)
        assert rig.calls == []
        rig.sync()
        await anyio.sleep(1)
    assert len(rig.calls) == 1


async def test_a_burst_is_one_reconcile_50_ms_after_its_last_event() -> None:
    rig = Rig()
    rig.sync()
    async with running(rig.runner()):
        await anyio.sleep(1)
        for n in range(5):
            rig.put(f"web-{n}")
            await anyio.sleep(0.01)
        last = anyio.current_time() - 0.01
        await anyio.sleep(1)
    at, dirty, _ = rig.calls[1]
    assert len(rig.calls) == 2
    assert dirty == Dirty(frozenset(ref(f"web-{n}") for n in range(5)))
    assert at - last == pytest.approx(0.05, abs=0.002)


async def test_an_endless_stream_of_events_is_reconciled_every_half_second() -> None:
    rig = Rig()
    rig.sync()
    async with running(rig.runner()):
        await anyio.sleep(1)
        for n in range(100):
            rig.put("web", health_check_node_port=n + 1)
            await anyio.sleep(0.02)
    gaps = [after[0] - before[0] for before, after in zip(rig.calls[1:], rig.calls[2:], strict=False)]
    assert len(gaps) >= 2
    assert all(gap == pytest.approx(0.5, abs=0.03) for gap in gaps)


async def test_kinds_a_plugin_does_not_need_never_wake_it() -> None:
    rig = Rig()
    rig.sync()
    async with running(rig.runner()):
        await anyio.sleep(1)
        rig.intake.put("namespaces", Normalized(Namespace(name="prod"), "1"))
        await anyio.sleep(1)
    assert len(rig.calls) == 1


async def test_a_kernel_error_keeps_the_plugin_and_is_tried_again_with_growing_pauses_and_everything_dirty() -> None:
    rig = Rig()
    rig.sync()

    def act(call: int) -> None:
        if 2 <= call <= 4:
            raise KernelError("no buffer space", 105)

    async with running(rig.runner(act)):
        await anyio.sleep(1)
        rig.put("web")
        await anyio.sleep(30)
    assert [dirty.everything for _, dirty, _ in rig.calls] == [True, False, True, True, True]
    assert ref("web") in rig.calls[4][1].refs
    pauses = [after[0] - before[0] for before, after in zip(rig.calls[1:], rig.calls[2:], strict=False)]
    assert 0.1 <= pauses[0] <= 0.2
    assert 0.2 <= pauses[1] <= 0.4
    assert 0.4 <= pauses[2] <= 0.8
    assert rig.built == 1
    assert rig.metric("kube_router_reconcile_failures_total") == 3


async def test_what_a_receipt_says_has_failed_is_tried_again_after_the_rest_was_accounted_for() -> None:
    rig = Rig()
    rig.sync()
    refused = Problem("Service", "prod/web", "no such scheduler")

    def act(call: int) -> Receipt:
        return Receipt({"service added": 1}, (refused,), failed="no such scheduler") if call == 1 else Receipt()

    async with running(runner := rig.runner(act)):
        await anyio.sleep(0.05)
        assert list(rig.problems) == [refused]
        assert runner.status()["last_error"] == "KernelError: no such scheduler"
        await anyio.sleep(5)
    assert [dirty.everything for _, dirty, _ in rig.calls] == [True, True]
    assert list(rig.problems) == []
    assert runner.totals == {"service added": 1}


async def test_a_plugin_that_raises_is_built_anew_and_the_journal_says_so() -> None:
    rig = Rig()
    rig.sync()

    def act(call: int) -> None:
        if call == 1:
            raise ZeroDivisionError("division by zero")

    async with running(runner := rig.runner(act)):
        await anyio.sleep(5)
    assert rig.built == 2
    assert runner.restarts == 1
    assert len(rig.calls) == 2
    notes = [getattr(record, "text", "") for record in rig.journal.records]
    assert "built anew after ZeroDivisionError: division by zero" in notes


async def test_a_plugin_that_is_built_anew_watches_and_the_old_one_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    async def watch(plugin: Recorder, changed: Callable[[], None]) -> None:
        number = rig.built
        watching.append(number)
        try:
            await anyio.sleep_forever()
        finally:
            watching.remove(number)

    rig, watching = Rig(), list[int]()
    monkeypatch.setattr(Recorder, "watch", watch, raising=False)
    async with running(rig.runner(lambda call: 1 / 0 if call == 1 else None)):
        assert watching == [1]
        rig.sync()
        await anyio.sleep(1)
        assert watching == [2]
    assert watching == []


async def test_a_coroutine_that_hangs_is_given_up_at_its_deadline_and_built_anew() -> None:
    rig = Rig()
    rig.sync()
    runner = rig.runner(lambda call: anyio.sleep_forever() if call == 1 else None, pace=Pace(deadline_s=7))
    async with running(runner):
        await anyio.sleep(6.9)
        assert runner.state == "reconciling"
        await anyio.sleep(1)
    assert runner.restarts == 1
    assert len(rig.calls) == 2
    assert rig.calls[1][0] == pytest.approx(7.15, abs=0.06)


async def test_after_three_threads_given_up_only_a_new_process_helps() -> None:
    rig = Rig()
    rig.sync()
    worker = InlineWorker("recorder")

    def act(call: int) -> Any:
        worker.abandoned += 1
        return anyio.sleep_forever()

    runner = rig.runner(act, worker=worker, pace=Pace(deadline_s=1))
    with pytest.raises(Hopeless, match="plugin recorder has hung 3 threads; TimeoutError: no answer within 1 s"):
        await runner._attempts()
    assert len(rig.calls) == 3


async def test_everything_is_compared_again_at_the_resync_period_though_nothing_happened() -> None:
    rig = Rig()
    rig.sync()
    async with running(rig.runner(pace=Pace(resync_s=300))):
        await anyio.sleep(905)
    assert [(round(at), dirty.everything) for at, dirty, _ in rig.calls] == [
        (0, True),
        (300, True),
        (600, True),
        (900, True),
    ]


async def test_a_receipt_is_journaled_only_when_something_was_changed() -> None:
    rig = Rig()
    rig.sync()
    async with running(rig.runner(lambda call: Receipt({"server added": 2} if call == 2 else {}))):
        await anyio.sleep(1)
        rig.put("web")
        await anyio.sleep(1)
        rig.put("api")
        await anyio.sleep(1)
    receipts = [record for record in rig.journal.records if isinstance(record, ReceiptRecord)]
    assert [(receipt.plugin, receipt.upto, dict(receipt.changes)) for receipt in receipts] == [
        ("recorder", 2, {"server added": 2})
    ]


async def test_convergence_is_measured_from_the_trigger_time() -> None:
    rig = Rig()
    rig.sync()
    async with running(rig.runner()):
        await anyio.sleep(10)
        service = Service(namespace="prod", name="web")
        rig.intake.put("services", Normalized(service, "2", trigger_ms=9000))
        await anyio.sleep(1)
    assert rig.metric("kube_router_convergence_seconds_count") == 1
    assert rig.metric("kube_router_convergence_seconds_sum") == pytest.approx(1.05, abs=0.01)


async def test_a_reader_left_behind_by_the_log_looks_at_everything() -> None:
    rig = Rig()
    rig.sync()
    async with running(rig.runner()):
        await anyio.sleep(1)
        rig.intake.log.reset()
        await anyio.sleep(1)
    assert [dirty.everything for _, dirty, _ in rig.calls] == [True, True]


async def test_a_stop_lets_the_reconcile_under_way_finish_and_starts_no_other() -> None:
    rig = Rig()
    rig.sync()
    runner = rig.runner(lambda call: anyio.sleep(3))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(runner.run)
        await anyio.sleep(1)
        rig.put("web")
        runner.stop()
    assert anyio.current_time() == pytest.approx(3, abs=0.1)
    assert runner.reconciles == 1


async def test_a_plugin_is_ready_once_it_has_reconciled_what_the_source_confirmed_and_says_so_itself() -> None:
    rig, said = Rig(), [True]
    runner = rig.runner()
    seen: list[bool] = []
    async with running(runner):
        await anyio.sleep(1)
        seen.append(runner.ready)
        rig.sync()
        await anyio.sleep(1)
        vars(runner.plugin)["ready"] = lambda: said[0]
        for word in (True, False, True):
            said[0] = word
            seen.append(runner.ready)
    assert seen == [False, True, False, True]


async def test_a_plugin_that_cannot_say_whether_it_is_ready_is_not_and_harms_nobody_who_asks() -> None:
    rig = Rig()
    runner = rig.runner()
    rig.sync()
    async with running(runner):
        await anyio.sleep(1)
        assert (runner.ready, runner.status()["ready"]) == (True, True)
        vars(runner.plugin)["ready"] = lambda: dict[str, bool]()["ready"]
        assert (runner.ready, runner.status()["ready"]) == (False, False)


async def test_failures_are_counted_from_nought_so_that_the_first_one_is_an_increase() -> None:
    rig = Rig()
    rig.runner()
    counted = {sample.name: sample.value for metric in rig.metrics.registry.collect() for sample in metric.samples}
    assert counted["kube_router_reconcile_failures_total"] == 0
    assert counted["kube_router_plugin_restarts_total"] == 0


async def test_what_a_plugin_says_of_itself_is_in_the_status_as_words() -> None:
    runner = Rig().runner()
    assert runner.status()["says"] == {}
    vars(runner.plugin)["status"] = lambda: {"lamps": 3, "mood": None}
    assert runner.status()["says"] == {"lamps": "3", "mood": "None"}


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (lambda: dict[str, str]()["lamps"], "KeyError: 'lamps'"),
        (lambda: None, "AttributeError: 'NoneType' object has no attribute 'items'"),
        (lambda lamps: {}, "TypeError: <lambda>() missing 1 required positional argument: 'lamps'"),
    ],
)
async def test_a_plugin_that_cannot_say_how_it_is_hides_nothing_else(status: Callable[..., Any], said: str) -> None:
    runner = Rig().runner()
    vars(runner.plugin)["status"] = status
    assert (runner.status()["says"], runner.status()["name"]) == ({"status": said}, "recorder")
