"""``kr bgp``: this node's BGP neighbours, and the routes they tell, are told, and which are used and why.

It asks the running agent over its local socket. What a session or a route was at an earlier moment is in the journal:
``kr replay`` tells it, and ``kr explain --route ADDRESS --at TIME`` where an address led.

Exit status of ``kr bgp``: 0 every neighbour's session is up, 1 one is not.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import click

from kube_router.cli.status import DEFAULT_SOCKET
from kube_router.core.ask import ask
from kube_router.core.pflag import duration_text

ROUTING = "routing"
Row = Mapping[str, Any]

_socket = click.option("--control-socket", default=DEFAULT_SOCKET, envvar="KR_CONTROL_SOCKET", show_default=True)
_output = click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)


@click.group(invoke_without_command=True)
@_socket
@_output
@click.pass_context
def bgp(context: click.Context, control_socket: str, output: str) -> int:
    """Show the BGP neighbours of this node; with "routes" the routes."""
    context.obj = (control_socket, output)
    if context.invoked_subcommand is not None:
        return 0
    found = ask(control_socket, "ask", plugin=ROUTING, what="neighbours")
    print(json.dumps(found, indent=2) if output == "json" else "\n".join(neighbour_lines(found)))
    neighbours = found.get("neighbours", ())
    return 0 if found["speaks"] and all(each["state"] == "established" for each in neighbours) else 1


@bgp.command()
@click.argument("prefix", default="")
@click.option("--best", "which", flag_value="best", default="best", help="What is used (the default).")
@click.option("--in", "which", flag_value="in", help="All that neighbours told, also what is not used.")
@click.option("--out", "which", flag_value="out", help="What neighbours are told.")
@click.option("--peer", default="", metavar="ADDRESS", help="Only from or for this neighbour.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default=None)
@click.pass_context
def routes(context: click.Context, prefix: str, which: str, peer: str, output: str | None) -> None:
    """Show routes: all, or those of PREFIX.

    An address as PREFIX is looked up as a packet would be; a CIDR stands for itself and what is inside.
    """
    control_socket, general = context.obj
    rows = ask(control_socket, "ask", plugin=ROUTING, what="routes", which=which, prefix=prefix, peer=peer)
    if (output or general) == "json":
        print(json.dumps(rows, indent=2))
        return
    print("\n".join(route_lines(rows, which)) or "no route")


def neighbour_lines(found: Row) -> Iterator[str]:
    """Return this node's speaker and its neighbours as lines, one or two for each."""
    if not found["speaks"]:
        yield "this node does not speak BGP"
        yield from (f"  {why}" for why in found["why"])
        return
    neighbours = found["neighbours"]
    up = sum(each["state"] == "established" for each in neighbours)
    reflector = f"  reflector of cluster {found['cluster_id']}" if found["cluster_id"] else ""
    yield (
        f"AS {found['asn']}  router id {found['router_id']}{reflector}  {up} of {len(neighbours)} established  "
        f"{found['prefixes']} prefixes, {found['originated']} own"
    )
    if found["trouble"]:
        yield f"  not listening: {found['trouble']}"
    if found["waiting"]:
        yield f"  waiting for passwords of {', '.join(found['waiting'])}"
    width = max((len(each["address"]) for each in neighbours), default=0)
    for each in neighbours:
        yield from _neighbour(each, width)


def _neighbour(row: Row, width: int) -> Iterator[str]:
    kind = "mesh" if row["mesh"] else "peer"
    state = row["state"]
    if state == "established":
        state += f" {duration_text(round(row['uptime_s']))}"
    words = [f"{row['address']:<{width}}", f"AS {row['asn']:<6}", kind, f"{state:<20}"]
    words.append(f"{row['received']} in, {row['sent']} out")
    if row["stale"]:
        words.append(f"{row['stale']} stale")
    if row["flaps"]:
        words.append(f"{row['flaps']} flaps")
    if "bfd" in row:
        words.append(f"BFD {row['bfd']['state']}")
    yield ("  " + "  ".join(words)).rstrip()
    if row["state"] != "established" and row["last_error"]:
        yield f"    {row['last_error']}"
    if row["last_fault"]:
        yield f"    {row['faulty_updates']} faulty updates, the last: {row['last_fault']}"


def route_lines(rows: list[Row], which: str) -> Iterator[str]:
    """Return routes as lines: what is used bears ``*``, the best ``>``; below it the reason."""
    prefix = ""
    for row in rows:
        if row["prefix"] != prefix:
            prefix = row["prefix"]
            yield prefix
        mark = "  " if which == "out" else f"{'*' if row['used'] else ' '}{'>' if row['best'] else ' '}"
        words = [f"to {row['peer']}" if which == "out" else row["peer"], f"via {row['next_hop']}"]
        words += [f"path {row['as_path']}"] if row["as_path"] else []
        words += [f"{name} {row[key]}" for name, key in (("local-pref", "local_pref"), ("MED", "med")) if key in row]
        words += [", ".join(row["communities"])] if "communities" in row else []
        words += ["stale"] if row.get("stale") else []
        why = f" ({row['why']})" if row.get("why") else ""
        yield f" {mark} {'  '.join(words)}{why}"
