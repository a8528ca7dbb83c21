"""Read manifests as an API server would: which objects do these files declare, and what is wrong with them (pure).

``parse`` reads one file, ``keep_good`` lets the last good version stand where the new one cannot be read, ``merge``
makes one cluster of all files. A problem names file and line and spoils only its own object:

* a file that cannot be read to its end: its last good version stands as a whole, else what came before the fault;
* an object that cannot be used: the last good version of it stands;
* an object declared twice: the first in the order of file names, then lines, counts;
* a kind that nobody needs is ignored silently, a needed one of an unknown apiVersion is reported.

``List`` and the typed lists (``ServiceList``) are taken apart. A Namespace that nobody declared exists all the same.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from kube_router.events.block import Block, Document, Fault
from kube_router.events.defaults import NAMESPACE_LABEL, with_defaults
from kube_router.events.documents import documents
from kube_router.events.errors import ObjectError, Problem
from kube_router.events.model import Namespace
from kube_router.events.resource import Normalized, Redact, Resource
from kube_router.events.selectors import selects

LISTS_DEPTH_MAX = 4
PROBLEMS_MAX = 50  # of one file; the rest are only counted


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """An object's resource and key."""

    resource: str
    key: str


@dataclass(frozen=True, slots=True)
class Declared:
    """One object and where it is written."""

    ref: Ref
    where: str  # file:line
    new: Normalized


@dataclass(frozen=True, slots=True)
class File:
    """What one file declares. ``bad`` names objects that are there and cannot be used.

    ``cut``: it could not be read to its end, and what it declares beyond is unknown.
    """

    declared: tuple[Declared, ...] = ()
    problems: tuple[Problem, ...] = ()
    bad: frozenset[Ref] = frozenset()
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Manifests:
    """All files as one cluster. ``objects`` has an entry for every resource asked for; ``problems`` are by file.

    ``bad`` and ``cut`` say what is unknown: objects of which no good version was ever read.
    """

    objects: Mapping[str, tuple[Normalized, ...]] = field(default_factory=dict)
    problems: Mapping[str, tuple[Problem, ...]] = field(default_factory=dict)
    bad: frozenset[Ref] = frozenset()
    cut: bool = False


def parse(text: bytes, *, file: str, resources: Collection[Resource], redact: Redact) -> File:
    """Return what a file's text declares. Never raises for what the text holds."""
    reading = _Reading(file, {resource.kind: resource for resource in resources}, redact)
    cut = False
    try:
        for document in documents(text):
            reading.document(document)
    except Fault as fault:
        cut = True
        reading.fault(fault.line, f"{fault.what}; nothing from here on can be read")
    return File(tuple(reading.declared), reading.found(), frozenset(reading.bad), cut)


def unreadable(file: str, reason: str) -> File:
    """Return what is known of a file that cannot even be opened."""
    return File(problems=(Problem("Manifest", file, f"{reason}; its last good objects stand"),), cut=True)


def keep_good(new: File, old: File | None) -> File:
    """Return the new version of a file with the last good one's objects where it has none of its own."""
    if old is None:
        return new
    if new.cut and not old.cut:
        return File(old.declared, new.problems, old.bad)
    known = {one.ref for one in new.declared}
    kept = tuple(one for one in old.declared if one.ref not in known and (new.cut or one.ref in new.bad))
    return replace(new, declared=new.declared + kept, bad=new.bad - {one.ref for one in kept})


def merge(files: Mapping[str, File], resources: Iterable[Resource]) -> Manifests:
    """Return the cluster that the files declare together."""
    first: dict[Ref, Declared] = {}
    problems: dict[str, tuple[Problem, ...]] = {}
    for name in sorted(files):
        found = [(one, first.setdefault(one.ref, one)) for one in files[name].declared]
        again = [_declared_twice(one, earlier) for one, earlier in found if earlier is not one]
        problems[name] = (*files[name].problems, *again[:PROBLEMS_MAX])
    objects: dict[str, list[Normalized]] = {resource.name: [] for resource in resources}
    for ref, one in first.items():
        objects.setdefault(ref.resource, []).append(one.new)
    for resource in resources:
        if resource.model is Namespace:
            objects[resource.name] += _implied_namespaces(resource.name, first)
    bad = frozenset().union(*(file.bad for file in files.values())) - first.keys()
    cut = any(file.cut for file in files.values())
    return Manifests({name: tuple(found) for name, found in objects.items()}, problems, bad, cut)


def _declared_twice(one: Declared, earlier: Declared) -> Problem:
    kind = type(one.new.obj).__name__
    return Problem(kind, one.ref.key, f"declared again in {one.where}; the one in {earlier.where} counts")


def _implied_namespaces(resource: str, declared: Mapping[Ref, Declared]) -> list[Normalized]:
    names = sorted({one.new.obj.namespace for one in declared.values()} - {""})
    return [
        Normalized(Namespace(name=name, labels={NAMESPACE_LABEL: name}), "")
        for name in names
        if Ref(resource, name) not in declared
    ]


class _Reading:
    """One file being read."""

    def __init__(self, file: str, by_kind: Mapping[str, Resource], redact: Redact) -> None:
        self.declared: list[Declared] = []
        self.bad: set[Ref] = set()
        self._file, self._by_kind, self._redact = file, by_kind, redact
        self._problems: list[Problem] = []

    def document(self, document: Document) -> None:
        for line, key in document.twice:
            self.fault(line, f"{key!r} is there twice; the later one counts")
        for line, obj in self._objects(document.value, document.line, depth=0):
            self._object(obj, line)

    def fault(self, line: int, what: str) -> None:
        self._problems.append(Problem("Manifest", f"{self._file}:{line}", what))

    def found(self) -> tuple[Problem, ...]:
        if len(self._problems) <= PROBLEMS_MAX:
            return tuple(self._problems)
        more = Problem("Manifest", self._file, f"and {len(self._problems) - PROBLEMS_MAX} more problems")
        return (*self._problems[:PROBLEMS_MAX], more)

    def _objects(self, value: Any, line: int, *, depth: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the objects with their lines, lists taken apart."""
        if not isinstance(value, dict):
            self.fault(line, f"expected an object, found {_shown(value)}; ignored")
            return
        kind, items = value.get("kind"), value.get("items")
        if not isinstance(kind, str) or not kind.endswith("List") or kind in self._by_kind:
            yield line, value
        elif depth >= LISTS_DEPTH_MAX or not isinstance(items, (list, type(None))):
            self.fault(line, f"{kind}: items is no list of objects; ignored")
        else:
            of = {"apiVersion": value.get("apiVersion"), "kind": kind.removesuffix("List")}
            for item in items or ():
                at = item.line if isinstance(item, Block) and item.line else line
                # The items of a ServiceList need not say what they are.
                is_typed = kind != "List" and isinstance(item, dict) and "kind" not in item
                yield from self._objects({**of, **item} if is_typed else item, at, depth=depth + 1)

    def _object(self, obj: dict[str, Any], line: int) -> None:
        kind, api_version = obj.get("kind"), obj.get("apiVersion")
        if not isinstance(kind, str) or not isinstance(api_version, str):
            self.fault(line, "no apiVersion and kind: not a Kubernetes object; ignored")
            return
        resource = self._by_kind.get(kind)
        if resource is None:
            return
        if api_version != resource.api_version:
            what = f"apiVersion {_shown(api_version)} is not {resource.api_version}; object ignored"
            self._problems.append(Problem(kind, _key(obj, resource), f"{what} ({self._file}:{line})"))
            return
        stored = with_defaults(obj, kind=kind, namespaced=resource.namespaced)
        if selects(resource.selectors, stored):
            self._declare(resource, stored, line)

    def _declare(self, resource: Resource, obj: dict[str, Any], line: int) -> None:
        where = f"{self._file}:{line}"
        try:
            new = resource.normalize(_encoded(obj, resource), self._redact)
        except ObjectError as error:
            self._problems.append(Problem(error.kind, error.key, f"{error.what} ({where})"))
            self.bad.add(Ref(resource.name, _key(obj, resource)))
            return
        if new.problems:
            located = tuple(replace(problem, text=f"{problem.text} ({where})") for problem in new.problems)
            new = replace(new, problems=located)
        self.declared.append(Declared(Ref(resource.name, new.obj.key), where, new))


def _encoded(obj: Mapping[str, Any], resource: Resource) -> bytes:
    try:
        return msgspec.json.encode(obj)
    except (RecursionError, UnicodeEncodeError, OverflowError, msgspec.MsgspecError) as error:
        raise ObjectError(resource.kind, _key(obj, resource), f"cannot be written as JSON: {error}") from None


def _key(obj: Mapping[str, Any], resource: Resource) -> str:
    """Return ``namespace/name`` of an object that may be anything, ``?`` where it has no name."""
    meta = obj.get("metadata")
    name, namespace = (meta.get("name"), meta.get("namespace")) if isinstance(meta, dict) else (None, None)
    if not isinstance(name, str) or not name:
        return "?"
    key = f"{namespace or 'default'}/{name}" if resource.namespaced else name
    return key if key.isprintable() and len(key) <= 512 else ascii(key[:512])


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def all_problems(manifests: Manifests) -> Sequence[Problem]:
    """Return all problems, those inside objects too, in the order of files."""
    inside = [problem for found in manifests.objects.values() for new in found for problem in new.problems]
    return [*(problem for name in sorted(manifests.problems) for problem in manifests.problems[name]), *inside]
