"""The routing table: every peer's paths (Adj-RIB-In), this node's own, and what is selected from them (pure).

One dictionary holds the candidates of each prefix (candidates.py); what is selected is a function of them alone. So the
table after any sequence of changes is the one that the same paths would have made in any other order, and a change
costs what its prefixes cost, not what the table does. Each peer keeps a list of where its paths are, so that its end
costs no more than what it announced.

Paths that policy refuses are held too, unused: a node's configuration may change while a session stays, and which
paths are used must not depend on what it was when they came. For the same reason a prefix that this node originates is
not refused: its own path wins, and whatever peers say of it waits.

Not here: what is refused (policy.py), what is told to whom (adjout.py).
"""

import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import islice, repeat
from typing import NamedTuple

from kube_router.plugins.routing.bgp.best import OURSELVES, Candidate, PeerInfo, Ranking, Selection, rank
from kube_router.plugins.routing.bgp.candidates import Candidates, Pool
from kube_router.plugins.routing.bgp.model import Attributes, Family, Kind, NextHop, Path, Prefix

OWN_WEIGHT = 32768
SLACK = 64  # places a peer's list may hold in vain, besides half of it

Change = Callable[[Candidate], Candidate | None]


class Own(NamedTuple):
    """What this node originates for a prefix."""

    attributes: Attributes
    next_hop: NextHop
    kind: Kind


class _Peer:
    """A peer's part of the table. ``places`` holds each prefix it has a path to, and some it has none to any more."""

    __slots__ = ("count", "info", "places")

    def __init__(self, info: PeerInfo) -> None:
        self.info = info
        self.count = 0
        self.places: list[Prefix] = []


class _Step(NamedTuple):
    """What a path makes of the candidates of a prefix: how many more its peer has there, and whether it had none."""

    new: Candidates
    more: int
    first: bool


class Rib:
    """All paths by prefix. What is selected depends on what is held, never on the order in which it came."""

    def __init__(self, ecmp_max: int = 16, refuses: Callable[[Prefix], str] = lambda prefix: "") -> None:
        """``refuses`` says in words why a prefix is taken from nobody, "" where it is (policy.PrefixFilter)."""
        self._pool = Pool(ecmp_max)
        self._refuses = refuses
        self._table: dict[Prefix, Candidates] = {}
        self._before: dict[Prefix, Candidates | None] = {}  # what was there when changes were taken last
        self._peers = {"": _Peer(OURSELVES)}
        self._own: dict[Prefix, Own] = {}

    # -- what peers say

    def set_peer(self, peer: str, info: PeerInfo) -> None:
        """Say who a peer is, before it announces anything; again whenever its session comes up."""
        known = self._peers.get(peer)
        if known is None:
            self._peers[peer] = _Peer(info)
        elif known.info != info:
            known.info = info
            self._change(peer, tuple(Family), lambda candidate: candidate._replace(peer=info))

    def announce(
        self,
        peer: str,
        prefixes: Sequence[Prefix],
        path_ids: Sequence[int] | None,
        attributes: Attributes,
        next_hop: NextHop,
        *,
        refused: str = "",
    ) -> None:
        """Take a peer's paths: each replaces what the peer said of the same prefix and path id before.

        With ``refused`` (words of policy.judge) they are kept to be shown and not used.
        """
        self._put(peer, prefixes, path_ids, Path(peer, attributes, next_hop, refused=refused))

    def rejudge(self, peer: str, judge: Callable[[Attributes, NextHop], str]) -> None:
        """Judge anew what a peer has announced: ``judge`` says why it is refused, "" where it is used."""

        def judged(candidate: Candidate) -> Candidate:
            path = candidate.path
            return candidate._replace(path=path._replace(refused=judge(path.attributes, path.next_hop)))

        self._change(peer, tuple(Family), judged)

    def withdraw(self, peer: str, prefixes: Sequence[Prefix], path_ids: Sequence[int] | None = None) -> None:
        """Forget paths of a peer; what it never announced is passed over. Without path ids: path id 0."""
        table, record = self._table, self._peers[peer]
        memo: dict[tuple[Candidates, int], Candidates | None] = {}
        for prefix, path_id in zip(prefixes, repeat(0) if path_ids is None else path_ids, strict=False):
            old = table.get(prefix)
            if old is None:
                continue
            known = old, path_id
            if known not in memo:
                memo[known] = self._pool.without_path(old, peer, path_id)
            if memo[known] is not old:
                record.count -= 1
                self._set(prefix, old, memo[known])
        self._tidy(peer)

    def drop(self, peer: str, families: Collection[Family] = tuple(Family)) -> None:
        """Forget all that a peer said of families."""
        self._change(peer, families, lambda candidate: None)

    def forget(self, peer: str) -> None:
        """Forget a peer and all that it said: it is configured no more."""
        if peer in self._peers:
            self.drop(peer)
            del self._peers[peer]

    def mark_stale(self, peer: str, families: Collection[Family] = tuple(Family)) -> None:
        """Mark a peer's paths as those of a session that is gone. They are used as before (RFC 4724 section 4.2)."""
        self._change(peer, families, lambda candidate: candidate._replace(path=candidate.path._replace(stale=True)))

    def sweep(self, peer: str, families: Collection[Family] = tuple(Family)) -> None:
        """Forget the paths of a peer that are still stale."""
        self._change(peer, families, lambda candidate: None if candidate.path.stale else candidate)

    # -- what this node says

    def originate(self, own: Mapping[Prefix, Own]) -> None:
        """Say all that this node originates; it wins over whatever a peer says."""
        self.withdraw("", [prefix for prefix in self._own if prefix not in own])
        alike: dict[Own, list[Prefix]] = {}
        for prefix, what in own.items():
            if self._own.get(prefix) != what:
                alike.setdefault(what, []).append(prefix)
        for what, prefixes in alike.items():
            path = Path("", what.attributes, what.next_hop, weight=OWN_WEIGHT, kind=what.kind)
            self._put("", prefixes, None, path)
        self._own = dict(own)

    def set_filter(self, refuses: Callable[[Prefix], str]) -> None:
        """Judge all that is held anew, and what comes. Costs nothing where the filter equals the one before."""
        if refuses == self._refuses:
            return
        self._refuses = refuses
        for prefix, old in list(self._table.items()):
            barred = refuses(prefix)
            if barred != old.barred:
                self._set(prefix, old, self._pool.of(old.held, barred))

    # -- what is selected

    @property
    def ecmp_max(self) -> int:
        """How many equal paths are used at most."""
        return self._pool.ecmp_max

    @ecmp_max.setter
    def ecmp_max(self, ecmp_max: int) -> None:
        if ecmp_max == self._pool.ecmp_max:
            return
        self._pool = Pool(ecmp_max)
        for prefix, old in list(self._table.items()):
            self._set(prefix, old, self._pool.of(old.held, old.barred))

    @property
    def has_changes(self) -> bool:
        """Whether there may be changes to take."""
        return bool(self._before)

    def take_changes(self, limit: int = sys.maxsize) -> dict[Prefix, Selection | None]:
        """Return the prefixes whose selection is another one than at the last call; ``None``: no path any more.

        At most so many are looked at; the rest stays for the next call.
        """
        changes: dict[Prefix, Selection | None] = {}
        table, before = self._table, self._before
        if len(before) > limit:
            before = dict(islice(before.items(), limit))
            for prefix in before:
                del self._before[prefix]
        else:
            self._before = {}
        for prefix, old in before.items():
            new = table.get(prefix)
            if new is old:
                continue
            selection = None if new is None else new.selection
            if selection != (None if old is None else old.selection):
                changes[prefix] = selection
        return changes

    def selection(self, prefix: Prefix) -> Selection | None:
        found = self._table.get(prefix)
        return None if found is None else found.selection

    def each_selection(self) -> Iterator[tuple[Prefix, Selection]]:
        """Yield every prefix that has a path in use."""
        for prefix, candidates in self._table.items():
            selection = candidates.selection
            if selection is not None:
                yield prefix, selection

    def ranking(self, prefix: Prefix) -> Ranking | None:
        """Return the selection of a prefix with the reason why each other path lost."""
        peers = {name: peer.info for name, peer in self._peers.items()}
        return rank(self.paths(prefix), peers, self._pool.ecmp_max)

    # -- what is held

    def paths(self, prefix: Prefix) -> tuple[Path, ...]:
        """Return all paths to a prefix, by peer and path id: also what may not be used."""
        found = self._table.get(prefix)
        return () if found is None else tuple(found.paths())

    def routes_of(self, peer: str) -> Iterator[tuple[Prefix, Path]]:
        """Yield all that a peer announced (Adj-RIB-In); of "", what this node originates."""
        record = self._peers.get(peer)
        for prefix in dict.fromkeys(() if record is None else record.places):
            for path in self.paths(prefix):
                if path.peer == peer:
                    yield prefix, path

    def count(self, peer: str) -> int:
        """Return how many paths a peer has announced."""
        record = self._peers.get(peer)
        return 0 if record is None else record.count

    def stale(self, peer: str) -> int:
        """Return how many of them are stale."""
        return sum(1 for _, path in self.routes_of(peer) if path.stale)

    def __len__(self) -> int:
        """Return how many prefixes have a path."""
        return len(self._table)

    # -- how it changes

    def _put(self, peer: str, prefixes: Sequence[Prefix], path_ids: Sequence[int] | None, path: Path) -> None:
        table, before, record, refuses = self._table, self._before, self._peers[peer], self._refuses
        memo: dict[tuple[Candidates | str, int], _Step] = {}
        for prefix, path_id in zip(prefixes, repeat(0) if path_ids is None else path_ids, strict=False):
            old = table.get(prefix)
            known = refuses(prefix) if old is None else old, path_id
            step = memo.get(known)
            if step is None:
                candidate = Candidate(path if path_id == 0 else path._replace(path_id=path_id), record.info)
                barred = old.barred if old is not None else refuses(prefix)
                step = memo[known] = self._step(peer, old, self._pool.with_path(old, candidate, barred))
            if step.new is old:
                continue
            if prefix not in before:
                before[prefix] = old
            table[prefix] = step.new
            record.count += step.more
            if step.first:
                record.places.append(prefix)

    def _step(self, peer: str, old: Candidates | None, new: Candidates) -> _Step:
        had = 0 if old is None else old.count(peer)
        return _Step(new, new.count(peer) - had, had == 0)

    def _change(self, peer: str, families: Collection[Family], change: Change) -> None:
        """Change a peer's paths, each on its own, or take them away."""
        record = self._peers.get(peer)
        if record is None:
            return
        octets = {4 if family == Family.IPV4 else 16 for family in families}
        memo: dict[Candidates, tuple[Candidates | None, int]] = {}
        for prefix in dict.fromkeys(record.places):
            old = self._table.get(prefix)
            if old is None or len(prefix.network) not in octets:
                continue
            if old not in memo:
                changed = self._pool.changed(old, peer, change)
                memo[old] = changed, old.count(peer) - (0 if changed is None else changed.count(peer))
            new, fewer = memo[old]
            if new is not old:
                record.count -= fewer
                self._set(prefix, old, new)
        self._tidy(peer)

    def _set(self, prefix: Prefix, old: Candidates, new: Candidates | None) -> None:
        self._before.setdefault(prefix, old)
        if new is None:
            del self._table[prefix]
        else:
            self._table[prefix] = new

    def _tidy(self, peer: str) -> None:
        """Cut a peer's list to where it has paths, once most of it is in vain: so each withdrawal pays its share."""
        record = self._peers[peer]
        if len(record.places) <= 2 * record.count + SLACK:
            return
        held = ((prefix, self._table.get(prefix)) for prefix in dict.fromkeys(record.places))
        record.places = [prefix for prefix, found in held if found is not None and found.count(peer)]
