"""The options as text: for ``--help`` at a terminal and for docs/options.md (pure)."""

import textwrap
from collections.abc import Iterable, Sequence

from kube_router.core.options import Group, Option, to_text

WIDTH = 80
INDENT = 6

_PLACEHOLDERS = {"int": "N", "text": "TEXT", "duration": "DURATION", "texts": "A,B", "size": "SIZE"}


def usage(program: str, groups: Iterable[Group]) -> str:
    """Return the help text, options grouped by who serves them."""
    lines = [
        f"Usage: {program} [flags]",
        "",
        "Each flag can also be given by the environment (--health-port: KR_HEALTH_PORT) or in",
        "the file named by --config (health-port: 20244). A flag wins over the environment,",
        "that over the file. Durations are such as 30s, 5m, 1h30m; lists may be repeated.",
    ]
    for group in groups:
        if group.served:
            lines += ["", f"{group.title}:"]
            lines += [line for option in group.options for line in _help_lines(option)]
        elif group.options:
            names = ", ".join(f"--{option.name}" for option in group.options)
            lines += ["", f"{group.title}:", *_wrap(names, 2)]
    return "\n".join(lines) + "\n"


def _help_lines(option: Option) -> list[str]:
    short = f"-{option.short}, " if option.short else "    "
    placeholder = _PLACEHOLDERS.get(option.kind, "")
    head = f"  {short}--{option.name}" + (f" {placeholder}" if placeholder else "")
    also = f"; also --{', --'.join(option.aliases)}" if option.aliases else ""
    default = _default(option)
    return [head, *_wrap(f"{option.help}{also}" + (f" (default {default})" if default else ""), INDENT + 4)]


def _wrap(text: str, indent: int) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=" " * indent,
        subsequent_indent=" " * indent,
        break_on_hyphens=False,
        break_long_words=False,
    )


def _default(option: Option) -> str:
    """Return the default in words, "" where it says nothing (empty text, false)."""
    if option.default is False or option.default == "" or option.default == ():
        return ""
    if option.kind == "size" and isinstance(option.default, int) and option.default % (1 << 20) == 0:
        return f"{option.default >> 20}MiB"
    return to_text(option, option.default)


# -- docs/options.md ---------------------------------------------------------------------------------------------------

INTRODUCTION = """# Options

This page is generated from the definitions (`kr options > docs/options.md`); do not edit it.

Every option is a flag (`--health-port 20244`), an environment variable (`KR_HEALTH_PORT=20244`) and a key of the file
named by `--config` (YAML: `health-port: 20244`). A flag wins over the environment, the environment over the file, the
file over the default. The name of the node is `--hostname-override`, else `NODE_NAME`, else the host's name.

Flags follow the grammar of kube-router's: `--flag value`, `--flag=value`, `--switch`, `--switch=false` (a switch never
takes the next word), `-v 2`, `-v2`, `-v=2`, `--` ends the flags. Durations are Go's: `300ms`, `30s`, `1h30m`. A list is
separated by commas and may be given several times. An unknown flag, or a word that is no flag, is an error.
"""


def markdown(groups: Sequence[Group]) -> str:
    """Return docs/options.md."""
    return INTRODUCTION + "".join(_section(group) for group in groups if group.options)


def _section(group: Group) -> str:
    title = group.title[0].upper() + group.title[1:]
    lines = ["", f"## {title}", "", "| flag | kind | default | meaning |", "|---|---|---|---|"]
    lines += [_row(option) for option in group.options]
    return "\n".join(lines) + "\n"


def _row(option: Option) -> str:
    names = [f"`--{option.name}`", *(f"`--{alias}`" for alias in option.aliases)]
    if option.short:
        names.append(f"`-{option.short}`")
    kind = {"bool": "switch", "int": "number", "texts": "list"}.get(option.kind, option.kind)
    default = "false" if option.default is False else _default(option)
    shown = f"`{default}`" if default else ""
    cells = (" ".join(names), kind, shown, option.help)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
