"""``kr plugins`` lists what is installed; ``kr options`` prints docs/options.md."""

import json

import click

from kube_router.core.agent_options import option_groups
from kube_router.core.registry import Registry
from kube_router.core.usage import markdown


@click.command()
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def plugins(output: str) -> int:
    """List the installed plugins; exit with 1 if one of them cannot be used."""
    registry = Registry()
    brought = registry.options()
    rows = [
        {
            "name": found.name,
            "origin": found.origin,
            "error": found.error,
            "options": [f"--run-{found.name}", *(f"--{option.name}" for option in brought.get(found.name, ()))],
        }
        for found in registry.found
    ]
    if output == "json":
        print(json.dumps(rows, indent=2))
    else:
        width = max((len(str(row["name"])) for row in rows), default=0)
        for row in rows:
            print(f"{row['name']:<{width}}  {row['origin']}  {row['error'] or 'usable'}")
    return 1 if any(row["error"] for row in rows) else 0


@click.command()
def options() -> None:
    """Print all options as a Markdown page (docs/options.md)."""
    groups, _ = option_groups(Registry().options())
    print(markdown(groups), end="")
