"""What a plugin plans from: a view of the cluster, what in it is dirty, and lines with their causes (pure)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

from kube_router.events.model import EndpointSlice, Object

T = TypeVar("T", bound=Object)


class Ref(NamedTuple):
    """Names an object: its resource (``services``) and its key (``namespace/name``)."""

    resource: str
    key: str


class Stored(Protocol):
    """An object in the state, with its resourceVersion, the journal's seq that brought it, and when (Unix ms).

    ``trigger_ms`` is when the cluster learned of it (a slice's last-change-trigger-time), 0 where nobody said.
    """

    @property
    def obj(self) -> Any: ...
    @property
    def rv(self) -> str: ...
    @property
    def seq(self) -> int: ...
    @property
    def t(self) -> int: ...
    @property
    def trigger_ms(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Dirty:
    """What has changed since the last successful reconcile.

    ``everything`` is set for the first one, after an error, at a resync and when deletions have become allowed: the
    plugin then compares all it wants with what the kernel really holds. Otherwise ``refs`` is exact, and includes
    objects that are gone.
    """

    refs: frozenset[Ref] = frozenset()
    everything: bool = False


class Cause(NamedTuple):
    """Why a line is there: ``Cause(4182, "EndpointSlice prod/web-x7")``."""

    seq: int
    object: str


@dataclass(frozen=True, slots=True)
class Line:
    """One line of what the kernel would hold, in the syntax of its own tool, and the objects that caused it."""

    text: str
    because: tuple[Cause, ...] = ()


class ClusterView(Protocol):
    """The cluster as the node knows it. Read-only; valid until the next await of the reconcile that got it."""

    @property
    def seq(self) -> int:
        """The seq of the last record folded in."""
        ...

    @property
    def in_sync(self) -> bool:
        """Whether the live source has confirmed the full list of every kind this plugin needs.

        Before that the state is a presumption recovered from the journal: it may add and repair, never delete.
        """
        ...

    @property
    def confirmed(self) -> bool:
        """Whether the live source has confirmed the full list of every kind that comes from it; of local kinds the
        plugin knows itself.
        """
        ...

    def get(self, model: type[T], key: str) -> T | None:
        """Return one object."""
        ...

    def each(self, model: type[T]) -> Iterable[T]:
        """Return all objects of a kind, in no particular order."""
        ...

    def stored(self, model: type[Object], key: str) -> Stored | None:
        """Return one object with where it comes from."""
        ...

    def slices_of(self, service_key: str) -> Sequence[EndpointSlice]:
        """Return the EndpointSlices of a Service, ordered by name."""
        ...


def causes_of(view: ClusterView, model: type[Object], key: str) -> tuple[Cause, ...]:
    """Return the cause that an object is, none where the view does not hold it."""
    stored = view.stored(model, key)
    return (Cause(stored.seq, f"{model.__name__} {key}"),) if stored is not None else ()
