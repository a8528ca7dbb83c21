"""Moments and ranges as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube_router.cli.moment import Moment, Point, SeqRange, parse_moment, parse_seqs, time_text
from kube_router.events.errors import ConfigError

END = 1_795_377_841_250  # 2026-11-22T20:04:01.250Z


@pytest.mark.parametrize(
    ("text", "point"),
    [
        pytest.param("4182", Point(seq=4182), id="a seq"),
        pytest.param("2026-11-22T19:54:01Z", Point(t=1_795_377_241_000), id="RFC 3339"),
        pytest.param("2026-11-22T19:54:01.250Z", Point(t=1_795_377_241_250), id="with a fraction"),
        pytest.param("2026-11-22 19:54:01", Point(t=1_795_377_241_000), id="a space, and UTC unless said otherwise"),
        pytest.param("2026-11-22T21:54:01+02:00", Point(t=1_795_377_241_000), id="an offset"),
        pytest.param("2026-11-22", Point(t=1_795_305_600_000), id="a date is its midnight"),
        pytest.param("19:54:01", Point(t=1_795_377_241_000), id="a time of day, today"),
        pytest.param("19:54:01.25", Point(t=1_795_377_241_250), id="with a fraction of a second"),
        pytest.param("20:30", Point(t=1_795_293_000_000), id="a time of day that has not come yet was yesterday"),
        pytest.param("-5m", Point(t=END - 300_000), id="before the end"),
        pytest.param("-1h2m3.5s", Point(t=END - 3_723_500), id="any Go duration"),
    ],
)
def test_a_moment_becomes_a_point(text: str, point: Point) -> None:
    assert parse_moment(text).point(END) == point


@pytest.mark.parametrize(
    "text", ["", "x", "24:00", "12:60", "-5", "-", "--5m", "2026-13-01", "1e3", "5m", "٤", "9999-99-99T00:00:00Z"]
)
def test_what_is_no_moment_is_an_error_that_says_what_to_write(text: str) -> None:
    with pytest.raises(ConfigError, match="is no moment: write a seq"):
        parse_moment(text)


@pytest.mark.parametrize(
    ("text", "span"),
    [("5", SeqRange(5, 5)), ("5..9", SeqRange(5, 9)), ("5..", SeqRange(5)), ("..9", SeqRange(0, 9))],
)
def test_a_range_of_seqs_has_both_its_ends(text: str, span: SeqRange) -> None:
    assert parse_seqs(text) == span
    assert 5 in span
    assert 10 not in parse_seqs("5..9")


@pytest.mark.parametrize("text", ["", "..", "x", "9..5", "1...2", "-1..5"])
def test_what_is_no_range_is_an_error(text: str) -> None:
    with pytest.raises(ConfigError, match="range of seqs"):
        parse_seqs(text)


def test_a_point_is_after_its_own_record() -> None:
    assert not Point(seq=7).is_before(7, 0)
    assert Point(seq=7).is_before(8, 0)
    assert not Point(t=1000).is_before(1, 1000)
    assert Point(t=1000).is_before(1, 1001)


@given(st.text(max_size=30))
def test_no_text_raises_anything_but_config_error(text: str) -> None:
    for parse in (parse_moment, parse_seqs):
        try:
            parsed = parse(text)
        except ConfigError:
            continue
        if isinstance(parsed, Moment):
            assert str(parsed.point(END))


@given(st.integers(min_value=0, max_value=253402300799999))
def test_a_printed_time_is_the_moment_it_was(t: int) -> None:
    assert parse_moment(time_text(t)).point(0) == Point(t=t)
