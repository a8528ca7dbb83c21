"""The commands ``kr`` and ``kube-router``.

``kr COMMAND`` is a click group whose commands are imported when they are called, so that ``kr --help`` and ``kr
replay`` start fast and one command's missing library never breaks another. ``kube-router`` is ``kr run`` by its old
name. Exit status: 0 done, 1 differences or a failed check, 2 wrong use; what is wrong is one line on stderr.
"""

import importlib
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import entry_points
from typing import NamedTuple

import click

from kube_router import __version__
from kube_router.events.errors import ConfigError, KubeRouterError

DISTRIBUTION = "kube-router"
PLUGINS = "kube_router.plugins"
WRONG_USE, FAILED = 2, 1


class Lazy(NamedTuple):
    """Where a command is, and what ``kr --help`` says of it without importing it."""

    place: str
    help: str


COMMANDS = {
    "run": Lazy("kube_router.cli.run:run_command", "Run the agent on this node (also: kube-router)."),
    "replay": Lazy("kube_router.cli.replay:replay", "Tell what happened, what was, and what the kernel would hold."),
    "explain": Lazy("kube_router.cli.explain:explain", "Say whether a connection is allowed, and by which rule."),
    "bgp": Lazy("kube_router.cli.bgp:bgp", "Show BGP neighbours and routes, and why a path is used."),
    "drops": Lazy("kube_router.cli.drops:drops", "Show denied packets and the policies that stood in the way."),
    "status": Lazy("kube_router.cli.status:status", "Show how the running agent is doing."),
    "plugins": Lazy("kube_router.cli.plugins:plugins", "List the installed plugins."),
    "options": Lazy("kube_router.cli.plugins:options", "Print all options as a Markdown page."),
    "journal": Lazy("kube_router.cli.journal:journal", "Hand over a journal as one file."),
    "cleanup": Lazy("kube_router.cli.cleanup:cleanup_command", "Remove from this node's kernel all that is ours."),
    "prepare": Lazy(
        "kube_router.cli.prepare:prepare", "Load kernel modules, install CNI plugins: for init containers."
    ),
    "lab": Lazy("kube_router.lab.commands:lab", "A cluster on this machine, in network namespaces."),
}


class Commands(click.Group):
    """Our commands by name, then those of third parties' plugins."""

    def list_commands(self, context: click.Context) -> list[str]:
        return [*COMMANDS, *sorted(command.name or "" for command in third_party_commands())]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name in COMMANDS:
            return _load(name, COMMANDS[name].place)
        return next((command for command in third_party_commands() if command.name == name), None)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, lazy.help) for name, lazy in COMMANDS.items()]
        rows += [(command.name or "", command.get_short_help_str()) for command in third_party_commands()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _load(name: str, place: str) -> click.Command:
    module, _, attribute = place.partition(":")
    try:
        command = getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise ConfigError(f"kr {name} cannot be loaded: {error}; is everything it needs installed?") from error
    assert isinstance(command, click.Command)
    return command


def third_party_commands() -> Iterator[click.Command]:
    """Return the commands of plugins that do not come with us; ours add none, and importing them takes time."""
    points = [point for point in entry_points(group=PLUGINS) if point.dist is None or point.dist.name != DISTRIBUTION]
    if not points:
        return
    from kube_router.core.registry import Registry

    for command in Registry(points).commands():
        if isinstance(command, click.Command) and command.name not in COMMANDS:
            yield command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "-V", "--version", message="kube-router %(version)s")
def kr() -> None:
    """A node agent for Kubernetes: load balancer, firewall and router."""


def main() -> None:
    """Run ``kr``."""
    sys.exit(guarded("kr", lambda: invoke(sys.argv[1:])))


def invoke(argv: Sequence[str]) -> object:
    """Return what the command returned. click's own ``main`` would translate broken pipes and interrupts its way."""
    with kr.make_context("kr", list(argv)) as context:
        return kr.invoke(context)


def kube_router() -> None:
    """Run ``kube-router``: ``kr run`` for those who come with kube-router's flags."""

    def start() -> object:
        from kube_router.cli.run import run

        return run(sys.argv[1:], program="kube-router")

    sys.exit(guarded("kube-router", start))


def guarded(program: str, start: Callable[[], object]) -> int:
    """Return the exit status of ``start``, each error told as one line on stderr."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal without UTF-8 still gets everything
    try:
        status = start()
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except (KeyboardInterrupt, click.Abort):
        return 130
    except BrokenPipeError:
        _forget_stdout()
        return 0
    except KubeRouterError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return WRONG_USE if isinstance(error, ConfigError) else FAILED
    except BaseExceptionGroup as errors:
        return _grouped(program, errors)
    return status if isinstance(status, int) else 0


def _grouped(program: str, errors: BaseExceptionGroup[BaseException]) -> int:
    """Return the exit status of errors that a task group carried; what is not ours is raised on."""
    known, unknown = errors.split((KubeRouterError, KeyboardInterrupt))
    if unknown is not None:
        raise unknown
    leaves = list(_leaves(known)) if known is not None else []
    told = [error for error in leaves if isinstance(error, KubeRouterError)]
    for error in told:
        print(f"{program}: {error}", file=sys.stderr)
    if any(isinstance(error, ConfigError) for error in told):
        return WRONG_USE
    return FAILED if told else 130


def _leaves(errors: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _forget_stdout() -> None:
    """Point stdout at nothing: its reader has had enough, and what is still buffered must not raise at exit."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)
