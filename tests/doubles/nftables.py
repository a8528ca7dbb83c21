"""A packet tracer: what becomes of a packet in a table of ours, judged by a model of the rule forms we use (pure).

``Tracer(nft text).fate(packet)`` sends the packet through the base chains of its hook in the order of their priority:
what one accepts goes on to the next, what one drops or rejects is lost. A rule that holds any other form than the few
known here is an AssertionError when the tracer is made.

Not modelled: rate limits (what is behind one always happens), counters' values, fragments, packets without ports.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_address
from typing import NamedTuple

from doubles.nft_text import Set, Table, family_of, interval, table_of

JUMPS_MAX = 16  # NFT_JUMP_STACK_SIZE


class Packet(NamedTuple):
    """One packet on its way. ``local_source``: its source is an address of the machine itself."""

    source: str
    destination: str
    protocol: str = "tcp"  # tcp | udp | sctp | icmp | icmpv6
    port: int = 0  # destination port
    icmp_type: str = ""  # as nft lists it
    state: str = "new"  # new | established | related | invalid | untracked
    hook: str = "forward"  # forward | input | output
    local_source: bool = False
    iif: str = "eth0"
    flags: frozenset[str] = frozenset({"syn"})  # of TCP


@dataclass
class Fate:
    """What became of a packet: ``accept``, ``drop``, ``reject`` or ``reset``; and what it met on its way."""

    verdict: str = "accept"
    chains: list[str] = field(default_factory=list)
    counters: list[str] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)

    @property
    def passes(self) -> bool:
        """Whether the packet goes on."""
        return self.verdict == "accept"


# What one piece of a rule says of a packet: None, it does not match; "", go on to the next piece; else what to do.
Piece = Callable[[Packet], str | None]


class Tracer:
    """One table's rules, ready to judge packets."""

    def __init__(self, table: Table | str) -> None:
        self._table = table_of(table) if isinstance(table, str) else table
        based = sorted((its.priority, name) for name, its in self._table.chains.items() if its.hook)
        self._hooked: dict[str, list[str]] = {}
        for _, name in based:
            self._hooked.setdefault(self._table.chains[name].hook, []).append(name)
        self._rules = {name: [self._rule(rule) for rule in its.rules] for name, its in self._table.chains.items()}

    def fate(self, packet: Packet, *, only: str = "") -> Fate:
        """Return what becomes of a packet, in all base chains of its hook or in one ``only``."""
        _check(packet)
        fate = Fate()
        hooked = self._hooked.get(packet.hook, [])
        assert not only or only in hooked, f"no such base chain: {only}"
        for name in [only] if only else hooked:
            fate.verdict = self._run(name, packet, fate, jumps=0) or "accept"
            if not fate.passes:
                break
        return fate

    def _run(self, name: str, packet: Packet, fate: Fate, *, jumps: int) -> str:
        """Return the verdict of a chain, "" where its end is reached without one."""
        assert jumps <= JUMPS_MAX, f"Too many links: {fate.chains}"
        fate.chains.append(name)
        for rule in self._rules[name]:
            for piece in rule:
                found = piece(packet)
                if found is None:
                    break
                verb, _, what = found.partition(" ")
                if verb == "counter":
                    fate.counters.append(what)
                elif verb == "log":
                    fate.logs.append(what)
                elif verb == "goto":
                    return self._run(what, packet, fate, jumps=jumps + 1)
                elif verb == "jump":
                    if verdict := self._run(what, packet, fate, jumps=jumps + 1):
                        return verdict
                elif verb:
                    return verb
        return ""

    # -- rules ---------------------------------------------------------------------------------------------------------

    def _rule(self, text: str) -> list[Piece]:
        pieces, rest = [], text
        while rest:
            for form, make in _FORMS:
                if found := form.match(rest):
                    pieces.append(make(self._table, *found.groups()))
                    rest = rest[found.end() :].lstrip()
                    break
            else:
                raise AssertionError(f"unknown form {rest!r} in the rule {text!r}")
        return pieces


def _check(packet: Packet) -> None:
    assert family_of(packet.source) == family_of(packet.destination), f"two families: {packet}"
    icmp = packet.protocol in ("icmp", "icmpv6")
    assert (bool(packet.icmp_type), bool(packet.port)) == (icmp, not icmp), f"ports go with TCP, UDP, SCTP: {packet}"
    assert not icmp or (packet.protocol == "icmpv6") == (":" in packet.source), f"ICMP of the other family: {packet}"


# -- what a packet says of itself --------------------------------------------------------------------------------------


def _address(word: str, end: str) -> Callable[[Packet], str | None]:
    type = "ipv6_addr" if word == "ip6" else "ipv4_addr"

    def of(packet: Packet) -> str | None:
        address = packet.source if end == "saddr" else packet.destination
        return address if family_of(address) == type else None

    return of


_FIELDS: dict[str, tuple[str, Callable[[Packet], str | None]]] = {
    **{
        f"{word} {end}": ("ipv6_addr" if word == "ip6" else "ipv4_addr", _address(word, end))
        for word in ("ip", "ip6")
        for end in ("saddr", "daddr")
    },
    "meta l4proto": ("inet_proto", lambda packet: packet.protocol),
    "th dport": ("inet_service", lambda packet: str(packet.port) if packet.port else None),
}


def _key(text: str, inside: Set) -> Callable[[Packet], str | None]:
    """Return what makes the key of a lookup; None of a packet that lacks a part of it."""
    fields = [_FIELDS[name] for name in text.split(" . ")]
    types = tuple(type for type, _ in fields)
    assert types == inside.key, f"{text} is looked up in a set of {inside.key}"

    if len(fields) == 1:
        return fields[0][1]

    def key(packet: Packet) -> str | None:
        parts = [of(packet) for _, of in fields]
        return " . ".join(part for part in parts if part is not None) if None not in parts else None

    return key


@cache
def _number(address: str) -> int:
    return int(ip_address(address))


# -- pieces ------------------------------------------------------------------------------------------------------------


def _matches(holds: Callable[[Packet], bool]) -> Piece:
    return lambda packet: "" if holds(packet) else None


def _does(what: str) -> Piece:
    return lambda packet: what


def _lookup(table: Table, key: str, negated: str | None, name: str) -> Piece:
    inside = table.sets[name]
    assert not inside.is_map, f"{name} is a map"
    of, ends = _key(key, inside), [interval(element) for element in inside.elements] if inside.interval else []

    def look(packet: Packet) -> str | None:
        value = of(packet)
        if value is None:
            return None
        found = any(low <= _number(value) <= high for low, high in ends) if ends else value in inside.elements
        return "" if found != bool(negated) else None

    return look


def _vmap(table: Table, key: str, name: str) -> Piece:
    inside = table.sets[name]
    assert (inside.is_map, inside.interval) == (True, False), f"{name} is no verdict map"
    of = _key(key, inside)
    return lambda packet: inside.elements.get(of(packet) or "")


def _block(_: Table, word: str, end: str, text: str) -> Piece:
    (low, high), of = interval(text), _address(word, end)
    assert (word == "ip6") == (":" in text), f"{word} {text}"
    return lambda packet: "" if low <= _number(of(packet) or "::") <= high and of(packet) is not None else None


def _dport(_: Table, protocol: str, first: str, last: str | None) -> Piece:
    low, high = int(first), int(last or first)
    assert 0 < low <= high < 65536, f"{protocol} dport {first}-{last}"
    return _matches(lambda packet: packet.protocol == protocol and low <= packet.port <= high)


def _icmp(_: Table, word: str, types: str) -> Piece:
    names = types.split(", ")
    return _matches(lambda packet: packet.protocol == word and packet.icmp_type in names)


def _states(table: Table, text: str) -> Piece:
    verdicts = dict(pair.split(" : ") for pair in text.split(", "))
    assert set(verdicts) <= {"new", "established", "related", "invalid", "untracked"}, text
    assert all(re.fullmatch(r"accept|drop|goto [\w.-]+", verdict) for verdict in verdicts.values()), text
    return lambda packet: verdicts.get(packet.state)


def _flags(_: Table, value: str, mask: str) -> Piece:
    wanted, seen = {value}, frozenset(mask.split(", "))
    return _matches(lambda packet: packet.protocol == "tcp" and packet.flags & seen != wanted)


_SETTABLE = "|".join(map(re.escape, _FIELDS))
_FORMS: list[tuple[re.Pattern[str], Callable[..., Piece]]] = [
    (re.compile(pattern + r"(?= |$)"), make)
    for pattern, make in (
        (rf"((?:{_SETTABLE})(?: \. (?:{_SETTABLE}))*) (!= )?@([\w.-]+)", _lookup),
        (r"((?:ip|ip6) [sd]addr) vmap @([\w.-]+)", _vmap),
        (r"(ip|ip6) ([sd]addr) ([\da-f:][\da-f.:/-]+)", _block),
        (r"meta l4proto (tcp|udp|sctp)", lambda _, name: _matches(lambda packet: packet.protocol == name)),
        (r"(tcp|udp|sctp) dport (\d+)(?:-(\d+))?", _dport),
        (r"(icmp|icmpv6) type \{ ([a-z0-9, -]+) \}", _icmp),
        (r"ct state vmap \{ ([^}]*) \}", _states),
        (r"tcp flags != (syn) / ([a-z, ]+?)(?= goto)", _flags),
        (r"iif != 0", lambda _: _matches(lambda packet: packet.hook != "output")),
        (r'iifname "([^"]+)"', lambda _, name: _matches(lambda packet: packet.iif == name)),
        (r"fib saddr type local", lambda _: _matches(lambda packet: packet.local_source)),
        (r'counter name "([\w.-]+)"', lambda _, name: _does(f"counter {name}")),
        (r"limit rate \d+/minute burst \d+ packets", lambda _: _does("")),
        (r'log prefix "([^"]*)" group \d+ snaplen \d+', lambda _, prefix: _does(f"log {prefix}")),
        (r"reject with tcp reset$", lambda _: _does("reset")),
        (r"(accept|drop|reject)$", lambda _, verdict: _does(verdict)),
        (r"((?:jump|goto) [\w.-]+)$", lambda _, verdict: _does(verdict)),
    )
]
