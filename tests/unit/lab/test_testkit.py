"""The test kit gives a plugin what an agent would give it."""

from collections.abc import Iterable, Sequence

import pytest

from kube_router.core.api import ClusterView, Context, Dirty, Line, Option, Plugin, Receipt, Ref, hookimpl
from kube_router.events.errors import ConfigError
from kube_router.events.model import EndpointSlice, Object, Service
from kube_router.lab.testkit import Bench

WEB = """
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  template: {metadata: {labels: {app: web}}, spec: {containers: [{ports: [{containerPort: 8080}]}]}}
---
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
"""


class Names:
    """A plugin that holds names of Services, and what it was asked to do."""

    name = "names"
    needs: frozenset[type[Object]] = frozenset({Service, EndpointSlice})

    def __init__(self, context: Context) -> None:
        self.context = context
        self.asked: list[Dirty] = []

    async def reconcile(self, view: ClusterView, dirty: Dirty) -> Receipt:
        self.asked.append(dirty)
        count = await self.context.run(len, list(view.each(Service)))
        return Receipt({"names": count if view.in_sync else 0})

    async def cleanup(self) -> None:
        self.asked.clear()

    def render(self, view: ClusterView) -> Iterable[Line]:
        domain = self.context.options.text("names-domain")
        for service in view.each(Service):
            count = sum(len(part.endpoints) for part in view.slices_of(service.key))
            yield Line(f"{service.cluster_ips[0]} {service.name}{domain} {count} on {self.context.node}")


class Hooks:
    @hookimpl
    def kube_router_options(self) -> Sequence[Option]:
        return [Option("names-domain", "text", ".svc", "what names end with")]

    @hookimpl
    def kube_router_plugin(self, context: Context) -> Plugin:
        return Names(context)


def bench(*flags: str) -> Bench:
    return Bench("names", Hooks(), flags=flags)


def test_manifests_become_what_the_plugin_sees() -> None:
    one = bench("--names-domain=.example")
    one.apply(WEB)
    assert one.lines() == ["10.96.0.10 web.example 2 on node-1"]
    one.apply({"kind": "Service", "metadata": {"name": "api"}, "spec": {"ports": [{"port": 1}]}})
    one.delete("Service", "web")
    assert one.lines() == ["10.96.0.11 api.example 0 on node-1"]


def test_an_object_that_cannot_be_used_is_a_problem_and_the_rest_is_there() -> None:
    one = bench()
    one.apply(WEB, {"kind": "Service", "metadata": {"name": "bad"}, "spec": {"ports": [{"port": 99999}]}})
    assert any(problem.key == "default/bad" for problem in one.problems)
    assert "10.96.0.10 web.svc 2 on node-1" in one.lines() or "10.96.0.11 web.svc 2 on node-1" in one.lines()


async def test_reconcile_is_told_exactly_what_has_changed() -> None:
    one = bench()
    one.apply(WEB)
    assert await one.reconcile() == Receipt({"names": 1})
    one.apply(WEB.replace("replicas: 2", "replicas: 1"))
    one.in_sync = False
    assert await one.reconcile() == Receipt({"names": 0})
    await one.reconcile()
    plugin = one.plugin
    assert isinstance(plugin, Names)
    slices = Ref("endpointslices", "default/web-ipv4")
    pods = Ref("pods", "default/web-2")
    assert plugin.asked == [Dirty(frozenset(), True), Dirty(frozenset({slices, pods})), Dirty(frozenset())]


def test_the_installed_proxy_can_be_put_on_the_bench() -> None:
    one = Bench("proxy")
    one.apply(WEB)
    assert "-A -t 10.96.0.10:80 -s rr" in one.lines()


def test_what_is_not_there_cannot_be_deleted_or_tested() -> None:
    with pytest.raises(ConfigError, match="no Service default/web was applied"):
        bench().delete("Service", "web")
    with pytest.raises(ConfigError, match="no plugin 'nowhere'"):
        Bench("nowhere")
