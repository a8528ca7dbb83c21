"""Law 1 for the firewall: the table depends on the state, never on the way to it; an edit does as a new table does."""

from random import Random

from doubles.nft_text import Nftables, table_of
from harness.firewalling import EVERYTHING, folded, from_scratch, view_of
from hypothesis import given
from hypothesis import settings as config
from hypothesis import strategies as st
from policies import NOBODY, random_clusters
from strategies import Batches, World, batches_through, records, routes, steps_between
from walks import random_walks

from kube_router.core.state import State
from kube_router.core.view import Dirty
from kube_router.events.model import Object
from kube_router.events.normalize import BUILTIN
from kube_router.events.resource import Catalogue
from kube_router.plugins.firewall.evaluate import Settings
from kube_router.plugins.firewall.model import TABLE, Ruleset
from kube_router.plugins.firewall.plan import carry_out, everything, plan
from kube_router.plugins.firewall.read import parse_table
from kube_router.plugins.firewall.render import lines, stamp_text, write_edit, write_table
from kube_router.plugins.firewall.wanted import Cluster

Route = tuple[World, Batches]
settings = st.builds(Settings, default_deny=st.booleans(), judge_icmp=st.booleans())


@st.composite
def walks(draw: st.DrawFn) -> Route:
    """A cluster, and a route to it by small changes."""
    way = draw(random_walks)
    return way[-1], draw(batches_through(way, NOBODY))


ways = st.one_of(walks(), routes(random_clusters, NOBODY))


def begun(settings: Settings) -> Cluster:
    return Cluster("node-1", default_deny=settings.default_deny, judge_icmp=settings.judge_icmp)


def move(state: State, cluster: Cluster, steps: list[tuple[str, str, Object | None]]) -> None:
    """Let a state and the cluster that follows it take steps, as one batch."""
    dirty = {ref for record in records(steps, state.seq) if (ref := state.apply(record)) is not None}
    cluster.update(view_of(state), Dirty(frozenset(dirty)))


def assert_same(cluster: Cluster, expected: Cluster) -> None:
    assert cluster.ruleset == expected.ruleset
    assert list(lines(cluster.ruleset)) == list(lines(expected.ruleset))
    assert write_table(cluster.ruleset) == write_table(expected.ruleset)
    assert cluster.problems == expected.problems
    assert cluster.chain_owners() == expected.chain_owners()


@given(ways, settings)
def test_any_route_through_the_same_states_gives_the_same_table(route: Route, settings: Settings) -> None:
    target, batches = route
    state, cluster = State(Catalogue(BUILTIN)), begun(settings)
    cluster.update(view_of(state), EVERYTHING)
    for batch in batches:
        move(state, cluster, batch)
        assert_same(cluster, from_scratch(state, settings=settings))
    assert_same(cluster, from_scratch(folded(target), settings=settings))


@given(random_walks, settings)
@config(max_examples=3 * config().max_examples)
def test_a_small_change_to_a_large_cluster_gives_what_the_whole_of_it_gives(
    way: list[World], settings: Settings
) -> None:
    state, cluster, at = State(Catalogue(BUILTIN)), begun(settings), World()
    for world in way:
        move(state, cluster, steps_between(at, world))
        expected, at = from_scratch(state, settings=settings), world
        assert cluster.ruleset == expected.ruleset
        assert cluster.problems == expected.problems


@given(ways, st.data())
def test_a_replay_from_any_snapshot_gives_the_same_table(route: Route, data: st.DataObject) -> None:
    target, batches = route
    steps = records([step for batch in batches for step in batch])
    cut = data.draw(st.integers(0, len(steps)))
    before = State(Catalogue(BUILTIN))
    for record in steps[:cut]:
        before.apply(record)
    after = State(Catalogue(BUILTIN))
    for record in [*before.puts(), *steps[cut:]]:
        after.apply(record)
    assert_same(from_scratch(after), from_scratch(folded(target)))


@given(random_clusters, st.randoms(use_true_random=False))
def test_the_order_of_objects_in_the_state_does_not_matter(world: World, random: Random) -> None:
    refs = list(world)
    random.shuffle(refs)
    assert_same(from_scratch(folded({ref: world[ref] for ref in refs})), from_scratch(folded(world)))


@given(ways, settings)
def test_edits_of_what_was_touched_keep_a_kernel_at_what_is_wanted(route: Route, settings: Settings) -> None:
    state, cluster, kernel = State(Catalogue(BUILTIN)), begun(settings), Nftables()
    cluster.update(view_of(state), EVERYTHING)
    ruleset = cluster.ruleset
    actual = ruleset.copy()
    ruleset.take_touched()
    kernel.run(write_table(ruleset))
    for batch in route[1]:
        move(state, cluster, batch)
        edit = plan(cluster.ruleset, actual, cluster.ruleset.take_touched()) if cluster.ruleset is ruleset else None
        if edit is None:  # everything was taken in anew
            kernel.run(write_table(cluster.ruleset))
            ruleset, actual = cluster.ruleset, cluster.ruleset.copy()
            ruleset.take_touched()
        elif edit:
            kernel.run(write_edit(edit, stamp_text(state.seq, cluster.ruleset.digest)))
            carry_out(edit, actual)
        assert actual == cluster.ruleset
        assert_kernel_holds(kernel, cluster.ruleset)


def assert_kernel_holds(kernel: Nftables, ruleset: Ruleset) -> None:
    held, wanted = kernel.tables[TABLE], table_of(write_table(ruleset))
    assert held.chains == wanted.chains
    assert held.counters == wanted.counters
    held_sets = {name: its for name, its in held.sets.items() if name != "stamp"}
    assert held_sets == {name: its for name, its in wanted.sets.items() if name != "stamp"}


@given(random_clusters, random_clusters, settings)
def test_a_plan_between_any_two_tables_reaches_what_is_wanted_and_the_next_one_is_empty(
    old: World, new: World, settings: Settings
) -> None:
    actual = from_scratch(folded(old), settings=settings).ruleset
    wanted = from_scratch(folded(new), settings=settings).ruleset
    edit = plan(wanted, actual, everything(wanted, actual))
    if edit is None:
        return
    kernel = Nftables()
    kernel.run(write_table(actual))
    kernel.run(write_edit(edit))
    assert_kernel_holds(kernel, wanted)
    carry_out(edit, actual)
    assert actual == wanted
    assert not plan(wanted, actual, everything(wanted, actual))


@given(random_clusters, random_clusters)
def test_an_edit_of_what_was_touched_is_the_edit_of_all_that_differs(old: World, new: World) -> None:
    state = folded(old)
    cluster = from_scratch(state)
    ruleset, actual = cluster.ruleset, cluster.ruleset.copy()
    ruleset.take_touched()
    move(state, cluster, steps_between(old, new))
    if cluster.ruleset is ruleset:
        whole = plan(ruleset, actual, everything(ruleset, actual))
        assert plan(ruleset, actual, ruleset.take_touched()) == whole


@given(random_clusters, random_clusters, settings)
def test_equal_digests_are_equal_tables(old: World, new: World, settings: Settings) -> None:
    one, other = (from_scratch(folded(world), settings=settings).ruleset for world in (old, new))
    assert (one.digest == other.digest) == (one == other)
    assert (one.digest == other.digest) == (write_table(one) == write_table(other))


@given(ways)
def test_a_digest_that_was_kept_up_is_that_of_the_content(route: Route) -> None:
    state, cluster = State(Catalogue(BUILTIN)), begun(Settings())
    for batch in route[1]:
        move(state, cluster, batch)
    assert parse_table(listed(cluster.ruleset)).digest == cluster.ruleset.digest


@given(random_clusters, settings, st.booleans())
def test_what_is_written_and_listed_is_read_as_it_was(world: World, settings: Settings, stamped: bool) -> None:
    ruleset = from_scratch(folded(world), settings=settings).ruleset
    found = parse_table(listed(ruleset, stamp_text(7, ruleset.digest) if stamped else ""))
    assert found == ruleset
    assert not plan(ruleset, found, everything(ruleset, found))


def listed(ruleset: Ruleset, stamp: str = "") -> str:
    """Return a table as ``nft list table`` prints it."""
    out = [f"table inet {TABLE} {{"]
    for name in sorted(ruleset.counters):
        out += [f"\tcounter {name} {{", "\t\tpackets 0 bytes 0", "\t}", ""]
    out += ["\tset stamp {", "\t\ttype inet_service", *_elements([stamp] if stamp else []), "\t}", ""]
    for name, type in ruleset.sets.items():
        flags = ["\t\tflags interval"] if type.interval else []
        out += [
            f"\tset {name} {{",
            f"\t\ttype {type.key}",
            *flags,
            *_elements(sorted(ruleset.elements[name])),
            "\t}",
            "",
        ]
    for name, verdicts in ruleset.verdicts.items():
        kind = "ipv6_addr" if name.endswith("6") else "ipv4_addr"
        pairs = [f"{address} : {verdict}" for address, verdict in verdicts.items()]
        out += [f"\tmap {name} {{", f"\t\ttype {kind} : verdict", *_elements(pairs), "\t}", ""]
    for name, chain in ruleset.chains.items():
        comment = [f'\t\tcomment "{chain.comment}"'] if chain.comment else []
        hook = [f"\t\t{chain.hook}"] if chain.hook else []
        out += [f"\tchain {name} {{", *comment, *hook, *(f"\t\t{rule}" for rule in chain.rules), "\t}", ""]
    return "\n".join([*out[:-1], "}"]) + "\n"


def _elements(elements: list[str]) -> list[str]:
    """Return elements as nft lists them: two on a line, the lines behind the first one indented."""
    if not elements:
        return []
    rows = [", ".join(elements[n : n + 2]) for n in range(0, len(elements), 2)]
    return ("\t\telements = { " + ",\n\t\t\t     ".join(rows) + " }").split("\n")
