"""Turn YAML text into plain JSON values, whoever wrote it (pure).

One pass over the parser's events with a stack of our own, so that neither deep nesting (the YAML library's own composer
overflows the C stack and takes the process with it) nor aliases that multiply can do harm; both have bounds. Scalars
are read as Kubernetes' tools read them (YAML 1.1 booleans), but a time stays text, and so do ``1:30`` and ``=``, which
PyYAML makes a number and an error. What JSON cannot say (a list as a key, binary data) ends the text there.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from kube_router.events.block import DEPTH_MAX, NODES_MAX, Block, Document, Fault

NUMBER_LENGTH_MAX = 40

TOO_DEEP = f"nested more than {DEPTH_MAX} deep"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_null = re.compile(r"~|null|Null|NULL|").fullmatch
_true = re.compile(r"yes|Yes|YES|true|True|TRUE|on|On|ON").fullmatch
_false = re.compile(r"no|No|NO|false|False|FALSE|off|Off|OFF").fullmatch
_integer = re.compile(r"[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0o?[0-7_]+|0|[1-9][0-9_]*)", re.ASCII).fullmatch
_float = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII).fullmatch
_PLAIN_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("int", "float", "bool", "null")}
_KNOWN_TAGS = {None, "!", *(f"tag:yaml.org,2002:{name}" for name in ("str", "map", "seq"))}


@dataclass(slots=True)
class _Open:
    """A mapping or list being read. ``key`` waits for its value; ``merges`` are what ``<<`` names."""

    value: Any
    anchor: str | None
    line: int
    size: int = 1
    key: str | None = None
    is_merge: bool = False
    merges: list[Any] = field(default_factory=list)


class _Builder:
    """Builds one document from its events."""

    def __init__(self) -> None:
        self.result: Any = None
        self.line = 0
        self.twice: list[tuple[int, str]] = []
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[Any, int]] = {}

    def take(self, event: yaml.Event) -> None:
        line = 1 if event.start_mark is None else event.start_mark.line + 1
        self.line = self.line or line
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event, line)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event, line)
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            self._begin(event, line)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            self._end()

    def _begin(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent, line: int) -> None:
        if event.tag not in _KNOWN_TAGS:
            raise Fault(line, f"the tag {event.tag!r} means nothing here")
        if len(self._stack) >= DEPTH_MAX:
            raise Fault(line, TOO_DEEP)
        if self._wants_key():
            raise Fault(line, "a key must be text, not a mapping or a list")
        value: Any = Block(line) if isinstance(event, yaml.MappingStartEvent) else []
        self._stack.append(_Open(value, event.anchor, line))

    def _end(self) -> None:
        done = self._stack.pop()
        for merged in done.merges:
            for name, value in merged.items():
                done.value.setdefault(name, value)
        self._add(done.value, size=done.size, anchor=done.anchor, line=done.line)

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> None:
        if self._wants_key():
            self._key(event, line)
            return
        tag = event.tag
        if tag not in _KNOWN_TAGS and tag not in _PLAIN_TAGS:
            raise Fault(line, f"the tag {tag!r} means nothing here")
        is_plain = tag in _PLAIN_TAGS or (tag is None and event.implicit[0])
        value = plain(event.value) if is_plain else event.value
        self._add(value, size=1, anchor=event.anchor, line=line)

    def _key(self, event: yaml.ScalarEvent, line: int) -> None:
        parent = self._stack[-1]
        parent.key = event.value
        parent.is_merge = event.value == "<<" and event.implicit[0]
        if event.value in parent.value and not parent.is_merge:
            self.twice.append((line, event.value))

    def _alias(self, event: yaml.AliasEvent, line: int) -> None:
        if self._wants_key():
            raise Fault(line, "a key must be text, not an alias")
        if event.anchor not in self._anchors:
            raise Fault(line, f"*{event.anchor} names nothing before it")
        value, size = self._anchors[event.anchor]
        self._add(value, size=size, anchor=None, line=line)

    def _add(self, value: Any, *, size: int, anchor: str | None, line: int) -> None:
        """Put a finished value where it belongs. Anchors are known only from here on: no value can hold itself."""
        if anchor is not None:
            self._anchors[anchor] = (value, size)
        if not self._stack:
            self.result = value
            return
        parent = self._stack[-1]
        parent.size += size
        if parent.size > NODES_MAX:
            raise Fault(line, f"more than {NODES_MAX} values, aliases expanded")
        if isinstance(parent.value, list):
            parent.value.append(value)
        elif parent.is_merge:
            self._merge(parent, value, line)
        else:
            parent.value[parent.key] = value
        parent.key = None

    def _merge(self, parent: _Open, value: Any, line: int) -> None:
        merged = value if isinstance(value, list) else [value]
        if not all(isinstance(each, dict) for each in merged):
            raise Fault(line, "<< takes a mapping or a list of mappings")
        parent.merges += merged

    def _wants_key(self) -> bool:
        return bool(self._stack) and isinstance(self._stack[-1].value, dict) and self._stack[-1].key is None


def plain(text: str) -> str | int | float | bool | None:
    """Return what an unquoted scalar means."""
    if text[:1].isalpha() and text[0] not in "yYnNtTfFoO":
        return text
    if _null(text):
        return None
    if _true(text):
        return True
    if _false(text):
        return False
    if len(text) > NUMBER_LENGTH_MAX:
        return text
    if _integer(text):
        return _whole(text)
    return float(text) if _float(text) else text


def _whole(text: str) -> int | str:
    sign, digits = (-1 if text[0] == "-" else 1), text.lstrip("+-").replace("_", "")
    try:
        if digits[:1] == "0" and len(digits) > 1 and digits[1] not in "bxo":
            return sign * int(digits, 8)
        return sign * int(digits, 0)
    except ValueError:  # underscores alone, "0x_"
        return text


def yaml_documents(text: str) -> Iterator[Document]:
    """Return the documents up to the first that cannot be read; there, raise Fault. Empty ones are left out."""
    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            if isinstance(event, yaml.DocumentStartEvent):
                builder = _Builder()
            elif isinstance(event, yaml.DocumentEndEvent):
                if builder.result is not None:
                    yield Document(builder.line, builder.result, tuple(builder.twice))
            else:
                builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = error.problem or error.context or "not YAML"
        if "nesting depth" in what:  # libyaml reads ahead, and gives up at a thousand before we see the hundredth
            what = TOO_DEEP
        raise Fault(1 if mark is None else mark.line + 1, what) from None
    except yaml.reader.ReaderError as error:
        raise Fault(text.count("\n", 0, error.position) + 1, f"{error.reason} (#x{_code(error):04x})") from None


def _code(error: yaml.reader.ReaderError) -> int:
    return error.character if isinstance(error.character, int) else ord(str(error.character)[:1] or "\0")
