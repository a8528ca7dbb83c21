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

from kube_router.plugins.routing.bgp import aspath
from kube_router.plugins.routing.bgp.model import NextHop, Path, SegmentType

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


def neighbour_as(candidate: Candidate) -> int:
    """Return the AS a path came from into ours, 0 where it began in ours: MEDs compare within one of these."""
    for segment in candidate.path.attributes.as_path:
        if segment.type == SegmentType.AS_SEQUENCE and segment.asns:
            return segment.asns[0]
        if segment.type == SegmentType.AS_SET:
            break  # Only an AS_SEQUENCE tells the neighbour (RFC 4271 section 9.1.2.2 c).
    return 0


def _local_pref(candidate: Candidate) -> int:
    found = candidate.path.attributes.local_pref
    return LOCAL_PREF if found is None else found


def _path_length(candidate: Candidate) -> int:
    return aspath.length(candidate.path.attributes.as_path)


def _router_id(candidate: Candidate) -> int:
    # RFC 4456 section 9: the ORIGINATOR_ID stands for the BGP Identifier.
    found = candidate.path.attributes.originator_id
    return candidate.peer.router_id if found is None else found


def _address(candidate: Candidate) -> int:
    address = candidate.peer.address
    return len(address) << 128 | int.from_bytes(address)


def _nobody(candidate: Candidate) -> int:
    return 0


class Rule(NamedTuple):
    """A step: a lower ``key`` is better, among those of the same ``group``. ``tell`` shows what was compared."""

    name: str
    wins: Words
    key: Callable[[Candidate], int]
    tell: Callable[[Candidate], object]
    group: Callable[[Candidate], int] = _nobody


RULES: tuple[Rule, ...] = (
    Rule("weight", "higher weight", lambda c: -c.path.weight, lambda c: c.path.weight),
    Rule("local preference", "higher local preference", lambda c: -_local_pref(c), _local_pref),
    Rule("AS path length", "shorter AS path", _path_length, _path_length),
    Rule(
        "origin",
        "lower origin",
        lambda c: c.path.attributes.origin,
        lambda c: c.path.attributes.origin.name,
    ),
    # A path without a MED has the lowest one (RFC 4271 section 9.1.2.2 c).
    Rule("MED", "lower MED", lambda c: c.path.attributes.med or 0, lambda c: c.path.attributes.med or 0, neighbour_as),
    Rule(
        "session",
        "external session",
        lambda c: c.peer.internal,
        lambda c: "internal" if c.peer.internal else "external",
    ),
    Rule("next hop's cost", "lower cost of the next hop", lambda c: c.path.cost, lambda c: c.path.cost),
)
TIE_BREAKS: tuple[Rule, ...] = (
    Rule("router id", "lower router id", _router_id, lambda c: ip_address(_router_id(c))),
    Rule(
        "cluster list length",
        "shorter cluster list",
        lambda c: len(c.path.attributes.cluster_list),
        lambda c: len(c.path.attributes.cluster_list),
    ),
    Rule("peer address", "lower peer address", _address, lambda c: c.path.peer),
    Rule("path id", "lower path id", lambda c: c.path.path_id, lambda c: c.path.path_id),
)


class Lost(NamedTuple):
    """A path that a rule dropped, and one that it kept instead."""

    rule: Rule
    candidate: Candidate
    to: Candidate

    def __str__(self) -> str:
        return f"{self.rule.name} {self.rule.tell(self.candidate)}, not {self.rule.tell(self.to)}"


def _eliminate(candidates: Sequence[Candidate]) -> tuple[list[Candidate], list[Lost]]:
    """Return the paths that no rule tells apart, and the others in the order in which they went."""
    left, lost = list(candidates), list[Lost]()
    for rule in RULES:
        if len(left) == 1:
            break
        keys = [(rule.group(candidate), rule.key(candidate)) for candidate in left]
        best: dict[int, tuple[int, Candidate]] = {}
        for (group, key), candidate in zip(keys, left, strict=True):
            if group not in best or key < best[group][0]:
                best[group] = key, candidate
        lost += [
            Lost(rule, candidate, best[group][1])
            for (group, key), candidate in zip(keys, left, strict=True)
            if key > best[group][0]
        ]
        left = [candidate for (group, key), candidate in zip(keys, left, strict=True) if key == best[group][0]]
    return left, lost


def _in_order(equal: list[Candidate]) -> list[Candidate]:
    """Return equal paths, the best by the tie breaks first; by name where two peers give the same address."""
    return sorted(equal, key=lambda candidate: ([rule.key(candidate) for rule in TIE_BREAKS], candidate.path.peer))


def _tie_break(best: Candidate, other: Candidate) -> Lost:
    rule = next((rule for rule in TIE_BREAKS if rule.key(best) != rule.key(other)), TIE_BREAKS[-1])
    return Lost(rule, other, best)


def _used(equal: list[Candidate], ecmp_max: int) -> tuple[Path, ...]:
    """Return which of equal paths carry traffic: one for each next hop, so that a reflected copy adds nothing."""
    by_next_hop: dict[NextHop, Path] = {}
    for candidate in equal:
        by_next_hop.setdefault(candidate.path.next_hop, candidate.path)
    return tuple(by_next_hop.values())[: max(1, ecmp_max)]


def _why(equal: list[Candidate], lost: list[Lost], used: int) -> Words:
    if equal[0].path.peer == "":
        return "originated here"
    reasons = [lost[-1].rule.wins] if lost else []
    if len(equal) > 1:
        reasons.append(_tie_break(equal[0], equal[1]).rule.wins)
    why = ", then ".join(reasons) or "only path"
    return f"{why}; {used} equal paths are used" if used > 1 else why


def select(candidates: Sequence[Candidate], ecmp_max: int) -> Selection | None:
    """Return which paths are used, ``None`` where none may be."""
    usable = [candidate for candidate in candidates if not candidate.path.refused]
    if not usable:
        return None
    left, lost = _eliminate(usable)
    equal = _in_order(left)
    used = _used(equal, ecmp_max)
    best = equal[0]
    source = best.peer if best.path.peer else None
    return Selection(best.path, used, _why(equal, lost, len(used)), source)


def _of(path: Path, peers: Mapping[str, PeerInfo]) -> Candidate:
    return Candidate(path, peers[path.peer] if path.peer else OURSELVES)


def rank(paths: Iterable[Path], peers: Mapping[str, PeerInfo], ecmp_max: int = 16) -> Ranking | None:
    """Return which paths are used and why each other one is not, ``None`` where none may be."""
    candidates = [_of(path, peers) for path in paths]
    selection = select(candidates, ecmp_max)
    if selection is None:
        return None
    words = {c.path: f"refused: {c.path.refused}" for c in candidates if c.path.refused}
    left, lost = _eliminate([candidate for candidate in candidates if not candidate.path.refused])
    words |= {loss.candidate.path: str(loss) for loss in lost}
    best, *others = _in_order(left)
    twins = {path.next_hop: path.peer for path in selection.multipath}
    for other in others:
        if other.path in selection.multipath:
            continue
        tie = str(_tie_break(best, other))
        twin = twins.get(other.path.next_hop)
        reason = f"{len(twins)} equal paths are used already" if twin is None else f"same next hop as that of {twin}"
        words[other.path] = f"{tie}; {reason}"
    return Ranking(selection.best, selection.multipath, selection.why, words)


def better(one: Path, other: Path, peers: Mapping[str, PeerInfo]) -> bool:
    """Return whether the first of two paths wins."""
    ranking = rank((other, one), peers)
    return ranking is not None and ranking.best is one
