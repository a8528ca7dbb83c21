"""What routing would hold, word for word. ``UPDATE_GOLDEN=1 pytest tests/golden/routing`` writes the files anew."""

import os
from pathlib import Path

import pytest
from harness import routing_story
from harness.command import kr

HERE = Path(__file__).parent
AT_SEQ = "16"
CASES: dict[str, tuple[dict[str, str], list[str]]] = {
    "ipip": ({}, ["--at", AT_SEQ]),
    "blame": ({}, ["--at", AT_SEQ, "--blame"]),
    "json": ({}, ["--at", "10", "-o", "json"]),
    "nothing-known": ({}, ["--at", "0", "--node", "n1"]),
    "before-its-routes": ({}, ["--at", "10"]),
    "later": ({}, ["--at", "18"]),
    "diff": ({}, ["--diff", AT_SEQ, "18", "--blame"]),
    "blame-vxlan": ({"overlay_encap": "vxlan"}, ["--at", AT_SEQ, "--blame"]),
    "too-many-routes": ({}, ["--blame"]),
    "full-overlay": ({"overlay_type": "full"}, ["--at", AT_SEQ]),
    "fou": ({"overlay_encap": "fou"}, ["--at", AT_SEQ]),
    "vxlan": ({"overlay_encap": "vxlan"}, ["--at", AT_SEQ]),
    "no-overlay": ({"enable_overlay": "false", "enable_pod_egress": "false"}, ["--at", AT_SEQ]),
    "pods-kept-inside": ({"advertise_pod_cidr": "false", "enable_ibgp": "false"}, ["--at", AT_SEQ]),
    "no-as-number": ({"nodes_full_mesh": "false"}, ["--at", AT_SEQ]),
}


@pytest.mark.parametrize("case", CASES)
def test_the_plan_is_as_it_was(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options, words = CASES[case]
    monkeypatch.chdir(tmp_path)
    routing_story.journal(Path("JOURNAL"), **options)
    done = kr("replay", "JOURNAL", "--plan", "routing", *words)
    said = f"$ kr replay JOURNAL --plan routing {' '.join(words)}\n{done.out}{done.err}exit {done.status}\n"
    golden = HERE / f"{case}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(said)
    assert said == golden.read_text()
