"""What a node's kernel would hold: a plugin planned offline from a folded state, and what differs between two plans.

The plugin is built with the options in the journal's head, unless flags override them, and asked to ``render``: no
root, no kernel, no API server. The state of a journal counts as in sync: the question is what the kernel should hold,
not what may be deleted yet.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from prometheus_client import CollectorRegistry

from kube_router.core.agent_options import option_groups
from kube_router.core.api import Context, Line, Plugin
from kube_router.core.options import Options, Value, flag_values, from_text
from kube_router.core.registry import Registry
from kube_router.core.state import State, View
from kube_router.events.errors import ConfigError

Report = Callable[[str], None]


def offline_options(registry: Registry, head: Mapping[str, str], flags: Sequence[str], report: Report) -> Options:
    """Return the options a plan is made with: flags, else the head's, else the defaults.

    An option in the head that this version does not know or cannot read is reported and left out.
    """
    groups, _ = option_groups(registry.options())
    everything = [option for group in groups for option in group.options]
    by_name = {option.name: option for option in everything}
    values: dict[str, Value] = {option.name: option.default for option in everything}
    for name, text in head.items():
        option = by_name.get(name)
        if option is None:
            # The head holds the options of all plugins, and only the one asked for is loaded here.
            continue
        try:
            values[name] = from_text(option, text, where=f"option {name} in the journal's head")
        except ConfigError as error:
            report(f"{error}; its default is used")
    values |= flag_values(flags, everything)
    return Options(values, defined=everything)


def build_offline(name: str, *, registry: Registry, options: Options, node: str) -> Plugin:
    """Return the plugin, able to ``render`` and nothing more."""

    async def run(function: Callable[..., object], *args: object) -> NoReturn:
        raise AssertionError(f"plugin {name} touches the kernel in render()")

    return registry.build(name, Context(node=node, options=options, metrics=CollectorRegistry(), run=run))


def render(plugin: Plugin, state: State) -> tuple[Line, ...]:
    """Return what the kernel would hold for this state."""
    return tuple(plugin.render(View(state, plugin.needs)))


def line_text(line: Line, *, blame: bool) -> str:
    """Return the line as printed; with ``blame`` the seqs and objects that caused it behind a ``#``."""
    if not blame or not line.because:
        return line.text
    return f"{line.text}  # " + ", ".join(f"{cause.seq} {cause.object}" for cause in line.because)


@dataclass(frozen=True, slots=True)
class Difference:
    """Lines of the first plan that the second lacks, and the other way round, each in its plan's order."""

    removed: tuple[Line, ...]
    added: tuple[Line, ...]

    def __bool__(self) -> bool:
        return bool(self.removed or self.added)


def difference(first: Sequence[Line], second: Sequence[Line]) -> Difference:
    """Return what differs; a line that stands several times counts each time."""
    return Difference(_without(first, second), _without(second, first))


def _without(lines: Sequence[Line], others: Sequence[Line]) -> tuple[Line, ...]:
    left = Counter(line.text for line in others)
    kept = []
    for line in lines:
        if left[line.text]:
            left[line.text] -= 1
        else:
            kept.append(line)
    return tuple(kept)
