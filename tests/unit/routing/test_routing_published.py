"""What was learned as objects of the state: journaled while it is few, and honest about it when it is many."""

from collections.abc import Iterable

import pytest
from prometheus_client import CollectorRegistry

from kube_router.core.agent_options import option_groups
from kube_router.core.api import Context
from kube_router.core.options import resolve
from kube_router.core.state import State, View
from kube_router.events.event import Delete, Put
from kube_router.events.model import Object
from kube_router.events.resource import Catalogue
from kube_router.plugins.routing import published
from kube_router.plugins.routing.facts import RESOURCES, Route, RouteDigest, Session
from kube_router.plugins.routing.learned import digest
from kube_router.plugins.routing.published import Published

GROUPS, _ = option_groups({})


class Journal:
    """A state, and what was journaled of it."""

    def __init__(self) -> None:
        self.state = State(Catalogue(RESOURCES))
        self.written: list[str] = []
        self.notes: list[str] = []
        self.confirmed: set[str] = set()
        self.published = self.new_run()

    def new_run(self) -> Published:
        self.published = Published(
            Context(
                node="node-1",
                options=resolve([], GROUPS, environ={}),
                metrics=CollectorRegistry(),
                run=None,  # type: ignore[arg-type]  # nothing here runs anything
                note=self.notes.append,
                publish=self.publish,
                confirm=lambda model: self.confirmed.add(model.__name__),
            )
        )
        self.published.recover(self.view)
        return self.published

    def publish(
        self, model: type[Object], objects: Iterable[Object] = (), gone: Iterable[str] = (), *, journaled: bool = True
    ) -> None:
        resource = self.state.catalogue.by_model(model).name
        for obj in objects:
            self.state.apply(Put(seq=1, t=1, r=resource, key=obj.key, obj=obj))
            self.written += [f"put {obj.key}"] if journaled else []
        for key in gone:
            if self.state.apply(Delete(seq=1, t=1, r=resource, key=key)) is not None and journaled:
                self.written.append(f"delete {key}")

    @property
    def view(self) -> View:
        return View(self.state, (Route, RouteDigest, Session))

    @property
    def routes(self) -> set[str]:
        return {route.name for route in self.view.each(Route)}


def route(name: str, hop: str = "10.0.0.2") -> Route:
    return Route(name=name, next_hops=(hop,), peers=(hop,))


A, B, C, D = (f"10.244.{i}.0/24" for i in range(1, 5))


@pytest.fixture(autouse=True)
def _two_routes_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "JOURNALED_MAX", 2)


def test_few_routes_are_journaled_one_by_one() -> None:
    journal = Journal()
    journal.published.change([route(A), route(B)], [])
    journal.published.change([route(C)], [A])
    assert journal.routes == {B, C}
    assert journal.written == [f"put {A}", f"put {B}", f"put {C}", f"delete {A}"]
    assert journal.notes == []


def test_once_they_are_many_all_of_them_leave_the_journal_and_stay_in_the_state() -> None:
    journal = Journal()
    journal.published.change([route(A), route(B)], [])
    journal.published.change([route(C), route(D)], [A])
    assert journal.routes == {B, C, D}
    assert journal.written == [f"put {A}", f"put {B}", f"delete {A}", f"delete {B}"]
    assert journal.notes == ["more than 2 routes: from now on a digest of them is journaled"]
    journal.published.change([], [B, C])
    assert journal.routes == {D}
    assert len(journal.written) == 4
    assert len(journal.notes) == 1


def test_a_digest_says_how_many_they_are_and_does_not_depend_on_their_order() -> None:
    journal = Journal()
    journal.published.change([route(A), route(B), route(C)], [])
    journal.published.tell(digest([route(A), route(B), route(C)]))
    [first] = journal.view.each(RouteDigest)
    journal.published.tell(digest([route(C), route(B), route(A)]))
    assert list(journal.view.each(RouteDigest)) == [first]
    assert first.count == 3
    journal.published.tell(digest([route(C, "10.0.0.3"), route(B), route(A)]))
    [other] = journal.view.each(RouteDigest)
    assert other.sha256 != first.sha256


def test_routes_of_an_earlier_run_count_and_leave_the_journal_too_and_are_not_lost() -> None:
    journal = Journal()
    journal.published.change([route(A), route(B)], [])
    journal.new_run()
    journal.written.clear()
    journal.published.change([route(C)], [])
    assert journal.routes == {A, B, C}
    assert journal.written == [f"delete {A}", f"delete {B}"]


def test_the_digest_of_an_earlier_run_goes_once_it_is_known_that_routes_are_few() -> None:
    journal = Journal()
    journal.published.change([route(A), route(B), route(C)], [])
    journal.published.tell(digest([route(A), route(B), route(C)]))
    journal.published.confirm(journal.view, [])
    assert len(list(journal.view.each(RouteDigest))) == 1
    journal.state.objects.pop("routes")
    journal.new_run()
    journal.published.change([route(A)], [])
    assert len(list(journal.view.each(RouteDigest))) == 1
    journal.published.confirm(journal.view, [])
    assert list(journal.view.each(RouteDigest)) == []


def test_sessions_with_who_is_no_neighbour_any_more_go_when_all_is_known() -> None:
    journal = Journal()
    journal.publish(Session, [Session(name="10.0.0.2"), Session(name="10.0.0.3")])
    journal.published.confirm(journal.view, ["10.0.0.3", "10.0.0.4"])
    assert [session.name for session in journal.view.each(Session)] == ["10.0.0.3"]
    assert journal.confirmed == {"Route", "RouteDigest", "Session"}


def test_who_told_the_routes_of_an_earlier_run_is_known_from_the_journal() -> None:
    journal = Journal()
    assert journal.published.tellers is None, "there was no earlier run"
    journal.publish(Session, [Session(name="10.0.0.2"), Session(name="10.0.0.3", error="refused")])
    assert journal.new_run().tellers == frozenset()
    journal.publish(Route, [route("10.1.0.0/16", "10.0.0.2")])
    assert journal.new_run().tellers == frozenset({"10.0.0.2"})
    journal.publish(RouteDigest, [RouteDigest(name="routes", count=30_000, sha256="")])
    assert journal.new_run().tellers is None, "its routes were too many for the journal"


def test_what_this_run_learns_does_not_change_who_told_an_earlier_one() -> None:
    journal = Journal()
    journal.publish(Session, [Session(name="10.0.0.2")])
    run = journal.new_run()
    run.change([route("10.1.0.0/16", "10.0.0.2")], ())
    run.recover(journal.view)
    assert run.tellers == frozenset()
