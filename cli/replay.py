"""``kr replay``: what happened, what was, and what a node's kernel would hold; from a journal, anywhere.

Needs neither root nor a kernel nor an API server. Records are read once, told and folded in order; sources are merged
by time. Flags that are no options of ``kr replay`` are the agent's and the plugins': with ``--plan`` they override the
options in the journal's head (``kr replay J --plan proxy --masquerade-all``).
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import click

from kube_router.cli.changes import changes
from kube_router.cli.filter import Filter
from kube_router.cli.history import Entry, kind_of, subject_of, tell
from kube_router.cli.loading import offline_catalogue, offline_registry
from kube_router.cli.moment import Moment, Point, parse_moment, parse_seqs
from kube_router.cli.output import HistoryJson, HistoryTable, complain, print_difference, print_lines, print_objects
from kube_router.cli.plan import build_offline, difference, offline_options, render
from kube_router.cli.sources import Source, open_source
from kube_router.cli.walk import Walk
from kube_router.core import pflag
from kube_router.core.agent_options import option_groups
from kube_router.core.api import Line
from kube_router.core.options import grammar
from kube_router.core.registry import Registry
from kube_router.core.state import State
from kube_router.events.errors import ConfigError
from kube_router.events.event import AnyRecord, Record, Segment


class MomentType(click.ParamType[Moment]):
    name = "SEQ|TIME"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Moment:
        return value if isinstance(value, Moment) else parse_moment(str(value))


MOMENT = MomentType()


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="SOURCE...", required=True)
@click.option("--plan", metavar="PLUGIN", help="Print what the node's kernel would hold, in its own tool's syntax.")
@click.option("--node", metavar="NAME", help="The node to plan for; else the one whose journal it is.")
@click.option("--state", "show_state", is_flag=True, help="Print the state instead of the history.")
@click.option("--blame", is_flag=True, help="With --plan: the seq and object that caused each line.")
@click.option("--at", type=MOMENT, help="With --plan or --state: at this moment instead of the end.")
@click.option("--diff", nargs=2, type=MOMENT, metavar="A B", help="What differs between two moments; exit 1 if any.")
@click.option("--kind", "kinds", multiple=True, help="Only this kind (Service, EndpointSlice, ... or a plugin's name).")
@click.option("--key", "keys", multiple=True, metavar="GLOB", help="Only objects whose namespace/name matches.")
@click.option("--seq", "seqs", metavar="A..B", default="0..", help="Only these records.")
@click.option("--since", type=MOMENT, help="Only records from then on.")
@click.option("--until", type=MOMENT, help="Only records up to then.")
@click.option("--all", "everything", is_flag=True, help="Bookmarks and unchanged segment heads too.")
@click.option("--follow", "-f", is_flag=True, help="Wait for more records, as tail -f does.")
@click.option("--output", "-o", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.pass_context
def replay(context: click.Context, /, words: tuple[str, ...], **given: object) -> int:
    """Tell what happened, what was, and what the kernel would hold.

    SOURCE is a journal's folder, one of its files, "-" for a file on stdin, or a manifest or folder of manifests. A
    moment is a seq (4182), a time (2026-11-22T19:54:01Z, 19:54:01) or so long before the end (-5m); all times are UTC.
    """
    request = Request(words=words, known=_known_flags(context), **given)  # type: ignore[arg-type]  # click checked them
    return Replay(request).run()


def _known_flags(context: click.Context) -> tuple[str, ...]:
    return tuple(flag for parameter in context.command.params for flag in parameter.opts if flag.startswith("--"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked on the command line."""

    words: tuple[str, ...]
    known: tuple[str, ...] = ()
    plan: str | None = None
    node: str | None = None
    show_state: bool = False
    blame: bool = False
    at: Moment | None = None
    diff: tuple[Moment, Moment] | None = None
    kinds: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    seqs: str = "0.."
    since: Moment | None = None
    until: Moment | None = None
    everything: bool = False
    follow: bool = False
    output: str = "table"


class Told(NamedTuple):
    t: int
    label: str
    entry: Entry
    record: AnyRecord


class Replay:
    """One run of the command."""

    def __init__(self, request: Request) -> None:
        _refuse_contradictions(request)
        self.request = request
        self.as_json = request.output == "json"
        self.registry = offline_registry(request.plan or "")
        self.catalogue = offline_catalogue(self.registry)
        names, self.flags = split_words(request.words, self.registry, request.known)
        if not names:
            raise ConfigError("there is no SOURCE: name a journal's folder or file, or - for stdin")
        if self.flags and request.plan is None:
            raise ConfigError(f"{self.flags[0]} makes a difference only with --plan")
        if request.follow and len(names) > 1:
            raise ConfigError("--follow goes with one SOURCE; start it once per node")
        self._end_ms: int | None = None
        self._reported: set[str] = set()
        self._labelled = len(names) > 1
        self.sources = [
            open_source(name, self.catalogue, partial(self._report, name), live=request.follow) for name in names
        ]

    def run(self) -> int:
        """Answer the request; return the exit status."""
        if self.request.plan is None and not self.request.show_state and self.request.diff is None:
            self._history()
            return 0
        if len(self.sources) != 1:
            raise ConfigError("--plan, --state and --diff look at one SOURCE; give only one")
        if self.request.diff is not None:
            return self._difference(*map(self._point, self.request.diff))
        state = self._fold(self._point(self.request.at))
        if self.request.plan is not None:
            print_lines(self._plan(state), blame=self.request.blame, as_json=self.as_json)
        else:
            self._print_state(state)
        return 0

    # -- history -------------------------------------------------------------------------------------------------------

    def _history(self) -> None:
        request = self.request
        shown = Filter(
            kinds=frozenset(self._kind(kind) for kind in request.kinds),
            keys=request.keys,
            seqs=parse_seqs(request.seqs),
            since=self._point(request.since),
            until=self._point(request.until),
        )
        show = (
            HistoryJson(flush=request.follow)
            if self.as_json
            else HistoryTable(labelled=self._labelled, flush=request.follow)
        ).show
        told = [self._tell(source, shown) for source in self.sources]
        for _, label, entry, record in told[0] if len(told) == 1 else heapq.merge(*told, key=lambda each: each.t):
            show(label, entry, record)

    def _kind(self, kind: str) -> str:
        """Return the kind in lower case, also for the API's plural (services)."""
        name = kind.lower()
        return self.catalogue.by_name(name).kind.lower() if name in self.catalogue else name

    def _tell(self, source: Source, shown: Filter) -> Iterator[Told]:
        walk, everything = self._walk(source), self.request.everything
        for record in walk.steps():
            if record is None or not shown.spans(record.seq, record.t):
                continue
            if not shown.names(*subject_of(walk.state, record)):
                continue
            entry = tell(walk.state, record, head=walk.head, everything=everything, complete=walk.known)
            if entry is not None:
                label = record.node if isinstance(record, Segment) else walk.label
                yield Told(entry.t, label or source.name, entry, record)

    def _walk(self, source: Source) -> Walk:
        return Walk(source, self.catalogue, partial(self._report, source.name))

    def _report(self, source: str, text: str) -> None:
        """Complain once, though a source may be read several times."""
        said = f"{source}: {text}" if self._labelled else text
        if said not in self._reported:
            self._reported.add(said)
            complain(said)

    # -- state and plan ------------------------------------------------------------------------------------------------

    def _point(self, moment: Moment | None) -> Point:
        if moment is None:
            return Point()
        return moment.point(self._end() if moment.needs_end else 0)

    def _end(self) -> int:
        """Return the time of the last record of all sources."""
        if self._end_ms is None:
            if self.request.follow:
                raise ConfigError("--follow has no end yet: write the moment as a seq or as a time with its date")
            records = (record for source in self.sources for record in source.records())
            self._end_ms = max((record.t for record in records if isinstance(record, Record)), default=0)
        return self._end_ms

    def _fold(self, point: Point) -> State:
        return self._walk(self.sources[0]).fold(point)

    def _plan(self, state: State) -> tuple[Line, ...]:
        node = self.request.node or state.node
        if not node:
            raise ConfigError("this source names no node to plan for; give --node NAME")
        plan = self.request.plan
        assert plan is not None
        options = offline_options(self.registry, state.options, self.flags, complain)
        return render(build_offline(plan, registry=self.registry, options=options, node=node), state)

    def _print_state(self, state: State) -> None:
        rows = [
            (kind_of(state, resource), key, stored.seq, changes(None, stored.obj)[1:], stored.obj)
            for resource, objects in sorted(state.objects.items())
            for key, stored in sorted(objects.items())
            if self._is_asked_for(kind_of(state, resource), key)
        ]
        print_objects(rows, as_json=self.as_json)

    def _is_asked_for(self, kind: str, key: str) -> bool:
        kinds = {self._kind(each) for each in self.request.kinds}
        return Filter(kinds=frozenset(kinds), keys=self.request.keys).names(kind, key)

    def _difference(self, first: Point, second: Point) -> int:
        before, after = self._fold(first), self._fold(second)
        if self.request.plan is not None:
            differing = difference(self._plan(before), self._plan(after))
            print_difference(differing, blame=self.request.blame, as_json=self.as_json)
            return 1 if differing else 0
        rows = [row for row in _changed(before, after) if self._is_asked_for(row[0], row[1])]
        print_objects(rows, as_json=self.as_json)
        return 1 if rows else 0


def _changed(before: State, after: State) -> Iterator[tuple[str, str, int, Sequence[str], object]]:
    """Return what differs between two states: kind, key, seq, words, and the object as it became."""
    for resource in sorted({*before.objects, *after.objects}):
        old, new = before.known(resource), after.known(resource)
        for key in sorted({*old, *new}):
            was, became = old.get(key), new.get(key)
            obj = became.obj if became else None
            if (was.obj if was else None) != obj:
                seq = became.seq if became else after.seq
                yield kind_of(after, resource), key, seq, changes(was.obj if was else None, obj), obj


def _refuse_contradictions(request: Request) -> None:
    offline = request.plan is not None or request.show_state or request.diff is not None
    if request.follow and offline:
        raise ConfigError("--follow tells history; it does not go with --plan, --state or --diff")
    if request.blame and request.plan is None:
        raise ConfigError("--blame needs --plan PLUGIN")
    if request.node is not None and request.plan is None:
        raise ConfigError("--node needs --plan PLUGIN")
    if request.at is not None and (not offline or request.diff is not None):
        raise ConfigError("--at needs --plan or --state (history: --until)")
    if offline and (request.since or request.until or request.seqs != "0.."):
        raise ConfigError("--seq, --since and --until choose records of the history; a moment is --at or --diff")
    if request.plan is not None and (request.kinds or request.keys):
        raise ConfigError("--kind and --key do not go with --plan: a plan is of the whole state")
    if request.show_state and request.plan is not None:
        raise ConfigError("--state and --plan are two questions; ask one")


def split_words(
    words: Sequence[str], registry: Registry, known: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what is no flag among the words, and the agent's flags. ConfigError for a flag that nobody knows."""
    if not any(word.startswith("-") and word != "-" for word in words):
        return tuple(words), ()
    groups, _ = option_groups(registry.options())
    all_options = [option for group in groups for option in group.options]
    rules = grammar(all_options)
    for word in words:
        name = word.partition("=")[0]
        if name.startswith("--") and name[2:] not in rules.names and name != "--":
            raise ConfigError(pflag.unknown_flag(name, [*known, *(f"--{each}" for each in rules.names)]))
    parsed = pflag.parse(words, rules)
    return tuple(word.text for word in parsed.words), tuple(f"--{given.name}={given.text}" for given in parsed.given)
