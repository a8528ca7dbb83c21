"""``kr drops``: which packets are being denied, from whom to whom, and whose policies stand in the way.

Live from the running agent, which reads the kernel's log of them; or, with ``--from``, from the notes in a journal.
The kernel logs ten a minute in each direction, so this shows who is denied, not how often: that is a metric
(``kube_router_policy_denied_packets_total``).
"""

import json
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import click

from kube_router.cli.loading import offline_registry
from kube_router.cli.moment import clock_text, date_text, time_text
from kube_router.cli.output import complain
from kube_router.cli.sources import open_source
from kube_router.cli.status import DEFAULT_SOCKET
from kube_router.core.ask import ask
from kube_router.events.errors import PeerError
from kube_router.events.event import Note

FIREWALL = "firewall"
POLL_S = 0.5
# What the firewall's note says: "denied ingress a/web (10.0.0.1) -> 10.0.0.2 TCP 80; isolated by a/db".
_note = re.compile(
    r"denied (?P<direction>ingress|egress) (?P<source>\S+)(?: \((?P<source_address>\S+)\))?"
    r" -> (?P<destination>\S+)(?: \((?P<destination_address>\S+)\))? (?P<protocol>\S+)(?: (?P<port>\d+))?"
    r"; (?:isolated by (?P<policies>.*)|.*)"
).fullmatch

Drop = Mapping[str, Any]


@click.command()
@click.option("--follow", "-f", is_flag=True, help="Wait for more, as tail -f does.")
@click.option("--from", "source", metavar="SOURCE", help="From a journal instead of the running agent.")
@click.option("--control-socket", default=DEFAULT_SOCKET, envvar="KR_CONTROL_SOCKET", show_default=True)
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def drops(follow: bool, source: str | None, control_socket: str, output: str) -> None:
    """Show denied packets, and the policies that stood in the way."""
    found = recorded(source, follow=follow) if source is not None else live(control_socket, follow=follow)
    date = ""
    for drop in found:
        if output == "json":
            print(json.dumps(drop), flush=follow)
            continue
        if date_text(drop["t"]) != date:
            date = date_text(drop["t"])
            print(f"{date} (UTC)")
        print(line(drop), flush=follow)


def line(drop: Drop) -> str:
    """Return a drop as one line."""
    ends = (drop[f"{end}_pod"] or drop[end] for end in ("source", "destination"))
    port = f"{drop['port']}/" if drop["port"] is not None else ""
    why = f"isolated by {', '.join(drop['policies'])}" if drop["policies"] else ""
    return (
        f"{clock_text(drop['t'])}  {drop['direction']:<7}  {' → '.join(ends)} {port}{drop['protocol']}  {why}".rstrip()
    )


def live(control_socket: str, *, follow: bool) -> Iterator[Drop]:
    """Return what the agent remembers, and with ``follow`` what comes. An agent that restarts is waited for."""
    last, state, away = 0, "", False
    while True:
        try:
            answer = ask(control_socket, "ask", plugin=FIREWALL, what="drops", after=last)
        except PeerError as error:
            if not follow or not state:  # an agent that never answered is an error also with --follow
                raise
            if not away:
                complain(f"{error}; waiting for it")
            away = True
        else:
            if answer["state"] != state and not answer["state"].startswith("reading"):
                complain(answer["state"])
            last, state, away = answer["last"], answer["state"], False
            yield from ({**drop, "time": time_text(drop["t"])} for drop in answer["drops"])
        if not follow:
            return
        time.sleep(POLL_S)


def recorded(source: str, *, follow: bool) -> Iterator[Drop]:
    """Return the drops noted in a journal."""
    journal = open_source(source, offline_registry("").catalogue(), complain, live=follow)
    for record in journal.records():
        if isinstance(record, Note) and record.about == FIREWALL and (found := _note(record.text)) is not None:
            yield _drop(record, found.groupdict())


def _drop(note: Note, found: Mapping[str, str | None]) -> Drop:
    ends: dict[str, str | None] = {}
    for end in ("source", "destination"):
        name, address = found[end], found[f"{end}_address"]
        ends |= {end: address or name, f"{end}_pod": name if address else ""}
    return {
        "seq": note.seq,
        "t": note.t,
        "time": time_text(note.t),
        "direction": found["direction"],
        **ends,
        "protocol": found["protocol"],
        "port": int(found["port"]) if found["port"] else None,
        "policies": found["policies"].split(", ") if found["policies"] else [],
    }
