"""A full list while it grows, and objects that turn out to be unusable (pure but for a crash report in the log).

A list comes as pages or as the events of a stream, in any order. It is handed over whole or not at all. An object that
cannot be normalized still counts as present: what was known under its key stands and is not taken for deleted.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from msgspec import Raw

from kube_router.events.errors import ObjectError, Problem
from kube_router.events.resource import Normalized, Redact, Resource
from kube_router.events.sink import Known
from kube_router.events.sources.reflector import Broken
from kube_router.events.sources.wire import Event, decode_bookmark, decode_meta, refusal

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bad:
    """An object that could not be normalized."""

    key: str
    rv: str
    problem: Problem


def normalize(resource: Resource, raw: Raw, redact: Redact) -> Normalized | Bad:
    """Return what an object of the API becomes. Whatever is wrong with it costs that object only."""
    try:
        return resource.normalize(raw, redact)
    except ObjectError as error:
        what = error.what
    except ValueError as error:
        what = f"cannot be read: {error}"
    except Exception as error:
        # A third party's normalizer may raise anything.
        logger.exception(f"normalizer_crashed resource={resource.name}")
        what = f"its normalizer failed: {error!r}"
    meta = decode_meta(raw)
    key = meta.key if meta is not None else "?"
    text = f"{what}; ignored, what was known of it stands"
    return Bad(key=key, rv=meta.rv if meta is not None else "", problem=Problem(resource.kind, key, text))


@dataclass(slots=True)
class Listing:
    """The objects seen so far, by key."""

    objects_max: int
    good: dict[str, Normalized] = field(default_factory=dict)
    bad: dict[str, Bad] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.good) + len(self.bad)

    def take(self, found: Normalized | Bad) -> None:
        """Take in an object as it is now."""
        if len(self) > self.objects_max:
            raise Broken(f"a list exceeds {self.objects_max} objects")
        if isinstance(found, Bad):
            self.good.pop(found.key, None)
            self.bad[found.key] = found
        else:
            self.bad.pop(found.obj.key, None)
            self.good[found.obj.key] = found

    def take_event(self, event: Event, resource: Resource, redact: Redact) -> str:
        """Take one event of a streamed list; return the list's resourceVersion if it was the last, else ""."""
        if event.type in ("ADDED", "MODIFIED"):
            self.take(normalize(resource, event.object, redact))
        elif event.type == "DELETED":
            meta = decode_meta(event.object)
            if meta is None:
                raise Broken("a DELETED event names no object")
            self.good.pop(meta.key, None)
            self.bad.pop(meta.key, None)
        elif event.type == "BOOKMARK":
            rv, is_end = decode_bookmark(event.object)
            return rv if is_end else ""
        elif event.type == "ERROR":
            raise refusal(0, bytes(event.object))
        else:
            raise Broken(f"an event is of the unknown type {event.type!r}")
        return ""

    def with_known(self, known: Mapping[str, Known]) -> list[Normalized]:
        """Return all objects, with the known one in the place of one that cannot be used."""
        kept = [
            Normalized(obj=known[key].obj, rv=known[key].rv, problems=(bad.problem,))
            for key, bad in self.bad.items()
            if key in known
        ]
        return [*self.good.values(), *kept]
