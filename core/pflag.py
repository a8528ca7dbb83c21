"""The command-line grammar of Go's pflag and of the values it takes (pure).

kube-router's manifests are written for this grammar, so it is kept to the letter where people rely on it:

    --flag value   --flag=value   --switch   --switch=false   -f value   -fvalue   -f=value   -sf value   --

A *switch* (boolean) never takes the next word, ``--`` ends the flags, flags and other words may be mixed. Durations are
Go's (``1h2m3.5s``, ``300ms``, ``0``), booleans those of strconv.ParseBool, integers may be written 0x1f, 0o17, 0b1 or
017, a list is one line of CSV and may be given several times.

What a flag means, where else values come from and which one wins is in core/options.py.
"""

import csv
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from kube_router.events.errors import ConfigError

TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})

INT64_MAX = 2**63 - 1
INTEGER_DIGITS_MAX = 64
LIST_CHARACTERS_MAX = 1 << 20

_NANOSECONDS: Mapping[str, int] = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # U+00B5, micro sign
    "μs": 1_000,  # U+03BC, Greek mu
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_DURATION_PART = re.compile(r"([0-9]{0,32})(?:(\.)([0-9]{0,32}))?([^0-9.]*)")
_SIZE = re.compile(r"([0-9]{1,19})([KMGT]?)(i?)B?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Grammar:
    """Which flags there are. ``names`` and ``shorts`` lead to a flag's own name; ``switches`` hold such names."""

    names: Mapping[str, str]
    shorts: Mapping[str, str]
    switches: frozenset[str]


class Given(NamedTuple):
    """One flag as found. ``written`` is how (``--run-router``, ``-v``), for messages."""

    name: str
    text: str
    written: str


class Word(NamedTuple):
    """A word that is no flag. ``after`` is the switch written just before it, "" where there is none."""

    text: str
    after: str


class Parsed(NamedTuple):
    given: tuple[Given, ...]
    words: tuple[Word, ...]


def parse(argv: Sequence[str], grammar: Grammar) -> Parsed:
    """Return the flags and the other words, both in order. ConfigError for an unknown flag or a missing value."""
    given: list[Given] = []
    words: list[Word] = []
    position, switch = 0, ""
    while position < len(argv):
        word = argv[position]
        position += 1
        if word == "--":
            words += [Word(each, "") for each in argv[position:]]
            break
        if len(word) < 2 or word[0] != "-":
            words.append(Word(word, switch))
            switch = ""
            continue
        rest = argv[position:]
        found, used = _long(word, rest, grammar) if word[1] == "-" else _shorts(word, rest, grammar)
        given += found
        position += used
        last = found[-1]
        switch = last.written if last.name in grammar.switches and "=" not in word else ""
    return Parsed(tuple(given), tuple(words))


def _long(word: str, rest: Sequence[str], grammar: Grammar) -> tuple[list[Given], int]:
    name, equals, text = word[2:].partition("=")
    if not name or name[0] == "-":
        raise ConfigError(f"bad flag syntax: {word}")
    flag = grammar.names.get(name)
    written = f"--{name}"
    if flag is None:
        raise ConfigError(unknown_flag(written, [f"--{known}" for known in grammar.names]))
    if equals:
        return [Given(flag, text, written)], 0
    if flag in grammar.switches:
        return [Given(flag, "true", written)], 0
    if not rest:
        raise ConfigError(f"flag {written} needs a value: {written}=VALUE")
    return [Given(flag, rest[0], written)], 1


def _shorts(word: str, rest: Sequence[str], grammar: Grammar) -> tuple[list[Given], int]:
    """Return the flags of one cluster such as ``-hv2``, and how many of the following words they took."""
    found: list[Given] = []
    letters = word[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        flag, written = grammar.shorts.get(letter), f"-{letter}"
        if flag is None:
            long = grammar.names.get(word[1:].partition("=")[0])
            hint = f"; did you mean -{word}?" if long and len(word) > 2 else ""
            raise ConfigError(f"unknown flag {written} in {word}{hint}")
        if letters[:1] == "=" and len(letters) > 1:
            return [*found, Given(flag, letters[1:], written)], 0
        if flag in grammar.switches:
            found.append(Given(flag, "true", written))
            continue
        if letters:
            return [*found, Given(flag, letters, written)], 0
        if not rest:
            raise ConfigError(f"flag {written} needs a value: {written} VALUE")
        return [*found, Given(flag, rest[0], written)], 1
    return found, 0


def unknown_flag(written: str, known: Iterable[str]) -> str:
    """Return the message for a flag nobody knows, with the nearest known one."""
    return f"unknown flag {written}{did_you_mean(written, known)}"


def did_you_mean(written: str, known: Iterable[str]) -> str:
    """Return ``; did you mean X?`` for the nearest of ``known``, "" if none is near."""
    near = difflib.get_close_matches(written[:80], list(known), n=1, cutoff=0.7)
    return f"; did you mean {near[0]}?" if near else ""


# -- values; each raises ValueError with words that follow "… is not" --------------------------------------------------


def boolean(text: str) -> bool:
    if text in TRUE:
        return True
    if text in FALSE:
        return False
    raise ValueError("a boolean: write true or false")


def integer(text: str) -> int:
    """Return the number as Go's strconv.ParseInt(text, 0, 64) reads it."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not digits or len(digits) > INTEGER_DIGITS_MAX or not digits.isascii() or digits[0] not in "0123456789":
        raise ValueError("a whole number")
    octal = digits[0] == "0" and digits.replace("_", "").isdigit() and len(digits) > 1
    try:
        number = int("0o" + digits[1:].lstrip("_") if octal else digits, 0)
    except ValueError:
        raise ValueError("a whole number") from None
    number = -number if text[0] == "-" else number
    if not -INT64_MAX - 1 <= number <= INT64_MAX:
        raise ValueError("a number of 64 bits")
    return number


def size(text: str) -> int:
    """Return a number of bytes: ``134217728``, ``128MiB``, ``128Mi``, ``100M``."""
    match = _SIZE.fullmatch(text)
    if match is None or (match[3] and not match[2]):
        raise ValueError("a size: write bytes or, for example, 128MiB")
    factor: int = (1024 if match[3] else 1000) ** " KMGT".index(match[2] or " ")
    number = int(match[1]) * factor
    if number > INT64_MAX:
        raise ValueError("a size of 64 bits")
    return number


def duration(text: str) -> float:
    """Return the seconds of a Go duration."""
    sign, body = (text[0], text[1:]) if text[:1] in ("+", "-") else ("", text)
    if body == "0":
        return 0.0
    if not body:
        raise ValueError("a duration: write 30s, 5m or 1h30m")
    nanoseconds, position = Fraction(0), 0
    while position < len(body):
        match = _DURATION_PART.match(body, position)
        assert match is not None  # every part of the pattern may be empty
        whole, fraction, unit = match[1], match[3] or "", match[4]
        if not whole and not fraction:
            raise ValueError("a duration: write 30s, 5m or 1h30m")
        if not unit:
            raise ValueError("a duration: its unit is missing; write 30s, 5m or 1h30m")
        if unit not in _NANOSECONDS:
            raise ValueError(f"a duration: unknown unit {unit[:20]!r}; write 30s, 5m or 1h30m")
        nanoseconds += Fraction(int(whole + fraction), 10 ** len(fraction)) * _NANOSECONDS[unit]
        if nanoseconds > INT64_MAX:
            raise ValueError("a duration that fits (at most 292 years)")
        position = match.end()
    seconds = float(nanoseconds / 1_000_000_000)
    return -seconds if sign == "-" else seconds


def texts(text: str) -> tuple[str, ...]:
    """Return the items of one comma list; quotes as in CSV, nothing trimmed."""
    if not text:
        return ()
    if len(text) > LIST_CHARACTERS_MAX:
        raise ValueError("a list that fits (1 MiB)")
    try:
        rows = list(csv.reader([text], strict=True))
    except csv.Error as error:
        raise ValueError(f"a comma list: {error}") from None
    return tuple(rows[0]) if len(rows) == 1 else ()


def duration_text(seconds: float) -> str:
    """Return the shortest Go duration: ``5m``, ``1m30s``, ``300ms``."""
    if seconds == 0:
        return "0s"
    nanoseconds = round(abs(seconds) * 1_000_000_000)
    text = "-" if seconds < 0 else ""
    for unit in ("h", "m", "s", "ms", "us", "ns"):
        amount, nanoseconds = divmod(nanoseconds, _NANOSECONDS[unit])
        if amount:
            text += f"{amount}{unit}"
    return text


def texts_text(items: Sequence[str]) -> str:
    """Return the comma list that ``texts`` reads back."""
    if tuple(items) == ("",):
        return '""'
    return ",".join('"' + item.replace('"', '""') + '"' if _needs_quotes(item) else item for item in items)


def _needs_quotes(item: str) -> bool:
    return any(character in item for character in ',"\r\n')
