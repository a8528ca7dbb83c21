"""The reflector's decisions, without a server, a clock or chance."""

import pytest

from kube_router.events.sources.reflector import (
    Broken,
    Course,
    Expired,
    Next,
    Refused,
    Step,
    Timing,
    is_older,
)

DAY = 24 * 3600.0


def course(rv: str = "", *, chance: float = 0.5) -> Course:
    return Course(rv=rv, timing=Timing(), chance=lambda: chance, now=0)


def watching(*, chance: float = 0.5) -> Course:
    made = course(chance=chance)
    made.synced("100", 0)
    return made


def test_a_fresh_node_asks_for_the_full_list() -> None:
    assert course().next(0) == Next(Step.SYNC, "initial")


def test_a_node_with_a_journal_resumes() -> None:
    assert course("100").next(0) == Next(Step.RESUME)


def test_after_the_full_list_comes_the_watch() -> None:
    assert watching().next(1) == Next(Step.WATCH)


def test_waits_double_up_to_half_a_minute_and_are_spread_over_half_of_that() -> None:
    longest, shortest = watching(chance=1.0), watching(chance=0.0)
    assert [longest.failed(Broken("x"), 1) for _ in range(7)] == pytest.approx([0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0])
    assert [shortest.failed(Broken("x"), 1) for _ in range(7)] == pytest.approx([0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 15.0])


def test_a_thousand_failures_do_not_overflow() -> None:
    tried = watching(chance=1.0)
    assert [tried.failed(Broken("x"), 1) for _ in range(1000)][-1] == 30.0


def test_two_healthy_minutes_forgive_earlier_failures() -> None:
    made = watching(chance=1.0)
    for _ in range(5):
        made.failed(Broken("x"), 1)
    made.next(10)
    made.opened(10)
    assert made.failed(Broken("x"), 131) == pytest.approx(0.8)


def test_a_minute_is_not_enough_to_forgive() -> None:
    made = watching(chance=1.0)
    for _ in range(5):
        made.failed(Broken("x"), 1)
    made.next(10)
    made.opened(10)
    assert made.failed(Broken("x"), 70) == pytest.approx(25.6)


def test_what_the_server_asks_for_is_a_lower_bound_of_the_wait() -> None:
    assert watching(chance=0.0).failed(Refused(429, "x", 20), 1) == 20


def test_what_the_server_asks_for_has_an_upper_bound() -> None:
    assert watching(chance=0.0).failed(Refused(429, "x", 1e9), 1) == 300


def test_the_first_410_is_followed_at_once_and_the_next_ones_wait() -> None:
    made = watching(chance=1.0)
    assert made.failed(Expired("gone"), 1) == 0
    assert made.next(1) == Next(Step.SYNC, "expired")
    assert made.failed(Expired("gone"), 1) == pytest.approx(1.6)


def test_after_a_broken_connection_history_is_checked_before_the_watch_goes_on() -> None:
    made = watching()
    made.failed(Broken("connection reset"), 1)
    assert made.next(2) == Next(Step.WATCH, guard=True)
    assert made.guarded("100", 2)
    assert made.next(2) == Next(Step.WATCH)


def test_after_a_refusal_for_load_the_watch_goes_on_unchecked() -> None:
    made = watching()
    made.failed(Refused(429, "too many requests"), 1)
    assert made.next(2) == Next(Step.WATCH)


def test_a_present_before_ours_is_a_rewound_history() -> None:
    made = watching()
    assert not made.guarded("99", 1)
    assert made.next(1) == Next(Step.SYNC, "rewind")


def test_resource_versions_are_compared_as_numbers() -> None:
    assert is_older("99", "100") is True
    assert is_older("100", "99") is False
    assert is_older("100", "100") is False
    assert is_older("", "100") is None
    assert is_older("v1-abc", "100") is None
    assert is_older("١٢", "100") is None


def test_history_is_checked_every_ten_minutes_also_while_all_is_well() -> None:
    made = watching()
    assert made.next(599) == Next(Step.WATCH)
    assert made.next(600) == Next(Step.WATCH, guard=True)


def test_the_safety_net_is_a_full_list_twice_a_day_at_most() -> None:
    assert watching(chance=0.0).next(DAY / 2 - 1).step is Step.WATCH
    assert watching(chance=0.0).next(DAY / 2) == Next(Step.SYNC, "periodic")
    assert watching(chance=1.0).next(DAY - 1).step is Step.WATCH


def test_a_safety_net_that_fails_does_not_stop_the_watch() -> None:
    made = watching()
    assert made.next(DAY).step is Step.SYNC
    made.failed(Refused(503, "overloaded"), DAY + 1)
    assert made.next(DAY + 2).step is Step.WATCH
    assert made.next(DAY + 2 + 600) == Next(Step.SYNC, "periodic")


def test_a_needed_full_list_stays_needed_until_it_has_come() -> None:
    made = watching()
    made.need_sync("expired")
    made.failed(Broken("x"), 1)
    assert made.next(2) == Next(Step.SYNC, "expired")
    made.synced("200", 3)
    assert (made.next(4).step, made.rv) == (Step.WATCH, "200")


def test_a_watch_shorter_than_a_second_has_failed() -> None:
    made = watching()
    made.opened(10)
    with pytest.raises(Broken, match=r"closed a watch after 0\.5 s"):
        made.closed(10.5)


def test_watches_end_after_five_to_ten_minutes() -> None:
    assert watching(chance=0.0).watch_timeout_s() == 300
    assert watching(chance=1.0).watch_timeout_s() == 600


def test_selectors_are_given_up_once_and_for_a_malformed_request_only() -> None:
    made = watching()
    assert not made.give_up_selectors(Refused(403, "forbidden"), selectors=True)
    assert not made.give_up_selectors(Refused(400, "bad"), selectors=False)
    assert made.give_up_selectors(Refused(400, "bad"), selectors=True)
    assert made.next(1).step is Step.SYNC
    assert not made.give_up_selectors(Refused(400, "bad"), selectors=True)


def test_a_streamed_list_that_broke_is_followed_by_one_paged_list() -> None:
    made = course()
    made.streamed_list_broke()
    assert not made.use_watch_list
    made.synced("100", 1)
    assert made.use_watch_list
