"""docs/conformance.md, made of what runs have found and of the reasons for what was not run (pure but for PATH)."""

import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from e2e import selection
from e2e.results import FAILED, PASSED, SKIPPED, Result, Run

PATH = Path(__file__).parents[2] / "docs" / "conformance.md"
HEAD = """\
# Conformance: Kubernetes' own end-to-end suite

<!-- Made by `make e2e` and `make e2e-ipvs` (tests/e2e); do not edit. -->

`make e2e` runs every spec of the suite that is of the network, `[sig-network]`, against a real cluster on this machine
and writes this page. What is not run has a reason below. Nothing is pulled: the suite and Kubernetes are built from
their Go module, the images that the specs want of Debian's packages.
"""
SIGNS = {PASSED: "passed", FAILED: "**FAILED**", SKIPPED: "skipped"}
WIDTH = 120
Spec = str


def render(runs: Sequence[Run]) -> str:
    """Return the page."""
    parts = [HEAD, _summary(runs)]
    parts += [_run(run) for run in runs]
    return "\n".join(parts)


def unknown_failures(run: Run) -> list[Result]:
    """Return what failed and is not explained."""
    return [
        result
        for result in run.results
        if result.outcome == FAILED and not selection.known(result.name, run.services_by)
    ]


def unaccounted(run: Run, specs: Sequence[Spec]) -> list[Spec]:
    """Return the specs of the family that have neither a result nor a reason, or were skipped without one here."""
    ran = {result.name for result in run.results if result.outcome != SKIPPED}
    return [spec for spec in specs if selection.in_family(spec) and spec not in ran and not selection.reason(spec)]


def _summary(runs: Sequence[Run]) -> str:
    lines = ["| run | passed | failed | not run |", "|---|---|---|---|"]
    for run in runs:
        count = {outcome: sum(result.outcome == outcome for result in run.results) for outcome in SIGNS}
        left_out = count[SKIPPED] + len(run.left_out)
        lines.append(f"| [{run.title}](#{_anchor(run.title)}) | {count[PASSED]} | {count[FAILED]} | {left_out} |")
    return "\n".join([*lines, ""])


def _run(run: Run) -> str:
    head = f"## {run.title}\n\n{_wrapped(run.about)}\n"
    facts = _wrapped(
        f"Kubernetes {run.kubernetes}, {run.nodes} nodes, agent of commit `{run.commit}`; {run.at_once} specs at once, "
        f"{len(run.results)} specs in {run.seconds // 60} min {run.seconds % 60} s."
    )
    return "\n".join([head, facts, "", *_tables(run), *_left_out(run)])


def _tables(run: Run) -> Iterator[str]:
    for group, results in groupby(sorted(run.results, key=_order), key=lambda result: _group(result.name)):
        by = f" (served by {run.services_by})" if group in selection.OF_SERVICES else ""
        yield f"### {group}{by}\n\n| spec | result | s |\n|---|---|---|"
        for result in results:
            yield f"| {_cell(_rest(result.name))} | {_outcome(result, run.services_by)} | {result.seconds} |"
        yield ""


def _order(result: Result) -> tuple[int, Spec]:
    group = _group(result.name)
    return selection.GROUPS.index(group) if group in selection.GROUPS else len(selection.GROUPS), result.name


def _outcome(result: Result, services_by: str) -> str:
    if result.outcome == PASSED:
        return SIGNS[PASSED]
    known = selection.reason(result.name)
    if result.outcome == FAILED:
        known = selection.known(result.name, services_by)
    return f"{SIGNS[result.outcome]}: {_cell(known or result.said)}"


def _left_out(run: Run) -> Iterator[str]:
    if not run.left_out:
        return
    yield "### Not run\n\n| spec | why not |\n|---|---|"
    for spec in run.left_out:
        yield f"| {_cell(spec.removeprefix(selection.FAMILY).strip())} | {selection.reason(spec)} |"
    yield ""


def _group(name: Spec) -> str:
    """Return the first words of a spec's name after its family: what the suite calls its container."""
    fitting = [group for group in selection.GROUPS if _bare(name).startswith(group)]
    return max(fitting, key=len, default="Others")


def _rest(name: Spec) -> str:
    return _bare(name).removeprefix(_group(name)).strip(" :")


def _bare(name: Spec) -> str:
    return name.removeprefix(selection.FAMILY).strip()


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH)


def _cell(text: str) -> str:
    """Return a text that stays in its cell of a table."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[")
