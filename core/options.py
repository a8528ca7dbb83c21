"""Options: one definition gives the flag, the environment variable, the config-file key, the default and the help.

A value comes from, first found first taken: the flag (``--health-port 20244``), the environment
(``KR_HEALTH_PORT=20244``), the file named by ``--config`` (YAML: ``health-port: 20244``), the default. Every value is
checked by its kind when it is read, and an error names the place it came from.

Which options there are is not said here: core/agent_options.py has the agent's own, each plugin brings its own, and
core/kube_router_flags.py lists kube-router's flags that nobody serves yet: those are taken, checked and named in one
warning. How a command line is cut into flags is in core/pflag.py.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from kube_router.core import pflag
from kube_router.events.errors import ConfigError

Kind = Literal["bool", "int", "text", "duration", "texts", "size"]
Value = bool | int | float | str | tuple[str, ...]
Check = Callable[[Value], None]

CONFIG_FILE_BYTES_MAX = 1 << 20
ENVIRONMENT_PREFIX = "KR_"
ONLY_FLAGS = frozenset({"config", "help", "version", "cleanup-config"})  # what a file cannot say


@dataclass(frozen=True, slots=True)
class Option:
    """``name`` is as on the command line, without dashes.

    A ``duration`` is in seconds, a ``size`` in bytes; ``texts`` is a repeatable comma list. ``check`` raises ValueError
    for a value of the right kind that will not do, in words that follow "the value …". The value of a ``secret`` one
    is never printed, logged or journaled.
    """

    name: str
    kind: Kind
    default: Value
    help: str
    short: str = ""
    aliases: tuple[str, ...] = ()
    secret: bool = False
    check: Check | None = None

    @property
    def variable(self) -> str:
        """The environment variable: ``KR_HEALTH_PORT``."""
        return ENVIRONMENT_PREFIX + self.name.upper().replace("-", "_")


class Group(NamedTuple):
    """Options that belong together in the help: the agent's, one plugin's.

    ``served`` is false for those that are accepted without effect.
    """

    title: str
    options: tuple[Option, ...]
    served: bool = True


class Options:
    """The effective values. Typed getters: asking for the wrong type is our bug.

    ``warnings`` are lines to be logged once at start.
    """

    def __init__(
        self, values: Mapping[str, Value], *, defined: Iterable[Option] = (), warnings: Sequence[str] = ()
    ) -> None:
        self._values = dict(values)
        self._defined = tuple(defined)
        self.warnings = tuple(warnings)

    def flag(self, name: str) -> bool:
        value = self._values[name]
        assert isinstance(value, bool), name
        return value

    def number(self, name: str) -> int:
        value = self._values[name]
        assert isinstance(value, int), name
        return value

    def seconds(self, name: str) -> float:
        value = self._values[name]
        assert isinstance(value, (int, float)), name
        return float(value)

    def text(self, name: str) -> str:
        value = self._values[name]
        assert isinstance(value, str), name
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        value = self._values[name]
        assert isinstance(value, tuple), name
        return value

    def public(self) -> Mapping[str, str]:
        """Return what differs from the defaults and is no secret, as flag texts: for the journal's segment head."""
        return {
            option.name: to_text(option, self._values[option.name])
            for option in self._defined
            if not option.secret and self._values[option.name] != option.default
        }


# -- values ------------------------------------------------------------------------------------------------------------

_READERS: Mapping[Kind, Callable[[str], Value]] = {
    "bool": pflag.boolean,
    "int": pflag.integer,
    "text": str,
    "duration": pflag.duration,
    "texts": pflag.texts,
    "size": pflag.size,
}


def positive(value: Value) -> None:
    """Check that a number is greater than 0: for ``Option.check``. Raises ValueError."""
    assert isinstance(value, (int, float))
    if value <= 0:
        raise ValueError("has to be greater than 0")


def from_text(option: Option, text: str, *, where: str) -> Value:
    """Return the value of a text. ConfigError names ``where`` it came from, and the text unless it is secret."""
    shown = "the value" if option.secret else repr(text[:200])
    try:
        value = _READERS[option.kind](text)
    except ValueError as error:
        raise ConfigError(f"{where}: {shown} is not {error}") from None
    _check(option, value, where)
    return value


def to_text(option: Option, value: Value) -> str:
    """Return the text that ``from_text`` reads back."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return pflag.texts_text(value)
    if option.kind == "duration" and isinstance(value, (int, float)):
        return pflag.duration_text(value)
    return str(value)


def _check(option: Option, value: Value, where: str) -> None:
    if option.check is None:
        return
    try:
        option.check(value)
    except ValueError as error:
        raise ConfigError(f"{where}: the value {error}") from None


# -- where values come from --------------------------------------------------------------------------------------------


def resolve(argv: Sequence[str], groups: Sequence[Group], *, environ: Mapping[str, str]) -> Options:
    """Return the effective options. ConfigError for whatever the operator got wrong.

    With ``--help`` or ``--version`` neither environment nor file is looked at, so that both always work.
    """
    served = [option for group in groups if group.served for option in group.options]
    unserved = [option for group in groups if not group.served for option in group.options]
    everything = served + unserved
    flags = flag_values(argv, everything)
    values: dict[str, Value] = {option.name: option.default for option in everything}
    warnings: list[str] = []
    if not (flags.get("help") or flags.get("version")):
        environment, warnings = environment_values(environ, everything)
        config = flags.get("config") or environment.get("config") or ""
        file = file_values(Path(str(config)), everything) if config else {}
        set_values = {**file, **environment, **flags}
        ignored = sorted(option.name for option in unserved if _asks_for_something(option, set_values))
        if ignored:
            warnings.append("accepted without effect, not served yet: " + ", ".join(f"--{name}" for name in ignored))
        values |= set_values
    else:
        values |= flags
    return Options(values, defined=served, warnings=warnings)


def _asks_for_something(option: Option, set_values: Mapping[str, Value]) -> bool:
    """Say whether a flag nobody serves was set; to switch off what is not there needs no warning."""
    if option.name.startswith("run-") and set_values.get(option.name) is False:
        return False
    return option.name in set_values


def grammar(options: Iterable[Option]) -> pflag.Grammar:
    """Return the grammar of these options."""
    options = tuple(options)
    return pflag.Grammar(
        names={name: option.name for option in options for name in (option.name, *option.aliases)},
        shorts={option.short: option.name for option in options if option.short},
        switches=frozenset(option.name for option in options if option.kind == "bool"),
    )


def flag_values(argv: Sequence[str], options: Sequence[Option]) -> dict[str, Value]:
    """Return the values of a command line that holds flags only."""
    parsed = pflag.parse(argv, grammar(options))
    if parsed.words:
        word = parsed.words[0]
        hint = f"; to give the switch a value write {word.after}={word.text}" if word.after else ""
        raise ConfigError(f"unexpected argument {word.text[:200]!r}{hint}")
    return given_values(parsed.given, options)


def given_values(given: Iterable[pflag.Given], options: Iterable[Option]) -> dict[str, Value]:
    """Return the values of parsed flags: of a list all together, else the last."""
    by_name = {option.name: option for option in options}
    values: dict[str, Value] = {}
    for each in given:
        option = by_name[each.name]
        value = from_text(option, each.text, where=f"flag {each.written}")
        before = values.get(option.name)
        values[option.name] = before + value if isinstance(before, tuple) and isinstance(value, tuple) else value
    return values


def environment_values(environ: Mapping[str, str], options: Iterable[Option]) -> tuple[dict[str, Value], list[str]]:
    """Return the values of ``KR_*`` variables, and warnings about those that look misspelt.

    A variable that is no option is no error: Kubernetes itself sets ``KR_…_SERVICE_HOST`` where a Service is named so.
    """
    by_variable = {option.variable: option for option in options}
    values: dict[str, Value] = {}
    warnings: list[str] = []
    for variable, text in sorted(environ.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        option = by_variable.get(variable)
        if option is not None:
            values[option.name] = from_text(option, text, where=f"environment {variable}")
        elif hint := pflag.did_you_mean(variable, by_variable):
            warnings.append(f"environment {variable} is no option{hint}")
    return values, warnings


def file_values(path: Path, options: Iterable[Option]) -> dict[str, Value]:
    """Return the values of a config file: a YAML mapping of flag names."""
    mapping = _read_yaml(path)
    by_name = {name: option for option in options for name in (option.name, *option.aliases)}
    values: dict[str, Value] = {}
    for key, raw in mapping.items():
        where = f"{path}: {key}"
        option = by_name.get(key) if isinstance(key, str) else None
        if option is None:
            raise ConfigError(f"{where}: there is no such option{pflag.did_you_mean(str(key), by_name)}")
        if option.name in ONLY_FLAGS:
            raise ConfigError(f"{where}: only a flag can say this")
        if option.name in values:
            raise ConfigError(f"{where}: given twice, here and under its other name")
        values[option.name] = _from_yaml(option, raw, where)
    return values


def _read_yaml(path: Path) -> Mapping[object, object]:
    import yaml  # not needed without a config file, and slow to import

    try:
        with path.open("rb") as file:
            content = file.read(CONFIG_FILE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        raise ConfigError(f"config file {os.fspath(path)!r}: {reason}") from None
    if len(content) > CONFIG_FILE_BYTES_MAX:
        raise ConfigError(f"config file {path}: larger than {CONFIG_FILE_BYTES_MAX} bytes")
    try:
        mapping = yaml.safe_load(content)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"config file {path}: not YAML: {' '.join(str(error).split())}") from None
    if mapping is None:
        return {}
    if not isinstance(mapping, dict):
        raise ConfigError(f"config file {path}: not a mapping of flag names to values")
    return mapping


def _from_yaml(option: Option, raw: object, where: str) -> Value:
    """Return the value of a YAML scalar or list; a number is a text too, a boolean is only a boolean."""
    if isinstance(raw, list) and option.kind == "texts":
        items = tuple(str(item) for item in raw if isinstance(item, (str, int)) and not isinstance(item, bool))
        if len(items) != len(raw):
            raise ConfigError(f"{where}: its items have to be texts; put quotes around them")
        _check(option, items, where)
        return items
    if isinstance(raw, bool) and option.kind == "bool":
        return raw
    if isinstance(raw, str) or (isinstance(raw, int) and not isinstance(raw, bool)):
        return from_text(option, str(raw), where=where)
    wanted = {"bool": "true or false", "texts": "a list of texts"}.get(option.kind, "a text or a number in quotes")
    raise ConfigError(f"{where}: has to be {wanted}")
