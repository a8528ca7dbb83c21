"""What ``nft list table`` prints of our table, as a ruleset again (pure).

Only our own forms are understood; whatever else is found raises ``NotOurs``, and the caller replaces the table. Rules
are kept as text: they are written in the form in which nft lists them, so equal rules are equal texts. (A version of
nft that lists them otherwise costs a replacement where a comparison would have done, no more.)
"""

import re
from collections.abc import Iterator

from kube_router.plugins.firewall.model import STAMP, TABLE, Chain, Ruleset, SetType

_opened = re.compile(r"(table|set|map|chain|counter) (?:inet )?([\w.-]+) \{").fullmatch
_commented = re.compile(r'comment "([^"]*)"').fullmatch
_elements = re.compile(r"elements = \{(.*)\}", re.DOTALL).fullmatch


class NotOurs(ValueError):
    """The table holds something that we never write."""


def parse_table(text: str) -> Ruleset:
    """Return the table's content without its stamp. Raises NotOurs."""
    ruleset = Ruleset()
    counters = set()
    for kind, name, lines in _blocks(text):
        if kind == "chain":
            if name in ruleset.chains:
                raise NotOurs(f"chain {name} twice")
            ruleset.add_chain(name, _chain(lines))
        elif kind == "counter":
            counters.add(name)
        elif name != STAMP:
            _read_set(ruleset, kind, name, lines)
    if counters != set(ruleset.counters):
        raise NotOurs("the counters are not those of the chains")
    ruleset.take_touched()
    return ruleset


def _blocks(text: str) -> Iterator[tuple[str, str, list[str]]]:
    """Return the kind, the name and the lines of each object in the table."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines or lines[0] != f"table inet {TABLE} {{" or lines[-1] != "}":
        raise NotOurs("this is no listing of our table")
    kind, name, inside = "", "", list[str]()
    for line in lines[1:-1]:
        if not kind:
            found = _opened(line)
            if found is None:
                raise NotOurs(f"unknown object {line[:100]!r}")
            kind, name, inside = found[1], found[2], []
        elif line == "}":
            yield kind, name, inside
            kind = ""
        else:
            inside.append(line)
    if kind:
        raise NotOurs(f"{kind} {name} does not end")


def _chain(lines: list[str]) -> Chain:
    hook, comment = "", ""
    rules = []
    for line in lines:
        if line.startswith("type "):
            hook = line
        elif found := _commented(line):
            comment = found[1]
        else:
            rules.append(line)
    return Chain(tuple(rules), hook, comment)


def _read_set(ruleset: Ruleset, kind: str, name: str, lines: list[str]) -> None:
    if name in ruleset.sets or name in ruleset.verdicts or not lines or not lines[0].startswith("type "):
        raise NotOurs(f"{kind} {name}")
    type, rest = lines[0].removeprefix("type "), lines[1:]
    interval = bool(rest) and rest[0] == "flags interval"
    elements = _listed(" ".join(rest[1:] if interval else rest))
    if kind == "set":
        ruleset.add_set(name, SetType(type, interval))
        for element in dict.fromkeys(elements):
            ruleset.add_element(name, element)
        return
    if type not in ("ipv4_addr : verdict", "ipv6_addr : verdict"):
        raise NotOurs(f"map {name} of type {type}")
    ruleset.add_map(name)
    for element in elements:
        address, _, verdict = element.partition(" : ")
        ruleset.set_verdict(name, address, verdict)


def _listed(text: str) -> list[str]:
    if not text:
        return []
    found = _elements(text)
    if found is None:
        raise NotOurs(f"elements {text[:100]!r}")
    return [" ".join(element.split()) for element in found[1].split(",")]
