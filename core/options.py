"""Options: one definition gives the flag, the environment variable, the config-file key, the default and the help."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["bool", "int", "text", "duration", "texts"]
Value = bool | int | float | str | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Option:
    """``name`` is as on the command line, without dashes.

    A ``duration`` is in seconds; ``texts`` is a repeatable comma list.
    """

    name: str
    kind: Kind
    default: Value
    help: str
    short: str = ""
    aliases: tuple[str, ...] = ()
    secret: bool = False


class Options:
    """The effective values. Typed getters: asking for the wrong type is our bug."""

    def __init__(self, values: Mapping[str, Value]) -> None:
        self._values = dict(values)

    def flag(self, name: str) -> bool:
        value = self._values[name]
        assert isinstance(value, bool), name
        return value

    def number(self, name: str) -> int:
        value = self._values[name]
        assert isinstance(value, int), name
        return value

    def seconds(self, name: str) -> float:
        value = self._values[name]
        assert isinstance(value, (int, float)), name
        return float(value)

    def text(self, name: str) -> str:
        value = self._values[name]
        assert isinstance(value, str), name
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        value = self._values[name]
        assert isinstance(value, tuple), name
        return value
