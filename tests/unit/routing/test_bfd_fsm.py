"""A BFD session goes through the states of RFC 5880, and its timers change as section 6.8.3 allows."""

import pytest

from kube_router.plugins.routing.bgp.bfd_fsm import NEVER, NOW, Machine, down_words, jitter
from kube_router.plugins.routing.bgp.bfd_wire import Control, Diagnostic, State
from kube_router.plugins.routing.bgp.model import BfdConfig

FAST = BfdConfig(desired_min_tx_ms=300, required_min_rx_ms=300, detect_mult=3)
SLOW = BfdConfig(desired_min_tx_ms=1000, required_min_rx_ms=1000, detect_mult=3)
ADMIN_DOWN, DOWN, INIT, UP = State
OURS, THEIRS = 11, 22


def peer(
    state: State,
    *,
    tx_ms: int = 300,
    rx_ms: int = 300,
    detect_mult: int = 3,
    poll: bool = False,
    final: bool = False,
    demand: bool = False,
    diagnostic: int = 0,
) -> Control:
    return Control(
        state=state,
        detect_mult=detect_mult,
        my_discriminator=THEIRS,
        your_discriminator=OURS,
        desired_min_tx_us=tx_ms * 1000,
        required_min_rx_us=rx_ms * 1000,
        poll=poll,
        final=final,
        demand=demand,
        diagnostic=diagnostic,
    )


def machine_in(state: State, config: BfdConfig = FAST) -> Machine:
    """Return a session that came to a state at time 0, having said all it had to."""
    machine = Machine(config, local_discriminator=OURS)
    if state is INIT:
        machine.receive(peer(DOWN), 0)
    elif state is UP:
        machine.receive(peer(INIT), 0)
        machine.transmit(0, 1.0)
        machine.receive(peer(UP, final=True), 0)
    elif state is ADMIN_DOWN:
        machine.disable()
    machine.transmit(0, 1.0)
    assert machine.state is state
    return machine


# RFC 5880 section 6.2's diagram and section 6.8.6's text, in full: here, what comes, then.
TRANSITIONS = [
    (DOWN, ADMIN_DOWN, DOWN),
    (DOWN, DOWN, INIT),
    (DOWN, INIT, UP),
    (DOWN, UP, DOWN),
    (INIT, ADMIN_DOWN, DOWN),
    (INIT, DOWN, INIT),
    (INIT, INIT, UP),
    (INIT, UP, UP),
    (UP, ADMIN_DOWN, DOWN),
    (UP, DOWN, DOWN),
    (UP, INIT, UP),
    (UP, UP, UP),
    (ADMIN_DOWN, ADMIN_DOWN, ADMIN_DOWN),
    (ADMIN_DOWN, DOWN, ADMIN_DOWN),
    (ADMIN_DOWN, INIT, ADMIN_DOWN),
    (ADMIN_DOWN, UP, ADMIN_DOWN),
]


@pytest.mark.parametrize(("here", "comes", "then"), TRANSITIONS)
def test_a_state_and_the_peers_state_give_the_next(here: State, comes: State, then: State) -> None:
    machine = machine_in(here)
    machine.receive(peer(comes), 0.1)
    assert machine.state is then


@pytest.mark.parametrize(("here", "then"), [(DOWN, DOWN), (INIT, DOWN), (UP, DOWN), (ADMIN_DOWN, ADMIN_DOWN)])
def test_silence_takes_a_session_down(here: State, then: State) -> None:
    machine = machine_in(here)
    machine.expire(1000.0)
    assert machine.state is then
    assert machine.remote is None


def test_the_reason_for_leaving_up_is_told_to_the_peer() -> None:
    silent, told = machine_in(UP), machine_in(UP)
    silent.expire(1000.0)
    told.receive(peer(DOWN, diagnostic=1), 0.1)
    first, second = silent.transmit(1000.0, 0), told.transmit(0.1, 0)
    assert first is not None
    assert second is not None
    assert (first.state, first.diagnostic) == (DOWN, Diagnostic.DETECTION_TIME_EXPIRED)
    assert (second.state, second.diagnostic) == (DOWN, Diagnostic.NEIGHBOR_SIGNALED_DOWN)
    assert down_words(silent) == "control detection time expired"
    assert down_words(told) == "neighbor signaled session down: control detection time expired"


def test_a_session_that_is_up_has_no_diagnostic_any_more() -> None:
    machine = machine_in(UP)
    machine.expire(1000.0)
    machine.receive(peer(DOWN), 1001.0)
    assert (machine.state, machine.diagnostic) == (INIT, Diagnostic.DETECTION_TIME_EXPIRED)
    machine.receive(peer(UP), 1001.1)
    assert (machine.state, machine.diagnostic) == (UP, Diagnostic.NONE)


def test_whose_order_it_was_is_said_of_admin_down() -> None:
    ours, theirs = machine_in(UP), machine_in(UP)
    ours.disable()
    theirs.receive(peer(ADMIN_DOWN, diagnostic=7), 0.1)
    assert down_words(ours) == "administratively down here"
    assert down_words(theirs) == "administratively down at the neighbor"
    last = ours.transmit(0.1, 0)
    assert last is not None
    assert (last.state, last.diagnostic) == (ADMIN_DOWN, Diagnostic.ADMINISTRATIVELY_DOWN)


def test_the_peers_discriminator_is_given_back_until_it_falls_silent() -> None:
    machine = Machine(FAST, local_discriminator=OURS)
    first = machine.transmit(0, 0)
    assert first == Control(
        state=DOWN,
        detect_mult=3,
        my_discriminator=OURS,
        your_discriminator=0,
        desired_min_tx_us=1_000_000,
        required_min_rx_us=300_000,
    )
    machine.receive(peer(DOWN), 0.1)
    second = machine.transmit(0.1, 0)
    assert second is not None
    assert (second.state, second.your_discriminator) == (INIT, THEIRS)
    machine.expire(1000.0)
    third = machine.transmit(1000.0, 0)
    assert third is not None
    assert (third.state, third.your_discriminator) == (DOWN, 0)


# -- When packets go ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("detect_mult", "fraction", "factor"),
    [(3, 0.0, 0.75), (3, 1.0, 1.0), (3, 0.5, 0.875), (1, 0.0, 0.75), (1, 1.0, 0.9)],
)
def test_an_interval_is_shortened_by_up_to_a_quarter(detect_mult: int, fraction: float, factor: float) -> None:
    assert jitter(detect_mult, fraction) == pytest.approx(factor)


def test_packets_go_once_a_second_until_up_however_fast_the_session_is() -> None:
    machine = Machine(FAST, local_discriminator=OURS)
    assert machine.deadline() == NOW
    assert machine.transmit(5.0, 0.0)
    assert machine.deadline() == pytest.approx(5.75)
    assert machine.transmit(5.74, 0.0) is None
    assert machine.transmit(5.75, 1.0)
    assert machine.deadline() == pytest.approx(6.75)


def test_a_slow_session_is_slow_until_up_too() -> None:
    machine = Machine(BfdConfig(desired_min_tx_ms=3000), local_discriminator=OURS)
    machine.transmit(0, 1.0)
    assert machine.deadline() == pytest.approx(3.0)


def test_packets_go_at_the_slower_of_our_wish_and_what_the_peer_takes() -> None:
    machine = machine_in(UP)
    assert machine.transmit_interval_us() == 300_000
    machine.receive(peer(UP, rx_ms=700), 0)
    assert machine.transmit_interval_us() == 700_000
    machine.receive(peer(UP, rx_ms=50), 0)
    assert machine.transmit_interval_us() == 300_000


def test_a_peer_that_takes_packets_faster_now_gets_the_next_one_sooner() -> None:
    machine = machine_in(UP, FAST)
    machine.receive(peer(UP, rx_ms=900), 0.1)
    assert machine.transmit(0.9, 1.0)
    machine.receive(peer(UP, rx_ms=300), 1.0)
    assert machine.transmit(1.19, 1.0) is None
    assert machine.transmit(1.2, 1.0)


def test_a_change_of_state_is_told_at_once() -> None:
    machine = machine_in(DOWN)
    assert machine.deadline() > 0.5
    machine.receive(peer(DOWN), 0.1)
    assert machine.deadline() == NOW
    assert machine.transmit(0.1, 1.0)
    assert machine.deadline() > 0.5


def test_a_peer_that_wants_no_packets_gets_none_but_changes() -> None:
    machine = machine_in(DOWN)
    machine.receive(peer(DOWN, rx_ms=0), 0.1)
    assert machine.transmit(0.1, 1.0)
    assert machine.transmit(100.0, 1.0) is None


def test_a_peer_in_demand_mode_gets_no_periodic_packets_while_both_are_up() -> None:
    machine = machine_in(UP)
    machine.receive(peer(UP, demand=True), 0.0)
    assert machine.transmit(100.0, 1.0) is None
    machine.receive(peer(UP), 100.0)
    assert machine.transmit(100.0, 1.0)


# -- How long the peer may be silent ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours_ms", "tx_ms", "detect_mult", "detection_ms"),
    [(300, 300, 3, 900), (300, 1000, 3, 3000), (1000, 300, 3, 3000), (300, 300, 1, 300), (300, 50, 5, 1500)],
)
def test_the_detection_time_is_the_peers_multiplier_times_the_slower_interval(
    ours_ms: int, tx_ms: int, detect_mult: int, detection_ms: int
) -> None:
    machine = machine_in(UP, BfdConfig(desired_min_tx_ms=300, required_min_rx_ms=ours_ms, detect_mult=7))
    machine.receive(peer(UP, tx_ms=tx_ms, detect_mult=detect_mult), 10.0)
    assert machine.detection_time_us() == detection_ms * 1000
    machine.expire(10.0 + detection_ms / 1000 - 0.001)
    assert machine.state is UP
    machine.expire(10.0 + detection_ms / 1000)
    assert machine.state is DOWN


def test_a_peer_that_was_never_heard_cannot_fall_silent() -> None:
    machine = Machine(FAST, local_discriminator=OURS)
    machine.transmit(0, 1.0)
    assert machine.detection_time_us() == 0
    machine.expire(1e9)
    assert machine.diagnostic is Diagnostic.NONE


def test_any_packet_of_the_peers_counts_as_a_sign_of_life() -> None:
    machine = machine_in(UP)
    for tenth in range(1, 100):
        machine.receive(peer(UP), tenth / 10)
        machine.expire(tenth / 10)
    assert machine.state is UP


# -- Poll Sequences ----------------------------------------------------------------------------------------------------


def test_a_poll_is_answered_at_once_in_every_state() -> None:
    for state in State:
        answer = machine_in(state).receive(peer(state, poll=True), 0.1)
        assert answer is not None
        assert (answer.final, answer.poll) == (True, False)


def test_the_answer_to_a_poll_tells_a_new_state_and_does_not_count_as_periodic() -> None:
    machine = machine_in(DOWN)
    answer = machine.receive(peer(INIT, poll=True), 0.1)
    assert answer is not None
    assert (answer.state, answer.desired_min_tx_us) == (UP, 300_000)
    assert machine.deadline() == pytest.approx(0.3), "one fast interval after the last periodic packet"


def test_coming_up_the_faster_interval_is_polled_for_until_the_peer_says_final() -> None:
    machine = Machine(FAST, local_discriminator=OURS)
    machine.transmit(0, 1.0)
    machine.receive(peer(INIT), 0.1)
    first = machine.transmit(0.1, 1.0)
    machine.receive(peer(UP), 0.2)
    second = machine.transmit(0.4, 1.0)
    machine.receive(peer(UP, final=True), 0.5)
    third = machine.transmit(0.7, 1.0)
    assert first is not None
    assert second is not None
    assert third is not None
    assert [first.poll, second.poll, third.poll] == [True, True, False]
    assert first.desired_min_tx_us == second.desired_min_tx_us == third.desired_min_tx_us == 300_000


def test_a_session_as_slow_as_the_start_needs_no_poll_to_come_up() -> None:
    machine = machine_in(DOWN, SLOW)
    machine.receive(peer(INIT), 0.1)
    packet = machine.transmit(0.1, 1.0)
    assert packet is not None
    assert not packet.poll


def test_we_slow_down_only_once_the_peer_knows() -> None:
    machine = machine_in(UP)
    machine.configure(BfdConfig(desired_min_tx_ms=900, required_min_rx_ms=300))
    packet = machine.transmit(0.1, 1.0)
    assert packet is not None
    assert (packet.poll, packet.desired_min_tx_us) == (True, 900_000)
    assert machine.transmit_interval_us() == 300_000
    machine.receive(peer(UP, final=True), 0.2)
    assert machine.transmit_interval_us() == 900_000


def test_we_speed_up_at_once() -> None:
    machine = machine_in(UP)
    machine.configure(BfdConfig(desired_min_tx_ms=100, required_min_rx_ms=300))
    machine.receive(peer(UP, rx_ms=100), 0.1)
    assert machine.transmit_interval_us() == 100_000


def test_we_ask_for_more_signs_of_life_only_once_the_peer_knows() -> None:
    machine = machine_in(UP, SLOW)
    machine.configure(BfdConfig(desired_min_tx_ms=1000, required_min_rx_ms=300))
    machine.transmit(0.1, 1.0)
    machine.receive(peer(UP), 0.2)
    assert machine.detection_time_us() == 3_000_000
    machine.receive(peer(UP, final=True), 0.3)
    assert machine.detection_time_us() == 900_000


def test_we_ask_for_fewer_signs_of_life_at_once() -> None:
    machine = machine_in(UP)
    machine.configure(BfdConfig(desired_min_tx_ms=300, required_min_rx_ms=1000))
    assert machine.detection_time_us() == 3_000_000


def test_a_change_during_a_poll_sequence_is_polled_for_in_the_next() -> None:
    machine = machine_in(UP)
    machine.configure(BfdConfig(desired_min_tx_ms=600, required_min_rx_ms=300))
    machine.transmit(0.1, 1.0)
    machine.configure(BfdConfig(desired_min_tx_ms=900, required_min_rx_ms=300))
    machine.receive(peer(UP, final=True), 0.2)
    assert machine.transmit_interval_us() == 600_000, "what the first sequence was about is known now"
    packet = machine.transmit(0.3, 1.0)
    assert packet is not None
    assert (packet.poll, packet.desired_min_tx_us) == (True, 900_000)
    machine.receive(peer(UP, final=True), 1.0)
    assert machine.transmit_interval_us() == 900_000


def test_a_final_that_nobody_asked_for_changes_nothing() -> None:
    machine = machine_in(UP)
    machine.receive(peer(UP, final=True), 0.1)
    assert (machine.state, machine.transmit_interval_us(), machine.detection_time_us()) == (UP, 300_000, 900_000)


def test_a_session_that_is_shut_goes_on_saying_so_slowly() -> None:
    machine = machine_in(UP)
    machine.disable()
    assert machine.deadline() == NOW
    machine.transmit(0.5, 1.0)
    machine.receive(peer(DOWN), 0.6)
    assert machine.state is ADMIN_DOWN
    assert machine.transmit(1.4, 1.0) is None
    assert machine.transmit(1.5, 1.0)


def test_two_machines_meet_and_agree() -> None:
    first = Machine(FAST, local_discriminator=1)
    second = Machine(BfdConfig(desired_min_tx_ms=500, required_min_rx_ms=400, detect_mult=5), local_discriminator=2)
    now = 0.0
    for _ in range(40):
        for here, there in ((first, second), (second, first)):
            if packet := here.transmit(now, 0.5):
                answer = there.receive(packet, now)
                if answer is not None:
                    here.receive(answer, now)
        now = max(now, min(first.deadline(), second.deadline()))
    assert first.state is second.state is UP
    assert (first.transmit_interval_us(), first.detection_time_us()) == (400_000, 2_500_000)
    assert (second.transmit_interval_us(), second.detection_time_us()) == (500_000, 1_200_000)
    assert now < first.deadline() < NEVER
