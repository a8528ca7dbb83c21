"""Lines for narrow terminals: none too long, nothing lost, long words broken where a reader would."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube_router.cli.wrapping import wrap


@given(st.text(), st.integers(12, 100), st.integers(0, 4))
def test_no_line_is_too_long_and_no_letter_is_lost(text: str, width: int, hang: int) -> None:
    lines = wrap(text, width, hang=hang)
    assert max(map(len, lines)) <= width
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert [line[:hang].strip() for line in lines[1:]] == [""] * (len(lines) - 1)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", [""]),
        ("short enough", ["short enough"]),
        ("a line that is longer", ["a line that is", "  longer"]),
        ("metadata.annotations[x]", ["metadata.", "  annotations[", "  x]"]),
        ("abcdefghijklmnopqrstuvwxyz", ["abcdefghijklmno", "  pqrstuvwxyz"]),
        ("in 172.30.100.200:6443 now", ["in", "  172.30.100.", "  200:6443 now"]),
    ],
)
def test_words_are_broken_at_their_marks(text: str, lines: list[str]) -> None:
    assert wrap(text, 15, hang=2) == lines
