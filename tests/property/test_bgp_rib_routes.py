"""Law 1 for the routing table: what is selected depends on what is held, never on the way to it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from kube_router.plugins.routing.bgp.best import PeerInfo, Selection, rank
from kube_router.plugins.routing.bgp.model import (
    Attributes,
    Family,
    Kind,
    NextHop,
    Origin,
    Path,
    Prefix,
    Segment,
    SegmentType,
    prefix_of,
)
from kube_router.plugins.routing.bgp.rib import OWN_WEIGHT, Own, Rib

PREFIXES = [prefix_of(text) for text in ("10.1.0.0/24", "10.2.0.0/24", "10.2.0.0/16", "fd00:1::/64", "fd00:2::/64")]
NEXT_HOPS = [NextHop(bytes([10, 0, 0, number])) for number in range(1, 4)]
INFOS = [
    PeerInfo(asn, router_id, bytes([10, 0, 0, last]), internal)
    for asn, internal in ((64512, True), (65001, False))
    for router_id, last in ((1, 1), (2, 1), (2, 2))
]
PEERS = ("a", "b", "c")

attributes = st.builds(
    Attributes,
    origin=st.sampled_from([Origin.IGP, Origin.EGP]),
    as_path=st.lists(st.sampled_from([65001, 65002]), max_size=2).map(
        lambda asns: (Segment(SegmentType.AS_SEQUENCE, tuple(asns)),) if asns else ()
    ),
    med=st.sampled_from([None, 0, 5]),
    local_pref=st.sampled_from([None, 100, 200]),
    originator_id=st.sampled_from([None, 1, 7]),
    cluster_list=st.sampled_from([(), (1,), (1, 2)]),
)
places = st.lists(st.tuples(st.sampled_from(PREFIXES), st.integers(0, 2)), min_size=1, max_size=4)
families = st.sets(st.sampled_from(list(Family)), min_size=1)
own = st.builds(Own, attributes, st.sampled_from(NEXT_HOPS), st.sampled_from(Kind))


@dataclass
class Held:
    """What a table ought to hold, said plainly."""

    paths: dict[tuple[str, Prefix, int], Path] = field(default_factory=dict)
    own: dict[Prefix, Own] = field(default_factory=dict)
    infos: dict[str, PeerInfo] = field(default_factory=lambda: dict.fromkeys(PEERS, INFOS[0]))
    refused: frozenset[Prefix] = frozenset()
    ecmp_max: int = 2

    def selections(self) -> dict[Prefix, tuple[Path, tuple[Path, ...], str]]:
        """Return what the decision process makes of it, without any table."""
        found = {}
        for prefix in PREFIXES:
            paths = [path for (_, place, _), path in self.paths.items() if place == prefix]
            paths = [] if prefix in self.refused else [path._replace(stale=False) for path in paths]
            if prefix in self.own:
                what = self.own[prefix]
                paths.append(Path("", what.attributes, what.next_hop, weight=OWN_WEIGHT, kind=what.kind))
            ranking = rank(paths, self.infos, self.ecmp_max)
            if ranking is not None:
                found[prefix] = ranking.best, ranking.multipath, ranking.why
        return found


Step = Callable[[Rib, Held], None]


@st.composite
def steps(draw: st.DrawFn) -> Step:
    """Draw something that happens to a table and to what it ought to hold."""
    kind = draw(
        st.sampled_from(
            ["announce"] * 5 + ["withdraw"] * 2 + ["stale", "sweep", "drop", "own", "who", "filter", "judge"]
        )
    )
    peer, where = draw(st.sampled_from(PEERS)), draw(places)
    if kind == "announce":
        path = Path(
            peer, draw(attributes), draw(st.sampled_from(NEXT_HOPS)), refused=draw(st.sampled_from(["", "", "no"]))
        )
        with_ids = draw(st.booleans())
        return lambda rib, held: announce(rib, held, path, where if with_ids else [(prefix, 0) for prefix, _ in where])
    if kind == "withdraw":
        return lambda rib, held: withdraw(rib, held, peer, where)
    if kind == "own":
        given_own = draw(st.dictionaries(st.sampled_from(PREFIXES), own, max_size=2))
        return lambda rib, held: originate(rib, held, given_own)
    if kind == "who":
        info = draw(st.sampled_from(INFOS))
        return lambda rib, held: set_peer(rib, held, peer, info)
    if kind == "filter":
        refused, ecmp_max = draw(st.frozensets(st.sampled_from(PREFIXES), max_size=2)), draw(st.integers(1, 3))
        return lambda rib, held: configure(rib, held, refused, ecmp_max)
    if kind == "judge":
        med = draw(st.sampled_from([None, 0, 5]))
        return lambda rib, held: rejudge(rib, held, peer, med)
    affected = draw(families)
    return lambda rib, held: end(rib, held, kind, peer, affected)


def announce(rib: Rib, held: Held, path: Path, where: list[tuple[Prefix, int]]) -> None:
    prefixes, path_ids = [prefix for prefix, _ in where], [path_id for _, path_id in where]
    rib.announce(
        path.peer, prefixes, path_ids if any(path_ids) else None, path.attributes, path.next_hop, refused=path.refused
    )
    for prefix, path_id in where:
        held.paths[path.peer, prefix, path_id] = path._replace(path_id=path_id)


def withdraw(rib: Rib, held: Held, peer: str, where: list[tuple[Prefix, int]]) -> None:
    rib.withdraw(peer, [prefix for prefix, _ in where], [path_id for _, path_id in where])
    for prefix, path_id in where:
        held.paths.pop((peer, prefix, path_id), None)


def originate(rib: Rib, held: Held, given_own: dict[Prefix, Own]) -> None:
    rib.originate(given_own)
    held.own = given_own


def set_peer(rib: Rib, held: Held, peer: str, info: PeerInfo) -> None:
    rib.set_peer(peer, info)
    held.infos[peer] = info


def configure(rib: Rib, held: Held, refused: frozenset[Prefix], ecmp_max: int) -> None:
    rib.set_filter(lambda prefix: "refused" if prefix in refused else "")
    rib.ecmp_max = ecmp_max
    held.refused, held.ecmp_max = refused, ecmp_max


def rejudge(rib: Rib, held: Held, peer: str, med: int | None) -> None:
    rib.rejudge(peer, lambda attributes, next_hop: "no" if attributes.med == med else "")
    for place, path in held.paths.items():
        if place[0] == peer:
            held.paths[place] = path._replace(refused="no" if path.attributes.med == med else "")


def end(rib: Rib, held: Held, kind: str, peer: str, affected: set[Family]) -> None:
    """A session ends, or what it left does."""
    {"stale": rib.mark_stale, "sweep": rib.sweep, "drop": rib.drop}[kind](peer, affected)
    for place, path in list(held.paths.items()):
        if place[0] != peer or place[1].family not in affected:
            continue
        if kind == "stale":
            held.paths[place] = path._replace(stale=True)
        elif kind == "drop" or path.stale:
            del held.paths[place]


def told(selection: Selection) -> tuple[Path, tuple[Path, ...], str]:
    return selection.best, selection.multipath, selection.why


def fresh(held: Held) -> Rib:
    rib = Rib(held.ecmp_max, lambda prefix: "refused" if prefix in held.refused else "")
    for peer, info in held.infos.items():
        rib.set_peer(peer, info)
    return rib


@given(st.lists(st.tuples(steps(), st.booleans()), max_size=25))
def test_what_is_told_step_by_step_is_what_the_paths_say_at_the_end(route: list[tuple[Step, bool]]) -> None:
    held = Held()
    rib, known = fresh(held), dict[Prefix, Selection]()

    def take() -> None:
        for prefix, selection in rib.take_changes().items():
            assert selection != known.get(prefix), "nothing is told twice"
            if selection is None:
                del known[prefix]
            else:
                known[prefix] = selection

    for step, ask in route:
        step(rib, held)
        if ask:
            take()
    take()
    assert {prefix: told(selection) for prefix, selection in known.items()} == held.selections()
    assert dict(rib.each_selection()) == known
    for prefix in PREFIXES:
        assert rib.selection(prefix) == known.get(prefix)


@given(st.lists(steps(), max_size=25), st.randoms(use_true_random=False))
def test_a_table_is_the_same_as_one_made_of_its_paths_in_any_order(route: list[Step], random: Random) -> None:
    held = Held()
    rib = fresh(held)
    for step in route:
        step(rib, held)
    paths = list(held.paths.items())
    random.shuffle(paths)
    other = fresh(held)
    other.originate(held.own)
    for stale in (True, False):
        for (peer, prefix, path_id), path in paths:
            if path.stale is stale:
                other.announce(peer, [prefix], [path_id], path.attributes, path.next_hop, refused=path.refused)
                if stale:
                    other.mark_stale(peer, [prefix.family])
    assert dict(rib.each_selection()) == dict(other.each_selection())
    for prefix in PREFIXES:
        assert rib.paths(prefix) == other.paths(prefix)
        assert rib.ranking(prefix) == other.ranking(prefix)


@given(st.lists(steps(), max_size=25))
def test_what_is_counted_and_listed_is_what_is_held(route: list[Step]) -> None:
    held = Held()
    rib = fresh(held)
    for step in route:
        step(rib, held)
    for peer in PEERS:
        theirs = {(prefix, path_id): path for (who, prefix, path_id), path in held.paths.items() if who == peer}
        listed = {(prefix, path.path_id): path for prefix, path in rib.routes_of(peer)}
        assert listed.keys() == theirs.keys()
        assert {place: path.stale for place, path in listed.items()} == {p: path.stale for p, path in theirs.items()}
        assert rib.count(peer) == len(theirs)
        assert rib.stale(peer) == sum(path.stale for path in theirs.values())
    assert len(rib) == len({prefix for _, prefix, _ in held.paths} | held.own.keys())
