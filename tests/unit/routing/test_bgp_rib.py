"""The routing table: what is held, what is selected, and that nobody is told more or less than what changed."""

import gc

from kube_router.plugins.routing.bgp.best import PeerInfo
from kube_router.plugins.routing.bgp.model import (
    Attributes,
    Family,
    Kind,
    NextHop,
    Path,
    Prefix,
    Segment,
    SegmentType,
    prefix_of,
)
from kube_router.plugins.routing.bgp.rib import SLACK, Own, Rib

A = PeerInfo(64512, 1, bytes([10, 0, 0, 1]), internal=True)
B = PeerInfo(64512, 2, bytes([10, 0, 0, 2]), internal=True)
VIA_A, VIA_B = NextHop(A.address), NextHop(B.address)
PLAIN = Attributes(local_pref=100)
BETTER = Attributes(local_pref=200)
PODS = prefix_of("10.244.1.0/24")
MORE_PODS = prefix_of("10.244.2.0/24")
PODS6 = prefix_of("fd00:1::/64")


def rib() -> Rib:
    found = Rib()
    found.set_peer("a", A)
    found.set_peer("b", B)
    return found


def best(table: Rib) -> dict[Prefix, str]:
    """Return who tells the best path to each prefix."""
    return {prefix: selection.best.peer for prefix, selection in table.each_selection()}


def changes(table: Rib) -> dict[Prefix, str | None]:
    return {prefix: found.best.peer if found else None for prefix, found in table.take_changes().items()}


def test_what_a_peer_announces_is_selected_and_told_once() -> None:
    table = rib()
    table.announce("a", [PODS, MORE_PODS], None, PLAIN, VIA_A)
    found = table.take_changes()
    assert list(found) == [PODS, MORE_PODS]
    selection = found[PODS]
    assert selection is not None
    assert selection.best == Path("a", PLAIN, VIA_A)
    assert selection.multipath == (selection.best,)
    assert (selection.why, selection.source) == ("only path", A)
    assert table.take_changes() == {}
    assert len(table) == 2


def test_a_repeated_announcement_changes_nothing() -> None:
    table = rib()
    table.announce("a", [PODS], None, PLAIN, VIA_A)
    table.take_changes()
    table.announce("a", [PODS], None, Attributes(local_pref=100), NextHop(bytes([10, 0, 0, 1])))
    assert table.take_changes() == {}
    assert table.count("a") == 1


def test_a_new_announcement_replaces_the_old_one() -> None:
    table = rib()
    table.announce("a", [PODS], None, PLAIN, VIA_A)
    table.announce("a", [PODS], None, BETTER, VIA_A)
    assert table.paths(PODS) == (Path("a", BETTER, VIA_A),)
    assert table.count("a") == 1


def test_what_is_undone_before_anybody_asks_has_not_changed() -> None:
    table = rib()
    table.announce("a", [PODS], None, PLAIN, VIA_A)
    table.take_changes()
    table.announce("b", [PODS], None, BETTER, VIA_B)
    table.withdraw("a", [PODS])
    table.announce("a", [PODS], None, PLAIN, VIA_A)
    table.withdraw("b", [PODS])
    assert table.take_changes() == {}
    table.announce("b", [MORE_PODS], None, PLAIN, VIA_B)
    table.withdraw("b", [MORE_PODS])
    assert table.take_changes() == {}


def test_the_next_best_path_takes_over_and_the_last_one_leaves_nothing() -> None:
    table = rib()
    table.announce("a", [PODS], None, BETTER, VIA_A)
    table.announce("b", [PODS], None, PLAIN, VIA_B)
    assert changes(table) == {PODS: "a"}
    table.withdraw("a", [PODS])
    assert changes(table) == {PODS: "b"}
    table.withdraw("b", [PODS])
    assert changes(table) == {PODS: None}
    assert len(table) == 0


def test_withdrawing_what_was_never_announced_is_passed_over() -> None:
    table = rib()
    table.announce("a", [PODS], None, PLAIN, VIA_A)
    table.withdraw("b", [PODS, MORE_PODS])
    table.withdraw("a", [PODS], [7])
    assert best(table) == {PODS: "a"}
    assert (table.count("a"), table.count("b")) == (1, 0)


def test_equal_paths_of_two_peers_are_used_together() -> None:
    table = rib()
    table.announce("b", [PODS], None, PLAIN, VIA_B)
    table.announce("a", [PODS], None, PLAIN, VIA_A)
    selection = table.selection(PODS)
    assert selection is not None
    assert [path.peer for path in selection.multipath] == ["a", "b"]
    assert selection.why == "lower router id; 2 equal paths are used"
    table.take_changes()
    table.ecmp_max = 1
    assert [path.peer for path in table.take_changes()[PODS].multipath] == ["a"]  # type: ignore[union-attr]  # it is there
    table.ecmp_max = 1
    assert table.take_changes() == {}


def test_a_peer_may_have_several_paths_to_a_prefix() -> None:
    table = rib()
    table.announce("a", [PODS, PODS], [1, 2], PLAIN, VIA_A)
    table.announce("a", [PODS], [3], BETTER, VIA_B)
    assert [(path.path_id, path.next_hop) for path in table.paths(PODS)] == [(1, VIA_A), (2, VIA_A), (3, VIA_B)]
    assert table.count("a") == 3
    selection = table.selection(PODS)
    assert selection is not None
    assert selection.best.path_id == 3
    table.withdraw("a", [PODS, PODS], [1, 3])
    assert [path.path_id for path in table.paths(PODS)] == [2]
    assert table.count("a") == 1
    assert [prefix for prefix, _ in table.routes_of("a")] == [PODS]


def test_stale_paths_are_used_until_they_are_swept() -> None:
    table = rib()
    table.announce("a", [PODS, MORE_PODS, PODS6], None, PLAIN, VIA_A)
    table.take_changes()
    table.mark_stale("a", [Family.IPV4])
    assert table.take_changes() == {}
    assert [path.stale for path in table.paths(PODS)] == [True]
    assert [path.stale for path in table.paths(PODS6)] == [False]
    assert table.stale("a") == 2
    table.announce("a", [PODS], None, PLAIN, VIA_A)
    assert table.take_changes() == {}
    assert table.stale("a") == 1
    table.sweep("a", [Family.IPV6])
    assert table.take_changes() == {}
    table.sweep("a", [Family.IPV4])
    assert changes(table) == {MORE_PODS: None}
    assert best(table) == {PODS: "a", PODS6: "a"}


def test_whether_a_path_is_stale_decides_nothing() -> None:
    table = rib()
    table.announce("a", [PODS], None, PLAIN, VIA_A)
    table.announce("b", [PODS], None, PLAIN, VIA_B)
    table.mark_stale("a")
    selection = table.selection(PODS)
    assert selection is not None
    assert selection.best == Path("a", PLAIN, VIA_A)
    assert len(selection.multipath) == 2


def test_a_peer_is_dropped_by_family() -> None:
    table = rib()
    table.announce("a", [PODS, PODS6], None, PLAIN, VIA_A)
    table.announce("b", [PODS], None, PLAIN, VIA_B)
    table.take_changes()
    table.drop("a", [Family.IPV6])
    assert changes(table) == {PODS6: None}
    assert table.count("a") == 1
    table.drop("a")
    assert changes(table) == {PODS: "b"}
    assert table.count("a") == 0
    assert list(table.routes_of("a")) == []
    table.drop("nobody")


def test_a_forgotten_peer_leaves_nothing_and_may_come_again() -> None:
    table = rib()
    table.announce("a", [PODS], None, PLAIN, VIA_A)
    table.forget("a")
    table.forget("a")
    assert changes(table) == {}
    assert (table.count("a"), table.stale("a"), len(table)) == (0, 0, 0)
    table.set_peer("a", A)
    table.announce("a", [PODS], None, PLAIN, VIA_A)
    assert changes(table) == {PODS: "a"}


def test_what_this_node_originates_wins_and_gives_way_when_it_ends() -> None:
    table = rib()
    table.announce("a", [PODS, MORE_PODS], None, BETTER, VIA_A)
    table.take_changes()
    table.originate({PODS: Own(Attributes(), NextHop(bytes([10, 0, 0, 9])), Kind.POD)})
    assert changes(table) == {PODS: ""}
    selection = table.selection(PODS)
    assert selection is not None
    assert selection.best.kind is Kind.POD
    assert len(selection.multipath) == 1
    assert (selection.why, selection.source) == ("originated here", None)
    table.originate({})
    assert changes(table) == {PODS: "a"}


def test_what_is_originated_is_told_whole_each_time() -> None:
    table, here = rib(), NextHop(bytes([10, 0, 0, 9]))
    table.originate({PODS: Own(PLAIN, here, Kind.POD), MORE_PODS: Own(PLAIN, here, Kind.POD)})
    table.take_changes()
    table.originate({PODS: Own(PLAIN, here, Kind.POD), MORE_PODS: Own(PLAIN, here, Kind.SERVICE)})
    assert changes(table) == {MORE_PODS: ""}
    table.originate({MORE_PODS: Own(PLAIN, here, Kind.SERVICE)})
    assert changes(table) == {PODS: None}
    assert [prefix for prefix, _ in table.routes_of("")] == [MORE_PODS]


def test_a_refused_path_is_kept_and_not_used() -> None:
    table = rib()
    table.announce("a", [PODS], None, BETTER, VIA_A)
    table.announce("b", [PODS], None, PLAIN, VIA_B)
    table.take_changes()
    table.announce("a", [PODS], None, BETTER, VIA_A, refused="loop")
    assert changes(table) == {PODS: "b"}
    assert [(path.peer, path.refused) for path in table.paths(PODS)] == [("a", "loop"), ("b", "")]
    ranking = table.ranking(PODS)
    assert ranking is not None
    assert ranking.lost == {Path("a", BETTER, VIA_A, refused="loop"): "refused: loop"}
    table.withdraw("b", [PODS])
    assert changes(table) == {PODS: None}
    assert best(table) == {}
    assert len(table) == 1


def test_what_a_peer_announced_is_judged_anew() -> None:
    table = rib()
    table.announce("a", [PODS], None, BETTER, VIA_A)
    table.announce("a", [MORE_PODS], None, PLAIN, VIA_A, refused="loop")
    table.announce("b", [PODS], None, BETTER, VIA_B)
    table.take_changes()
    table.rejudge("a", lambda attributes, next_hop: "loop" if attributes == BETTER else "")
    assert changes(table) == {PODS: "b", MORE_PODS: "a"}
    assert [path.refused for path in table.paths(PODS)] == ["loop", ""]
    table.rejudge("nobody", lambda attributes, next_hop: "loop")
    assert changes(table) == {}


def test_a_new_filter_judges_what_is_held() -> None:
    table = rib()
    table.announce("a", [PODS, MORE_PODS], None, PLAIN, VIA_A)
    table.take_changes()
    table.set_filter(lambda prefix: "not wanted" if prefix == PODS else "")
    assert changes(table) == {PODS: None}
    table.announce("b", [PODS], None, PLAIN, VIA_B)
    assert changes(table) == {}
    assert [path.refused for path in table.paths(PODS)] == ["not wanted", "not wanted"]
    table.originate({PODS: Own(PLAIN, VIA_B, Kind.POD)})
    assert changes(table) == {PODS: ""}  # a filter is about what others say
    table.originate({})
    table.set_filter(lambda prefix: "")
    assert changes(table) == {PODS: "a"}


def test_a_filter_judges_what_comes() -> None:
    table = Rib(refuses=lambda prefix: "" if prefix.length else "default route")
    table.set_peer("a", A)
    table.announce("a", [prefix_of("0.0.0.0/0"), PODS], None, PLAIN, VIA_A)
    assert changes(table) == {PODS: "a"}


def test_a_peer_that_comes_back_as_another_router_is_ranked_anew() -> None:
    table = rib()
    table.announce("a", [PODS], None, PLAIN, VIA_A)
    table.announce("b", [PODS], None, PLAIN, VIA_B)
    assert changes(table) == {PODS: "a"}
    table.set_peer("a", A._replace(router_id=3))
    assert changes(table) == {PODS: "b"}
    table.set_peer("a", A._replace(router_id=3))
    assert changes(table) == {}


def test_a_ranking_says_why_each_other_path_lost() -> None:
    table = rib()
    longer = Attributes(as_path=(Segment(SegmentType.AS_SEQUENCE, (1, 2)),))
    table.announce("a", [PODS], None, longer, VIA_A)
    table.announce("b", [PODS], None, PLAIN, VIA_B)
    ranking = table.ranking(PODS)
    assert ranking is not None
    assert ranking.best.peer == "b"
    assert ranking.lost == {Path("a", longer, VIA_A): "AS path length 2, not 0"}
    assert table.ranking(MORE_PODS) is None


def test_prefixes_with_the_same_paths_share_one_decision() -> None:
    table = rib()
    prefixes = [Prefix(bytes([10, 1, number, 0]), 24) for number in range(200)]
    for prefix in prefixes:
        table.announce("a", [prefix], None, PLAIN, VIA_A)
    table.announce("b", prefixes[:100], None, BETTER, VIA_B)
    table.take_changes()
    gc.collect()
    assert len(table._pool) == 2
    table.drop("a")
    table.drop("b")
    table.take_changes()
    gc.collect()
    assert len(table._pool) == 0


def test_a_flapping_prefix_does_not_let_a_peers_list_grow() -> None:
    table = rib()
    for _ in range(1000):
        table.announce("a", [PODS], None, PLAIN, VIA_A)
        table.withdraw("a", [PODS])
    assert len(table._peers["a"].places) <= SLACK + 1
