"""What a source may ask and tell. ``core`` implements it over its one state and the journal."""

from collections.abc import Iterable, Mapping
from typing import Protocol

from kube_router.events.errors import Problem
from kube_router.events.model import Object
from kube_router.events.resource import Normalized


class Known(Protocol):
    """An object as the state holds it. ``rv`` is the object's own resourceVersion."""

    @property
    def obj(self) -> Object: ...
    @property
    def rv(self) -> str: ...


class Sink(Protocol):
    """All calls are synchronous, on the event loop, and take effect in the order of the calls.

    A ``put`` whose object equals the known one is no event: it only moves the resourceVersion. Deleting what is not
    known is no event either.
    """

    def identify(self, cluster: str) -> None:
        """Say which cluster the source speaks for, before anything else.

        What a journal of another cluster had recovered is dropped. The id is the kube-system Namespace's uid, or
        ``folder:<absolute path>``.
        """
        ...

    def current(self, resource: str) -> Mapping[str, Known]:
        """Return what is known of a resource, by key."""
        ...

    def rv(self, resource: str) -> str:
        """Return the resourceVersion from which the stream of a resource can be resumed, "" for none."""
        ...

    def put(self, resource: str, new: Normalized) -> None:
        """An object was added or has changed."""
        ...

    def delete(self, resource: str, key: str, rv: str = "") -> None:
        """An object is gone."""
        ...

    def advance(self, resource: str, rv: str) -> None:
        """The stream has reached this resourceVersion and nothing else happened."""
        ...

    def replace(self, resource: str, objects: Iterable[Normalized], rv: str, why: str) -> None:
        """The full list: puts what changed, deletes what vanished, then records one ``sync``."""
        ...

    def confirm(self, resource: str, rv: str) -> None:
        """The stream was resumed from a journaled resourceVersion: what is known is current (``sync``, why=resume)."""
        ...

    def problem(self, where: str, problems: tuple[Problem, ...]) -> None:
        """Set the problems of one place (an object's ``resource/key``, a file, a stream); empty clears them."""
        ...
