"""Moments of a history as people write them: a seq, a time, a time of day, so long before the end (pure).

    4182                       after the record with this seq
    2026-11-22T19:54:01Z       RFC 3339; a space may stand for the T, fractions and offsets are understood
    2026-11-22                 midnight
    19:54  19:54:01.250        the last such time of day before the history's end
    -5m                        so long before the history's end (a Go duration)

All times are UTC unless they say otherwise, as all that is printed is.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Literal, NamedTuple

from kube_router.core import pflag
from kube_router.events.errors import ConfigError

DAY_MS = 86_400_000
SEQ_MAX = 10**18

_SEQ = re.compile(r"[0-9]{1,18}", re.ASCII)
_OF_DAY = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9])(?:\.([0-9]{1,6}))?)?Z?", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Point:
    """A place in a history: after the record ``seq``, or after all records up to the time ``t`` (Unix ms)."""

    seq: int | None = None
    t: int | None = None

    def is_before(self, seq: int, t: int) -> bool:
        """Say whether a record with this seq and time comes after the point."""
        return (self.seq is not None and seq > self.seq) or (self.t is not None and t > self.t)

    def __str__(self) -> str:
        return f"seq {self.seq}" if self.seq is not None else time_text(self.t or 0)


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment as written; some need the history's end to become a point."""

    kind: Literal["seq", "time", "of day", "before end"]
    number: int  # a seq, Unix ms, ms since midnight, ms before the end

    @property
    def needs_end(self) -> bool:
        return self.kind in ("of day", "before end")

    def point(self, end_ms: int) -> Point:
        """Return the point, given the time of the history's last record."""
        if self.kind == "seq":
            return Point(seq=self.number)
        if self.kind == "time":
            return Point(t=self.number)
        if self.kind == "before end":
            return Point(t=end_ms - self.number)
        today = end_ms - end_ms % DAY_MS + self.number
        return Point(t=today if today <= end_ms else today - DAY_MS)


class SeqRange(NamedTuple):
    """Both ends belong to it."""

    first: int = 0
    last: int = SEQ_MAX

    def __contains__(self, seq: object) -> bool:
        return isinstance(seq, int) and self.first <= seq <= self.last


ALL_SEQS = SeqRange()


def parse_moment(text: str) -> Moment:
    """Return the moment a text means. ConfigError for what is none."""
    if _SEQ.fullmatch(text):
        return Moment("seq", int(text))
    if match := _OF_DAY.fullmatch(text):
        hour, minute, second = int(match[1]), int(match[2]), int(match[3] or 0)
        fraction = int((match[4] or "").ljust(6, "0")) // 1000
        return Moment("of day", ((hour * 60 + minute) * 60 + second) * 1000 + fraction)
    if text.startswith("-"):
        return Moment("before end", -_duration_ms(text))
    try:
        when = datetime.fromisoformat(text)
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        return Moment("time", round((when - _EPOCH) / timedelta(milliseconds=1)))
    except (ValueError, OverflowError):
        raise _no_moment(text) from None


def parse_seqs(text: str) -> SeqRange:
    """Return the range that ``A..B``, ``A..``, ``..B`` or ``A`` means. ConfigError for what is none."""
    first, dots, last = text.partition("..")
    if not all(part == "" or _SEQ.fullmatch(part) for part in (first, last)) or not (first or last):
        raise ConfigError(f"{text[:80]!r} is no range of seqs: write 100..200, 100.., ..200 or 100")
    span = SeqRange(int(first or 0), int(last or SEQ_MAX) if dots else int(first))
    if span.first > span.last:
        raise ConfigError(f"the range of seqs {text} is empty: its first is greater than its last")
    return span


def time_text(t: int) -> str:
    """Return Unix milliseconds as RFC 3339."""
    return f"{date_text(t)}T{clock_text(t)}Z"


def date_text(t: int) -> str:
    """Return the date: ``2026-11-22``."""
    return _date_of_day(t // DAY_MS)


def clock_text(t: int) -> str:
    """Return the time of day: ``19:54:01.250``."""
    seconds, milliseconds = divmod(t % DAY_MS, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}.{milliseconds:03}"


@lru_cache(maxsize=1024)
def _date_of_day(day: int) -> str:
    try:
        return (_EPOCH + timedelta(days=day)).strftime("%Y-%m-%d")
    except OverflowError:  # a record with an absurd time is shown at the epoch rather than not at all
        return _EPOCH.strftime("%Y-%m-%d")


def _duration_ms(text: str) -> int:
    try:
        return round(pflag.duration(text) * 1000)
    except ValueError:
        raise _no_moment(text) from None


def _no_moment(text: str) -> ConfigError:
    return ConfigError(
        f"{text[:80]!r} is no moment: write a seq (4182), a time (2026-11-22T19:54:01Z or 19:54:01), "
        "or so long before the end (-5m)"
    )
