"""Test a plugin: feed it manifests, look at what it would put into the kernel, run its reconcile. Public and stable.

    from kube_router.lab.testkit import Bench

    def test_a_service_gets_a_name() -> None:
        bench = Bench("names", kube_router_names)
        bench.apply("kind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}")
        assert bench.lines() == ["10.96.0.10 web.default.svc"]

Manifests become a cluster as in a lab: Services get addresses, Deployments become pods, EndpointSlices are derived
(controllers.py). From there on everything is the agent's own: the objects are normalized and folded into the state,
and the plugin gets a real view of it. ``lines`` needs no root and no kernel; ``reconcile`` does what the plugin does.
``one_node_lab`` runs real agents.
"""

import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio.to_thread
import yaml
from prometheus_client import CollectorRegistry

from kube_router.core.agent_options import option_groups
from kube_router.core.api import Context, Dirty, Line, Options, Plugin, Problem, Receipt, Ref
from kube_router.core.options import resolve
from kube_router.core.registry import GROUP, Registry
from kube_router.core.state import State, View
from kube_router.events.errors import ConfigError, ObjectError
from kube_router.events.event import Delete, Put
from kube_router.events.model import Object
from kube_router.events.redact import Redactor
from kube_router.events.resource import Normalized, Resource
from kube_router.lab import cluster, manifests
from kube_router.lab.allocate import Allocations
from kube_router.lab.controllers import derive, node_manifests
from kube_router.lab.objects import Json, key, kind
from kube_router.lab.topology import IPV4, node_names, plan_topology

Written = str | Path | Json
TEST_KEY = b"a key that protects nothing: the test kit's"

__all__ = ["Bench", "objects", "one_node_lab"]


def objects(*written: Written) -> list[Json]:
    """Return the objects in YAML texts, files, folders and dicts. ConfigError for what is none."""
    found: list[Json] = []
    for one in written:
        if isinstance(one, Path):
            found += manifests.read([one])
        elif isinstance(one, str):
            found += [obj for obj in yaml.safe_load_all(one) if obj]
        else:
            found.append(one)
    return found


class Bench:
    """A plugin on a test bench: one node's agent without source, journal and runner.

    ``module`` holds the hooks; without it the installed plugin of that name is taken. ``flags`` are as on the command
    line. ``in_sync`` can be set to False: the plugin then has to treat the state as a presumption and delete nothing.
    """

    def __init__(
        self,
        name: str,
        module: ModuleType | object | None = None,
        *,
        node: str = "node-1",
        nodes: int = 3,
        families: Sequence[str] = (IPV4,),
        flags: Sequence[str] = (),
    ) -> None:
        self.registry = _registry(name, module)
        self.metrics = CollectorRegistry()
        self.problems: list[Problem] = []
        self.in_sync = True
        self.state = State(self.registry.catalogue())
        self._redactor = Redactor(TEST_KEY)
        self._nodes, self._families = nodes, tuple(families)
        self._written: list[Json] = []
        self._allocations = Allocations()
        self._held: dict[Ref, Normalized] = {}
        self._dirty: set[Ref] | None = None  # None: everything
        context = Context(
            node=node,
            options=_options(self.registry, flags),
            metrics=self.metrics,
            run=_Worker(),
            secret=self._redactor.plaintext,
            publish=self.publish,
            confirm=self.confirm,
        )
        self.plugin: Plugin = self.registry.build(name, context)

    # -- the cluster ---------------------------------------------------------------------------------------------------

    def apply(self, *written: Written) -> None:
        """Add or replace objects, as ``kubectl apply`` does."""
        self._become(manifests.merge(self._written, objects(*written)))

    def delete(self, what: str, name: str) -> None:
        """Remove an object that was applied: ``delete("Service", "default/web")``. ConfigError if there is none."""
        full = name if "/" in name or what in ("Node", "Namespace") else f"default/{name}"
        left = [obj for obj in self._written if (kind(obj), key(obj)) != (what, full)]
        if len(left) == len(self._written):
            raise ConfigError(f"no {what} {full} was applied")
        self._become(left)

    @property
    def view(self) -> View:
        """What the plugin sees."""
        return View(self.state, self.plugin.needs, None if self.in_sync else set())

    # -- the plugin ----------------------------------------------------------------------------------------------------

    def render(self) -> tuple[Line, ...]:
        """Return what the kernel would hold, with the causes of each line."""
        return tuple(self.plugin.render(self.view))

    def lines(self) -> list[str]:
        """Return what the kernel would hold, as text."""
        return [line.text for line in self.render()]

    async def reconcile(self, *, everything: bool = False) -> Receipt:
        """Let the plugin do its work, told what has changed since the last time; the first time that is everything."""
        dirty = Dirty(frozenset(), True) if everything or self._dirty is None else Dirty(frozenset(self._dirty))
        self._dirty = set()
        try:
            return await self.plugin.reconcile(self.view, dirty)
        except Exception:
            self._dirty = None
            raise

    # -- inside --------------------------------------------------------------------------------------------------------

    def _become(self, written: list[Json]) -> None:
        names = tuple(node_manifests(written)) or node_names(self._nodes)
        topology = plan_topology("bench", names, families=self._families, cidrs=node_manifests(written))
        derived = derive(written, topology, self._allocations)
        self._written, self._allocations = written, derived.allocations
        self.problems = list(derived.problems)
        by_kind = {(resource.api_version, resource.kind): resource for resource in self.state.catalogue.watched}
        wanted: dict[Ref, Normalized] = {}
        for obj in derived.objects:
            resource = by_kind.get((str(obj.get("apiVersion", "")), kind(obj))) or _by_kind(by_kind.values(), obj)
            if resource is not None and (one := self._normalized(resource, obj)) is not None:
                wanted[Ref(resource.name, one.obj.key)] = one
        self._fold(wanted)

    def _normalized(self, resource: Resource, obj: Json) -> Normalized | None:
        try:
            normalized = resource.normalize(json.dumps(obj, default=str).encode(), self._redactor.digest)
        except ObjectError as error:
            self.problems.append(Problem(error.kind, error.key, error.what))
            return None
        self.problems += normalized.problems
        return normalized

    def _fold(self, wanted: dict[Ref, Normalized]) -> None:
        changed = {ref for ref, one in wanted.items() if ref not in self._held or self._held[ref].obj != one.obj}
        for ref in sorted(changed):
            self.state.apply(self._put(ref, wanted[ref]))
        for ref in sorted(self._held.keys() - wanted.keys()):
            self.state.apply(Delete(seq=self.state.seq + 1, t=self.state.t + 1, r=ref.resource, key=ref.key))
            changed.add(ref)
        self._held = wanted
        if self._dirty is not None:
            self._dirty |= changed

    def publish(
        self, model: type[Object], objects: Iterable[Object] = (), gone: Iterable[str] = (), *, journaled: bool = True
    ) -> None:
        """Add and remove objects of a local kind, as the plugin itself does with ``context.publish``."""
        name = self.state.catalogue.by_model(model).name
        changed = set()
        for obj in objects:
            old = self.state.known(name).get(obj.key)
            if old is None or old.obj != obj:
                self.state.apply(self._put(Ref(name, obj.key), Normalized(obj, "")))
                changed.add(Ref(name, obj.key))
        for key_ in gone:
            self.state.apply(Delete(seq=self.state.seq + 1, t=self.state.t + 1, r=name, key=key_))
            changed.add(Ref(name, key_))
        if self._dirty is not None:
            self._dirty |= changed

    def confirm(self, model: type[Object]) -> None:
        """Take it that all of a local kind is published. ``in_sync`` here is the test's to set."""

    def _put(self, ref: Ref, one: Normalized) -> Put:
        return Put(
            seq=self.state.seq + 1,
            t=self.state.t + 1,
            r=ref.resource,
            key=ref.key,
            rv=one.rv,
            trigger_ms=one.trigger_ms,
            obj=one.obj,
        )


@contextmanager
def one_node_lab(
    *written: Written,
    plugins: Sequence[str] | None = None,
    agent_args: Sequence[str] = (),
    families: Sequence[str] = (IPV4,),
) -> Iterator[cluster.Cluster]:
    """Run a lab of one node with its agent, for the block; root, and whatever kernel the plugins need.

    It stands in a folder of its own and goes, with all its namespaces and processes, when the block ends.
    """
    name = f"kit{os.getpid()}"
    folder = tempfile.mkdtemp(prefix="kr-kit-")
    before = os.environ.get("KR_LAB_DIR")
    os.environ["KR_LAB_DIR"] = folder
    try:
        found = objects(*written)
        plan = cluster.new_lab(name, found, nodes=1, plugins=plugins, agent_args=agent_args, families=families)
        yield cluster.Cluster.up(plan, found)
    finally:
        try:
            cluster.down(name)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            if before is None:
                del os.environ["KR_LAB_DIR"]
            else:
                os.environ["KR_LAB_DIR"] = before


def _registry(name: str, module: ModuleType | object | None) -> Registry:
    if module is None:
        return Registry(entry_points(group=GROUP, name=name))
    registry = Registry(())
    registry.register(name, module, origin=getattr(module, "__name__", type(module).__name__))
    return registry


def _options(registry: Registry, flags: Sequence[str]) -> Options:
    groups, warnings = option_groups(registry.options())
    if warnings:
        raise ConfigError("; ".join(warnings))
    return resolve(flags, groups, environ={})


def _by_kind(resources: Iterable[Resource], obj: Json) -> Resource | None:
    """Return the resource of an object that says no apiVersion: tests write as little as they can."""
    return next((one for one in resources if one.kind == kind(obj) and "apiVersion" not in obj), None)


class _Worker:
    """Runs blocking calls of a plugin one at a time, as the plugin's own thread in an agent does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    async def __call__(self, function: Callable[..., Any], *arguments: object) -> Any:
        return await anyio.to_thread.run_sync(self._run, function, arguments)

    def _run(self, function: Callable[..., Any], arguments: tuple[object, ...]) -> Any:
        with self._lock:
            return function(*arguments)
