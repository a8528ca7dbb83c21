"""The agent: wires source, journal, state, log and runners together, and starts and stops them in order.

Start: recover the journal → fold it → plugins reconcile from that at once, the API server reachable or not → the
source confirms what is, kind by kind → from then on plugins may delete.
Stop: the source first, then the plugins once the reconcile under way is done, then the journal with a snapshot. The
kernel keeps what it holds.
"""

import gc
import logging
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from kube_router import __version__
from kube_router.core import capabilities, control, http, sysctl
from kube_router.core.agent_options import node_name
from kube_router.core.api import Context, Plugin
from kube_router.core.exposition import CONTENT_TYPE, exposition
from kube_router.core.intake import Intake
from kube_router.core.keeper import Keeper
from kube_router.core.log import Log
from kube_router.core.metrics import Metrics
from kube_router.core.options import Options
from kube_router.core.problems import Problems
from kube_router.core.registry import Registry
from kube_router.core.runner import Runner
from kube_router.core.state import State, View
from kube_router.core.watchdog import Watchdog
from kube_router.core.worker import Worker
from kube_router.events.errors import ConfigError
from kube_router.events.keyfile import load_key
from kube_router.events.redact import Redactor
from kube_router.events.resource import Redact, Resource
from kube_router.events.sink import Sink

logger = logging.getLogger(__name__)

STOP_S = 5
GC_YOUNG_MAX = 50_000  # new containers until the youngest are looked at
KEY_FILE = "redact.key"  # beside the journal, never in it
HEALTHY_BEAT_S = 5


class Source(Protocol):
    """What feeds the intake."""

    async def run(self) -> None: ...

    def status(self) -> object: ...


MakeSource = Callable[[Options, Sink, list[Resource], Redact], Source]


def _collect_rarely() -> None:
    """Let the garbage collector look less often, and never again at what the start has made.

    Nearly all that an agent holds is free of cycles and lives long. With the defaults ten thousand new objects cost as
    much again in collections, which hold up the loop.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_YOUNG_MAX, 20, 50)


def now_ms() -> int:
    """Return Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


class Agent:
    """One node's agent. Building it recovers the journal; nothing runs before ``run``."""

    def __init__(self, options: Options, registry: Registry, make_source: MakeSource) -> None:
        self.options, self.registry = options, registry
        self.node = node_name(options)
        self.started = time.monotonic()
        self.catalogue = registry.catalogue()
        self.state = State(self.catalogue)
        self.problems = Problems()
        self.metrics = Metrics(version=__version__)
        journal_dir = Path(options.text("journal-dir"))
        self.redactor = Redactor(load_key(journal_dir.parent / KEY_FILE))
        self.keeper = Keeper(
            journal_dir,
            size_max=options.number("journal-size"),
            state=self.state,
            node=self.node,
            options=options.public(),
            now_ms=now_ms,
        )
        self.log = Log()
        self.intake = Intake(
            state=self.state,
            journal=self.keeper.journal,
            log=self.log,
            problems=self.problems,
            now_ms=now_ms,
            new_cluster=self.keeper.new_cluster,
        )
        self._scraping = anyio.CapacityLimiter(1)  # a second scraper waits for the first
        self.runners = self._build_runners()
        self.problems.set("plugins", registry.problems)
        needed = {resource for runner in self.runners for resource in self._view(runner.plugin).resources}
        resources = [resource for resource in self.catalogue.watched if resource.name in needed]
        self.source = make_source(options, self.intake, resources, self.redactor.digest)
        self.watchdog = Watchdog({runner.name: _package(runner.plugin) for runner in self.runners})

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT. Raises Hopeless, or ConfigError for what turns out at start."""
        _collect_rarely()
        async with anyio.create_task_group() as services:
            try:
                self._serve(services)
                async with anyio.create_task_group() as plugins:
                    for runner in self.runners:
                        plugins.start_soon(runner.run)
                    await self._feed_until_told_to_stop()
                    for runner in self.runners:
                        runner.stop()
                    plugins.cancel_scope.deadline = anyio.current_time() + STOP_S
            finally:
                services.cancel_scope.cancel()
        self.intake.checkpoint()
        self.keeper.close()
        logger.info("agent_stopped node=%s seq=%d", self.node, self.state.seq)

    def status(self) -> dict[str, object]:
        """Return what ``kr status`` shows."""
        return {
            "node": self.node,
            "agent": __version__,
            "uptime_s": round(time.monotonic() - self.started),
            "source": self.source.status(),
            "sync": {
                resource.name: {
                    "recovered": resource.name in self.state.synced,
                    "live": resource.name in self.intake.live,
                    "objects": len(self.state.known(resource.name)),
                }
                for resource in self.catalogue
                if resource.name in self.state.objects or resource.name in self.state.synced
            },
            "journal": self.keeper.status(),
            "plugins": [runner.status() for runner in self.runners],
            "problems": [str(problem) for problem in self.problems],
            "loop": {"lag_ms": round(self.watchdog.lag_s * 1000, 1), "blocked": list(self.watchdog.blocked)},
        }

    # -- plugins -------------------------------------------------------------------------------------------------------

    def _build_runners(self) -> list[Runner]:
        """Return a runner for each enabled plugin: an operator's error ends the start, a plugin's bug does not."""
        runners = []
        needs: dict[str, Mapping[str, str]] = {}
        for name in self.registry.names:
            if self.options.flag(f"run-{name}"):
                try:
                    runner = self._runner(name)
                    needs[name] = _capabilities(runner.plugin)
                    runners.append(runner)
                except ConfigError:
                    raise
                except Exception as error:  # noqa: BLE001  (a third party's constructor may raise anything)
                    self.registry.spoil(name, error)
        capabilities.check(needs, capabilities.effective())
        return runners

    def _runner(self, name: str) -> Runner:
        def build(metrics: CollectorRegistry, worker: Worker) -> Plugin:
            context = Context(
                node=self.node,
                options=self.options,
                metrics=metrics,
                run=worker.run,
                fenced=worker.fenced,
                secret=self.redactor.plaintext,
                note=partial(self.intake.note, name),
                publish=self.intake.publish,
                confirm=self.intake.settle,
            )
            return self.registry.build(name, context)

        return Runner(
            name,
            build=build,
            view=self._view,
            intake=self.intake,
            metrics=self.metrics,
            now_ms=now_ms,
            hold=self.keeper.kernel_may_be_newer,
        )

    def _view(self, plugin: Plugin) -> View:
        try:
            return View(self.state, plugin.needs, self.intake.live)
        except KeyError as error:
            raise ConfigError(
                f"plugin {plugin.name} needs {error.args[0].__name__}, a kind that no plugin brings"
            ) from error

    def _able(self, request: Mapping[str, object], method: str) -> Any:
        """Return the running plugin that a request names. ValueError where it is not there or cannot do that."""
        name = str(request.get("plugin", ""))
        plugin = next((runner.plugin for runner in self.runners if runner.name == name), None)
        if plugin is None:
            running = ", ".join(runner.name for runner in self.runners) or "none"
            raise ValueError(f"plugin {name!r} does not run here; running: {running}")
        if not callable(getattr(plugin, method, None)):
            raise ValueError(f"plugin {name} has no {method}()")
        return plugin

    def _whole_view(self) -> View:
        """Return a view of every kind: those that no plugin needs are empty."""
        return View(self.state, [resource.model for resource in self.catalogue], self.intake.live)

    # -- running -------------------------------------------------------------------------------------------------------

    async def _feed_until_told_to_stop(self) -> None:
        async with anyio.create_task_group() as feeding:
            feeding.start_soon(self.source.run)
            with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                async for number in signals:
                    logger.info("agent_stopping signal=%s", number.name)
                    break
            feeding.cancel_scope.cancel()

    def _serve(self, tasks: TaskGroup) -> None:
        options = self.options
        tasks.start_soon(self.watchdog.run, self.metrics.loop_lag.set)
        tasks.start_soon(self.keeper.run, self.intake, self.metrics)
        if options.text("control-socket"):
            commands: dict[str, control.Command] = {
                "status": lambda request: self.status(),
                "ask": lambda request: self._able(request, "answer").answer(request),
                "explain": lambda request: self._able(request, "explain").explain(self._whole_view(), request),
            }
            tasks.start_soon(control.serve, Path(options.text("control-socket")), commands)
        pages = {"/healthz": self._healthz, "/readyz": self._readyz}
        self._page(tasks, "health", options.text("health-addr"), options.number("health-port"), pages)
        metrics = {options.text("metrics-path"): self._metrics}
        self._page(tasks, "metrics", options.text("metrics-addr"), options.number("metrics-port"), metrics)

    def _page(self, tasks: TaskGroup, what: str, host: str, port: int, pages: http.Pages) -> None:
        async def serve() -> None:
            try:
                await http.serve(host, port, pages)
            except OSError as error:
                raise ConfigError(f"--{what}-port {port}: {error.strerror or error}; choose another port") from error

        if port:
            tasks.start_soon(serve)

    async def _healthz(self) -> http.Answer:
        """The loop is alive, or this would not be answered; a loop that crawls is unhealthy too."""
        if self.watchdog.since_beat_s > HEALTHY_BEAT_S:
            return http.Answer(500, b"Unhealthy\n")
        return http.Answer(200, b"OK\n")

    async def _readyz(self) -> http.Answer:
        late = [runner.name for runner in self.runners if not runner.ready]
        if late:
            return http.Answer(500, f"not ready yet: {', '.join(late)}\n".encode())
        return http.Answer(200, b"OK\n")

    async def _metrics(self) -> http.Answer:
        """All metrics there are. In a thread: a plugin may ask the kernel for them, and there may be thousands."""
        self.metrics.problems.set(len(self.problems))
        for runner in self.runners:
            self.metrics.ready.labels(runner.name).set(runner.ready)
        self.metrics.note_streams(self.source.status())
        self.keeper.export(self.metrics)
        registries = [self.metrics.registry, *(runner.registry for runner in self.runners)]
        text = await anyio.to_thread.run_sync(metrics_text, registries, limiter=self._scraping, abandon_on_cancel=True)
        return http.Answer(200, text, CONTENT_TYPE)


def metrics_text(registries: Sequence[CollectorRegistry]) -> bytes:
    """Return the exposition of all registries, without what a plugin's collector fails to give."""
    metrics: list[Metric] = []
    for registry in registries:
        try:
            metrics += registry.collect()
        except Exception:
            logger.exception("metrics_not_collected now='the others are served'")
    return exposition(metrics)


def _capabilities(plugin: Plugin) -> Mapping[str, str]:
    """Return what a plugin says it needs, nothing where it does not say."""
    stated = getattr(plugin, "capabilities", None)
    return {str(name): str(why) for name, why in stated().items()} if callable(stated) else {}


def _package(plugin: Plugin) -> str:
    """Return the package a plugin's class is in, its module where it is in none."""
    module = type(plugin).__module__
    return module.rpartition(".")[0] or module


def make_source(options: Options, sink: Sink, resources: list[Resource], redact: Redact) -> Source:
    """Return the source the options ask for: a folder of manifests, else the API server."""
    if folder := options.text("manifests"):
        from kube_router.events.sources.folder import FolderSource

        return FolderSource(sink=sink, resources=resources, folder=Path(folder), redact=redact)
    from kube_router.events.sources.access import Access
    from kube_router.events.sources.kubernetes import KubernetesSource

    access = Access(kubeconfig=options.text("kubeconfig"), master=options.text("master"))
    return KubernetesSource(sink=sink, resources=resources, access=access, redact=redact)


def run_agent(options: Options, registry: Registry) -> None:
    """Run the agent until it is told to stop. Raises ConfigError, or Hopeless where only a new process helps."""
    sysctl.check()

    async def run() -> None:
        await Agent(options, registry, make_source).run()

    try:
        anyio.run(run)
    except BaseExceptionGroup as group:
        raise _first(group) from group


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the cause inside nested groups: with several, what the operator can mend before anything else."""
    causes = [_first(one) if isinstance(one, BaseExceptionGroup) else one for one in group.exceptions]
    return next((cause for cause in causes if isinstance(cause, ConfigError)), causes[0])
