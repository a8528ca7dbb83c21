"""``kr journal export``: a node's journal as one file to hand over, for example with a bug report."""

import sys
from pathlib import Path

import click

from kube_router.cli.output import complain
from kube_router.core.agent_options import AGENT
from kube_router.events.errors import ConfigError
from kube_router.events.export import export as export_journal
from kube_router.events.export import export_to

DEFAULT_FOLDER = next(str(option.default) for option in AGENT if option.name == "journal-dir")


@click.group()
def journal() -> None:
    """Hand over a journal as one file."""


@journal.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@click.option("--journal-dir", default=DEFAULT_FOLDER, envvar="KR_JOURNAL_DIR", show_default=True)
def export(file: Path, journal_dir: str) -> int:
    """Write the newest snapshot and all records after it to FILE, - for stdout.

    The agent may be running. The file holds no secret, but it does hold names, addresses and labels of the cluster.
    Look at it with kr replay FILE. Exit 1 if the journal is damaged and FILE ends before the damage.
    """
    to_stdout = str(file) == "-"
    try:
        if to_stdout:
            exported = export_to(Path(journal_dir), sys.stdout.buffer)
        else:
            exported = export_journal(Path(journal_dir), file)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ConfigError(f"cannot export {journal_dir} to {file}: {error.strerror}") from error
    summary = f"{exported.records} records up to seq {exported.last_seq}, {exported.size_bytes} bytes"
    print(f"{file}: {summary}", file=sys.stderr if to_stdout else sys.stdout)
    if exported.damage:
        complain(f"{exported.damage}; what follows was left out")
        return 1
    return 0
