"""Decode one API object and collect what is wrong with it.

Two kinds of wrong: what leaves nothing usable (not JSON, a ``spec`` that is a string, no name) raises ObjectError; what
spoils only a part is left out and named by a Problem with its path, and the rest of the object lives.
"""

from typing import TypeVar

import msgspec
from msgspec import Raw

from kube_router.events import canonical, wire
from kube_router.events.errors import ObjectError, Problem

W = TypeVar("W")

# One object cannot flood the status page: past this many problems the rest are only counted.
PROBLEMS_MAX = 20

# What msgspec raises for bytes that are no such object. RecursionError: arrays nested a thousand deep.
UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_named = msgspec.json.Decoder(wire.Named)
_type_meta = msgspec.json.Decoder(wire.TypeMeta)


class Faults:
    """The problems of one object."""

    __slots__ = ("_more", "_problems", "key", "kind")

    def __init__(self, kind: str, key: str) -> None:
        self.kind, self.key = kind, key
        self._problems: list[Problem] = []
        self._more = 0

    def add(self, where: str, what: str) -> None:
        """Note a problem; ``where`` is the path inside the object, ``what`` says what is wrong and what now."""
        if len(self._problems) < PROBLEMS_MAX:
            self._problems.append(Problem(self.kind, self.key, f"{where}: {what}"))
        else:
            self._more += 1

    def found(self) -> tuple[Problem, ...]:
        """Return the problems in the order in which they were found."""
        if self._more:
            return (*self._problems, Problem(self.kind, self.key, f"and {self._more} more problems"))
        return tuple(self._problems)

    def fatal(self, where: str, what: str) -> ObjectError:
        """Return the error to raise when nothing of the object is usable."""
        return ObjectError(self.kind, self.key, f"{where}: {what}; object ignored")


def decode(decoder: msgspec.json.Decoder[W], raw: bytes | Raw, kind: str) -> W:
    """Return the decoded object. ObjectError, with the path, for what is none."""
    try:
        return decoder.decode(raw)
    except UNDECODABLE as error:
        raise ObjectError(kind, name_of(raw), f"{reason(error)}; object ignored") from None


def reason(error: Exception) -> str:
    """Return msgspec's complaint as ``path: what``, ``spec.ports[0].port: expected int | null, got str``."""
    if isinstance(error, RecursionError):
        return "nested too deeply to be read"
    text = str(error).replace("`", "")
    if not isinstance(error, msgspec.ValidationError):
        return f"not JSON: {text}"
    what, _, where = text.partition(" - at ")
    return f"{where.removeprefix('$').removeprefix('.') or 'object'}: {what[:1].lower()}{what[1:]}"


def name_of(raw: bytes | Raw) -> str:
    """Return ``namespace/name`` of an object that is bad otherwise, ``?`` where even that cannot be read."""
    try:
        meta = _named.decode(raw).metadata
    except UNDECODABLE:
        return "?"
    if meta is None or not meta.name:
        return "?"
    # It ends up on terminals, and it comes from an object that is bad.
    key = f"{meta.namespace}/{meta.name}" if meta.namespace else meta.name
    return key if key.isprintable() and len(key) <= 512 else ascii(key[:512])


def type_of(raw: bytes | Raw) -> wire.TypeMeta:
    """Return the document's apiVersion and kind. ObjectError for what is no JSON object."""
    return decode(_type_meta, raw, "object")


def identify(kind: str, meta: wire.Meta | None, *, namespaced: bool) -> tuple[str, str, Faults]:
    """Return namespace, name and an empty list of faults. ObjectError for a name that is none.

    An object without a namespace, of a kind that has one, is in ``default``, as kubectl would have it.
    """
    name = "" if meta is None else meta.name or ""
    namespace = (meta.namespace or "default") if namespaced and meta is not None else ""
    faults = Faults(kind, f"{namespace}/{name}" if namespace else name or "?")
    if not name:
        raise faults.fatal("metadata.name", "missing")
    if not canonical.is_name(name):
        raise ObjectError(kind, ascii(faults.key[:512]), "metadata.name: no DNS name; object ignored")
    if namespace and not canonical.is_name(namespace):
        raise ObjectError(kind, ascii(faults.key[:512]), "metadata.namespace: no DNS name; object ignored")
    return canonical.intern(namespace), name, faults


def quoted(value: str | int | None) -> str:
    """Return a value as it may stand in a problem: short and printable."""
    if value is None:
        return "nothing"
    if isinstance(value, int):
        # Python refuses to print integers of thousands of digits.
        return str(value) if abs(value) < 10**12 else "a number that large"
    return repr(value if len(value) <= 64 else value[:61] + "...")
