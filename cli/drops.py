"""``kr drops``: which packets are being denied, from whom to whom, and whose policies stand in the way.

Live from the running agent, which reads the kernel's log of them; or, with ``--from``, from the notes in a journal.
The kernel logs ten a minute in each direction, so this shows who is denied, not how often: that is a metric
(``kube_router_policy_denied_packets_total``).
"""

import json
import re
import shutil
import textwrap
import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import click

from kube_router.cli.loading import offline_catalogue, offline_registry
from kube_router.cli.moment import clock_text, date_text, time_text
from kube_router.cli.output import complain
from kube_router.cli.sources import open_source
from kube_router.cli.status import DEFAULT_SOCKET, WIDTH_MAX, WIDTH_MIN
from kube_router.core.ask import ask
from kube_router.events.errors import PeerError
from kube_router.events.event import Note
from kube_router.events.reading import Damage

FIREWALL = "firewall"
POLL_S = 0.5
READING = "reading"  # how the firewall's words begin while it gets denied packets
# What the firewall's note says: "denied ingress a/web (10.0.0.1) -> 10.0.0.2 TCP 80; isolated by a/db and 2 more".
_note = re.compile(
    r"denied (?P<direction>ingress|egress) (?P<source>\S+)(?: \((?P<source_address>\S+)\))?"
    r" -> (?P<destination>\S+)(?: \((?P<destination_address>\S+)\))? (?P<protocol>[^\s;]+)"
    r"(?: (?P<port>\d+)| type (?P<icmp_type>\d+) code (?P<icmp_code>\d+))?"
    r"; (?:isolated by (?P<policies>.*?)(?: and (?P<more>\d+) more)?|no policy isolates it now)",
    re.ASCII,
).fullmatch

Drop = Mapping[str, Any]


@click.command()
@click.option("--follow", "-f", is_flag=True, help="Wait for more, as tail -f does.")
@click.option("--from", "source", metavar="SOURCE", help="From a journal instead of the running agent.")
@click.option("--control-socket", default=DEFAULT_SOCKET, envvar="KR_CONTROL_SOCKET", show_default=True)
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def drops(follow: bool, source: str | None, control_socket: str, output: str) -> None:
    """Show denied packets, and the policies that stood in the way.

    SOURCE is a journal's folder, one of its files, or "-" for a file on stdin. The running agent knows the last 1000.
    """
    found = recorded(source, follow=follow) if source is not None else live(control_socket, follow=follow)
    date = ""
    for drop in found:
        if output == "json":
            print(json.dumps(drop), flush=follow)
            continue
        if date_text(drop["t"]) != date:
            date = date_text(drop["t"])
            print(f"{date} (UTC)")
        width = max(WIDTH_MIN, min(shutil.get_terminal_size().columns, WIDTH_MAX))
        print(lines(drop, width), flush=follow)
    if not date and output == "table" and not follow:
        print("no denied packet was seen")


def lines(drop: Drop, width: int) -> str:
    """Return a drop as text: its time, then what it was, wrapped under itself."""
    ends = (drop[f"{end}_pod"] or drop[end] for end in ("source", "destination"))
    text = f"{drop['direction']} {' → '.join(ends)} {drop['protocol']}{_port(drop)}"
    if drop["policies"]:
        more = f" and {drop['more_policies']} more" if drop.get("more_policies") else ""
        text += f", isolated by {', '.join(drop['policies'])}{more}"
    printable = "".join(character if character.isprintable() else "?" for character in text)
    return textwrap.fill(
        printable,
        width,
        initial_indent=f"{clock_text(drop['t'])} ",
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _port(drop: Drop) -> str:
    if drop["port"] is not None:
        return f" {drop['port']}"
    return f" type {drop['icmp_type']}" if drop.get("icmp_type") is not None else ""


def live(control_socket: str, *, follow: bool) -> Iterator[Drop]:
    """Return what the agent remembers, and with ``follow`` what comes. An agent that restarts is waited for."""
    last, born, state, away = 0, 0, "", False
    while True:
        try:
            answer = ask(control_socket, "ask", plugin=FIREWALL, what="drops", after=last, born=born)
        except PeerError as error:
            if not follow or not born:  # an agent that never answered is an error also with --follow
                raise
            if not away:
                complain(f"{error}; waiting for it")
            away = True
        else:
            if born and answer["born"] != born:
                complain("the agent has started anew")
            if answer["state"] != state and not answer["state"].startswith(READING):
                complain(answer["state"])
            last, born, state, away = answer["last"], answer["born"], answer["state"], False
            yield from ({**drop, "time": time_text(drop["t"])} for drop in answer["drops"])
        if not follow:
            return
        time.sleep(POLL_S)


def recorded(source: str, *, follow: bool) -> Iterator[Drop]:
    """Return the drops noted in a journal."""
    journal = open_source(source, offline_catalogue(offline_registry()), complain, live=follow)
    for record in journal.records():
        if isinstance(record, Damage):
            complain(str(record))
        elif isinstance(record, Note) and record.about == FIREWALL and (drop := from_note(record)) is not None:
            yield drop


def from_note(note: Note) -> dict[str, Any] | None:
    """Return the drop that a note tells of, None where it tells of something else."""
    found = _note(note.text)
    if found is None:
        return None
    number = partial(_number, found)
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
        "port": number("port"),
        "icmp_type": number("icmp_type"),
        "icmp_code": number("icmp_code"),
        "policies": found["policies"].split(", ") if found["policies"] else [],
        "more_policies": number("more") or 0,
    }


def _number(found: re.Match[str], group: str) -> int | None:
    return int(found[group]) if found[group] else None
