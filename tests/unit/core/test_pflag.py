"""pflag's grammar, as Go's pflag behaves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube_router.core import pflag
from kube_router.core.pflag import Given, Grammar, Parsed, Word
from kube_router.events.errors import ConfigError

GRAMMAR = Grammar(
    names={"v": "v", "all": "all", "quiet": "quiet", "port": "port", "ips": "ips", "run-router": "run-routing",
           "run-routing": "run-routing", "help": "help"},
    shorts={"v": "v", "h": "help", "q": "quiet"},
    switches=frozenset({"all", "quiet", "help", "run-routing"}),
)  # fmt: skip


def flags(*argv: str) -> list[tuple[str, str]]:
    return [(name, text) for name, text, _ in pflag.parse(argv, GRAMMAR).given]


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        pytest.param(["--port", "80"], [("port", "80")], id="the next word is the value"),
        pytest.param(["--port=80"], [("port", "80")], id="equals"),
        pytest.param(["--port="], [("port", "")], id="equals nothing is the empty text"),
        pytest.param(["--port", ""], [("port", "")], id="an empty word is a value"),
        pytest.param(["--port", "--all"], [("port", "--all")], id="a flag that needs a value takes even a flag"),
        pytest.param(["--port", "--"], [("port", "--")], id="and even the dashes"),
        pytest.param(["--port=a=b"], [("port", "a=b")], id="the first equals sign splits"),
        pytest.param(["--all"], [("all", "true")], id="a switch alone is true"),
        pytest.param(["--all=false"], [("all", "false")], id="a switch with a value"),
        pytest.param(["--all", "--port", "1"], [("all", "true"), ("port", "1")], id="a switch takes no word"),
        pytest.param(["-v", "2"], [("v", "2")], id="short, next word"),
        pytest.param(["-v2"], [("v", "2")], id="short, glued"),
        pytest.param(["-v=2"], [("v", "2")], id="short, equals"),
        pytest.param(["-v="], [("v", "=")], id="short, equals nothing: pflag takes the sign as the value"),
        pytest.param(["-v", "-1"], [("v", "-1")], id="short, a value that begins with a dash"),
        pytest.param(["--v=3"], [("v", "3")], id="a one-letter long name"),
        pytest.param(["-qv2"], [("quiet", "true"), ("v", "2")], id="switches may lead a cluster"),
        pytest.param(["-qh"], [("quiet", "true"), ("help", "true")], id="a cluster of switches"),
        pytest.param(["-q=false"], [("quiet", "false")], id="a short switch with a value"),
        pytest.param(["-qv", "2"], [("quiet", "true"), ("v", "2")], id="the last of a cluster takes the next word"),
        pytest.param(["--run-router=0"], [("run-routing", "0")], id="an alias is the flag"),
        pytest.param(["--port", "1", "--port", "2"], [("port", "1"), ("port", "2")], id="twice is twice"),
    ],
)
def test_flags_are_cut_as_pflag_cuts_them(argv: list[str], expected: list[tuple[str, str]]) -> None:
    assert flags(*argv) == expected


def test_words_that_are_no_flags_are_kept_apart_and_remember_the_switch_before_them() -> None:
    assert pflag.parse(["--all", "false", "x", "-", "--", "--port"], GRAMMAR) == Parsed(
        (Given("all", "true", "--all"),), (Word("false", "--all"), Word("x", ""), Word("-", ""), Word("--port", ""))
    )


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--prot", "80"], "unknown flag --prot; did you mean --port?"),
        (["--zzz=1"], "unknown flag --zzz"),
        (["--run-ruoter"], "unknown flag --run-ruoter; did you mean --run-router?"),
        (["-x"], "unknown flag -x in -x"),
        (["-port=80"], "unknown flag -p in -port=80; did you mean --port=80?"),
        (["--port"], "flag --port needs a value: --port=VALUE"),
        (["-v"], "flag -v needs a value: -v VALUE"),
        (["---port"], "bad flag syntax: ---port"),
        (["--=x"], "bad flag syntax: --=x"),
    ],
)
def test_what_is_no_flag_is_an_error_with_a_hint(argv: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        pflag.parse(argv, GRAMMAR)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0), ("+0", 0), ("-0", 0), ("0s", 0), ("5s", 5), ("5m", 300), ("5m0s", 300), ("1h2m3.5s", 3723.5),
        ("300ms", 0.3), ("1.5h", 5400), (".5s", 0.5), ("1.s", 1), ("-1m", -60), ("+1m", 60), ("1us", 1e-6),
        ("1µs", 1e-6), ("1μs", 1e-6), ("1ns", 1e-9), ("3m3m", 360), ("9223372036s", 9223372036),
    ],
)  # fmt: skip
def test_durations_are_go_s(text: str, seconds: float) -> None:
    assert pflag.duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "-", "+", "5", "1.5", "s", ".s", ".", "1x", "5 m", " 5m", "5m ", "1e3s", "9300000000s", "५m", "--1s"]
)
def test_what_go_refuses_as_a_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a duration"):
        pflag.duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (300, "5m"), (90, "1m30s"), (0.3, "300ms"), (3723.5, "1h2m3s500ms"), (-60, "-1m"), (1e-9, "1ns")],
)
def test_a_duration_is_written_as_short_as_it_can_be(seconds: float, text: str) -> None:
    assert pflag.duration_text(seconds) == text


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("7", 7), ("-7", -7), ("+7", 7), ("0x1F", 31), ("0o17", 15), ("017", 15), ("0b11", 3), ("1_000", 1000),
     ("9223372036854775807", 2**63 - 1), ("-9223372036854775808", -(2**63))],
)  # fmt: skip
def test_integers_are_those_of_strconv_with_base_zero(text: str, number: int) -> None:
    assert pflag.integer(text) == number


@pytest.mark.parametrize("text", ["", "-", "x", "1.0", "1e3", " 1", "08", "1__0", "_1", "９", "9223372036854775808"])
def test_what_strconv_refuses_as_an_integer_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a "):
        pflag.integer(text)


def test_booleans_are_those_of_strconv() -> None:
    assert [pflag.boolean(text) for text in ("1", "t", "T", "TRUE", "true", "True")] == [True] * 6
    assert [pflag.boolean(text) for text in ("0", "f", "F", "FALSE", "false", "False")] == [False] * 6
    for text in ("", "yes", "no", "on", "tRUE", "2"):
        with pytest.raises(ValueError, match="a boolean"):
            pflag.boolean(text)


@pytest.mark.parametrize(
    ("text", "items"),
    [("", ()), ("a", ("a",)), ("a,b", ("a", "b")), ("a, b", ("a", " b")), (",", ("", "")), ('"a,b",c', ("a,b", "c")),
     ('""', ("",)), ('"say ""hi"""', ('say "hi"',))],
)  # fmt: skip
def test_a_list_is_a_line_of_csv(text: str, items: tuple[str, ...]) -> None:
    assert pflag.texts(text) == items


@pytest.mark.parametrize(
    ("text", "number"),
    [("134217728", 134217728), ("128MiB", 134217728), ("128Mi", 134217728), ("100M", 100_000_000), ("1KB", 1000),
     ("2GiB", 2 << 30), ("512B", 512)],
)  # fmt: skip
def test_a_size_is_bytes_or_has_a_unit(text: str, number: int) -> None:
    assert pflag.size(text) == number


@given(st.lists(st.one_of(st.text(max_size=20), st.sampled_from(["--port", "-v", "-q", "--", "--all=x", "-vq="]))))
def test_no_command_line_raises_anything_but_config_error(argv: list[str]) -> None:
    try:
        parsed = pflag.parse(argv, GRAMMAR)
    except ConfigError:
        return
    assert len(parsed.given) + len(parsed.words) <= sum(map(len, argv)) + len(argv)


@given(st.text(max_size=80))
def test_no_text_raises_anything_but_value_error(text: str) -> None:
    for read in (pflag.boolean, pflag.integer, pflag.size, pflag.duration, pflag.texts):
        try:
            read(text)
        except ValueError as error:
            assert str(error).startswith("a ")  # noqa: PT017  (most texts are fine for some reader)


@given(st.integers(min_value=-(10**15), max_value=10**15))
def test_a_written_duration_is_read_back(microseconds: int) -> None:
    seconds = microseconds / 1_000_000
    assert pflag.duration(pflag.duration_text(seconds)) == pytest.approx(seconds)


@given(st.lists(st.text(max_size=20).filter(lambda text: "\r" not in text and "\n" not in text and "\0" not in text)))
def test_a_written_list_is_read_back(items: list[str]) -> None:
    assert pflag.texts(pflag.texts_text(items)) == tuple(items)
