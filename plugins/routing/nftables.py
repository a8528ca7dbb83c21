"""The nftables table that masquerades what pods send out of the cluster: its text, and its listing read (pure).

A pod's address means nothing beyond the cluster, so a packet from a pod to anywhere but a pod or a node leaves with the
node's address. Which addresses are pods' and nodes' is in four sets: a node that comes or goes costs an element. An
element of an interval set may not lie in another, so a CIDR that another covers is left out; neighbouring ones are not
merged, since then one node's change would be another element's.

Each rule carries a comment: a hash of chain, sets and rules, and its number among them. A table that lists as it should
with such comments holds the rules that we would write, however this version of nft prints a rule.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from ipaddress import ip_network
from typing import Any, NamedTuple

TABLE, CHAIN = "kube-router-routing", "postrouting"
SETS = {
    "pods4": "type ipv4_addr; flags interval;",
    "pods6": "type ipv6_addr; flags interval;",
    "nodes4": "type ipv4_addr;",
    "nodes6": "type ipv6_addr;",
}
HOOK = "type nat hook postrouting priority srcnat; policy accept;"
RULES = tuple(
    f"{ip} saddr @pods{n} {ip} daddr != @pods{n} {ip} daddr != @nodes{n} masquerade fully-random"
    for ip, n in (("ip", 4), ("ip6", 6))
)
STAMP = sha256("\n".join((HOOK, *SETS.values(), *RULES)).encode()).hexdigest()[:16]
COMMENTS = tuple(f"{STAMP} {number}/{len(RULES)}" for number in range(1, len(RULES) + 1))

_FRAME = frozenset({("table", TABLE), ("chain", CHAIN)} | {("set", name) for name in SETS})

CIDRS_KEPT = 1 << 15  # taken apart once


class Members(NamedTuple):
    """What is in the sets, each element as nft lists it; made by ``members``."""

    pods4: frozenset[str] = frozenset()
    pods6: frozenset[str] = frozenset()
    nodes4: frozenset[str] = frozenset()
    nodes6: frozenset[str] = frozenset()

    @property
    def total(self) -> int:
        return len(self.pods4) + len(self.pods6) + len(self.nodes4) + len(self.nodes6)


class Listed(NamedTuple):
    """What a listing shows. ``is_whole``: all but the elements is as we would write it."""

    members: Members
    is_whole: bool


# -- what is wanted ----------------------------------------------------------------------------------------------------


def members(
    *, pods4: Iterable[str] = (), pods6: Iterable[str] = (), nodes4: Iterable[str] = (), nodes6: Iterable[str] = ()
) -> Members:
    """Return the sets' elements for these CIDRs of pods and addresses of nodes. ValueError for what is neither."""
    return Members(*map(_uncovered, (pods4, pods6, nodes4, nodes6)))


def both(one: Members, other: Members) -> Members:
    """Return the elements for what is in either."""
    return Members(*(_uncovered(a | b) for a, b in zip(one, other, strict=True)))


def _uncovered(cidrs: Iterable[str]) -> frozenset[str]:
    """Return those CIDRs that no other of them covers."""
    found, end = [], -1
    for _, last, text in sorted(map(_interval, cidrs)):
        if -last > end:
            found.append(text)
            end = -last
    return frozenset(found)


@lru_cache(maxsize=CIDRS_KEPT)
def _interval(cidr: str) -> tuple[int, int, str]:
    """Return a CIDR's first address, its last negated (so that the widest of one beginning sorts first), its text."""
    network = ip_network(cidr, strict=False)
    is_host = network.prefixlen == network.max_prefixlen
    text = str(network.network_address) if is_host else str(network)
    return int(network.network_address), -int(network.broadcast_address), text


# -- write -------------------------------------------------------------------------------------------------------------


def write_table(wanted: Members) -> str:
    """Return the transaction that replaces our table as a whole."""
    lines = [delete_table(), f"table inet {TABLE} {{"]
    for name, type in SETS.items():
        lines.append(f"    set {name} {{ {type} }}")
    lines += [f"    chain {CHAIN} {{", f"        {HOOK}"]
    lines += [f'        {rule} comment "{comment}"' for rule, comment in zip(RULES, COMMENTS, strict=True)]
    return "\n".join([*lines, "    }", "}", *_elements("add", wanted, Members())]) + "\n"


def write_edit(wanted: Members, actual: Members) -> str:
    """Return the transaction that leads from the actual elements to the wanted ones, "" where they are equal."""
    return "\n".join([*_elements("delete", actual, wanted), *_elements("add", wanted, actual)])


def delete_table() -> str:
    """Return the transaction that removes our table, there or not: nft knows ``destroy`` only since 1.0.8."""
    return f"add table inet {TABLE}\ndelete table inet {TABLE}"


def added(wanted: Members, actual: Members) -> int:
    """Return how many elements the first has that the second lacks."""
    return sum(len(a - b) for a, b in zip(wanted, actual, strict=True))


def lines(wanted: Members) -> Iterator[str]:
    """Return the table for people to read and compare: each element is a line of its own."""
    yield from write_table(Members()).splitlines()
    for name, elements in wanted._asdict().items():
        yield from (f"add element inet {TABLE} {name} {{ {each} }}" for each in sorted(elements))


def _elements(verb: str, some: Members, but: Members) -> Iterator[str]:
    for name, a, b in zip(SETS, some, but, strict=True):
        if found := sorted(a - b):
            yield f"{verb} element inet {TABLE} {name} {{ {', '.join(found)} }}"


# -- read --------------------------------------------------------------------------------------------------------------


def read_table(objects: Iterable[Mapping[str, Any]]) -> Listed:
    """Return what ``list table`` in JSON shows; what is not understood makes the table not whole."""
    found: set[tuple[str, str]] = set()
    comments: list[str] = []
    sets = {name: frozenset[str]() for name in SETS}
    is_whole = True
    for kind, fields in (item for entry in objects for item in entry.items()):
        if kind == "rule":
            comments.append(str(fields.get("comment", "")))
            continue
        name = str(fields.get("name", ""))
        found.add((kind, name))
        if kind == "set" and name in SETS:
            sets[name], understood = _listed(fields.get("elem", ()))
            is_whole &= understood and _type(fields) == SETS[name]
        elif kind == "chain":
            is_whole &= (fields.get("type"), fields.get("hook"), fields.get("prio")) == ("nat", CHAIN, 100)
            is_whole &= fields.get("policy") == "accept"
    return Listed(Members(**sets), is_whole and found == _FRAME and tuple(comments) == COMMENTS)


def _type(fields: Mapping[str, Any]) -> str:
    flags = fields.get("flags", ())
    return f"type {fields.get('type')};" + (f" flags {','.join(map(str, flags))};" if flags else "")


def _listed(elements: Sequence[Any]) -> tuple[frozenset[str], bool]:
    """Return a set's elements, and whether each is one that we would write."""
    found = [_element(each) for each in elements]
    return frozenset(filter(None, found)), all(found)


def _element(element: Any) -> str:
    """Return an element as we write it, "" for what we never write: a range, a comment, a timeout."""
    prefix = element.get("prefix") if isinstance(element, dict) else None
    try:
        cidr = f"{prefix['addr']}/{prefix['len']}" if prefix else element
        return _interval(cidr)[2] if isinstance(cidr, str) else ""
    except (KeyError, TypeError, ValueError):
        return ""
