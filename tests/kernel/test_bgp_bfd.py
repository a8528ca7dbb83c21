"""BFD ends the BGP session over a path that failed, with its routes, and leaves graceful restart alone."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest
from harness.bgpd import Announcement, Bgpd, Neighbour, Settings
from harness.bgpnet import Network
from harness.bird import Bird
from harness.frr import Frr
from harness.machine import until
from harness.speaking import Speaking, peer, router_id

from kube_router.plugins.routing.bgp.model import BfdConfig, Family, Kind, SpeakerConfig, prefix_of

pytestmark = pytest.mark.root
US, THEM = "10.66.0.1", "10.66.0.2"
OURS, THEIRS = "10.244.1.0/24", "198.51.100.0/24"
FAST = BfdConfig(desired_min_tx_ms=300, required_min_rx_ms=300)
DETECTION_S = 0.9
LATE_S = 0.8  # how late a busy machine may be


class GracefulBird(Bird):
    """BIRD as it has to be told to be: without it, any end of a BFD session ends graceful restart too (2.0.12)."""

    def configure(self) -> None:
        super().configure()
        written = self.folder / "bird.conf"
        written.write_text(written.read_text().replace("bfd on;", "bfd graceful;"))


DAEMONS = pytest.mark.parametrize(
    "daemon",
    [
        pytest.param(
            each, id=each.__name__.lower(), marks=pytest.mark.skipif(bool(each.why_none()), reason=each.why_none())
        )
        for each in (GracefulBird, Frr)
    ],
)


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as made:
        made.add("us", 1)
        made.add("them", 2)
        yield made


def config(*, graceful_restart_s: int | None) -> SpeakerConfig:
    them = peer(THEM, 65000, 64512, bfd=FAST, graceful_restart_s=graceful_restart_s)
    return SpeakerConfig(
        asn=64512,
        router_id=router_id(US),
        listen=(US,),
        peers={THEM: them},
        originated={prefix_of(OURS): Kind.POD},
        next_hops={Family.IPV4: bytes([10, 66, 0, 1])},
    )


def start(stack: ExitStack, network: Network, daemon: type[Bgpd], *, graceful: bool) -> tuple[Speaking, Bgpd]:
    """Return our speaker and a daemon, their session up and watched by BFD, each with the other's route."""
    neighbour = Neighbour(address=US, asn=64512, local_address=THEM, bfd_ms=300, graceful_restart=graceful)
    settings = Settings(
        asn=65000, router_id=THEM, neighbours=(neighbour,), announcements=(Announcement(prefix=THEIRS),)
    )
    theirs = stack.enter_context(daemon(settings, network.netns("them"), network.folder("them")))
    ours = stack.enter_context(Speaking(config(graceful_restart_s=60 if graceful else None), network.netns("us")))
    ours.wait_route(THEIRS)
    theirs.wait_route(OURS)
    wait_bfd_up(ours)
    return ours, theirs


def wait_bfd_up(ours: Speaking) -> None:
    def agreed() -> bool:
        status = ours.ask(lambda speaker: speaker.bfd_status()).get(THEM)  # its thread may not have taken it up yet
        return status is not None and status.state == "UP" and status.detection_time_ms == 1000 * DETECTION_S

    ours.wait(agreed, "BFD to be up")


@DAEMONS
@pytest.mark.parametrize("graceful", [False, True], ids=["plain", "graceful-restart"])
def test_a_path_that_fails_takes_session_and_routes_within_the_detection_time(
    network: Network, daemon: type[Bgpd], graceful: bool
) -> None:
    with ExitStack() as stack:
        ours, _ = start(stack, network, daemon, graceful=graceful)
        cut = time.monotonic()
        network.set_link("them", up=False)
        ours.wait_lost(THEM)
        ours.wait_no_route(THEIRS)
        assert time.monotonic() - cut < DETECTION_S + LATE_S, "the hold time is 90 s"
        words = "control detection time expired"
        assert words in ours.sessions[-1][2]
        network.set_link("them", up=True)
        ours.wait_route(THEIRS)


@DAEMONS
def test_a_peer_that_crashes_keeps_its_routes_although_bfd_fails_then(network: Network, daemon: type[Bgpd]) -> None:
    with ExitStack() as stack:
        ours, theirs = start(stack, network, daemon, graceful=True)
        theirs.kill()
        ours.wait_lost(THEM)
        ours.wait(
            lambda: ours.ask(lambda speaker: speaker.bfd_status())[THEM].state == "DOWN", "BFD to notice the crash"
        )
        assert [path.stale for path in ours.paths(THEIRS)] == [True]
        assert ours.next_hops(THEIRS) == (THEM,)
        theirs.up(restarted=True)
        ours.wait(lambda: [path.stale for path in ours.paths(THEIRS)] == [False], "its routes to be fresh again")


@DAEMONS
def test_our_planned_restart_loses_no_route_at_the_peer(network: Network, daemon: type[Bgpd]) -> None:
    with ExitStack() as stack:
        ours, theirs = start(stack, network, daemon, graceful=True)
        ours.stop()
        kept_until = time.monotonic() + 2 * DETECTION_S
        while time.monotonic() < kept_until:
            assert theirs.routes(OURS), "BFD took the routes that graceful restart is to keep"
        ours.start()
        ours.wait_established(THEM)
        wait_bfd_up(ours)
        until(lambda: theirs.is_established(US), what="the session at the peer")
        theirs.wait(lambda: any(seen.best and not seen.stale for seen in theirs.routes(OURS)), "our routes to be fresh")


@DAEMONS
def test_other_timers_take_effect_without_a_new_session(network: Network, daemon: type[Bgpd]) -> None:
    with ExitStack() as stack:
        ours, _ = start(stack, network, daemon, graceful=False)
        told = len(ours.sessions)
        slower = replace(ours.config.peers[THEM], bfd=replace(FAST, required_min_rx_ms=400))
        ours.configure(replace(ours.config, peers={THEM: slower}))
        ours.wait(
            lambda: ours.ask(lambda speaker: speaker.bfd_status())[THEM].detection_time_ms == 1200,
            "the longer detection time",
        )
        assert len(ours.sessions) == told
