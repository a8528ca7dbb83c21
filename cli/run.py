"""``kr run`` and ``kube-router``: reads the options in kube-router's grammar and starts the agent."""

import logging
import os
from collections.abc import Sequence

import click

from kube_router import __version__
from kube_router.cli.cleanup import clean_up
from kube_router.cli.logs import configure
from kube_router.cli.raw import RawCommand
from kube_router.core.agent_options import option_groups
from kube_router.core.options import Options, resolve
from kube_router.core.registry import Registry
from kube_router.core.usage import usage

logger = logging.getLogger(__name__)


@click.command("run", cls=RawCommand)
@click.pass_context
def run_command(context: click.Context) -> int:
    """Run the agent on this node."""
    return run(context.args, program="kr run")


def run(argv: Sequence[str], *, program: str) -> int:
    """Run the agent until it is told to stop; return the exit status."""
    registry = Registry()
    groups, warnings = option_groups(registry.options())
    options = resolve(argv, groups, environ=os.environ)
    if options.flag("help"):
        print(usage(program, groups), end="")
        return 0
    if options.flag("version"):
        print(f"kube-router {__version__}")
        return 0
    configure(options.number("v"))
    for warning in (*warnings, *options.warnings):
        logger.warning("option_warning text=%r", warning)
    if options.flag("cleanup-config"):
        return clean_up(options, registry)
    return _run_agent(options, registry)


def _run_agent(options: Options, registry: Registry) -> int:
    # Not needed by --help and --version, and slow to import.
    from kube_router.core.agent import run_agent
    from kube_router.core.runner import Hopeless

    try:
        run_agent(options, registry)
    except Hopeless as error:
        logger.critical("agent_gave_up reason=%r now='ends, to be started anew by its supervisor'", str(error))
        return 1
    return 0
