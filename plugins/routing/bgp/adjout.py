"""What neighbours are told: one Adj-RIB-Out and one encoding for all of an update group (pure).

Neighbours to whom everything is exported and encoded alike are a group. It remembers what its members have been told as
*batches*: prefixes with the same attributes, next hop and source, which share messages. A batch is encoded once,
however many members there are, and once more for whoever joins later only if it has changed meanwhile.

Split horizon: a reflector does not tell a client its own paths. So a batch has a source, the peer whose paths these
are, and is for all members but that one. A prefix whose best path moves from another peer to a member is withdrawn from
that member and announced to the others; what any member has been told is therefore all batches of other sources, and
nothing need be remembered per member.

Not here: which path is selected (rib.py), what is told of it (policy.export), and how much a session can take at once.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from kube_router.plugins.routing.bgp.best import Selection
from kube_router.plugins.routing.bgp.model import Family, Negotiated, PeerConfig, Prefix, SpeakerConfig
from kube_router.plugins.routing.bgp.policy import Exported, export
from kube_router.plugins.routing.bgp.update import encode_reach, encode_withdraw, end_of_rib
from kube_router.plugins.routing.bgp.wire import route_refresh

BEGIN_OF_REFRESH, END_OF_REFRESH = 1, 2  # subtypes of ROUTE-REFRESH (RFC 7313)


class GroupKey(NamedTuple):
    """What neighbours must have in common to be told the same in the same bytes."""

    internal: bool
    mesh: bool
    reflector_client: bool
    next_hop_self: bool
    prepend: tuple[int, int]
    communities: tuple[int, ...]
    large_communities: tuple[tuple[int, int, int], ...]
    families: frozenset[Family]
    four_octet_as: bool
    extended_next_hop: frozenset[Family]
    message_max: int


def key(peer: PeerConfig, negotiated: Negotiated) -> GroupKey:
    """Return the group of a neighbour."""
    return GroupKey(
        internal=peer.internal,
        mesh=peer.mesh,
        reflector_client=peer.reflector_client,
        next_hop_self=peer.next_hop_self,
        prepend=(peer.prepend_asn, peer.prepend_count),
        communities=peer.communities,
        large_communities=peer.large_communities,
        families=negotiated.families,
        four_octet_as=negotiated.four_octet_as,
        extended_next_hop=negotiated.extended_next_hop,
        message_max=negotiated.message_max,
    )


class _BatchKey(NamedTuple):
    source: str  # the peer whose paths these are, "" for our own
    family: Family
    exported: Exported


@dataclass(eq=False, slots=True)
class _Batch:
    """Prefixes that share messages. ``messages`` is their encoding until the prefixes change."""

    key: _BatchKey
    prefixes: dict[Prefix, None] = field(default_factory=dict)  # in the order in which they came
    messages: list[bytes] | None = None


class _Share:
    """Messages by source, in one list: a member leaves out those of which it is the source."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self._spans: dict[str, tuple[int, int]] = {}

    def add(self, source: str, messages: Iterable[bytes]) -> None:
        """Add messages; all of one source come one after another."""
        start = len(self.messages)
        self.messages += messages
        self._spans[source] = self._spans.get(source, (start, start))[0], len(self.messages)

    def of(self, member: str) -> list[bytes]:
        if member not in self._spans:
            return self.messages
        start, end = self._spans[member]
        return self.messages[:start] + self.messages[end:]


class Outgoing:
    """Messages for all members of a group; a member that a route came from gets its own share of them."""

    def __init__(self) -> None:
        self.withdrawn = _Share()
        self.reached = _Share()
        self.only: dict[str, list[bytes]] = {}  # withdrawn from a member whose own path is now the best
        self._all: list[bytes] | None = None

    def of(self, member: str) -> list[bytes]:
        """Return the messages for a member, what is withdrawn first. The list may be shared: leave it as it is."""
        withdrawn, reached = self.withdrawn.of(member), self.reached.of(member)
        if member in self.only or withdrawn is not self.withdrawn.messages or reached is not self.reached.messages:
            return [*self.only.get(member, ()), *withdrawn, *reached]
        if self._all is None:
            self._all = [*withdrawn, *reached]
        return self._all


class Group:
    """Neighbours with an equal key."""

    def __init__(self, config: SpeakerConfig, peer: PeerConfig, negotiated: Negotiated) -> None:
        self.members: set[str] = set()  # the caller adds and removes
        self._config, self._peer, self._negotiated = config, peer, negotiated
        self._told: dict[Prefix, _Batch] = {}
        self._batches: dict[_BatchKey, _Batch] = {}

    def configure(self, config: SpeakerConfig) -> None:
        """Export by a new configuration from now on; ``changed`` with all selections brings the members up to it."""
        self._config = config

    def changed(self, changes: Mapping[Prefix, Selection | None]) -> Outgoing:
        """Return what members have to be told of changed selections: what is withdrawn first."""
        withdrawn: dict[str, list[Prefix]] = {}
        taken_over: dict[str, list[Prefix]] = {}
        reached: dict[_Batch, list[Prefix]] = {}
        memo: dict[tuple[int, int], _Batch | None] = {}
        for prefix, selection in changes.items():
            old = self._told.get(prefix)
            if selection is None:
                new = None
            else:
                known = id(selection), len(prefix.network)  # selections are shared, and outlive this loop
                if known not in memo:
                    memo[known] = self._batch(selection, prefix.family)
                new = memo[known]
            if new is old:
                continue
            self._move(prefix, old, new)
            if new is not None:
                reached.setdefault(new, []).append(prefix)
                if old is not None and new.key.source in self.members and new.key.source != old.key.source:
                    taken_over.setdefault(new.key.source, []).append(prefix)
            elif old is not None:
                withdrawn.setdefault(old.key.source, []).append(prefix)
        return self._outgoing(withdrawn, taken_over, reached)

    def table(self, member: str) -> list[bytes]:
        """Return all that a new member is told, with End-of-RIB of each family at the end."""
        families = sorted(self._negotiated.families)
        return [*self._messages(member, families), *(end_of_rib(family) for family in families)]

    def refresh(self, member: str, family: Family, *, enhanced: bool) -> list[bytes]:
        """Return the answer to a ROUTE-REFRESH: the family's table, within BoRR and EoRR where both can (RFC 7313)."""
        messages = self._messages(member, [family])
        if not enhanced:
            return messages
        return [route_refresh(family, BEGIN_OF_REFRESH), *messages, route_refresh(family, END_OF_REFRESH)]

    def announced(self, member: str) -> list[tuple[Prefix, Exported]]:
        """Return what a member has been told (Adj-RIB-Out), by prefix."""
        return sorted((p, batch.key.exported) for p, batch in self._told.items() if batch.key.source != member)

    def count(self, member: str) -> int:
        """Return how many prefixes that is; also for a thread beside the one that changes them."""
        return sum(len(batch.prefixes) for batch in list(self._batches.values()) if batch.key.source != member)

    def _batch(self, selection: Selection, family: Family) -> _Batch | None:
        """Return the batch a selection belongs to, ``None`` where it is not told to this group."""
        exported = export(self._config, self._peer, selection.best, selection.source)
        if exported is None or not self._can_tell(family, exported):
            return None
        found = _BatchKey(selection.best.peer, family, exported)
        return self._batches.setdefault(found, _Batch(found))

    def _can_tell(self, family: Family, exported: Exported) -> bool:
        """Return whether the session carries the family, and its prefixes with such a next hop (RFC 8950)."""
        if family not in self._negotiated.families:
            return False
        natural = len(exported.next_hop.address) == (4 if family == Family.IPV4 else 16)
        return natural or (family == Family.IPV4 and family in self._negotiated.extended_next_hop)

    def _move(self, prefix: Prefix, old: _Batch | None, new: _Batch | None) -> None:
        if old is not None:
            del old.prefixes[prefix], self._told[prefix]
            old.messages = None
            if not old.prefixes:
                del self._batches[old.key]
        if new is not None:
            new.prefixes[prefix] = None
            new.messages = None
            self._told[prefix] = new

    def _outgoing(
        self,
        withdrawn: Mapping[str, list[Prefix]],
        taken_over: Mapping[str, list[Prefix]],
        reached: Mapping[_Batch, list[Prefix]],
    ) -> Outgoing:
        outgoing = Outgoing()
        for source, prefixes in withdrawn.items():
            outgoing.withdrawn.add(source, encode_withdraw(prefixes, self._negotiated))
        for batch, prefixes in sorted(reached.items(), key=lambda item: item[0].key.source):
            outgoing.reached.add(batch.key.source, self._encoded(batch, prefixes))
        for member, prefixes in taken_over.items():
            outgoing.only[member] = encode_withdraw(prefixes, self._negotiated)
        return outgoing

    def _encoded(self, batch: _Batch, prefixes: Iterable[Prefix]) -> list[bytes]:
        exported = batch.key.exported
        return encode_reach(exported.attributes, exported.next_hop, prefixes, self._negotiated)

    def _messages(self, member: str, families: Iterable[Family]) -> list[bytes]:
        found: list[bytes] = []
        for batch in self._batches.values():
            if batch.key.source == member or batch.key.family not in families:
                continue
            if batch.messages is None:
                batch.messages = self._encoded(batch, batch.prefixes)
            found += batch.messages
        return found
