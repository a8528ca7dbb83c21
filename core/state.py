"""The fold of all records: what the node believes the cluster to be (pure).

Last write wins, per resource and key; what is held of an object is the record that brought it. The fold of a journal
is the same whichever snapshot it starts from: a snapshot is the puts of a fold behind a head that says where each
resource's stream stood.

The position of a stream (``rv``) moves with each record of that stream, with one exception: while a full list is being
written its objects come in no useful order, so a position in between would lose events. ``Intake`` therefore marks the
start of such a list by an ``rv`` record without a position; until the ``sync`` behind it the position stays unknown,
and a restart in between lists again.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import cast

from kube_router.core.view import Ref, Stored, T
from kube_router.events.event import Advance, AnyRecord, Delete, Put, Segment, Sync
from kube_router.events.model import EndpointSlice, Object
from kube_router.events.resource import Catalogue

SLICES = "endpointslices"


class State:
    """Objects by resource and key, with the indexes plugins need. Written by ``apply`` alone."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.seq = 0
        self.t = 0
        self.cluster = ""
        self.node = ""
        self.boot = ""
        self.agent = ""
        self.options: Mapping[str, str] = {}
        self.rvs: dict[str, str] = {}
        self.synced: set[str] = set()
        self.objects: dict[str, dict[str, Put]] = {}
        self.volatile: set[str] = set()  # resources whose objects are in no journal, so in no snapshot either
        self._covered = 0  # the seq up to which a snapshot holds everything
        self._slices: dict[str, dict[str, EndpointSlice]] = {}

    def apply(self, record: AnyRecord) -> Ref | None:
        """Fold one record in; return what it made dirty, None where no object changed."""
        if isinstance(record, Segment):
            self._head(record)
            return None
        if record.seq > self.seq:
            self.seq, self.t = record.seq, record.t
        if isinstance(record, Put):  # nearly all are
            return self._put(record)
        if isinstance(record, Delete):
            self._move(record.r, record.rv)
            return self._forget(record.r, record.key)
        if isinstance(record, Advance):
            self.rvs[record.r] = record.rv
        elif isinstance(record, Sync):
            self.rvs[record.r] = record.rv
            self.synced.add(record.r)
        return None

    def known(self, resource: str) -> Mapping[str, Stored]:
        """Return the objects of a resource by key, empty for a resource never seen."""
        return self.objects.get(resource, {})

    def puts(self) -> Iterator[Put]:
        """Return the state as the puts of a snapshot, each with the seq and time that brought it."""
        for resource, objects in self.objects.items():
            if resource not in self.volatile:
                yield from objects.values()

    def slices_of(self, service_key: str) -> Sequence[EndpointSlice]:
        """Return the EndpointSlices of a Service, ordered by name."""
        slices = self._slices.get(service_key)
        return [slices[key] for key in sorted(slices)] if slices else ()

    def _head(self, head: Segment) -> None:
        if self.cluster and head.cluster and head.cluster != self.cluster:
            self._clear()
        if self.seq == 0:
            self.seq = self._covered = head.seq - 1
            self.rvs.update(head.rv)
            self.synced.update(head.synced)
        self.cluster = head.cluster or self.cluster
        self.node, self.boot, self.agent, self.options = head.node, head.boot, head.agent, head.options
        self.t = head.t

    def _clear(self) -> None:
        self.rvs.clear()
        self.synced.clear()
        self.objects.clear()
        self._slices.clear()

    def _put(self, put: Put) -> Ref:
        resource, key = put.r, put.key
        objects = self.objects.get(resource)
        if objects is None:
            objects = self.objects[resource] = {}
        if resource == SLICES:
            self._index_slice(key, objects.get(key), put.obj)
        objects[key] = put
        # A snapshot's says nothing of where the stream stood, its head does.
        if put.rv and put.seq > self._covered and self.rvs.get(resource):
            self.rvs[resource] = put.rv
        return Ref(resource, key)

    def _forget(self, resource: str, key: str) -> Ref | None:
        old = self.objects.get(resource, {}).pop(key, None)
        if old is None:
            return None
        if resource == SLICES:
            self._index_slice(key, old, None)
        return Ref(resource, key)

    def _move(self, resource: str, rv: str) -> None:
        if rv and self.rvs.get(resource):
            self.rvs[resource] = rv

    def _index_slice(self, key: str, old: Put | None, new: object) -> None:
        service = new.service if isinstance(new, EndpointSlice) else None
        if old is not None and isinstance(old.obj, EndpointSlice) and old.obj.service != service:
            of_service = self._slices.get(old.obj.service, {})
            of_service.pop(key, None)
            if not of_service:
                self._slices.pop(old.obj.service, None)
        if isinstance(new, EndpointSlice):
            self._slices.setdefault(new.service, {})[key] = new


class View:
    """A ClusterView over the state for one plugin. ``live`` are the resources the live source has confirmed."""

    def __init__(self, state: State, needs: Iterable[type[Object]], live: set[str] | None = None) -> None:
        self._state = state
        self._names = {model: state.catalogue.by_model(model).name for model in needs}
        self.watched = frozenset(name for name in self._names.values() if not state.catalogue.by_name(name).local)
        self._live = live

    @property
    def seq(self) -> int:
        return self._state.seq

    @property
    def in_sync(self) -> bool:
        return self._live is None or self._live.issuperset(self._names.values())

    @property
    def confirmed(self) -> bool:
        """Whether the live source has confirmed its kinds; local ones are the plugin's own matter."""
        return self._live is None or self._live.issuperset(self.watched)

    @property
    def recovered(self) -> bool:
        """Whether the source's full list of every kind was known at some time: by the journal or by itself."""
        return self.confirmed or self._state.synced.issuperset(self.watched)

    @property
    def resources(self) -> frozenset[str]:
        """Names of the resources this plugin is told about."""
        return frozenset(self._names.values())

    def get(self, model: type[T], key: str) -> T | None:
        stored = self.stored(model, key)
        return cast("T", stored.obj) if stored is not None else None

    def each(self, model: type[T]) -> Iterable[T]:
        return [cast("T", stored.obj) for stored in self._state.known(self._name(model)).values()]

    def stored(self, model: type[Object], key: str) -> Stored | None:
        return self._state.known(self._name(model)).get(key)

    def slices_of(self, service_key: str) -> Sequence[EndpointSlice]:
        return self._state.slices_of(service_key)

    def _name(self, model: type[Object]) -> str:
        # A plugin that reads a kind it did not ask for would see it only while another plugin happens to need it.
        return self._names[model]
