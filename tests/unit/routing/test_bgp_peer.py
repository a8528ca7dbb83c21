"""A neighbour over time: keepalives, silence, back-pressure, damping, and what its owner is told when."""

from dataclasses import replace

import pytest
from harness.bgp_world import RESTART, End, Side, World, pipe

from kube_router.plugins.routing.bgp.caps import Capabilities, Open
from kube_router.plugins.routing.bgp.fault import hard_reset, notification
from kube_router.plugins.routing.bgp.model import GracefulRestart
from kube_router.plugins.routing.bgp.peer import Peer, State
from kube_router.plugins.routing.bgp.update import Update
from kube_router.plugins.routing.bgp.wire import KEEPALIVE, encode_open

EMPTY_UPDATE = b"\xff" * 16 + b"\x00\x17\x02\x00\x00\x00\x00"


class Scripted:
    """The one side a, passive, and a connection whose other end the test holds."""

    def __init__(self, *, restart: GracefulRestart | None = None, extended: bool = False) -> None:
        self.world = World(passive=True, restart=restart, extended=extended)
        self.a: Side = self.world.a
        self.peer: Peer = self.a.peer
        self.restart, self.extended = restart, extended
        self.peer.start()
        self.mine = self.connect()

    def connect(self) -> End:
        self.mine, theirs = pipe("scripted")
        self.a.ends = [theirs]
        self.peer.take(theirs)
        return self.mine

    def say(self, *messages: bytes) -> None:
        for message in messages:
            self.mine.write(message)
            if self.a.ends[0].inbox:
                self.a.ends[0].deliver()

    def open(self, *, asn: int = 65001, hold: int = 90, router_id: int = 9) -> bytes:
        capabilities = Capabilities(four_octet_asn=asn, graceful_restart=self.restart, extended_message=self.extended)
        return encode_open(Open(4, asn, hold, router_id, capabilities))

    def establish(self, *, hold: int = 90) -> "Scripted":
        self.say(self.open(hold=hold), KEEPALIVE)
        assert self.peer.state is State.ESTABLISHED
        self.heard()
        return self

    def heard(self) -> list[bytes]:
        """Return what came from the Peer since the last time; b"" is the close."""
        found = [message or b"" for message in self.mine.inbox]
        self.mine.inbox.clear()
        return found


def test_keepalives_go_out_every_third_of_the_hold_time_and_silence_ends_the_session_at_all_of_it() -> None:
    one = Scripted().establish()
    one.world.clock.advance(89.9)
    assert one.heard() == [KEEPALIVE, KEEPALIVE]
    one.world.clock.advance(0.2)
    assert one.heard() == [notification(4, 0), b""]
    assert one.a.told == ["established", "down"]
    assert one.peer.last_error == "nothing was heard from it for the whole hold time"


@pytest.mark.parametrize("message", [KEEPALIVE, EMPTY_UPDATE], ids=["keepalive", "update"])
def test_any_message_puts_the_end_off(message: bytes) -> None:
    one = Scripted().establish()
    for _ in range(5):
        one.world.clock.advance(80)
        one.say(message)
    assert one.peer.state is State.ESTABLISHED


def test_the_smaller_hold_time_counts() -> None:
    one = Scripted().establish(hold=9)
    one.world.clock.advance(8.9)
    assert one.heard() == [KEEPALIVE, KEEPALIVE]
    one.world.clock.advance(0.2)
    assert one.peer.state is State.IDLE


def test_what_came_in_time_counts_though_we_were_too_busy_to_read_it() -> None:
    one = Scripted().establish()
    one.mine.write(KEEPALIVE)  # it waits in the socket
    one.world.clock.advance(90.5)
    assert one.peer.state is State.ESTABLISHED
    one.a.ends[0].deliver()
    one.world.clock.advance(89)
    assert one.peer.state is State.ESTABLISHED


def test_a_neighbour_that_reads_nothing_for_its_hold_time_is_given_up_in_words() -> None:
    one = Scripted().establish()
    one.a.ends[0].stalled = 91
    one.world.clock.advance(30)
    assert one.a.told == ["established", "down"]
    assert one.peer.last_error == ("we ended it: send hold timer expired: it has read nothing of what we sent for 91 s")


def test_nothing_is_taken_while_the_buffer_is_full_and_the_owner_is_told_when_there_is_room() -> None:
    one = Scripted().establish()
    channel = one.a.ends[0]
    assert one.peer.send([EMPTY_UPDATE, EMPTY_UPDATE])
    assert one.heard() == [EMPTY_UPDATE * 2]
    channel.full = True
    assert not one.peer.send([EMPTY_UPDATE])
    assert one.heard() == []
    channel.full = False
    assert channel.owner is not None
    channel.owner.drained()
    assert one.a.told == ["established", "writable"]
    assert one.peer.describe()["updates_sent"] == 2


@pytest.mark.parametrize("restart", [None, RESTART], ids=["plain", "graceful"])
def test_what_the_neighbours_operator_did_again_and_again_is_no_reason_to_wait_longer(
    restart: GracefulRestart | None,
) -> None:
    one = Scripted(restart=restart)
    for _ in range(5):
        one.establish()
        one.say(hard_reset(6, 3) if restart is not None else notification(6, 3))
        one.world.clock.advance(1)
        assert one.peer.state is State.ACTIVE
        assert one.a.told[-1] == "down"
        one.connect()


def test_a_bug_of_who_is_told_of_the_end_does_not_keep_the_neighbour_from_coming_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(peer: Peer, why: str, graceful: bool) -> None:
        raise RuntimeError("a bug")

    one = Scripted().establish()
    monkeypatch.setattr(one.a, "down", failing)
    with pytest.raises(RuntimeError):
        one.say(notification(6, 4))
    one.world.clock.advance(1)
    assert one.peer.state is State.ACTIVE


def test_what_is_sent_to_a_session_that_is_over_is_of_no_consequence() -> None:
    one = Scripted().establish()
    one.say(notification(6, 4))
    assert one.peer.send([EMPTY_UPDATE])
    assert one.heard() == [b""]


def test_bfd_ends_the_session_with_its_own_reason_and_it_begins_again_after_a_pause() -> None:
    one = Scripted().establish()
    one.peer.reset(6, 10, "BFD: no packet for 900 ms")
    assert one.heard() == [notification(6, 10), b""]
    assert one.peer.last_error == "we ended it: cease: BFD down: BFD: no packet for 900 ms"
    one.world.clock.advance(0.9)
    assert one.peer.describe()["state"] == "idle"
    one.world.clock.advance(0.2)
    assert one.peer.describe()["state"] == "active"


def test_a_reset_of_what_is_no_session_does_nothing() -> None:
    world = World()
    world.a.peer.reset(6, 10, "BFD")
    assert world.a.peer.state is State.IDLE


def test_while_damping_lasts_a_connection_is_rejected_in_words_the_neighbour_understands() -> None:
    one = Scripted().establish()
    one.say(EMPTY_UPDATE[:18] + b"\x09")
    one.connect()
    assert one.heard() == [notification(6, 5), b""]
    assert one.peer.describe()["connections_refused"] == 1


def test_a_bad_open_on_the_neighbours_connection_counts_against_the_peering() -> None:
    one = Scripted()
    one.say(one.open(asn=65009))
    assert one.peer.state is State.IDLE
    assert one.peer.last_error == (
        "we ended it: OPEN message error: bad peer AS: the peer is of AS 65009, configured is 65001"
    )
    one.world.clock.advance(1.1)
    one.connect()
    one.heard()
    one.establish()


def test_a_newer_connection_of_the_neighbours_supersedes_one_on_which_it_said_nothing() -> None:
    one = Scripted()
    first = one.mine
    one.connect()
    assert list(first.inbox)[-2:] == [notification(6, 7), None]
    one.establish()


def test_a_stop_where_notifications_are_graceful_is_a_hard_reset() -> None:
    one = Scripted(restart=RESTART).establish()
    one.peer.stop(6, 3)
    assert one.heard() == [notification(6, 9, b"\x06\x03"), b""]
    assert one.a.told == ["established", "down"]


def test_a_silent_stop_says_nothing() -> None:
    one = Scripted(restart=RESTART).establish()
    one.peer.stop(silent=True)
    assert one.heard() == [b""]


@pytest.mark.parametrize("moment", ["established", "down"])
def test_the_owner_may_stop_the_peer_in_whatever_it_is_told(moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Scripted()
    monkeypatch.setattr(one.a, moment, lambda peer, *_: peer.stop())
    one.say(one.open(), KEEPALIVE)
    one.say(notification(6, 4))
    one.world.clock.advance(1000)
    assert one.peer.state is State.IDLE
    assert one.world.clock.due() == []


def test_an_error_of_the_owners_ends_the_session_and_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def update(peer: Peer, update: Update) -> None:
        raise ZeroDivisionError

    one = Scripted().establish()
    monkeypatch.setattr(one.a, "update", update)
    with pytest.raises(ZeroDivisionError):
        one.say(EMPTY_UPDATE)
    assert one.heard() == [notification(6, 8), b""]
    assert one.a.told == ["established", "down"]


def test_messages_before_a_bad_one_are_handled() -> None:
    one = Scripted().establish()
    one.say(EMPTY_UPDATE + EMPTY_UPDATE + b"\x00" * 19)
    assert one.a.told == ["established", "update", "update", "down"]
    assert one.heard()[0][19:21] == b"\x01\x01"


def test_a_neighbour_is_described_for_the_operator() -> None:
    one = Scripted(restart=RESTART).establish()
    one.world.clock.advance(12.34)
    assert one.peer.describe() == {
        "address": "10.0.0.2",
        "asn": 65001,
        "state": "established",
        "uptime_s": 12.3,
        "flaps": 0,
        "last_error": "",
        "messages_received": 2,
        "messages_sent": 2,
        "updates_received": 0,
        "updates_sent": 0,
        "connections_refused": 0,
        "collisions": 0,
        "hold_time_s": 90,
        "families": ["ipv4"],
        "capabilities": ["four-octet-as", "graceful-restart"],
    }


def test_a_password_is_nowhere_to_be_read() -> None:
    world = World(password="swordfish-0815")
    peer = world.a.peer
    peer.start()
    assert "swordfish" not in repr((peer.config, peer.describe(), vars(peer)))
    assert "swordfish" in replace(peer.config).password


@pytest.mark.parametrize(("extended", "told"), [(True, ["established", "update"]), (False, ["established", "down"])])
def test_messages_beyond_4096_octets_are_read_where_both_said_so(extended: bool, told: list[str]) -> None:
    attributes = b"\x40\x01\x01\x00" + b"\x40\x02\x00" + b"\x40\x03\x04\x0a\x00\x00\x02" + b"\x40\x05\x04\0\0\0d"
    prefixes = b"".join(bytes((24, 10, number >> 8, number & 255)) for number in range(2000))
    body = b"\0\0" + len(attributes).to_bytes(2) + attributes + prefixes
    one = Scripted(extended=extended).establish()
    one.say(b"\xff" * 16 + (19 + len(body)).to_bytes(2) + b"\x02" + body)
    assert one.a.told == told
