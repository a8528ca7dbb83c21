"""A model of nftables' transactions: takes nft text, refuses what the kernel would refuse, keeps what is left.

It reads what our renderer writes and what ``nft list table`` prints, and no other form: whatever it does not know is an
AssertionError, so that a new form of ours is a failing test and not an untested one. What it knows of the kernel:

- an element that is added with another verdict than it has, or is deleted though absent, is an error;
- what something else refers to cannot be deleted, and nothing may refer to what is not there;
- the intervals of a set do not overlap; elements are of their set's type;
- rules of a chain that is there already are appended to it.

A transaction that is refused leaves the table as it was. Not modelled: counters' values, handles, other tables.
"""

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from itertools import pairwise
from typing import Union

Items = list[Union[str, "Items"]]
_tokens = re.compile(r'"[^"]*"|[{};,\n]|[^\s{};,"]+').findall
_references = re.compile(r"@([\w.-]+)|\b(?:jump|goto) ([\w.-]+)|\bcounter name \"([\w.-]+)\"").findall
PROTOCOLS = ("tcp", "udp", "sctp")
TYPES = ("ipv4_addr", "ipv6_addr", "inet_proto", "inet_service")


@dataclass
class Set:
    """A set or verdict map; ``elements`` are as written, with their verdicts ("" in a set)."""

    key: tuple[str, ...]
    is_map: bool = False
    interval: bool = False
    elements: dict[str, str] = field(default_factory=dict)


@dataclass
class Chain:
    """A chain; ``hook`` is "" for all but base chains."""

    rules: list[str] = field(default_factory=list)
    hook: str = ""
    priority: int = 0


@dataclass
class Table:
    """What a table holds."""

    counters: dict[str, None] = field(default_factory=dict)
    sets: dict[str, Set] = field(default_factory=dict)
    chains: dict[str, Chain] = field(default_factory=dict)


class Nftables:
    """The tables of one network namespace, by name. All are of the family inet."""

    def __init__(self) -> None:
        self.tables: dict[str, Table] = {}

    def run(self, text: str) -> None:
        """Commit a transaction. AssertionError for what nft or the kernel would refuse; nothing is changed then."""
        tables = copy.deepcopy(self.tables)
        items, rest = _tree(_tokens(text))
        assert not rest, f"unmatched braces before {rest[:5]}"
        for statement in _statements(items):
            _command(tables, statement)
        for table in tables.values():
            _check(table)
        self.tables = tables


def table_of(text: str) -> Table:
    """Return the only table of a text."""
    nftables = Nftables()
    nftables.run(text)
    (table,) = nftables.tables.values()
    return table


# -- text --------------------------------------------------------------------------------------------------------------


def _tree(tokens: list[str]) -> tuple[Items, list[str]]:
    """Return tokens with each braced part as a list, and what follows an unmatched closing brace."""
    stack: list[Items] = [[]]
    for n, token in enumerate(tokens):
        if token == "{":
            stack.append([])
        elif token == "}":
            inside = stack.pop()
            if not stack:
                return inside, tokens[n:]
            stack[-1].append(inside)
        else:
            stack[-1].append(token)
    assert len(stack) == 1, "a brace is not closed"
    return stack[0], []


def _statements(items: Items) -> Iterator[Items]:
    statement: Items = []
    for item in [*items, "\n"]:
        if item in ("\n", ";"):
            if statement:
                yield statement
            statement = []
        else:
            statement.append(item)


def _written(items: Items) -> str:
    """Return a statement as one line."""
    words = [item if isinstance(item, str) else f"{{ {_written(item)} }}" for item in items if item != "\n"]
    return " ".join(words).replace(" ,", ",")


def _braced(statement: Items) -> tuple[str, Items]:
    """Return the head and the braced part of a statement that ends with one."""
    body = statement[-1]
    assert isinstance(body, list), f"unknown form: {_written(statement)}"
    return _written(statement[:-1]), body


# -- commands ----------------------------------------------------------------------------------------------------------


def _command(tables: dict[str, Table], statement: Items) -> None:
    match statement:
        case ["add", "table", "inet", str(name)]:
            tables.setdefault(name, Table())
        case ["delete", "table", "inet", str(name)]:
            assert name in tables, f"No such file or directory: table {name}"
            del tables[name]
        case ["table", "inet", str(name), list(body)]:
            table = tables.setdefault(name, Table())
            for inner in _statements(body):
                _declare(table, inner)
        case ["add" | "delete" as verb, "element", "inet", str(name), str(inside), list(body)]:
            _change(tables[name].sets[inside], adds=verb == "add", elements=_elements(body))
        case ["flush", "set", "inet", str(name), str(inside)]:
            tables[name].sets[inside].elements.clear()
        case ["delete", "chain" | "set" | "counter" as kind, "inet", str(name), str(what)]:
            _delete(tables[name], kind, what)
        case _:
            raise AssertionError(f"unknown command: {_written(statement)[:200]}")


def _declare(table: Table, statement: Items) -> None:
    head, body = _braced(statement)
    kind, _, name = head.partition(" ")
    assert re.fullmatch(r"[a-z][\w.-]*", name), f"unknown form: {head}"
    if kind == "chain":
        chain = table.chains.setdefault(name, Chain())
        for inner in _statements(body):
            _chain_statement(chain, _written(inner))
    elif kind == "counter":
        assert re.fullmatch(r"(packets \d+ bytes \d+)?", _written(body)), f"unknown form: {_written(statement)}"
        table.counters[name] = None
    else:
        assert kind in ("set", "map"), f"unknown form: {head}"
        new = _set(kind, list(_statements(body)))
        old = table.sets.setdefault(name, Set(new.key, new.is_map, new.interval))
        assert (old.key, old.is_map, old.interval) == (new.key, new.is_map, new.interval), f"File exists: {name}"
        _change(old, adds=True, elements=list(new.elements.items()))


def _chain_statement(chain: Chain, text: str) -> None:
    if found := re.fullmatch(r"type filter hook (forward|input|output) priority (filter|\d+)(?: ([+-]) (\d+))?", text):
        hook, base, sign, offset = found.groups()
        chain.hook, chain.priority = hook, 0 if base == "filter" else int(base)
        chain.priority += int(f"{sign}{offset}") if sign else 0
    elif not (text == "policy accept" or re.fullmatch(r'comment "[^"]{0,127}"', text)):
        chain.rules.append(text)


def _set(kind: str, statements: list[Items]) -> Set:
    found = Set(())
    for statement in statements:
        match statement:
            case ["type", *rest]:
                words = _written(rest)
                found.is_map = words.endswith(" : verdict")
                found.key = tuple(words.removesuffix(" : verdict").split(" . "))
            case ["flags", "interval"]:
                found.interval = True
            case ["elements", "=", list(body)]:
                _change(found, adds=True, elements=_elements(body))
            case _:
                raise AssertionError(f"unknown form in a {kind}: {_written(statement)[:200]}")
    assert found.is_map == (kind == "map"), f"a {kind} of this type"
    assert set(found.key) <= set(TYPES), f"unknown type {found.key}"
    return found


def _elements(body: Items) -> list[tuple[str, str]]:
    pairs = []
    for text in re.sub(r' comment "[^"]*"', "", _written(body)).split(", "):
        element, _, verdict = text.partition(" : ")
        pairs.append((element, verdict))
    return pairs


def _change(inside: Set, *, adds: bool, elements: list[tuple[str, str]]) -> None:
    for element, verdict in elements:
        _check_element(inside, element, verdict if adds or not inside.is_map else "accept")
        if adds:
            assert inside.elements.setdefault(element, verdict) == verdict, f"File exists: {element} : {verdict}"
        else:
            assert element in inside.elements, f"No such file or directory: element {element}"
            del inside.elements[element]


def _delete(table: Table, kind: str, name: str) -> None:
    objects: dict[str, Chain] | dict[str, Set] | dict[str, None]
    objects = table.chains if kind == "chain" else table.sets if kind == "set" else table.counters
    assert name in objects, f"No such file or directory: {kind} {name}"
    del objects[name]
    assert (kind, name) not in set(_referred(table)), f"Device or resource busy: {kind} {name}"


# -- what the kernel checks --------------------------------------------------------------------------------------------


def _check(table: Table) -> None:
    there = {"chain": set(table.chains), "set": set(table.sets), "counter": set(table.counters)}
    for kind, name in _referred(table):
        assert name in there[kind], f"No such file or directory: {kind} {name} is referred to"
    for name, each in table.sets.items():
        ends = sorted(interval(element) for element in each.elements) if each.interval else []
        for before, after in pairwise(ends):
            assert before[1] < after[0], f"conflicting intervals in {name}: {before} {after}"


def _referred(table: Table) -> Iterator[tuple[str, str]]:
    """Return kind and name of all that is referred to; a map is a set here."""
    rules = (rule for chain in table.chains.values() for rule in chain.rules)
    verdicts = (verdict for each in table.sets.values() for verdict in each.elements.values())
    for text in (*rules, *verdicts):
        for in_set, in_chain, counter in _references(text):
            yield ("set", in_set) if in_set else ("chain", in_chain) if in_chain else ("counter", counter)


def _check_element(inside: Set, element: str, verdict: str) -> None:
    assert bool(verdict) == inside.is_map, f"{element} : {verdict}"
    assert not verdict or verdict in ("accept", "drop") or re.fullmatch(r"(goto|jump) [\w.-]+", verdict), verdict
    parts = element.split(" . ")
    assert len(parts) == len(inside.key), f"{element} is no {inside.key}"
    for part, type in zip(parts, inside.key, strict=True):
        if type == "inet_proto":
            assert part in PROTOCOLS, f"unknown form of a protocol: {part}"
        elif type == "inet_service":
            assert re.fullmatch(r"[1-9]\d{0,4}", part), f"unknown form of a port: {part}"
        elif inside.interval:
            assert family_of(part) == type, f"{part} is no {type}"
            interval(part)
        else:
            assert family_of(part) == type, f"{part} is no {type}"
            assert str(ip_address(part)) == part, f"{part} is not how an address is listed"


def family_of(text: str) -> str:
    """Return the type of an address, network or range."""
    return "ipv6_addr" if ":" in text else "ipv4_addr"


def interval(text: str) -> tuple[int, int]:
    """Return both ends of an address, network or range, all in nft's own form."""
    if "/" in text:
        network = ip_network(text)
        assert str(network) == text, f"{text} is not how a network is listed"
        return int(network[0]), int(network[-1])
    first, _, last = text.partition("-")
    ends = int(ip_address(first)), int(ip_address(last or first))
    assert ends[0] <= ends[1], f"the range {text} is upside down"
    return ends
