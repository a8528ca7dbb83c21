"""The suite's report in JUnit's format, read."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from e2e.results import FAILED, PASSED, SKIPPED, Result

SAID_MAX = 300
FILTERED = "skipped"  # the whole message where the command line left a spec out; one that skips itself says more


def read(path: Path) -> list[Result]:
    """Return a result for each spec that was to run, by name. ElementTree.ParseError where it is no report."""
    results = [_result(case) for case in ElementTree.parse(path).iter("testcase") if _is_spec(case)]
    return sorted((result for result in results if result is not None), key=lambda result: result.name)


def _is_spec(case: ElementTree.Element) -> bool:
    return case.get("name", "").startswith("[It] ")


def _result(case: ElementTree.Element) -> Result | None:
    """Return one, None for a spec that the command line left out."""
    name = case.get("name", "").removeprefix("[It] ").strip()
    seconds = round(float(case.get("time", "0")))
    failed = next((found for tag in ("failure", "error") if (found := case.find(tag)) is not None), None)
    if failed is not None:
        return Result(name, FAILED, seconds, _line(failed.get("message") or failed.text or "without a word"))
    if (skipped := case.find("skipped")) is None:
        return Result(name, PASSED, seconds)
    said = skipped.get("message") or ""
    return None if said == FILTERED else Result(name, SKIPPED, seconds, _line(said.removeprefix("skipped - ")))


def _line(text: str) -> str:
    """Return a message as one line, without where and when it was said."""
    text = re.sub(r"\s+", " ", text).removeprefix("[FAILED]").partition(" In [")[0]
    return text.strip()[:SAID_MAX]
