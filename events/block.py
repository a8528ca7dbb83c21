"""What reading text gives: documents of plain JSON values that know their lines, or the fault that ends it (pure)."""

from dataclasses import dataclass
from typing import Any

DEPTH_MAX = 100
NODES_MAX = 1_000_000  # of one document, aliases expanded


class Fault(Exception):
    """The text ends here: what is wrong, and in which line."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(f"line {line}: {what}")
        self.line, self.what = line, what


class Block(dict[str, Any]):
    """A mapping that knows the line it begins in."""

    __slots__ = ("line",)

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line


@dataclass(frozen=True, slots=True)
class Document:
    """``twice``: keys that stand twice in one mapping, the later one counting, with their lines."""

    line: int
    value: Any
    twice: tuple[tuple[int, str], ...] = ()
