"""What a run of the suite found, and how it is kept: one JSON file for each cluster it ran against."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

FOLDER = Path(__file__).parent / "runs"
PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"


class Result(msgspec.Struct, frozen=True, omit_defaults=True):
    """One spec's. ``said`` is the suite's own word on why it failed or was skipped."""

    name: str
    outcome: str
    seconds: int = 0
    said: str = ""


class Run(msgspec.Struct, frozen=True):
    """One run: against what, and what came out."""

    title: str
    about: str
    services_by: str  # who serves Services there
    kubernetes: str
    commit: str
    nodes: int
    at_once: int
    seconds: int
    results: list[Result]
    left_out: list[str]  # the specs of the family that were not selected


@dataclass(frozen=True, slots=True)
class Kept:
    """A run's file."""

    path: Path

    def save(self, run: Run) -> None:
        """Write it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=1) + b"\n")

    def load(self) -> Run:
        """Read it. msgspec.ValidationError names what is not as it should be."""
        return msgspec.json.decode(self.path.read_bytes(), type=Run)


def kept() -> Sequence[Run]:
    """Return all runs that are kept, in the order of their files' names."""
    return [Kept(path).load() for path in sorted(FOLDER.glob("*.json"))]
