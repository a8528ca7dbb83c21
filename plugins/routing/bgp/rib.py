"""The routing table: every peer's paths (Adj-RIB-In), this node's own, and what is selected from them (pure)."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from kube_router.plugins.routing.bgp.best import PeerInfo, Ranking, Selection
from kube_router.plugins.routing.bgp.model import Attributes, Family, Kind, NextHop, Path, Prefix

OWN_WEIGHT = 32768


class Own(NamedTuple):
    """What this node originates for a prefix."""

    attributes: Attributes
    next_hop: NextHop
    kind: Kind


class Rib:
    """All paths by prefix. What is selected depends on what is held, never on the order in which it came."""

    def __init__(self, ecmp_max: int = 16, refuses: Callable[[Prefix], str] = lambda prefix: "") -> None:
        """``refuses`` says in words why a prefix is taken from nobody, "" where it is (policy.PrefixFilter)."""
        raise NotImplementedError

    def set_filter(self, refuses: Callable[[Prefix], str]) -> None:
        """Judge all that is held anew, and what comes."""
        raise NotImplementedError

    def set_peer(self, peer: str, info: PeerInfo) -> None:
        """Say who a peer is, before it announces anything; again whenever its session comes up."""
        raise NotImplementedError

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
        raise NotImplementedError

    def withdraw(self, peer: str, prefixes: Sequence[Prefix], path_ids: Sequence[int] | None = None) -> None:
        """Forget paths of a peer; what it never announced is passed over. Without path ids: path id 0."""
        raise NotImplementedError

    def drop(self, peer: str, families: Collection[Family] = tuple(Family)) -> None:
        """Forget all that a peer said of families."""
        raise NotImplementedError

    def mark_stale(self, peer: str, families: Collection[Family] = tuple(Family)) -> None:
        """Mark a peer's paths as those of a session that is gone. They are used as before (RFC 4724 section 4.2)."""
        raise NotImplementedError

    def sweep(self, peer: str, families: Collection[Family] = tuple(Family)) -> None:
        """Forget the paths of a peer that are still stale."""
        raise NotImplementedError

    def originate(self, own: Mapping[Prefix, Own]) -> None:
        """Say all that this node originates; it wins over whatever a peer says."""
        raise NotImplementedError

    def take_changes(self) -> dict[Prefix, Selection | None]:
        """Return the prefixes whose selection is another one than at the last call; ``None``: no path any more."""
        raise NotImplementedError

    def selection(self, prefix: Prefix) -> Selection | None:
        raise NotImplementedError

    def each_selection(self) -> Iterator[tuple[Prefix, Selection]]:
        raise NotImplementedError

    def ranking(self, prefix: Prefix) -> Ranking | None:
        """Return the selection of a prefix with the reason why each other path lost."""
        raise NotImplementedError

    def paths(self, prefix: Prefix) -> tuple[Path, ...]:
        """Return all paths to a prefix, by peer and path id: also what may not be used."""
        raise NotImplementedError

    def routes_of(self, peer: str) -> Iterator[tuple[Prefix, Path]]:
        """Yield all that a peer announced (Adj-RIB-In); of "", what this node originates."""
        raise NotImplementedError

    def count(self, peer: str) -> int:
        """Return how many paths a peer has announced."""
        raise NotImplementedError

    def stale(self, peer: str) -> int:
        """Return how many of them are stale."""
        raise NotImplementedError

    def __len__(self) -> int:
        """Return how many prefixes have a path."""
        raise NotImplementedError
