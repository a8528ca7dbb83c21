"""Choose among the paths to one prefix: the decision process of RFC 4271 section 9.1.2.2 (pure).

The process is one of elimination: each rule in its turn keeps the paths that are best by it and drops the rest. As a
rule looks at the whole set that is left, the outcome depends on the set alone, never on the order in which paths came
or were compared; MED, which only paths of the same neighbouring AS share, is deterministic for the same reason. Paths
that are still together after the cost of reaching the next hop are *equal* (ECMP); the rules after it, those of RFC
4456 section 9 among them, only break the tie.

Not here: whether a path may be used at all (policy.py), and RFC 5004 (keeping the older of two external paths), which
would make the outcome depend on history.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import NamedTuple

from kube_router.plugins.routing.bgp.model import Path, SegmentType

LOCAL_PREF = 100  # of a path that has none: what every implementation takes

Words = str


class PeerInfo(NamedTuple):
    """What the decision process needs to know of a peer. ``address`` is packed."""

    asn: int
    router_id: int
    address: bytes
    internal: bool


OURSELVES = PeerInfo(0, 0, b"", True)  # who originates this node's own paths


class Selection(NamedTuple):
    """What is used for a prefix: the best path, all that are used along with it (best first), and why, in words.

    ``source`` is who told the best path, ``None`` where this node originates it.
    """

    best: Path
    multipath: tuple[Path, ...]
    why: Words
    source: PeerInfo | None = None


class Ranking(NamedTuple):
    """A selection with the reason why each other path is not in it."""

    best: Path
    multipath: tuple[Path, ...]
    why: Words
    lost: dict[Path, Words]


class Candidate(NamedTuple):
    """A path together with who told it."""

    path: Path
    peer: PeerInfo


def path_length(path: Path) -> int:
    """Return how many ASes a path counts: a set is one, confederation segments are none (RFC 5065 section 5.3)."""
    lengths = {SegmentType.AS_SEQUENCE: len, SegmentType.AS_SET: lambda asns: 1}
    return sum(lengths[kind](asns) for kind, asns in path.attributes.as_path if kind in lengths)


def neighbour_as(candidate: Candidate) -> int:
    """Return the AS a path came from into ours, 0 where it began in ours: MEDs compare within one of these."""
    for kind, asns in candidate.path.attributes.as_path:
        if kind == SegmentType.AS_SEQUENCE and asns:
            return asns[0]
        if kind == SegmentType.AS_SET:
            break  # RFC 4271 section 9.1.2.2 c: only an AS_SEQUENCE tells a neighbour
    return 0


def _local_pref(candidate: Candidate) -> int:
    found = candidate.path.attributes.local_pref
    return LOCAL_PREF if found is None else found


def _router_id(candidate: Candidate) -> int:
    # RFC 4456 section 9: the ORIGINATOR_ID stands for the BGP Identifier.
    found = candidate.path.attributes.originator_id
    return candidate.peer.router_id if found is None else found


def _nobody(candidate: Candidate) -> int:
    return 0


class Rule(NamedTuple):
    """A step: ``key`` is lower for the better; only paths of the same ``group`` compare. ``tell`` shows a value."""

    name: str
    better: str
    key: Callable[[Candidate], int | tuple[int, bytes]]
    group: Callable[[Candidate], int] = _nobody
    tell: Callable[[Candidate], object] | None = None


RULES: tuple[Rule, ...] = (
    Rule("weight", "higher", lambda c: -c.path.weight, tell=lambda c: c.path.weight),
    Rule("local preference", "higher", lambda c: -_local_pref(c), tell=_local_pref),
    Rule("AS path length", "lower", lambda c: path_length(c.path)),
    Rule("origin", "lower", lambda c: c.path.attributes.origin, tell=lambda c: c.path.attributes.origin.name),
    Rule("MED", "lower", lambda c: c.path.attributes.med or 0, neighbour_as),
    Rule("kind", "better", lambda c: c.peer.internal, tell=lambda c: "internal" if c.peer.internal else "external"),
    Rule("cost of the next hop", "lower", lambda c: c.path.cost),
)
TIE_BREAKS: tuple[Rule, ...] = (
    Rule("router id", "lower", _router_id, tell=lambda c: ip_address(_router_id(c))),
    Rule("cluster list length", "lower", lambda c: len(c.path.attributes.cluster_list)),
    Rule("peer address", "lower", lambda c: (len(c.peer.address), c.peer.address), tell=lambda c: c.path.peer),
    Rule("path id", "lower", lambda c: c.path.path_id),
)


def better(one: Path, other: Path, peers: Mapping[str, PeerInfo]) -> bool:
    """Return whether the first of two paths wins."""
    raise NotImplementedError


def rank(paths: Iterable[Path], peers: Mapping[str, PeerInfo], ecmp_max: int = 16) -> Ranking | None:
    """Return which paths are used and why each other one is not, ``None`` where none may be."""
    raise NotImplementedError


def select(candidates: Sequence[Candidate], ecmp_max: int) -> Selection | None:
    """Return which paths are used, ``None`` where none may be."""
    raise NotImplementedError
