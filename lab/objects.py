"""Kubernetes objects as they are written in manifests: plain JSON trees, and how to read them safely (pure).

The lab plays controllers for objects somebody wrote by hand. Whatever has the wrong shape reads as absent.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

Json = dict[str, Any]


def kind(obj: Mapping[str, Any]) -> str:
    """Return the kind, "" without one."""
    return text(obj, "kind")


def key(obj: Mapping[str, Any]) -> str:
    """Return ``namespace/name``, or ``name`` for kinds without a namespace."""
    name = text(obj, "metadata", "name")
    return name if kind(obj) in CLUSTER_KINDS else f"{namespace(obj)}/{name}"


def namespace(obj: Mapping[str, Any]) -> str:
    """Return the namespace, ``default`` without one."""
    return text(obj, "metadata", "namespace") or "default"


CLUSTER_KINDS = ("Node", "Namespace")


def tree(obj: object, *path: str) -> Mapping[str, Any]:
    """Return the mapping at a path, empty if there is none."""
    found = _at(obj, path)
    return found if isinstance(found, Mapping) else {}


def items(obj: object, *path: str) -> Sequence[Any]:
    """Return the list at a path, empty if there is none."""
    found = _at(obj, path)
    return found if isinstance(found, list) else ()


def text(obj: object, *path: str) -> str:
    """Return the text at a path, "" if there is none."""
    found = _at(obj, path)
    return found if isinstance(found, str) else ""


def number(obj: object, *path: str) -> int | None:
    """Return the whole number at a path, None if there is none."""
    found = _at(obj, path)
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def flag(obj: object, *path: str) -> bool:
    """Return whether there is a ``true`` at a path."""
    return _at(obj, path) is True


def labels(obj: object, *path: str) -> dict[str, str]:
    """Return a mapping of texts, such as labels or a simple selector; other values are left out."""
    return {name: value for name, value in tree(obj, *path).items() if isinstance(value, str)}


def of_kind(objects: Iterable[Json], *kinds: str) -> Iterator[Json]:
    """Return the objects of some kinds, in order."""
    return (obj for obj in objects if kind(obj) in kinds)


def selects(selector: Mapping[str, str], candidate: Mapping[str, str]) -> bool:
    """Tell whether labels satisfy a simple selector; an empty one selects nothing, as a Service's does."""
    return bool(selector) and all(candidate.get(name) == value for name, value in selector.items())


def _at(obj: object, path: Sequence[str]) -> object:
    for step in path:
        if not isinstance(obj, Mapping):
            return None
        obj = obj.get(step)
    return obj
