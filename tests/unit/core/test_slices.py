"""A slice that is gone, or goes to another Service, makes the Service that had it dirty."""

from kube_router.core.slices import SliceOwners
from kube_router.core.state import State, View
from kube_router.core.view import Dirty, Ref
from kube_router.events.event import Delete, Put
from kube_router.events.model import EndpointSlice, Service
from kube_router.events.normalize import BUILTIN
from kube_router.events.resource import Catalogue

SLICE = Dirty(frozenset({Ref("endpointslices", "prod/one")}))


def put(state: State, seq: int, service: str) -> None:
    piece = EndpointSlice(namespace="prod", name="one", service=service)
    state.apply(Put(seq=seq, t=seq, r="endpointslices", key=piece.key, obj=piece))


def test_the_former_owner_of_a_slice_is_dirty_once() -> None:
    state = State(Catalogue(BUILTIN))
    view, owners = View(state, (Service, EndpointSlice)), SliceOwners()
    put(state, 1, "prod/a")
    owners.reset(view)
    assert owners.dirty_services(view, SLICE) == {"prod/a"}
    put(state, 2, "prod/b")
    assert owners.dirty_services(view, SLICE) == {"prod/a", "prod/b"}
    state.apply(Delete(seq=3, t=3, r="endpointslices", key="prod/one"))
    assert owners.dirty_services(view, SLICE) == {"prod/b"}
    assert owners.dirty_services(view, SLICE) == set()


def test_a_service_is_dirty_by_itself_and_other_resources_are_nothing_here() -> None:
    view = View(State(Catalogue(BUILTIN)), (Service, EndpointSlice))
    dirty = Dirty(frozenset({Ref("services", "prod/a"), Ref("nodes", "n")}))
    assert SliceOwners().dirty_services(view, dirty) == {"prod/a"}
