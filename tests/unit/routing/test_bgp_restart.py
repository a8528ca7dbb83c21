"""Graceful restart: RFC 4724 and RFC 8538, as helper and as restarting speaker."""

from collections.abc import Mapping

import pytest

from kube_router.plugins.routing.bgp.model import Family, GracefulRestart
from kube_router.plugins.routing.bgp.restart import (
    Action,
    Deferral,
    Do,
    Helper,
    Loss,
    is_graceful,
)

IPV4, IPV6 = frozenset({Family.IPV4}), frozenset({Family.IPV6})
BOTH = frozenset(Family)


def capable(
    families: Mapping[Family, bool] | None = None, *, time_s: int = 90, restarting: bool = False, n: bool = False
) -> GracefulRestart:
    preserved = {Family.IPV4: True, Family.IPV6: True} if families is None else families
    return GracefulRestart(restarting=restarting, notification=n, time_s=time_s, families=preserved)


def start(timer: str, seconds: float) -> Action:
    return Action(Do.START_TIMER, timer=timer, seconds=seconds)


def stop(timer: str) -> Action:
    return Action(Do.STOP_TIMER, timer=timer)


# -- Which losses a session's paths outlive ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "theirs", "ours", "our_notification", "graceful"),
    [
        (Loss.CONNECTION, capable(), True, True, True),
        (Loss.CONNECTION, capable(), False, True, False),
        (Loss.CONNECTION, None, True, True, False),
        (Loss.NOTIFICATION, capable(), True, True, False),
        (Loss.NOTIFICATION, capable(n=True), True, True, True),
        (Loss.NOTIFICATION, capable(n=True), True, False, False),
        (Loss.NOTIFICATION, None, True, True, False),
        (Loss.HARD_RESET, capable(n=True), True, True, False),
        (Loss.DECONFIGURED, capable(n=True), True, True, False),
    ],
)
def test_a_loss_is_graceful_or_not(
    loss: Loss, theirs: GracefulRestart | None, ours: bool, our_notification: bool, graceful: bool
) -> None:
    assert is_graceful(loss, theirs, ours=ours, our_notification=our_notification) is graceful


# -- Helper ------------------------------------------------------------------------------------------------------------


def up(theirs: GracefulRestart | None, families: frozenset[Family] = BOTH) -> Helper:
    helper = Helper()
    assert helper.established(theirs, families) == []
    return helper


def test_a_first_session_asks_for_nothing() -> None:
    helper = up(capable(restarting=True))
    assert helper.end_of_rib(Family.IPV4) == []
    assert helper.expired("restart") == []
    assert helper.expired("stale") == []
    assert helper.stale == frozenset()


def test_without_graceful_restart_a_loss_takes_all_paths() -> None:
    assert up(None).lost(graceful=False) == [Action(Do.DROP, BOTH)]
    assert up(None).lost(graceful=True) == [Action(Do.DROP, BOTH)]
    assert up(capable()).lost(graceful=False) == [Action(Do.DROP, BOTH)]


def test_paths_of_a_peer_that_restarts_are_kept_for_its_restart_time() -> None:
    helper = up(capable(time_s=120))
    assert helper.lost(graceful=True) == [Action(Do.MARK_STALE, BOTH), start("restart", 120)]
    assert helper.stale == BOTH
    assert helper.expired("restart") == [Action(Do.SWEEP, BOTH)]
    assert helper.expired("restart") == []
    assert helper.stale == frozenset()


def test_what_the_capability_does_not_name_goes_at_once() -> None:
    helper = up(capable({Family.IPV4: False}, time_s=30))
    assert helper.lost(graceful=True) == [
        Action(Do.DROP, IPV6),
        Action(Do.MARK_STALE, IPV4),
        start("restart", 30),
    ]


def test_what_was_not_negotiated_is_not_kept() -> None:
    helper = up(capable(), IPV4)
    assert helper.lost(graceful=True) == [Action(Do.DROP, IPV6), Action(Do.MARK_STALE, IPV4), start("restart", 90)]


@pytest.mark.parametrize("theirs", [capable({}), capable(time_s=0)])
def test_a_peer_that_only_helps_keeps_nothing(theirs: GracefulRestart) -> None:
    assert up(theirs).lost(graceful=True) == [Action(Do.DROP, BOTH)]


def test_a_peer_that_is_back_replaces_its_paths_until_end_of_rib() -> None:
    helper = up(capable())
    helper.lost(graceful=True)
    assert helper.established(capable(restarting=True), BOTH) == [stop("restart"), start("stale", 360)]
    assert helper.expired("restart") == []  # it was on its way when it was stopped
    assert helper.end_of_rib(Family.IPV4) == [Action(Do.SWEEP, IPV4)]
    assert helper.stale == IPV6
    assert helper.end_of_rib(Family.IPV4) == []
    assert helper.end_of_rib(Family.IPV6) == [Action(Do.SWEEP, IPV6), stop("stale")]
    assert helper.expired("stale") == []


@pytest.mark.parametrize(
    ("theirs", "families"),
    [
        pytest.param(capable({Family.IPV4: True, Family.IPV6: False}), BOTH, id="forwarding state lost"),
        pytest.param(capable({Family.IPV4: True}), BOTH, id="not named any more"),
        pytest.param(capable(), IPV4, id="not negotiated any more"),
    ],
)
def test_what_a_peer_lost_goes_as_soon_as_it_is_back(theirs: GracefulRestart, families: frozenset[Family]) -> None:
    helper = up(capable())
    helper.lost(graceful=True)
    assert helper.established(theirs, families) == [stop("restart"), Action(Do.SWEEP, IPV6), start("stale", 360)]
    assert helper.end_of_rib(Family.IPV6) == []
    assert helper.end_of_rib(Family.IPV4) == [Action(Do.SWEEP, IPV4), stop("stale")]


def test_a_peer_that_is_back_without_graceful_restart_has_lost_all() -> None:
    helper = up(capable())
    helper.lost(graceful=True)
    assert helper.established(None, BOTH) == [stop("restart"), Action(Do.SWEEP, BOTH)]
    assert helper.lost(graceful=False) == [Action(Do.DROP, BOTH)]


def test_a_peer_that_never_says_end_of_rib_is_waited_for_in_vain_but_not_for_ever() -> None:
    helper = up(capable())
    helper.lost(graceful=True)
    helper.established(capable(restarting=True), BOTH)
    helper.end_of_rib(Family.IPV4)
    assert helper.expired("stale") == [Action(Do.SWEEP, IPV6)]
    assert helper.stale == frozenset()


def test_what_is_stale_already_does_not_outlive_a_second_loss() -> None:
    helper = up(capable())
    helper.lost(graceful=True)
    helper.established(capable(restarting=True, time_s=60), BOTH)
    helper.end_of_rib(Family.IPV4)
    assert helper.lost(graceful=True) == [
        Action(Do.SWEEP, IPV6),
        stop("stale"),
        Action(Do.MARK_STALE, BOTH),
        start("restart", 60),
    ]


def test_a_second_loss_that_is_not_graceful_takes_everything() -> None:
    helper = up(capable())
    helper.lost(graceful=True)
    helper.established(capable(restarting=True), BOTH)
    assert helper.lost(graceful=False) == [Action(Do.DROP, BOTH), stop("stale")]
    assert helper.expired("stale") == []


def test_a_peer_that_is_deconfigured_while_away_is_not_waited_for() -> None:
    helper = up(capable())
    helper.lost(graceful=True)
    assert helper.lost(graceful=False) == [Action(Do.DROP, BOTH), stop("restart")]
    assert helper.expired("restart") == []


# -- Route refresh (RFC 7313) ------------------------------------------------------------------------------------------

BEGIN, END = 1, 2


def test_what_a_peer_leaves_out_when_it_says_all_anew_is_gone() -> None:
    helper = up(None)
    assert helper.refreshed(Family.IPV4, BEGIN) == [Action(Do.MARK_STALE, IPV4), start("refresh", 360)]
    assert helper.refreshed(Family.IPV6, BEGIN) == [Action(Do.MARK_STALE, IPV6), start("refresh", 360)]
    assert helper.is_keeping
    assert helper.refreshed(Family.IPV4, END) == [Action(Do.SWEEP, IPV4)]
    assert helper.refreshed(Family.IPV6, END) == [Action(Do.SWEEP, IPV6), stop("refresh")]
    assert not helper.is_keeping


def test_an_end_without_a_beginning_and_other_subtypes_mean_nothing() -> None:
    helper = up(None)
    assert helper.refreshed(Family.IPV4, END) == []
    assert helper.refreshed(Family.IPV4, 3) == []
    assert Helper().refreshed(Family.IPV4, BEGIN) == []


def test_a_beginning_that_has_no_end_is_over_after_a_while() -> None:
    helper = up(None)
    helper.refreshed(Family.IPV4, BEGIN)
    assert helper.expired("refresh") == [Action(Do.SWEEP, IPV4)]
    assert helper.expired("refresh") == []
    assert helper.refreshed(Family.IPV4, END) == []


def test_a_beginning_before_end_of_rib_means_nothing() -> None:
    helper = Helper()
    helper.established(capable(), BOTH)
    helper.lost(graceful=True)
    helper.established(capable(), BOTH)
    assert helper.refreshed(Family.IPV4, BEGIN) == []
    helper.end_of_rib(Family.IPV4)
    assert helper.refreshed(Family.IPV4, BEGIN) != []


def test_a_refresh_does_not_outlive_its_session() -> None:
    helper = up(None)
    helper.refreshed(Family.IPV4, BEGIN)
    assert stop("refresh") in helper.lost(graceful=False)
    helper.established(None, BOTH)
    assert helper.refreshed(Family.IPV4, END) == []


# -- Restarting speaker ------------------------------------------------------------------------------------------------


def over(waiting: Deferral) -> tuple[bool, bool]:
    """Return whether it may tell, and whether it may delete."""
    return waiting.selected, waiting.complete


def deferral(*peers: str) -> Deferral:
    found = Deferral(peers, 360)
    assert found.start() == [start("deferral", 360)]
    return found


def test_a_speaker_without_peers_waits_for_nobody() -> None:
    alone = Deferral([], 360)
    assert alone.start() == [start("deferral", 360), stop("deferral")]
    assert over(alone) == (True, True)


def test_it_is_over_when_every_peer_has_said_all_of_all_families() -> None:
    waiting = deferral("a", "b")
    assert waiting.awaited() == {"a": frozenset(), "b": frozenset()}
    assert waiting.established("a", capable(), BOTH) == []
    assert waiting.established("b", capable({}), IPV4) == []
    assert waiting.awaited() == {"a": BOTH, "b": IPV4}
    assert waiting.end_of_rib("a", Family.IPV6) == []
    assert waiting.end_of_rib("b", Family.IPV4) == [stop("quiet b")]
    assert waiting.awaited() == {"a": IPV4}
    assert over(waiting) == (False, False)
    assert waiting.end_of_rib("a", Family.IPV4) == [stop("quiet a"), stop("deferral")]
    assert over(waiting) == (True, True)
    assert waiting.awaited() == {}


def test_a_peer_that_never_comes_is_waited_for_until_the_time_is_over() -> None:
    waiting = deferral("a", "b")
    waiting.established("a", capable(), IPV4)
    waiting.end_of_rib("a", Family.IPV4)
    assert over(waiting) == (False, False)
    assert waiting.expired("deferral") == [stop("deferral")]
    assert over(waiting) == (True, True)
    assert waiting.expired("deferral") == []


def test_a_peer_that_restarts_itself_is_waited_for_before_deleting_but_not_before_telling() -> None:
    waiting = deferral("a", "b")
    waiting.established("a", capable(restarting=True), IPV4)
    assert over(waiting) == (False, False)
    waiting.established("b", capable(), IPV4)
    waiting.end_of_rib("b", Family.IPV4)
    assert over(waiting) == (True, False)
    waiting.end_of_rib("a", Family.IPV4)
    assert over(waiting) == (True, True)


def test_two_that_restart_together_do_not_wait_for_each_other() -> None:
    waiting = deferral("a")
    waiting.established("a", capable(restarting=True), IPV4)
    assert over(waiting) == (True, False)


def test_a_peer_without_graceful_restart_has_said_all_after_a_while() -> None:
    waiting = deferral("a")
    assert waiting.established("a", None, BOTH) == [start("quiet a", 10)]
    assert over(waiting) == (False, False)
    assert waiting.expired("quiet a") == [stop("quiet a"), stop("deferral")]
    assert over(waiting) == (True, True)
    assert waiting.expired("quiet a") == []


def test_a_peer_without_graceful_restart_may_say_end_of_rib_all_the_same() -> None:
    waiting = deferral("a")
    waiting.established("a", None, IPV4)
    assert waiting.end_of_rib("a", Family.IPV4) == [stop("quiet a"), stop("deferral")]
    assert over(waiting) == (True, True)


def test_a_peer_lost_before_its_end_of_rib_is_waited_for_anew() -> None:
    waiting = deferral("a")
    waiting.established("a", capable(), BOTH)
    waiting.end_of_rib("a", Family.IPV4)
    assert waiting.lost("a") == [stop("quiet a")]
    assert waiting.awaited() == {"a": frozenset()}
    waiting.established("a", capable(), BOTH)
    assert waiting.awaited() == {"a": BOTH}


def test_a_peer_lost_after_its_end_of_rib_is_not_waited_for() -> None:
    waiting = deferral("a", "b")
    waiting.established("a", capable(), IPV4)
    waiting.end_of_rib("a", Family.IPV4)
    assert waiting.lost("a") == []
    assert waiting.established("a", capable(), IPV4) == []
    assert list(waiting.awaited()) == ["b"]


def test_a_peer_that_is_removed_is_not_waited_for_and_a_new_one_is() -> None:
    waiting = deferral("a", "b")
    waiting.established("a", capable(), IPV4)
    waiting.end_of_rib("a", Family.IPV4)
    assert waiting.configure(["a", "c"]) == []
    assert list(waiting.awaited()) == ["c"]
    assert waiting.configure(["a"]) == [stop("deferral")]
    assert over(waiting) == (True, True)


def test_once_over_it_stays_over() -> None:
    waiting = deferral("a")
    waiting.expired("deferral")
    assert waiting.configure(["a", "b"]) == []
    assert waiting.established("b", capable(), IPV4) == []
    assert waiting.lost("b") == []
    assert waiting.end_of_rib("b", Family.IPV4) == []
    assert over(waiting) == (True, True)
    assert waiting.awaited() == {}


def test_an_end_of_rib_before_the_session_is_known_counts_nothing() -> None:
    waiting = deferral("a")
    assert waiting.end_of_rib("a", Family.IPV4) == []
    assert waiting.awaited() == {"a": frozenset()}


def test_where_nothing_is_preserved_what_is_learned_is_told_at_once_and_nothing_deleted_before_all_is_said() -> None:
    waiting = Deferral(["a"], 360, preserved=False)
    assert over(waiting) == (True, False)
    waiting.start()
    assert over(waiting) == (True, False)
