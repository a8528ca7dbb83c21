"""What ``kr status`` prints, word for word, on a phone and on a desk. ``UPDATE_GOLDEN=1`` writes the files anew.

The documents were recorded from running agents: one that is well; one with a malformed annotation and a BGP peer that
is not there; one that started while its API server was away.
"""

import json
import os
from pathlib import Path

import pytest

from kube_router.cli.status import render

HERE = Path(__file__).parent


@pytest.mark.parametrize("width", [40, 100])
@pytest.mark.parametrize("node", ["healthy", "degraded", "journal"])
def test_the_status_is_as_it_was(node: str, width: int) -> None:
    said = render(json.loads((HERE / f"status-{node}.json").read_text()), width)
    golden = HERE / f"status-{node}-{width}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(said)
    assert said == golden.read_text()


@pytest.mark.parametrize(
    ("node", "first"),
    [
        ("healthy", "in sync, no problems"),
        ("degraded", "not in sync: routing presumed"),
        ("journal", "presumed from the journal for 12m4s"),
    ],
)
def test_the_first_line_fits_a_phone_and_says_how_the_node_is(node: str, first: str) -> None:
    for width in (40, 100):
        assert (HERE / f"status-{node}-{width}.txt").read_text().splitlines()[0] == first
