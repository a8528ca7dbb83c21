"""What the firewall's nftables table holds, in nftables' words (pure).

All of it is text as nft itself lists it, so that what was read back can be compared with what is wanted. The names of
sets and chains say what they hold: but for the fixed ones they end in a hash of it, so a name that is there already
never has to be filled anew.

A ruleset knows a digest of its content, which depends on nothing else: a sum over hashes of its parts, kept up with
every change, so that two rulesets of a hundred thousand elements are compared by two numbers.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b, sha256
from typing import Literal, NamedTuple

TABLE = "kube-router-firewall"
STAMP = "stamp"  # the set whose one element's comment says which ruleset this is; no part of the ruleset

Direction = Literal["ingress", "egress"]
DIRECTIONS: tuple[Direction, Direction] = ("ingress", "egress")
POLICY_TYPES: Mapping[str, Direction] = {"Ingress": "ingress", "Egress": "egress"}
JUDGED_END: Mapping[Direction, str] = {"ingress": "daddr", "egress": "saddr"}  # where the pod's own address stands
PORTS_KEY = "inet_proto . inet_service"

NAME_LENGTH = 16  # hexadecimal digits: among a million names two alike are found once in forty million nodes
DIGEST_BYTES = 8
_MASK = (1 << 8 * DIGEST_BYTES) - 1


class Family(NamedTuple):
    """An address family: the suffix of our names, the word in rules, the type of its addresses."""

    number: int
    word: str
    type: str

    def __str__(self) -> str:
        return str(self.number)


IPV4, IPV6 = Family(4, "ip", "ipv4_addr"), Family(6, "ip6", "ipv6_addr")
FAMILIES = (IPV4, IPV6)


def family_of(address: str) -> Family:
    """Return the family of an address or network."""
    return IPV6 if ":" in address else IPV4


class SetType(NamedTuple):
    """The type of a set's elements; ``interval`` sets hold networks and ranges."""

    key: str
    interval: bool = False


class Chain(NamedTuple):
    """``hook`` makes it a base chain; ``comment`` names, for people, the policy it comes from."""

    rules: tuple[str, ...]
    hook: str = ""
    comment: str = ""


@dataclass
class Touched:
    """What of a ruleset has changed since somebody last asked."""

    objects: set[str] = field(default_factory=set)  # sets and chains
    elements: set[tuple[str, str]] = field(default_factory=set)  # (set, element)
    verdicts: set[tuple[str, str]] = field(default_factory=set)  # (map, address)


@dataclass
class Ruleset:
    """A table's content. Changed by its methods alone, which keep the digest and remember what they touched."""

    sets: dict[str, SetType] = field(default_factory=dict)
    elements: dict[str, set[str]] = field(default_factory=dict)  # by set
    verdicts: dict[str, dict[str, str]] = field(default_factory=dict)  # by map: address → "goto CHAIN"
    chains: dict[str, Chain] = field(default_factory=dict)
    digest: int = 0
    touched: Touched = field(default_factory=Touched, compare=False)

    def copy(self) -> "Ruleset":
        """Return a ruleset with the same content that can be changed for itself."""
        return Ruleset(
            dict(self.sets),
            {name: set(elements) for name, elements in self.elements.items()},
            {name: dict(verdicts) for name, verdicts in self.verdicts.items()},
            dict(self.chains),
            self.digest,
        )

    def take_touched(self) -> Touched:
        """Return what has changed since the last call."""
        touched, self.touched = self.touched, Touched()
        return touched

    def add_set(self, name: str, type: SetType, elements: Iterable[str] = ()) -> None:
        """Add a set that is not there."""
        self.sets[name] = type
        self.elements[name] = set()
        self._count(1, "set", name, *map(str, type))
        self.touched.objects.add(name)
        for element in elements:
            self.add_element(name, element)

    def drop_set(self, name: str) -> None:
        """Remove a set that is there, with its elements."""
        for element in list(self.elements[name]):
            self.cut_element(name, element)
        self._count(-1, "set", name, *map(str, self.sets.pop(name)))
        del self.elements[name]
        self.touched.objects.add(name)

    def add_element(self, name: str, element: str) -> None:
        """Add to a set what is not in it."""
        self.elements[name].add(element)
        self._count(1, name, element)
        self.touched.elements.add((name, element))

    def cut_element(self, name: str, element: str) -> None:
        """Remove from a set what is in it."""
        self.elements[name].remove(element)
        self._count(-1, name, element)
        self.touched.elements.add((name, element))

    def add_map(self, name: str) -> None:
        """Add a verdict map that is not there."""
        self.verdicts[name] = {}
        self._count(1, "map", name)

    def set_verdict(self, name: str, address: str, verdict: str) -> None:
        """Let a map send an address there; "" for nowhere."""
        old = self.verdicts[name].get(address, "")
        if old == verdict:
            return
        if old:
            self._count(-1, name, address, self.verdicts[name].pop(address))
        if verdict:
            self.verdicts[name][address] = verdict
            self._count(1, name, address, verdict)
        self.touched.verdicts.add((name, address))

    def add_chain(self, name: str, chain: Chain) -> None:
        """Add a chain that is not there."""
        self.chains[name] = chain
        self._count(1, "chain", name, chain.hook, chain.comment, *chain.rules)
        self.touched.objects.add(name)

    def drop_chain(self, name: str) -> None:
        """Remove a chain that is there."""
        chain = self.chains.pop(name)
        self._count(-1, "chain", name, chain.hook, chain.comment, *chain.rules)
        self.touched.objects.add(name)

    @property
    def counters(self) -> Iterator[str]:
        """The names of the counters: one for each policy chain, and one for what is denied in each direction."""
        yield from (f"denied_{direction}" for direction in DIRECTIONS)
        yield from (name for name in self.chains if is_policy_chain(name))

    def _count(self, sign: int, *words: str) -> None:
        digest = blake2b("\n".join(words).encode(), digest_size=DIGEST_BYTES).digest()
        self.digest = (self.digest + sign * int.from_bytes(digest, "big")) & _MASK


def name_of(prefix: str, *content: object) -> str:
    """Return the name of a set or chain with this content."""
    return f"{prefix}_{sha256(repr(content).encode()).hexdigest()[:NAME_LENGTH]}"


def is_policy_chain(name: str) -> bool:
    """Whether the chain holds a policy's rules."""
    return name.startswith(("pi_", "pe_"))


def is_class_chain(name: str) -> bool:
    """Whether the chain is where the pods of a class are sent."""
    return name.startswith(("ci_", "ce_"))


def map_name(direction: Direction, family: Family) -> str:
    """Return the map that sends a pod's address to the chain of its policies."""
    return f"{direction}{family}"


def deny_chain(direction: Direction) -> str:
    """Return the chain that counts, logs and rejects."""
    return f"deny_{direction}"
