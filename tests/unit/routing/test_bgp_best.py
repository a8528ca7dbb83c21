"""RFC 4271 section 9.1.2.2, rule by rule, with RFC 4456 section 9 and multipath."""

from itertools import permutations

import pytest

from kube_router.plugins.routing.bgp.best import PeerInfo, Ranking, better, rank
from kube_router.plugins.routing.bgp.model import Attributes, NextHop, Origin, Path, Segment, SegmentType

# Peers by address; the third octet of a router id says nothing, the last one orders them.
PEERS = {
    "10.0.0.1": PeerInfo(64512, 0x0A000001, bytes([10, 0, 0, 1]), internal=True),
    "10.0.0.2": PeerInfo(64512, 0x0A000002, bytes([10, 0, 0, 2]), internal=True),
    "10.0.0.3": PeerInfo(64512, 0x0A000003, bytes([10, 0, 0, 3]), internal=True),
    "192.0.2.1": PeerInfo(65001, 0xC0000201, bytes([192, 0, 2, 1]), internal=False),
    "192.0.2.2": PeerInfo(65002, 0xC0000202, bytes([192, 0, 2, 2]), internal=False),
    "192.0.2.9": PeerInfo(65001, 0xC0000201, bytes([192, 0, 2, 9]), internal=False),  # a second session to one router
}


def sequence(*asns: int) -> tuple[Segment, ...]:
    return (Segment(SegmentType.AS_SEQUENCE, asns),)


def path(peer: str, *, weight: int = 0, cost: int = 0, path_id: int = 0, next_hop: str = "", **given: object) -> Path:
    octets = bytes(int(part) for part in (next_hop or peer).split("."))
    attributes = Attributes(**given)  # type: ignore[arg-type]  # the tests below name real fields
    return Path(peer, attributes, NextHop(octets), path_id, weight=weight, cost=cost)


def ranked(*paths: Path, ecmp_max: int = 16) -> Ranking:
    """Return the ranking of paths, which is the same in whatever order they are given."""
    found = [rank(order, PEERS, ecmp_max) for order in permutations(paths)]
    assert found[0] is not None
    assert all(each == found[0] for each in found)
    return found[0]


@pytest.mark.parametrize(
    ("winner", "loser", "why", "lost"),
    [
        pytest.param(
            path("10.0.0.2", weight=10),
            path("10.0.0.1", local_pref=500),
            "higher weight",
            "weight 0, not 10",
            id="weight comes first",
        ),
        pytest.param(
            path("10.0.0.2", local_pref=200, as_path=sequence(1, 2, 3)),
            path("10.0.0.1", local_pref=150),
            "higher local preference",
            "local preference 150, not 200",
            id="local preference before the length of the AS path",
        ),
        pytest.param(
            path("10.0.0.2", local_pref=101),
            path("10.0.0.1"),
            "higher local preference",
            "local preference 100, not 101",
            id="no local preference is 100",
        ),
        pytest.param(
            path("10.0.0.2", as_path=sequence(7), origin=Origin.INCOMPLETE),
            path("10.0.0.1", as_path=sequence(7, 7)),
            "shorter AS path",
            "AS path length 2, not 1",
            id="AS path before origin",
        ),
        pytest.param(
            path("10.0.0.2", as_path=(Segment(SegmentType.AS_SET, (1, 2, 3)),)),
            path("10.0.0.1", as_path=sequence(1, 2)),
            "shorter AS path",
            "AS path length 2, not 1",
            id="a set of ASes counts as one",
        ),
        pytest.param(
            path("10.0.0.2", as_path=(Segment(SegmentType.AS_CONFED_SEQUENCE, (1, 2, 3)),)),
            path("10.0.0.1", as_path=sequence(1)),
            "shorter AS path",
            "AS path length 1, not 0",
            id="confederation segments count nothing",
        ),
        pytest.param(
            path("10.0.0.2", origin=Origin.IGP, med=9),
            path("10.0.0.1", origin=Origin.EGP, med=1),
            "lower origin",
            "origin EGP, not IGP",
            id="origin before MED",
        ),
        pytest.param(
            path("10.0.0.2", origin=Origin.EGP),
            path("10.0.0.1", origin=Origin.INCOMPLETE),
            "lower origin",
            "origin INCOMPLETE, not EGP",
            id="EGP before INCOMPLETE",
        ),
        pytest.param(
            path("10.0.0.2", as_path=sequence(65001), med=5),
            path("10.0.0.1", as_path=sequence(65001), med=6),
            "lower MED",
            "MED 6, not 5",
            id="MED among paths of one neighbouring AS",
        ),
        pytest.param(
            path("10.0.0.2", as_path=sequence(65001)),
            path("10.0.0.1", as_path=sequence(65001), med=1),
            "lower MED",
            "MED 1, not 0",
            id="no MED is the lowest",
        ),
        pytest.param(
            path("10.0.0.2", med=5),
            path("10.0.0.1", med=6),
            "lower MED",
            "MED 6, not 5",
            id="paths that begin in our AS share its MEDs",
        ),
        pytest.param(
            path("192.0.2.1", as_path=sequence(65001), cost=9),
            path("10.0.0.1", as_path=sequence(65002)),
            "external session",
            "session internal, not external",
            id="external before internal, before cost",
        ),
        pytest.param(
            path("10.0.0.2", cost=1),
            path("10.0.0.1", cost=2),
            "lower cost of the next hop",
            "next hop's cost 2, not 1",
            id="cost before router id",
        ),
    ],
)
def test_a_rule_decides(winner: Path, loser: Path, why: str, lost: str) -> None:
    found = ranked(winner, loser)
    assert found == Ranking(winner, (winner,), why, {loser: lost})
    assert better(winner, loser, PEERS)
    assert not better(loser, winner, PEERS)


@pytest.mark.parametrize(
    ("winner", "loser", "why"),
    [
        pytest.param(path("10.0.0.1"), path("10.0.0.2"), "lower router id", id="router id"),
        pytest.param(
            path("10.0.0.2", originator_id=0x0A000000, cluster_list=(1, 2)),
            path("10.0.0.1"),
            "lower router id",
            id="the originator stands for the router",
        ),
        pytest.param(
            path("10.0.0.2", originator_id=0x0A000005, cluster_list=(1,)),
            path("10.0.0.1", originator_id=0x0A000005, cluster_list=(1, 2)),
            "shorter cluster list",
            id="cluster list",
        ),
        pytest.param(
            path("192.0.2.1", as_path=sequence(65001)),
            path("192.0.2.9", as_path=sequence(65001)),
            "lower peer address",
            id="peer address",
        ),
        pytest.param(
            path("10.0.0.1", path_id=1), path("10.0.0.1", path_id=2, next_hop="10.9.9.9"), "lower path id", id="path id"
        ),
    ],
)
def test_a_tie_break_orders_equal_paths_and_uses_them_all(winner: Path, loser: Path, why: str) -> None:
    found = ranked(winner, loser)
    assert found == Ranking(winner, (winner, loser), f"{why}; 2 equal paths are used", {})
    assert ranked(winner, loser, ecmp_max=1).multipath == (winner,)


def test_meds_of_different_neighbours_do_not_compare() -> None:
    low, high = path("192.0.2.2", as_path=sequence(65002), med=1), path("192.0.2.1", as_path=sequence(65001), med=9)
    assert ranked(low, high).multipath == (high, low)


def test_a_path_that_begins_with_a_set_has_no_neighbour_to_share_meds_with() -> None:
    union = path("192.0.2.2", as_path=(Segment(SegmentType.AS_SET, (65001, 7)), *sequence(65001)), med=9)
    plain = path("192.0.2.1", as_path=sequence(65001, 7), med=1)
    assert ranked(union, plain).multipath == (plain, union)


def test_the_neighbour_is_behind_confederation_segments() -> None:
    within = path("192.0.2.2", as_path=(Segment(SegmentType.AS_CONFED_SEQUENCE, (1, 2)), *sequence(65001, 7)), med=9)
    plain = path("192.0.2.1", as_path=sequence(65001, 7), med=1)
    assert ranked(within, plain).multipath == (plain,)


def test_med_is_deterministic_where_comparing_by_pairs_goes_round_in_circles() -> None:
    # a beats b by MED, b beats c by being external, c beats a by router id: only looking at all of them at once settles
    # it. b is out by MED, whatever it would do to c; then the session decides, and nothing is left of the circle.
    a = path("10.0.0.2", as_path=sequence(65001), med=1)
    b = path("192.0.2.1", as_path=sequence(65001), med=2)
    c = path("10.0.0.1", as_path=sequence(65002), med=3)
    assert better(a, b, PEERS)
    assert better(b, c, PEERS)
    assert better(c, a, PEERS)
    found = ranked(a, b, c)
    assert found.best == c
    assert found.multipath == (c, a)
    assert found.lost == {b: "MED 2, not 1"}
    assert found.why == "lower MED, then lower router id; 2 equal paths are used"


def test_a_single_path_is_best_for_want_of_others() -> None:
    only = path("10.0.0.1")
    assert ranked(only) == Ranking(only, (only,), "only path", {})


def test_our_own_path_wins_alone() -> None:
    own = Path("", Attributes(), NextHop(bytes(4)), weight=32768)
    other = path("10.0.0.1", local_pref=1000)
    assert ranked(own, other) == Ranking(own, (own,), "originated here", {other: "weight 0, not 32768"})


def test_equal_paths_beyond_the_maximum_are_told_to_be_so() -> None:
    one, two, three = path("10.0.0.1"), path("10.0.0.2"), path("10.0.0.3")
    found = ranked(three, one, two, ecmp_max=2)
    assert found.multipath == (one, two)
    assert found.lost == {three: "router id 10.0.0.3, not 10.0.0.1; 2 equal paths are used already"}


def test_a_path_through_the_same_next_hop_adds_no_way() -> None:
    # Two reflectors pass on the same route.
    one = path("10.0.0.1", next_hop="10.0.0.9", originator_id=9, cluster_list=(1,))
    two = path("10.0.0.2", next_hop="10.0.0.9", originator_id=9, cluster_list=(2,))
    found = ranked(one, two)
    assert found.multipath == (one,)
    assert found.lost == {two: "peer address 10.0.0.2, not 10.0.0.1; same next hop as that of 10.0.0.1"}
    assert found.why == "lower peer address"


def test_a_refused_path_never_wins_and_says_why() -> None:
    good = path("10.0.0.2")
    bad = path("10.0.0.1", local_pref=900)._replace(refused="loop")
    assert ranked(good, bad) == Ranking(good, (good,), "only path", {bad: "refused: loop"})
    assert rank([bad], PEERS) is None
    assert rank([], PEERS) is None


def test_an_ipv4_peer_comes_before_an_ipv6_one() -> None:
    peers = {
        "10.0.0.1": PeerInfo(64512, 7, bytes([10, 0, 0, 1]), internal=True),
        "::1": PeerInfo(64512, 7, bytes(15) + b"\1", internal=True),
    }
    four = Path("10.0.0.1", Attributes(), NextHop(bytes([10, 0, 0, 1])))
    six = Path("::1", Attributes(), NextHop(bytes(15) + b"\1"))
    assert better(four, six, peers)
    assert not better(six, four, peers)


def test_two_peers_that_give_the_same_address_are_told_apart_by_name() -> None:
    info = PeerInfo(64512, 7, bytes([10, 0, 0, 1]), internal=True)
    one, two = path("10.0.0.1"), path("10.0.0.1")._replace(peer="10.0.0.1 too")
    for order in permutations((one, two)):
        found = rank(order, {one.peer: info, two.peer: info})
        assert found is not None
        assert found.best == one
