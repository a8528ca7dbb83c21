"""What a benchmark found: one figure beside its peer's and its bar, printed for people and kept for the summary.

Every benchmark runs alone and prints its figures as it goes; ``benchmarks.run`` names a file in $KR_FIGURES, to which
they are appended besides, a JSON object a line.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "KR_FIGURES"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value. ``peer`` is somebody else's for the same work, 0 without one.

    ``bar`` is in the unit of ``ours``, or, with ``of_peer``, a multiple of the peer's; None for what has no bar.
    ``at_least`` turns it round: more is better. ``recorded``: the peer was not measured in this run.
    """

    what: str
    ours: float
    unit: str
    peer: float = 0.0
    peer_name: str = ""
    bar: float | None = None
    of_peer: bool = False
    at_least: bool = False
    recorded: bool = False

    @property
    def ratio(self) -> float:
        """Ours over the peer's, 0 without a peer."""
        return self.ours / self.peer if self.peer else 0.0

    @property
    def ratio_text(self) -> str:
        """The ratio, "" where it would mean nothing: times of different runs cannot be compared, counts can."""
        return number(self.ratio) if self.peer and (not self.recorded or self.unit == "writes") else ""

    @property
    def met(self) -> bool | None:
        """Whether the bar is met, None without a bar."""
        if self.bar is None:
            return None
        value = self.ratio if self.of_peer else self.ours
        return value >= self.bar if self.at_least else value <= self.bar

    @property
    def bar_text(self) -> str:
        """The bar in words, "" without one."""
        if self.bar is None:
            return ""
        sign = "≥" if self.at_least else "≤"
        return f"{sign} {self.bar:g} × {self.peer_name}" if self.of_peer else f"{sign} {number(self.bar)} {self.unit}"


def number(value: float) -> str:
    """Return a value with as many digits as it deserves: ``0.0123``, ``4.56``, ``123``, ``200,000``."""
    if value == 0:
        return "0"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def words(met: bool | None) -> str:
    """Return a verdict in a word, "" where there is no bar."""
    return "" if met is None else "yes" if met else "NO"


def report(figure: Figure) -> None:
    """Print a figure, and keep it where $KR_FIGURES says."""
    peer = ""
    if figure.peer:
        elsewhere = ", recorded in an earlier run" if figure.recorded else ""
        peer = f"   {figure.peer_name} {number(figure.peer)} {figure.unit}{elsewhere}"
        peer += f"   ratio {figure.ratio_text}" if figure.ratio_text else ""
    bar = f"   bar {figure.bar_text}: {'met' if figure.met else 'MISSED'}" if figure.bar is not None else ""
    print(f"{figure.what:<52} {number(figure.ours):>9} {figure.unit}{peer}{bar}", flush=True)
    if file := os.environ.get(FILE):
        with Path(file).open("a") as kept:
            kept.write(json.dumps(asdict(figure)) + "\n")


def read(file: Path) -> list[Figure]:
    """Return the figures that were kept in a file."""
    return [Figure(**json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []


def markdown(figures: list[Figure]) -> str:
    """Return a table of them."""
    rows = ["| what | ours | peer | ours ÷ peer | bar | met? |", "|---|---|---|---|---|---|"]
    for figure in figures:
        star = " \\*" if figure.recorded else ""
        peer = f"{number(figure.peer)} {figure.unit} ({figure.peer_name}){star}" if figure.peer else ""
        ours = f"{number(figure.ours)} {figure.unit}"
        what = figure.what.replace("  ", "&emsp;", 1) if figure.what.startswith("  ") else figure.what
        rows.append(f"| {what} | {ours} | {peer} | {figure.ratio_text} | {figure.bar_text} | {words(figure.met)} |")
    return "\n".join(rows)
