"""``kr cleanup`` and ``--cleanup-config``: every installed plugin removes from the kernel what is its own.

Plugins that are switched off clean up too, for they may have run before. One that fails does not keep the others from
cleaning up. The journal stays: it is a record, not kernel state.
"""

import logging
import os

import anyio
import click
from prometheus_client import CollectorRegistry

from kube_router.cli.logs import configure
from kube_router.cli.raw import RawCommand
from kube_router.core.agent_options import node_name, option_groups
from kube_router.core.api import Context
from kube_router.core.ask import ask
from kube_router.core.options import Options, resolve
from kube_router.core.registry import Registry
from kube_router.core.usage import usage
from kube_router.core.worker import Worker
from kube_router.events.errors import ConfigError, PeerError

logger = logging.getLogger(__name__)

CLEANUP_S = 60  # per plugin


@click.command("cleanup", cls=RawCommand)
@click.pass_context
def cleanup_command(context: click.Context) -> int:
    """Remove from this node's kernel all that is ours."""
    registry = Registry()
    groups, _ = option_groups(registry.options())
    options = resolve(context.args, groups, environ=os.environ)
    if options.flag("help"):
        print(usage("kr cleanup", groups), end="")
        return 0
    configure(options.number("v"))
    return clean_up(options, registry)


def clean_up(options: Options, registry: Registry) -> int:
    """Let every plugin clean up; return the exit status."""
    _refuse_beside_an_agent(options)
    failed = [name for name in registry.names if not anyio.run(_clean_up_one, name, options, registry)]
    return 1 if failed else 0


def _refuse_beside_an_agent(options: Options) -> None:
    """ConfigError if an agent runs here: it would put back at once what is removed."""
    path = options.text("control-socket")
    try:
        running = bool(path) and ask(path, "status")
    except PeerError:
        return
    if running:
        raise ConfigError(f"an agent is running here (it answers at {path}); stop it first")


async def _clean_up_one(name: str, options: Options, registry: Registry) -> bool:
    worker = Worker(name)
    context = Context(
        node=node_name(options),
        options=options,
        metrics=CollectorRegistry(),
        run=worker.run,
        fenced=worker.fenced,
    )
    try:
        with anyio.fail_after(CLEANUP_S):
            await registry.build(name, context).cleanup()
    except TimeoutError:
        logger.error("cleanup_failed plugin=%s error='not done after %d s'", name, CLEANUP_S)
        return False
    except Exception as error:  # noqa: BLE001  (a third party's plugin may raise anything; the others go on)
        logger.error("cleanup_failed plugin=%s error=%r", name, str(error) or type(error).__name__)
        return False
    finally:
        worker.close()
    logger.info("cleanup_done plugin=%s", name)
    return True
