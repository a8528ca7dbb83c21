"""Turn JSON text into values: one object after another, as kubectl accepts them (pure).

The outermost object is walked key by key and a list in it item by item, since the items of a ``kind: List`` are objects
with lines of their own; everything below is left to the json module.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from kube_router.events.block import NODES_MAX, Block, Document, Fault


def json_documents(text: str) -> Iterator[Document]:
    """Return the objects up to the first that cannot be read; there, raise Fault."""
    reader = _Reader(text)
    while not reader.at_end():
        line = reader.line
        value = reader.outer_object()
        yield Document(line, value)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


_decoder = json.JSONDecoder(parse_constant=_refuse_constant)
_blank = re.compile(r"[ \t\r\n]*")


class _Reader:
    """A place in the text, and its line."""

    def __init__(self, text: str) -> None:
        self._text, self._position, self.line = text, 0, 1

    def at_end(self) -> bool:
        return self._next() == ""

    def outer_object(self) -> Block:
        value = Block(self.line)
        self._expect("{")
        while self._next() != "}":
            name = self._value()
            if not isinstance(name, str):
                raise Fault(self.line, "a key must be text")
            self._expect(":")
            value[name] = self._items() if self._next() == "[" else self._value()
            self._comma_before("}")
        self._expect("}")
        return value

    def _items(self) -> list[Any]:
        items: list[Any] = []
        self._expect("[")
        while self._next() != "]":
            if len(items) >= NODES_MAX:
                raise Fault(self.line, f"more than {NODES_MAX} values")
            item = Block(self.line) if self._next() == "{" else None
            value = self._value()
            if item is not None:
                item.update(value)
            items.append(value if item is None else item)
            self._comma_before("]")
        self._expect("]")
        return items

    def _next(self) -> str:
        """Return the next character that is no blank, "" at the end, and stand before it."""
        blank = _blank.match(self._text, self._position)
        self._advance(blank.end() if blank else self._position)
        return self._text[self._position : self._position + 1]

    def _expect(self, character: str) -> None:
        if self._next() != character:
            found = self._text[self._position : self._position + 1] or "the end"
            raise Fault(self.line, f"expected {character!r}, found {found!r}")
        self._advance(self._position + 1)

    def _comma_before(self, end: str) -> None:
        if self._next() == end:
            return
        self._expect(",")
        if self._next() == end:
            raise Fault(self.line, f"a comma before {end!r}")

    def _value(self) -> Any:
        self._next()
        try:
            value, end = _decoder.raw_decode(self._text, self._position)
        except json.JSONDecodeError as error:
            raise Fault(error.lineno, error.msg[:1].lower() + error.msg[1:]) from None
        except RecursionError:
            raise Fault(self.line, "nested too deeply to be read") from None
        except ValueError as error:  # a constant or number that is no JSON
            raise Fault(self.line, str(error)) from None
        self._advance(end)
        return value

    def _advance(self, position: int) -> None:
        self.line += self._text.count("\n", self._position, position)
        self._position = position
