"""Finding plugins: those that do not fit are named and skipped, the others run."""

from collections.abc import Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from kube_router.core.api import Context, Option, Options, Plugin, hookimpl
from kube_router.core.registry import Registry
from kube_router.events.errors import ConfigError
from kube_router.events.model import Object, Service


class Fine:
    name = "fine"
    needs: frozenset[type[Object]] = frozenset({Service})

    async def reconcile(self, view: Any, dirty: Any) -> Any: ...

    async def cleanup(self) -> None: ...

    def render(self, view: Any) -> Sequence[Any]:
        return ()


def context() -> Context:
    async def run(*call: Any) -> None: ...

    return Context(node="n", options=Options({}), metrics=CollectorRegistry(), run=run)


def module(**hooks: Any) -> ModuleType:
    made = ModuleType("third_party")
    for name, hook in hooks.items():
        setattr(made, name, hookimpl(hook))
    return made


def builder(plugin: Any) -> Any:
    def kube_router_plugin(context: Context) -> Any:
        return plugin

    return kube_router_plugin


def registry(**modules: ModuleType) -> Registry:
    made = Registry([])
    for name, plugin in modules.items():
        made.register(name, plugin, origin="test")
    return made


def test_a_plugin_is_found_built_and_named() -> None:
    fine = Fine()
    made = registry(fine=module(kube_router_plugin=builder(fine)))
    assert made.names == ("fine",)
    assert made.build("fine", context()) is fine


def test_a_hook_with_a_wrong_parameter_is_named() -> None:
    def kube_router_plugin(configuration: object) -> object:
        return configuration

    with pytest.raises(ConfigError, match=r"(?s)plugin odd \(test\).*configuration"):
        registry(odd=module(kube_router_plugin=kube_router_plugin))


def test_an_entry_point_that_cannot_be_imported_is_reported_and_the_others_are_loaded() -> None:
    def explode() -> ModuleType:
        raise ImportError("no module named missing")

    broken = SimpleNamespace(name="broken", value="missing", dist=None, load=explode)
    good = SimpleNamespace(
        name="good", value="good", dist=None, load=lambda: module(kube_router_plugin=builder(Fine()))
    )
    made = Registry([broken, good])  # type: ignore[list-item]  # of an EntryPoint only these are looked at
    assert made.names == ("good",)
    assert [str(problem) for problem in made.problems] == [
        "Plugin broken: cannot be loaded: ImportError: no module named missing"
    ]


@pytest.mark.parametrize("hook", ["kube_router_options", "kube_router_resources", "kube_router_commands"])
def test_a_hook_that_raises_takes_out_its_plugin_alone(hook: str) -> None:
    def raises() -> Sequence[Any]:
        raise ZeroDivisionError("oops")

    def kube_router_options() -> Sequence[Option]:
        return [Option("fine-flag", "bool", False, "a flag")]

    raises.__name__ = hook
    made = registry(bad=module(**{hook: raises}), fine=module(kube_router_options=kube_router_options))
    made.commands()
    made.catalogue()
    assert [option.name for option in made.options()["fine"]] == ["fine-flag"]
    assert made.names == ("fine",)
    assert made.problems[0].text == "cannot be used: ZeroDivisionError: oops"


@pytest.mark.parametrize(
    ("built", "words"),
    [
        pytest.param(object(), "kube_router_plugin returned object, not a kube_router.core.api.Plugin", id="no plugin"),
        pytest.param(None, "kube_router_plugin returned nothing", id="nothing"),
        pytest.param(Fine(), "calls itself 'fine'", id="another name"),
    ],
)
def test_what_is_built_has_to_be_the_plugin(built: Plugin | None, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        registry(other=module(kube_router_plugin=builder(built))).build("other", context())


def test_an_unknown_plugin_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="there is no plugin 'firewal'; installed and usable: fine"):
        registry(fine=module(kube_router_plugin=builder(Fine()))).build("firewal", context())
