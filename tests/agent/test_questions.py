"""A running agent answers what a plugin knows, and says what a question lacks."""

import json
from pathlib import Path

import pytest
from harness.command import kr
from harness.crowd import crowd
from harness.machine import until

from kube_router.core.ask import ask
from kube_router.events.errors import PeerError


def test_plugins_answer_and_their_notes_are_journaled(tmp_path: Path) -> None:
    with crowd(tmp_path / "crowd", "well") as made:
        socket = str(made.socket)
        made.write(0)
        until(lambda: ask(socket, "explain", plugin="steady")["services"] == ["default/tick-0"], what="the Service")
        assert made.plugin("steady")["says"] == {"mood": "calm"}
        assert ask(socket, "ask", plugin="steady", what="time") == {"time": 12}
        with pytest.raises(PeerError, match="ask me for the time"):
            ask(socket, "ask", plugin="steady", what="weather")
        with pytest.raises(PeerError, match="plugin bad has no answer"):
            ask(socket, "ask", plugin="bad")
        with pytest.raises(PeerError, match="plugin 'nobody' does not run here; running: bad, steady"):
            ask(socket, "explain", plugin="nobody")
    done = kr("replay", str(tmp_path / "crowd" / "journal"), "-o", "json", "--kind", "steady")
    notes = [json.loads(line) for line in done.out.splitlines()]
    assert [note["what"] for note in notes if note["op"] == "note"] == [["was asked for the time"]]
