"""Law 1 for the proxy: what the kernel should hold depends on the state, never on the way to it."""

from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import World, records, routes, steps_between, worlds

from kube_router.core.state import State, View
from kube_router.core.view import Dirty, Ref
from kube_router.events.model import EndpointSlice, Node, Object, Service
from kube_router.events.normalize import BUILTIN
from kube_router.events.resource import Catalogue
from kube_router.plugins.proxy.model import Actual, RemoveAddress, RemoveServer, RemoveService, Wanted
from kube_router.plugins.proxy.plan import carry_out, plan, plan_places
from kube_router.plugins.proxy.wanted import Cluster

NEEDS = (Service, EndpointSlice, Node)
EVERYTHING = Dirty(everything=True)


def folded(world: World) -> State:
    state = State(Catalogue(BUILTIN))
    for record in records([(*ref, obj) for ref, obj in world.items()]):
        state.apply(record)
    return state


def from_scratch(state: State) -> Cluster:
    cluster = Cluster("node-1")
    cluster.update(View(state, NEEDS), EVERYTHING)
    return cluster


def copied(wanted: Wanted) -> Wanted:
    return Wanted(dict(wanted.services), dict(wanted.addresses), wanted.masquerade)


@given(routes())
def test_any_route_through_the_same_states_gives_the_same_plan(
    route: tuple[World, list[list[tuple[str, str, Object | None]]]],
) -> None:
    target, batches = route
    state, cluster, seq = State(Catalogue(BUILTIN)), Cluster("node-1"), 0
    cluster.update(View(state, NEEDS), EVERYTHING)
    for batch in batches:
        dirty = set()
        for record in records(batch, seq):
            seq = record.seq
            ref = state.apply(record)
            dirty |= {ref} if ref is not None else set()
        cluster.update(View(state, NEEDS), Dirty(frozenset(dirty)))
    expected = from_scratch(folded(target))
    assert cluster.wanted() == expected.wanted()
    assert cluster.problems == expected.problems


@given(routes(), st.data())
def test_a_replay_from_any_snapshot_gives_the_same_plan(
    route: tuple[World, list[list[tuple[str, str, Object | None]]]], data: st.DataObject
) -> None:
    target, batches = route
    steps = records([step for batch in batches for step in batch])
    cut = data.draw(st.integers(0, len(steps)))
    before = State(Catalogue(BUILTIN))
    for record in steps[:cut]:
        before.apply(record)
    after = State(Catalogue(BUILTIN))
    for record in [*before.puts(), *steps[cut:]]:
        after.apply(record)
    assert from_scratch(after).wanted() == from_scratch(folded(target)).wanted()


@given(worlds, worlds)
def test_a_plan_reaches_what_is_wanted_and_the_next_one_is_empty(old: World, new: World) -> None:
    actual = Actual()
    for world in (old, new):
        wanted = from_scratch(folded(world)).wanted()
        carry_out(actual, plan(wanted, actual, in_sync=True))
        assert actual.services == wanted.services
        assert actual.addresses == wanted.addresses
        assert actual.owned == set(wanted.services)
        assert plan(wanted, actual, in_sync=True) == []


@given(worlds, worlds)
def test_an_incremental_plan_has_the_same_steps_as_one_from_scratch(old: World, new: World) -> None:
    state = folded(old)
    cluster = from_scratch(state)
    actual = Actual()
    carry_out(actual, plan(copied(cluster.wanted()), actual, in_sync=True))
    masquerade = cluster.masquerade
    dirty = {Ref(r, key) for r, key, _ in steps_between(old, new)}
    for record in records(steps_between(old, new), state.seq):
        state.apply(record)
    touched = cluster.update(View(state, NEEDS), Dirty(frozenset(dirty)))
    whole = plan(cluster.wanted(), actual, in_sync=True)
    if cluster.masquerade == masquerade:
        addresses = {place.address: cluster.address(place.address) for place in touched}
        parts = plan_places(cluster.services, addresses, actual, touched, in_sync=True)
        assert sorted(map(repr, parts)) == sorted(map(repr, whole))


@given(worlds, worlds)
def test_before_in_sync_nothing_is_removed(old: World, new: World) -> None:
    actual = Actual()
    carry_out(actual, plan(from_scratch(folded(old)).wanted(), actual, in_sync=True))
    steps = plan(from_scratch(folded(new)).wanted(), actual, in_sync=False)
    assert not [step for step in steps if isinstance(step, RemoveService | RemoveServer | RemoveAddress)]


@given(worlds, worlds, st.data())
@settings(max_examples=25)
def test_a_crash_after_any_step_still_converges(old: World, new: World, data: st.DataObject) -> None:
    actual = Actual()
    carry_out(actual, plan(from_scratch(folded(old)).wanted(), actual, in_sync=True))
    wanted = from_scratch(folded(new)).wanted()
    steps = plan(wanted, actual, in_sync=True)
    carry_out(actual, steps[: data.draw(st.integers(0, len(steps)))])
    carry_out(actual, plan(wanted, actual, in_sync=True))
    assert actual.services == wanted.services
    assert actual.addresses == wanted.addresses
    assert actual.owned == set(wanted.services)
