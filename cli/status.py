"""``kr status``: how the running agent is doing.

The first line answers whether the node is well. On a terminal as wide as a desk's the rest is a table; on one as narrow
as a phone's what is wrong comes next, then each section below its name. What is not a terminal gets the table.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import click

from kube_router.cli.printable import printable
from kube_router.cli.verdict import verdict
from kube_router.cli.wrapping import wrap
from kube_router.core.agent_options import AGENT
from kube_router.core.ask import ask
from kube_router.core.pflag import duration_text

DEFAULT_SOCKET = next(str(option.default) for option in AGENT if option.name == "control-socket")
LABEL = 9
INDENT = 2
WIDTH_MIN, WIDTH_MAX = 24, 100
TABLE_MIN = 60  # below that the labels of a table take too much from its text
ONCE = "problem: "  # what a plugin says of problems that stand in the list of all


@click.command()
@click.option("--control-socket", default=DEFAULT_SOCKET, envvar="KR_CONTROL_SOCKET", show_default=True)
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def status(control_socket: str, output: str) -> None:
    """Show how the running agent is doing."""
    document = ask(control_socket, "status")
    if output == "json":
        print(json.dumps(document, indent=2))
        return
    width = max(WIDTH_MIN, min(shutil.get_terminal_size().columns, WIDTH_MAX))
    print(render(document, width), end="")


def render(document: Mapping[str, Any], width: int) -> str:
    """Return the status as text; what an older or newer agent does not say is left out."""
    body = _table(document, width) if width >= TABLE_MIN else _column(document, width)
    return "\n".join(printable(line.rstrip()) for line in (*wrap(verdict(document), width), *body)) + "\n"


def _table(document: Mapping[str, Any], width: int) -> Iterator[str]:
    """Return the sections with their labels at the left."""
    for label, rows in _sections(document):
        if len(label) >= LABEL:
            yield label
            label = ""
        for line in (line for said in rows for line in wrap(said, width - LABEL)):
            yield f"{label:<{LABEL}}{line}"
            label = ""


def _column(document: Mapping[str, Any], width: int) -> Iterator[str]:
    """Return the sections below each other, problems first and none of them twice; short ones are one line."""
    *sections, (heading, problems) = _sections(document)
    if problems != NONE:
        yield heading
        yield from _indented(problems, width)
    listed = {ONCE + problem for problem in problems}
    for label, rows in sections:
        left = [row for row in rows if row not in listed]
        if len(left) == 1 and len(label) + 1 + len(left[0]) <= width:
            yield f"{label} {left[0]}"
        else:
            yield label
            yield from _indented(left, width)


def _indented(rows: list[str], width: int) -> Iterator[str]:
    for said in rows:
        yield from (" " * INDENT + line for line in wrap(said, width - INDENT, hang=INDENT))


Section = tuple[str, list[str]]
NONE = ["none"]


def _sections(document: Mapping[str, Any]) -> Iterator[Section]:
    """Return what there is to say: a label, and one text per row."""
    found = (
        ("node", [str(document.get("node", "?"))]),
        ("agent", [f"{document.get('agent', '?')}, up {duration_text(round(_number(document, 'uptime_s')))}"]),
        ("source", _source(document.get("source"))),
        ("sync", [_sync(name, each) for name, each in _mapping(document, "sync").items()]),
        ("journal", _journal(_mapping(document, "journal"))),
        *((str(plugin.get("name", "?")), _plugin(plugin)) for plugin in document.get("plugins") or ()),
        ("loop", _loop(_mapping(document, "loop"))),
        _problems(document),
    )
    return ((label, rows) for label, rows in found if rows)


def _problems(document: Mapping[str, Any]) -> Section:
    return "problems", [str(problem) for problem in document.get("problems") or ()] or NONE


def _source(said: object) -> list[str]:
    """Return what a source says of itself: the API server it asks, of streams their state, and what keeps any down."""
    streams = said if isinstance(said, Mapping) else {}
    if not streams or not all(isinstance(stream, Mapping) and "state" in stream for stream in streams.values()):
        return _words(said)
    by_state: dict[str, list[str]] = {}
    for name, stream in streams.items():
        by_state.setdefault(str(stream["state"]), []).append(str(name))
    down = [stream for stream in streams.values() if stream["state"] != "connected"]
    errors = dict.fromkeys(str(stream["last_error"]) for stream in down if stream.get("last_error"))
    states = [f"{', '.join(names)}: {state}" for state, names in by_state.items()]
    servers = dict.fromkeys(str(stream["server"]) for stream in streams.values() if stream.get("server"))
    return [*servers, *states, *(f"last error: {error}" for error in errors)]


def _words(said: object) -> list[str]:
    """Return what a source says of itself: one row per item."""
    if isinstance(said, Mapping):
        return [f"{key}: {', '.join(_words(each)) or 'none'}" for key, each in said.items()]
    if isinstance(said, (list, tuple)):
        return [", ".join(_words(each)) for each in said]
    if isinstance(said, bool):
        return ["yes" if said else "no"]
    return [] if said in (None, "") else [str(said)]


def _sync(name: str, said: Mapping[str, Any]) -> str:
    if said.get("live"):
        state = "in sync"
    else:
        state = "from the journal, not confirmed" if said.get("recovered") else "not known yet"
    return f"{name} {said.get('objects', 0)}, {state}"


def _journal(said: Mapping[str, Any]) -> list[str]:
    if not said:
        return []
    rows = [str(said.get("dir", "?"))]
    rows.append(f"seq {said.get('last_seq', '?')}, {_number(said, 'size_bytes') / (1 << 20):.1f} MiB")
    if lag := said.get("lag_records"):
        rows.append(f"{lag} records not on disk yet")
    if stopped := said.get("stopped"):
        rows.append(f"STOPPED: {stopped if isinstance(stopped, str) else 'nothing is recorded'}")
    rows += [f"lost: {each}" for each in said.get("lost") or ()]
    return rows


def _plugin(said: Mapping[str, Any]) -> list[str]:
    rows = [str(said.get("state", "?"))]
    rows.append(f"{said.get('reconciles', 0)} reconciles, last {_number(said, 'last_ms'):.1f} ms")
    rows += [f"{word}: {what}" for word, what in _mapping(said, "says").items()]
    if changes := _mapping(said, "changes"):
        rows.append("wrote " + ", ".join(f"{count} {what}" for what, count in changes.items()))
    if restarts := said.get("restarts"):
        rows.append(f"restarted {restarts} times")
    if given_up := said.get("threads_given_up"):
        rows.append(f"{given_up} hung threads given up")
    if error := said.get("last_error"):
        rows.append(f"last error: {error}")
    if backoff := said.get("backoff_s"):
        rows.append(f"next try in {duration_text(float(backoff))}")
    return rows + [f"{ONCE}{problem}" for problem in said.get("problems") or ()]


def _loop(said: Mapping[str, Any]) -> list[str]:
    if not said:
        return []
    return [f"lag {_number(said, 'lag_ms'):.1f} ms", *(f"BLOCKED: {each}" for each in said.get("blocked") or ())]


def _mapping(said: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = said.get(key)
    return found if isinstance(found, Mapping) else {}


def _number(said: Mapping[str, Any], key: str) -> float:
    found = said.get(key)
    return float(found) if isinstance(found, (int, float)) else 0.0
