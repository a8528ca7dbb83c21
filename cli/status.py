"""``kr status``: how the running agent is doing, readable on a phone-wide terminal (40 columns)."""

import json
import shutil
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import click

from kube_router.core.agent_options import AGENT
from kube_router.core.ask import ask
from kube_router.core.pflag import duration_text

DEFAULT_SOCKET = next(str(option.default) for option in AGENT if option.name == "control-socket")
LABEL = 9
WIDTH_MIN, WIDTH_MAX = 40, 100


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
    lines: list[str] = []
    for label, said in _rows(document):
        wrapped = textwrap.wrap(said, width - LABEL, break_on_hyphens=False) or [""]
        lines += [f"{label if number == 0 else '':<{LABEL}}{line}" for number, line in enumerate(wrapped)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


Row = tuple[str, str]


def _rows(document: Mapping[str, Any]) -> Iterator[Row]:
    yield "node", str(document.get("node", "?"))
    yield "agent", f"{document.get('agent', '?')}, up {duration_text(round(_number(document, 'uptime_s')))}"
    yield from _labelled("source", _source(document.get("source")))
    yield from _labelled("sync", [_sync(name, each) for name, each in _mapping(document, "sync").items()])
    yield from _labelled("journal", _journal(_mapping(document, "journal")))
    for plugin in document.get("plugins") or ():
        yield from _plugin(plugin)
    yield from _labelled("loop", _loop(_mapping(document, "loop")))
    problems = [str(problem) for problem in document.get("problems") or ()]
    yield from _labelled("problems", problems or ["none"])


def _labelled(label: str, said: list[str]) -> Iterator[Row]:
    """Return rows of which only the first bears the label; longer labels get a line of their own."""
    if len(label) >= LABEL:
        yield label, ""
        label = ""
    for number, each in enumerate(said):
        yield (label if number == 0 else "", each)


def _source(said: object) -> list[str]:
    """Return what a source says of itself: of streams their state, and each error once."""
    streams = said if isinstance(said, Mapping) else {}
    if not streams or not all(isinstance(stream, Mapping) and "state" in stream for stream in streams.values()):
        return _words(said)
    by_state: dict[str, list[str]] = {}
    for name, stream in streams.items():
        by_state.setdefault(str(stream["state"]), []).append(str(name))
    errors = dict.fromkeys(str(stream["last_error"]) for stream in streams.values() if stream.get("last_error"))
    states = [f"{', '.join(names)}: {state}" for state, names in by_state.items()]
    return [*states, *(f"last error: {error}" for error in errors)]


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


def _plugin(said: Mapping[str, Any]) -> Iterator[Row]:
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
    rows += [f"problem: {problem}" for problem in said.get("problems") or ()]
    yield from _labelled(str(said.get("name", "?")), rows)


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
