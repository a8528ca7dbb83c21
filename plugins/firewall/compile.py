"""One NetworkPolicy as chains of rules and the sets they look into (pure).

Each direction of a policy becomes one chain whose rules all accept; what no rule accepts is denied by the chain of the
pod's class (classes.py). A rule of the policy becomes one nft rule for each way a packet may match it: one of its peers
in one family, and one of its kinds of ports. Rules name sets, never pods: when pods come and go no rule changes.

Sets are few and shared: one for each distinct peer selection, port list, list of blocks and named port, under a name
that is a hash of what it stands for. One port, one network or one range stands in the rule itself.

A policy that the API would refuse (validity.py) gets chains without rules: it admits nothing.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from kube_router.events.model import NetworkPolicy, PolicyPeer, PolicyPort, PolicyRule
from kube_router.plugins.firewall.blocks import ranges_of, text
from kube_router.plugins.firewall.model import (
    JUDGED_END,
    POLICY_TYPES,
    PORTS_KEY,
    Chain,
    Direction,
    Family,
    SetType,
    name_of,
)
from kube_router.plugins.firewall.terms import Terms, terms_of

COMMENT_LENGTH_MAX = 120  # of 127 bytes that nft takes
_OTHER: Mapping[Direction, Direction] = {"ingress": "egress", "egress": "ingress"}  # whose judged end the peer is at


class PeerKey(NamedTuple):
    """Whom a peer selects: pods of one namespace, or (``namespace`` is None) of those that ``namespaces`` select."""

    namespace: str | None
    namespaces: Terms
    pods: Terms


class NamedKey(NamedTuple):
    """A port by its name, each pod having its own number. ``local``: pods of this node are enough, for ingress."""

    local: bool
    name: str
    protocol: str


class FixedSet(NamedTuple):
    """A set whose content the policy itself says."""

    type: SetType
    elements: tuple[str, ...]


@dataclass
class Uses:
    """The sets that a policy's rules look into, by name."""

    peers: dict[str, tuple[PeerKey, Family]] = field(default_factory=dict)
    named: dict[str, tuple[NamedKey, Family]] = field(default_factory=dict)
    fixed: dict[str, FixedSet] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Compiled:
    """A policy's chain of each direction it is for, by name, and what the chains use."""

    names: Mapping[Direction, str]
    chains: Mapping[str, Chain]
    uses: Uses


def directions_of(policy: NetworkPolicy) -> tuple[Direction, ...]:
    """Return the directions a policy is for: both, where it names one that nobody knows, or none."""
    known = [POLICY_TYPES[name] for name in dict.fromkeys(policy.policy_types) if name in POLICY_TYPES]
    return tuple(known) if known and len(known) == len(set(policy.policy_types)) else ("ingress", "egress")


def compile_policy(policy: NetworkPolicy, families: Iterable[Family], *, faulty: bool) -> Compiled:
    """Return a policy's chains. ``families`` are those in play: there are no rules for the others."""
    uses = Uses()
    names: dict[Direction, str] = {}
    chains: dict[str, Chain] = {}
    for direction in directions_of(policy):
        matches: dict[str, None] = {}
        if not faulty:
            rules = policy.ingress if direction == "ingress" else policy.egress
            writer = _Writer(policy.namespace, direction, tuple(families), uses)
            matches = dict.fromkeys(match for rule in rules for match in writer.matches(rule))
        name = name_of(f"p{direction[0]}", policy.key, *matches)
        accepts = tuple(" ".join(filter(None, (match, f'counter name "{name}" accept'))) for match in matches)
        names[direction], chains[name] = name, Chain(accepts, comment=_comment(policy))
    return Compiled(names, chains, uses)


def _both(peer: str, port: str) -> str:
    """Return the match of both. Looking into a set costs most, so what stands in the rule itself comes first."""
    terms = (peer, port) if "@" in port else (port, peer)
    return " ".join(filter(None, terms))


def _comment(policy: NetworkPolicy) -> str:
    """Return the policy's name for people. Names may be longer than a comment, and come from anybody's manifests."""
    text = f"{policy.namespace}/{policy.name}"[:COMMENT_LENGTH_MAX]
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "./-_") else "?" for letter in text)


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writes the matches of one direction's rules, and notes the sets they use."""

    namespace: str
    direction: Direction
    families: tuple[Family, ...]
    uses: Uses

    def matches(self, rule: PolicyRule) -> Iterator[str]:
        """Return the matches of a rule, any of which admits a packet."""
        everywhere = [] if rule.ports else [""]
        everywhere += self._numbered(rule.ports)
        names = list(dict.fromkeys(self._named_keys(rule.ports)))
        if not rule.peers:
            yield from everywhere
        for family in self.families:
            peers = list(self._peers(rule.peers, family)) if rule.peers else [""]
            ports = (everywhere if rule.peers else []) + [self._named(key, family) for key in names]
            for peer in peers:
                yield from (_both(peer, port) for port in ports)

    # -- peers ---------------------------------------------------------------------------------------------------------

    def _peers(self, peers: Iterable[PolicyPeer], family: Family) -> Iterator[str]:
        end = f"{family.word} {JUDGED_END[_OTHER[self.direction]]}"
        keys = dict.fromkeys(self._peer_key(peer) for peer in peers if peer.ip_block is None)
        for key in keys:
            name = name_of(f"s{family}", *key)
            self.uses.peers[name] = key, family
            yield f"{end} @{name}"
        ranges = ranges_of((peer.ip_block for peer in peers if peer.ip_block is not None), family)
        texts = tuple(text(range, family) for range in ranges)
        if len(texts) == 1:
            yield f"{end} {texts[0]}"
        elif texts:
            name = name_of(f"b{family}", *texts)
            self.uses.fixed[name] = FixedSet(SetType(family.type, interval=True), texts)
            yield f"{end} @{name}"

    def _peer_key(self, peer: PolicyPeer) -> PeerKey:
        pods = terms_of(peer.pod_selector) if peer.pod_selector is not None else ()
        if peer.namespace_selector is None:
            return PeerKey(self.namespace, (), pods)
        return PeerKey(None, terms_of(peer.namespace_selector), pods)

    # -- ports ---------------------------------------------------------------------------------------------------------

    def _numbered(self, ports: Iterable[PolicyPort]) -> Iterator[str]:
        """Return the matches of whole protocols, of numbers and of ranges."""
        singles: dict[tuple[str, int], None] = {}
        for each in ports:
            protocol = each.protocol.lower()
            if each.port is None:
                yield f"meta l4proto {protocol}"
            elif isinstance(each.port, int):
                if each.end_port is not None and each.end_port != each.port:
                    yield f"{protocol} dport {each.port}-{each.end_port}"
                else:
                    singles[protocol, each.port] = None
        if len(singles) == 1:
            yield from (f"{protocol} dport {port}" for protocol, port in singles)
        elif singles:
            elements = tuple(f"{protocol} . {port}" for protocol, port in sorted(singles))
            name = name_of("p", *elements)
            self.uses.fixed[name] = FixedSet(SetType(PORTS_KEY), elements)
            yield f"meta l4proto . th dport @{name}"

    def _named_keys(self, ports: Iterable[PolicyPort]) -> Iterator[NamedKey]:
        for each in ports:
            if isinstance(each.port, str):
                yield NamedKey(self.direction == "ingress", each.port, each.protocol)

    def _named(self, key: NamedKey, family: Family) -> str:
        name = name_of(f"n{family}", *key)
        self.uses.named[name] = key, family
        return f"{family.word} daddr . meta l4proto . th dport @{name}"
