"""BFD sessions come up, fail and end as they should: between two of us, with BIRD and with FRR, on real links."""

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest
from harness.bgpd import Neighbour, Settings
from harness.bgpnet import Network
from harness.bird import Bird
from harness.frr import Frr
from harness.machine import until
from harness.netns import run_in, sh

from kube_router.plugins.routing.bgp.bfd import Bfd, Status, Wanted
from kube_router.plugins.routing.bgp.model import BfdConfig

pytestmark = pytest.mark.root
US, THEM, FAR = "10.66.0.1", "10.66.0.2", "10.66.1.3"
US6, THEM6, FAR6 = "fd66::1", "fd66::2", "fd66:1::3"
SLOW = BfdConfig()
FAST = BfdConfig(desired_min_tx_ms=300, required_min_rx_ms=300)
FAMILIES = pytest.mark.parametrize(("us", "them"), [(US, THEM), (US6, THEM6)], ids=["ipv4", "ipv6"])


class Told(NamedTuple):
    at: float
    peer: str
    up: bool
    words: str


class Ours:
    """Our BFD in a namespace, with an event loop of its own, and all that it told."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.told: list[Told] = []
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name=f"loop of {namespace}")
        self._thread.start()
        self.bfd = Bfd(self._tell, self.loop)

    def __enter__(self) -> "Ours":
        return self

    def __exit__(self, *_: object) -> None:
        self.bfd.stop(admin_down=False)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)
        self.loop.close()

    def _tell(self, peer: str, up: bool, words: str) -> None:
        assert threading.current_thread() is self._thread, "told on the loop's thread"
        self.told.append(Told(time.monotonic(), peer, up, words))

    def sessions(self, sessions: dict[str, Wanted]) -> None:
        run_in(self.namespace, lambda: self.bfd.set_sessions(sessions))

    def session(self, us: str, them: str, config: BfdConfig = FAST, *, multihop: bool = False) -> None:
        self.sessions({them: Wanted(us, config, multihop)})

    def status(self, them: str) -> Status:
        until(lambda: them in self.bfd.status(), what=f"the thread to know {them}")
        return self.bfd.status()[them]

    def wait(self, them: str, state: str, timeout_s: float = 5) -> Status:
        until(lambda: self.status(them).state == state, what=f"{state} with {them}", timeout_s=timeout_s)
        return self.status(them)

    def wait_told(self, up: bool, timeout_s: float = 10) -> Told:
        until(lambda: self.told and self.told[-1].up is up, what=f"to be told up={up}", timeout_s=timeout_s)
        return self.told[-1]


class Pair(NamedTuple):
    network: Network
    here: Ours
    there: Ours


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as made:
        made.add("us", 1)
        made.add("them", 2)
        yield made


@pytest.fixture
def pair(network: Network) -> Iterator[Pair]:
    with Ours(network.netns("us")) as here, Ours(network.netns("them")) as there:
        yield Pair(network, here, there)


def up(pair: Pair, us: str, them: str, config: BfdConfig = FAST) -> None:
    pair.here.session(us, them, config)
    pair.there.session(them, us, config)
    pair.here.wait(them, "UP")
    pair.there.wait(us, "UP")


# -- Two of us ---------------------------------------------------------------------------------------------------------


@FAMILIES
@pytest.mark.parametrize("config", [SLOW, FAST], ids=["1000ms", "300ms"])
def test_two_of_us_are_up_in_two_seconds_and_agree_on_the_timers(
    pair: Pair, us: str, them: str, config: BfdConfig
) -> None:
    started = time.monotonic()
    pair.here.session(us, them, config)
    pair.there.session(them, us, config)
    first, second = pair.here.wait_told(up=True), pair.there.wait_told(up=True)
    assert max(first.at, second.at) - started < 2
    until(lambda: pair.here.status(them).transmit_interval_ms == config.desired_min_tx_ms, what="the agreed interval")
    until(
        lambda: pair.there.status(us).detection_time_ms == 3 * config.desired_min_tx_ms,
        what="the agreed detection time",
    )
    assert pair.here.status(them)._replace(since_s=0) == Status(
        state="UP",
        since_s=0,
        words="",
        flaps=0,
        remote_state="UP",
        transmit_interval_ms=config.desired_min_tx_ms,
        detection_time_ms=3 * config.desired_min_tx_ms,
        control_plane_independent=False,
        error="",
    )


@FAMILIES
def test_a_cut_cable_is_noticed_within_the_detection_time_on_both_sides(pair: Pair, us: str, them: str) -> None:
    up(pair, us, them)
    until(lambda: pair.here.status(them).detection_time_ms == 900, what="the fast timers")
    cut = time.monotonic()
    pair.network.set_link("them", up=False)
    here, there = pair.here.wait_told(up=False), pair.there.wait_told(up=False)
    assert here.words == there.words == "control detection time expired"
    for told in (here, there):
        # The last packet came up to one interval before the cut; a busy machine may be late.
        assert 0.55 < told.at - cut < 1.5
    assert pair.here.status(them).flaps == 1
    pair.network.set_link("them", up=True)
    pair.here.wait_told(up=True)
    pair.there.wait_told(up=True)


def test_admin_down_is_seen_by_the_peer_and_is_no_failure(pair: Pair) -> None:
    up(pair, US, THEM)
    started = time.monotonic()
    pair.there.bfd.stop()
    assert time.monotonic() - started < 1.4, "the peer answered"
    status = pair.here.wait(THEM, "DOWN", timeout_s=0.5)
    assert (status.words, status.remote_state) == ("administratively down at the neighbor", "ADMIN_DOWN")
    assert [told.up for told in pair.here.told] == [True]


def test_a_session_that_is_wanted_no_more_tells_its_peer_and_leaves_the_others(pair: Pair) -> None:
    both = {THEM: Wanted(US, FAST), THEM6: Wanted(US6, FAST)}
    pair.here.sessions(both)
    pair.there.sessions({US: Wanted(THEM, FAST), US6: Wanted(THEM6, FAST)})
    for peer in both:
        pair.here.wait(peer, "UP")
    pair.here.session(US6, THEM6)
    until(lambda: pair.there.status(US).words == "administratively down at the neighbor", what="AdminDown")
    assert list(pair.here.bfd.status()) == [THEM6]
    assert pair.here.status(THEM6).flaps == 0
    assert [told for told in pair.there.told if not told.up] == []


def test_other_timers_are_agreed_on_without_a_flap(pair: Pair) -> None:
    up(pair, US, THEM)
    slower = BfdConfig(desired_min_tx_ms=500, required_min_rx_ms=400, detect_mult=4)
    pair.here.session(US, THEM, slower)
    until(lambda: pair.here.status(THEM).transmit_interval_ms == 500, what="our slower interval")
    until(lambda: pair.here.status(THEM).detection_time_ms == 1200, what="our longer detection time")
    until(lambda: pair.there.status(US).transmit_interval_ms == 400, what="the peer's slower interval")
    until(lambda: pair.there.status(US).detection_time_ms == 2000, what="the peer's longer detection time")
    assert [told.up for told in pair.here.told + pair.there.told] == [True, True]


def test_a_peer_that_forgot_us_is_noticed_at_once(pair: Pair) -> None:
    up(pair, US, THEM)
    pair.there.bfd.stop(admin_down=False)
    with Ours(pair.network.netns("them")) as again:
        again.session(THEM, US)
        again.wait_told(up=True)
        until(lambda: [told.up for told in pair.here.told] == [True, False, True], what="a short failure to be told")
        assert pair.here.told[1].words == "neighbor signaled session down"


def test_a_packet_from_further_away_is_not_taken_over_one_hop(network: Network) -> None:
    network.add("far", 3, link=1)
    with Ours(network.netns("us")) as here, Ours(network.netns("far")) as far:
        here.session(US, FAR)
        far.session(FAR, US)
        until(lambda: here.bfd.dropped().get("ttl", 0) > 1, what="packets that came over a router")
        status = here.status(FAR)
        assert status.error == "its packets come with TTL 254, not 255: it is more than one hop away"
        assert status.state == "DOWN"
        assert here.told == []


@pytest.mark.parametrize(("us", "far"), [(US, FAR), (US6, FAR6)], ids=["ipv4", "ipv6"])
def test_over_several_hops_the_session_comes_up_when_it_is_told_to(network: Network, us: str, far: str) -> None:
    network.add("far", 3, link=1)
    with Ours(network.netns("us")) as here, Ours(network.netns("far")) as there:
        here.session(us, far, multihop=True)
        there.session(far, us, multihop=True)
        here.wait_told(up=True)
        there.wait_told(up=True)
        assert sockets(here.namespace, "4784")
        assert not sockets(here.namespace, "3784")


def test_packets_go_out_with_ttl_255_from_the_ports_that_rfc_5881_names(pair: Pair) -> None:
    up(pair, US, THEM)
    bound = [int(line.split()[3].rpartition(":")[2]) for line in sockets(pair.here.namespace, "").splitlines()]
    senders = [port for port in bound if port != 3784]
    assert len(senders) == 1
    assert 49152 <= senders[0] <= 65535
    assert pair.there.bfd.dropped() == {}


def test_an_address_that_is_not_there_yet_harms_only_its_own_session(pair: Pair) -> None:
    pair.here.sessions({THEM: Wanted(US, FAST), "10.66.9.2": Wanted("10.66.9.1", FAST), "nonsense": Wanted("", FAST)})
    pair.there.session(THEM, US)
    pair.here.wait_told(up=True)
    until(lambda: pair.here.status("10.66.9.2").error, what="the error")
    error = "cannot send: cannot send from 10.66.9.1: Cannot assign requested address"
    assert pair.here.status("10.66.9.2").error == error
    sh(f"ip -n {pair.here.namespace} addr add 10.66.9.1/24 dev eth0")
    until(lambda: not pair.here.status("10.66.9.2").error, what="the address to be used")
    assert pair.here.status(THEM).flaps == 0


def test_a_port_that_another_daemon_has_is_told_and_taken_once_free(pair: Pair) -> None:
    with Ours(pair.here.namespace) as other:
        other.session(US, "10.66.0.99")
        until(lambda: sockets(other.namespace, "3784"), what="the other daemon to have the port")
        pair.here.session(US, THEM)
        pair.there.session(THEM, US)
        advice = "does another BFD daemon run on this node?"
        error = f"cannot listen on UDP port 3784, IPv4: Address already in use; {advice}"
        until(lambda: pair.here.status(THEM).error == error, what="the error")
    pair.here.wait_told(up=True)


def test_a_session_that_meets_a_bug_begins_anew_and_leaves_the_others(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    impossible = BfdConfig(detect_mult=300)  # does not fit into its octet
    pair.here.sessions({"10.66.0.9": Wanted(US, impossible), THEM: Wanted(US, FAST)})
    pair.there.session(THEM, US)
    pair.here.wait_told(up=True)
    failed = "bfd_session_failed peer=10.66.0.9"
    until(lambda: caplog.text.count(failed) > 1, what="the second try")
    assert caplog.text.count(failed) < 5
    assert pair.here.status(THEM).flaps == 0


def test_threads_and_sockets_are_gone_after_stop(network: Network) -> None:
    with Ours(network.netns("us")) as here:
        here.session(US, THEM)
        until(lambda: sockets(here.namespace, "3784"), what="the listener")
        here.bfd.stop()
        assert sockets(here.namespace, "") == ""
        assert not [thread for thread in threading.enumerate() if thread.name == "bfd"]
        here.bfd.stop()


def sockets(namespace: str, port: str) -> str:
    where = f"'sport = :{port}'" if port else ""
    return sh(f"ip netns exec {namespace} ss -Huan {where}")


# -- With others -------------------------------------------------------------------------------------------------------


class Other(NamedTuple):
    """Somebody else's daemon: how to ask it for its session with us, to shut that, and its word for Up."""

    state: Callable[[], str]
    flaps: Callable[[], int]
    shut: Callable[[], object]


class StandaloneBird(Bird):
    """A BIRD whose BFD session is its own, not a BGP session's."""

    session = ""

    def configure(self) -> None:
        super().configure()
        with (self.folder / "bird.conf").open("a") as config:
            config.write(self.session)


def bird(stack: ExitStack, network: Network, us: str, them: str) -> Other:
    made = StandaloneBird(Settings(asn=65000, router_id="10.66.0.2"), network.netns("them"), network.folder("bird"))
    timers = "interval 300 ms; idle tx interval 1000 ms; multiplier 3;"
    made.session = (
        f'protocol bfd bfd1 {{ interface "*" {{ {timers} }}; multihop {{ {timers} }}; neighbor {us} local {them}; }}\n'
    )
    stack.enter_context(made)

    def state() -> str:
        lines = [line.split() for line in made.ask("show bfd sessions").splitlines()]
        return next((line[2] for line in lines if line and line[0] == us), "")

    def flaps() -> int:
        return made.log("bird").read_text().count("changed state from Up to Down")

    return Other(state, flaps, lambda: made.ask("disable bfd1"))


def frr(stack: ExitStack, network: Network, us: str, them: str) -> Other:
    # The BGP session is never up: it is there to have bfdd run.
    idle = Neighbour(address="10.66.0.77", asn=65000, bfd_ms=300)
    made = Frr(
        Settings(asn=65000, router_id="10.66.0.2", neighbours=(idle,)), network.netns("them"), network.folder("frr")
    )
    stack.enter_context(made)
    peer = f"peer {us} local-address {them}"
    made.change("bfd", peer, "receive-interval 300", "transmit-interval 300", "detect-multiplier 3")

    def state() -> str:
        answer = made.ask(f"show bfd {peer} json")
        return str(answer.get("status", "")).capitalize()

    def flaps() -> int:
        return int(made.ask(f"show bfd {peer} counters json")["session-down"])

    return Other(state, flaps, lambda: made.change("bfd", peer, "shutdown"))


NEEDS_BIRD = pytest.mark.skipif(bool(Bird.why_none()), reason=Bird.why_none())
NEEDS_FRR = pytest.mark.skipif(bool(Frr.why_none()), reason=Frr.why_none())
OTHERS = pytest.mark.parametrize(
    "other", [pytest.param(bird, id="bird", marks=NEEDS_BIRD), pytest.param(frr, id="frr", marks=NEEDS_FRR)]
)
Start = Callable[[ExitStack, Network, str, str], Other]


@OTHERS
@FAMILIES
def test_others_come_up_with_us_and_agree_on_the_timers(network: Network, other: Start, us: str, them: str) -> None:
    with Ours(network.netns("us")) as here, ExitStack() as stack:
        here.session(us, them)
        theirs = other(stack, network, us, them)
        here.wait_told(up=True)
        until(lambda: theirs.state() == "Up", what="their side to be up")
        until(lambda: here.status(them).transmit_interval_ms == 300, what="the fast interval")
        until(lambda: here.status(them).detection_time_ms == 900, what="the fast detection time")


@OTHERS
def test_others_that_fall_silent_are_down_within_the_detection_time(network: Network, other: Start) -> None:
    with Ours(network.netns("us")) as here, ExitStack() as stack:
        here.session(US, THEM)
        theirs = other(stack, network, US, THEM)
        here.wait_told(up=True)
        until(lambda: here.status(THEM).detection_time_ms == 900, what="the fast timers")
        cut = time.monotonic()
        network.set_link("us", up=False)
        told = here.wait_told(up=False)
        assert 0.55 < told.at - cut < 1.5
        until(lambda: theirs.state() == "Down", what="their side to be down")
        network.set_link("us", up=True)
        here.wait_told(up=True)


@OTHERS
def test_others_see_our_admin_down(network: Network, other: Start) -> None:
    with Ours(network.netns("us")) as here, ExitStack() as stack:
        here.session(US, THEM)
        theirs = other(stack, network, US, THEM)
        here.wait_told(up=True)
        until(lambda: theirs.state() == "Up", what="their side to be up")
        started = time.monotonic()
        here.bfd.stop()
        assert time.monotonic() - started < 1.4, "they answered"
        until(lambda: theirs.state() == "Down", what="their side to be down", timeout_s=0.5)


@NEEDS_FRR
def test_another_going_admin_down_is_no_failure(network: Network) -> None:
    with Ours(network.netns("us")) as here, ExitStack() as stack:
        here.session(US, THEM)
        theirs = frr(stack, network, US, THEM)
        here.wait_told(up=True)
        theirs.shut()
        status = here.wait(THEM, "DOWN")
        assert status.words == "administratively down at the neighbor"
        assert [told.up for told in here.told] == [True]


@OTHERS
def test_a_busy_event_loop_does_not_flap_a_fast_session(network: Network, other: Start) -> None:
    with Ours(network.netns("us")) as here, ExitStack() as stack:
        here.session(US, THEM)
        theirs = other(stack, network, US, THEM)
        here.wait_told(up=True)
        until(lambda: theirs.state() == "Up", what="their side to be up")
        until(lambda: here.status(THEM).detection_time_ms == 900, what="the fast timers")
        before = theirs.flaps()
        here.loop.call_soon_threadsafe(keep_busy, 3.0)
        keep_busy(3.0)
        collect_a_heap()
        assert theirs.state() == "Up"
        assert theirs.flaps() == before
        assert here.status(THEM).flaps == 0


def keep_busy(seconds: float) -> int:
    """Compute in pure Python for some seconds."""
    until_s, sum_of_squares = time.monotonic() + seconds, 0
    while time.monotonic() < until_s:
        sum_of_squares += sum(number * number for number in range(10_000))
    return sum_of_squares


def collect_a_heap() -> None:
    """Build 300,000 objects that refer to each other, and have them collected."""
    for _ in range(2):
        heap: list[list[object]] = [[number] for number in range(300_000)]
        for index, each in enumerate(heap):
            each.append(heap[index - 1])
        del heap
        gc.collect()
