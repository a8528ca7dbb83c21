"""What ``kr replay`` prints, word for word. ``UPDATE_GOLDEN=1 pytest tests/golden/cli`` writes the files anew."""

import os
from pathlib import Path

import pytest
from harness import story
from harness.command import kr

HERE = Path(__file__).parent
CASES = {
    "history": ["JOURNAL"],
    "history-all": ["JOURNAL", "--all"],
    "history-json": ["JOURNAL", "-o", "json", "--seq", "7..10"],
    "history-of-one-object": ["JOURNAL", "--kind", "endpointslices", "--key", "prod/*"],
    "history-of-two-nodes": ["JOURNAL", "OTHER"],
    "history-without-its-beginning": ["JOURNAL/00000000000000000009.log"],
    "state": ["JOURNAL", "--state", "--at", "10"],
    "state-json": ["JOURNAL", "--state", "--at", "10", "-o", "json"],
    "state-diff": ["JOURNAL", "--diff", "3", "2026-11-23T06:00Z"],
    "plan": ["JOURNAL", "--plan", "proxy", "--at", "19:55"],
    "plan-blame": ["JOURNAL", "--plan", "proxy", "--at", "11", "--blame"],
    "plan-json": ["JOURNAL", "--plan", "proxy", "--at", "11", "-o", "json"],
    "plan-diff": ["JOURNAL", "--plan", "proxy", "--diff", "9", "11"],
    "plan-diff-blame": ["JOURNAL", "--plan", "proxy", "--diff", "1", "11", "--blame"],
}


@pytest.mark.parametrize("case", CASES)
def test_the_output_is_as_it_was(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    story.journal(Path("JOURNAL"))
    story.journal_of_another_node(Path("OTHER"))
    done = kr("replay", *CASES[case])
    said = f"$ kr replay {' '.join(CASES[case])}\n{done.out}{done.err}exit {done.status}\n"
    golden = HERE / f"{case}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(said)
    assert said == golden.read_text()
