"""``kr explain``: is a connection allowed, and which rule of which policy says so; now, or at any moment of a journal.

Answered by the firewall's reference evaluator from the state alone: by the running agent, or from a SOURCE as ``kr
replay`` reads it. ``--probes`` answers many questions, one JSON line each: policy tests for a CI, from the manifests.

Exit status: 0 allowed, 1 denied or (``--probes``) not all could be answered, 2 no answer: wrong use, or no agent.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, Any, NamedTuple

import click
import msgspec

from kube_router.cli.loading import offline_catalogue, offline_registry
from kube_router.cli.moment import Moment, Point, time_text
from kube_router.cli.output import complain
from kube_router.cli.plan import build_offline, offline_options
from kube_router.cli.replay import MOMENT, split_words
from kube_router.cli.route import lines as route_lines
from kube_router.cli.sources import open_source
from kube_router.cli.status import DEFAULT_SOCKET
from kube_router.cli.walk import Walk
from kube_router.core.ask import REQUEST_MAX, ask
from kube_router.core.state import View
from kube_router.events.errors import ConfigError, PeerError
from kube_router.events.event import Record

FIREWALL, ROUTING = "firewall", "routing"
PROBE_LENGTH_MAX = 4096  # bytes; names of 253 characters leave most of it free
Answer = Mapping[str, Any]
Explain = Callable[[Mapping[str, object]], Answer]


class Batch(NamedTuple):
    """As much as is asked at once: so many probes, of so many bytes together."""

    probes: int
    size: int


OFFLINE = Batch(10_000, sys.maxsize)
LIVE = Batch(200, REQUEST_MAX - 1024)  # an agent reads no longer question, and must not hold its loop up for one


class Probe(msgspec.Struct):
    """One line of --probes. What it holds besides, such as the answer that is expected, is not looked at."""

    src: str
    dst: str
    port: int | str | None = None
    protocol: str | None = None


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[SRC DST:PORT[/PROTO]]")
@click.option("--from", "source", metavar="SOURCE", help="A journal or manifests instead of the running agent.")
@click.option("--at", type=MOMENT, help="At this moment instead of now: a seq, a time, or -5m.")
@click.option("--probes", metavar="FILE", help="Answer the questions in FILE (- for stdin), one JSON line each.")
@click.option("--route", metavar="ADDRESS", help="Say where this node sends what is for ADDRESS, and by whose word.")
@click.option("--control-socket", default=DEFAULT_SOCKET, envvar="KR_CONTROL_SOCKET", show_default=True)
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.pass_context
def explain(
    context: click.Context,
    words: tuple[str, ...],
    source: str | None,
    at: Moment | None,
    probes: str | None,
    route: str | None,
    control_socket: str,
    output: str,
) -> int:
    """Say whether a connection is allowed, and by which rule.

    SRC is a pod (NAMESPACE/NAME, or NAME in the namespace default) or an address; DST is that or a Service
    (svc/NAMESPACE/NAME, or one of its addresses), with a port's number or name: prod/db:5432, 10.96.0.10:53/UDP,
    [fd00::1]:80; without a port DST/icmp. The agent's flags (--netpol-default-deny ...) go with --from.
    """
    ends, flags = _split(context, words, ROUTING if route is not None else FIREWALL)
    if flags and source is None:
        raise ConfigError(f"{flags[0]} goes with --from; a running agent has its own options")
    if (probes is not None or route is not None) and ends:
        raise ConfigError("--probes and --route bring their own questions: leave out SRC and DST")
    if probes is not None and route is not None:
        raise ConfigError("--probes asks the firewall and --route the routing: one of them at a time")
    if probes is None and route is None and len(ends) != 2:
        raise ConfigError("two words are needed, SRC and DST:PORT: kr explain prod/web prod/db:5432")
    plugin = FIREWALL if route is None else ROUTING
    asked = {"route": _bare(route)} if route is not None else question(*ends) if probes is None else {}
    is_live = at is None and source is None
    if at is not None and source is None:
        source = str(_ask(control_socket, "status")["journal"]["dir"])
    answers = _offline(plugin, source, at, flags) if source is not None else _live(plugin, control_socket)
    if probes is not None:
        return _answer_all(probes, answers, LIVE if is_live else OFFLINE)
    answer = answers(asked)
    if "error" in answer:
        raise ConfigError(str(answer["error"]))
    if route is not None:
        print(json.dumps(answer) if output == "json" else "\n".join(route_lines(answer)))
        return 0 if answer["way"] != "none" else 1
    print(json.dumps(answer) if output == "json" else "\n".join(lines(answer)))
    return 0 if answer["allowed"] else 1


def _split(context: click.Context, words: tuple[str, ...], plugin: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if not any(word.startswith("-") for word in words):
        return words, ()
    known = tuple(flag for parameter in context.command.params for flag in parameter.opts if flag.startswith("--"))
    return split_words(words, offline_registry(plugin), known)


# -- questions ---------------------------------------------------------------------------------------------------------


def question(source: str, destination: str) -> dict[str, object]:
    """Return the question of two words. ConfigError where the second has no port."""
    where, slash, protocol = destination.rpartition("/")
    if not slash or protocol.upper() not in ("TCP", "UDP", "SCTP", "ICMP"):
        where, protocol = destination, "TCP"
    if protocol.upper() == "ICMP":
        return {"src": _bare(source), "dst": _bare(where), "protocol": "ICMP"}
    host, colon, port = where.rpartition(":")
    if not colon or not host or not port or (":" in host and not host.startswith("[")):
        raise ConfigError(
            f"{destination[:100]!r} has no port: write prod/db:5432, [fd00::1]:80 or, without one, DST/icmp"
        )
    return {"src": _bare(source), "dst": _bare(host), "port": port, "protocol": protocol.upper()}


def _bare(word: str) -> str:
    return word[1:-1] if word.startswith("[") and word.endswith("]") else word


def _answer_all(name: str, answers: Explain, most: Batch) -> int:
    """Answer each line of a file with a line; return the exit status."""
    status = 0
    with _opened(name) as file:
        for some in _batches(map(_probe, _lines(file)), most):
            asked = [msgspec.to_builtins(probe) for probe in some if isinstance(probe, Probe)]
            found = iter(answers({"probes": asked})["answers"]) if asked else iter(())
            for probe in some:
                answer = next(found) if isinstance(probe, Probe) else probe
                status |= "error" in answer
                print(json.dumps(answer))
    return status


def _opened(name: str) -> AbstractContextManager[IO[bytes]]:
    if name == "-":
        return nullcontext(sys.stdin.buffer)
    try:
        return Path(name).open("rb")
    except OSError as error:
        raise ConfigError(f"--probes {name}: {error.strerror}") from None


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """Return the lines that are not empty; of one that is too long the first part, which is too long as well."""
    try:
        while line := file.readline(PROBE_LENGTH_MAX + 2):
            rest = line
            while rest and not rest.endswith(b"\n"):
                rest = file.readline(PROBE_LENGTH_MAX)
            if line.strip():
                yield line.removesuffix(b"\n")
    except OSError as error:  # a folder can be opened, and not be read
        raise ConfigError(f"--probes {file.name}: {error.strerror}") from None


def _probe(line: bytes) -> Probe | dict[str, object]:
    """Return the question in a line, or the error in its place."""
    start = repr(line[:100].decode(errors="replace").strip())
    if len(line) > PROBE_LENGTH_MAX:
        return {"error": f"{start} goes on for more than {PROBE_LENGTH_MAX} bytes: no probe is as long"}
    try:
        return msgspec.json.decode(line, type=Probe)
    except (ValueError, RecursionError) as error:
        return {"error": f"{start} is no probe: {error}"}


def _batches(probes: Iterable[Probe | dict[str, object]], most: Batch) -> Iterator[list[Probe | dict[str, object]]]:
    some: list[Probe | dict[str, object]] = []
    size = 0
    for probe in probes:
        its = len(json.dumps(msgspec.to_builtins(probe)))
        if some and (len(some) == most.probes or size + its > most.size):
            yield some
            some, size = [], 0
        some.append(probe)
        size += its + 2
    if some:
        yield some


# -- who answers -------------------------------------------------------------------------------------------------------


def _live(plugin: str, control_socket: str) -> Explain:
    def asked(question: Mapping[str, object]) -> Answer:
        found: Answer = _ask(control_socket, "explain", **{**question, "plugin": plugin})
        return found

    return asked


def _ask(control_socket: str, command: str, **details: object) -> Any:
    try:
        return ask(control_socket, command, **details)
    except PeerError as error:  # with the exit status of failures it would look like a denial
        raise ConfigError(str(error)) from error


def _offline(plugin_name: str, name: str, at: Moment | None, flags: tuple[str, ...]) -> Explain:
    registry = offline_registry(plugin_name)
    catalogue = offline_catalogue(registry)
    walk = Walk(open_source(name, catalogue, complain), catalogue, complain)
    state = walk.fold(_point(walk, at))
    options = offline_options(registry, state.options, flags, complain)
    plugin: Any = build_offline(plugin_name, registry=registry, options=options, node=state.node)
    view = View(state, [resource.model for resource in catalogue])

    def asked(question: Mapping[str, object]) -> Answer:
        try:
            found: Answer = plugin.explain(view, question)
        except ValueError as error:  # a question that makes no sense; a running agent says the same
            raise ConfigError(str(error)) from error
        return found

    return asked


def _point(walk: Walk, at: Moment | None) -> Point:
    if at is None:
        return Point()
    times = (record.t for record in walk.source.records() if isinstance(record, Record)) if at.needs_end else iter(())
    return at.point(max(times, default=0))


# -- for people --------------------------------------------------------------------------------------------------------


def lines(answer: Answer) -> Iterator[str]:
    """Return an answer as lines: the verdict, then what each end says."""
    word = "allowed" if answer["allowed"] else "denied "
    if "service" not in answer:
        yield f"{word}  {answer['source']} → {answer['destination']}{_port_words(answer)}"
        for side in ("egress", "ingress"):
            yield f"  {side:<8} {_decision(answer[side])}"
        return
    yield f"{word}  {answer['source']} → Service {answer['service']}{_port_words(answer)}"
    if "why" in answer:
        yield f"  {answer['why']}"
    for endpoint in answer["endpoints"]:
        yield from (f"  {line}" for line in lines(endpoint))


def _port_words(answer: Answer) -> str:
    return f" {answer['port']}/{answer['protocol']}" if answer["port"] is not None else f" {answer['protocol']}"


_WHY = {
    "no pod": "not judged: no pod that policies apply to",
    "not isolated": "allowed: no policy isolates {of}",
    "itself": "allowed: a pod always reaches itself",
    "its node": "allowed: a node always reaches the pods on it",
    "icmp": "allowed: ICMP is not judged (--netpol-judge-icmp)",
    "unknown address": "denied: an address of no known pod (--netpol-default-deny)",
}


def _decision(decision: Answer) -> str:
    why = decision["why"]
    if why == "rule":
        return f"allowed by {_version(decision)}, rule {decision['rule']}: {decision['matched']}"
    if why == "isolated":
        return f"denied: isolated by {'; '.join(map(_version, decision['isolated_by']))}; none of their rules allows it"
    return _WHY[why].format(of=decision["of"])


def _version(policy: Answer) -> str:
    words = [f"seq {policy['seq']}"] if "seq" in policy else []
    words += [f"resourceVersion {policy['resource_version']}"] if policy.get("resource_version") else []
    words += [time_text(policy["t"])] if policy.get("t") else []
    words += [f"FAULTY: {policy['fault']}"] if "fault" in policy else []
    version = f" ({', '.join(words)})" if words else ""
    return f"NetworkPolicy {policy['policy']}{version}"
