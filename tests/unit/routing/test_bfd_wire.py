"""BFD Control packets are what RFC 5880 section 4.1 draws, and section 6.8.6 says which are dropped."""

import pytest

from kube_router.plugins.routing.bgp.bfd_wire import Control, Malformed, State, diagnostic_words, encode, parse

UP = Control(
    state=State.UP,
    detect_mult=3,
    my_discriminator=0x01020304,
    your_discriminator=0x0A0B0C0D,
    desired_min_tx_us=300_000,
    required_min_rx_us=1_000_000,
)
UP_BYTES = bytes.fromhex("20c00318 01020304 0a0b0c0d 000493e0 000f4240 00000000")
DOWN = Control(state=State.DOWN, detect_mult=5, my_discriminator=7, desired_min_tx_us=1_000_000, required_min_rx_us=1)
DOWN_BYTES = bytes.fromhex("20400518 00000007 00000000 000f4240 00000001 00000000")


def changed(octet: int, value: int, of: bytes = UP_BYTES) -> bytes:
    return of[:octet] + bytes([value]) + of[octet + 1 :]


@pytest.mark.parametrize(
    ("control", "octets"),
    [
        (UP, UP_BYTES),
        (DOWN, DOWN_BYTES),
        (UP._replace(state=State.ADMIN_DOWN, diagnostic=7), changed(1, 0x00, changed(0, 0x27))),
        (UP._replace(state=State.INIT, diagnostic=1), changed(1, 0x80, changed(0, 0x21))),
        (UP._replace(diagnostic=31), changed(0, 0x3F)),
        (UP._replace(poll=True), changed(1, 0xE0)),
        (UP._replace(final=True), changed(1, 0xD0)),
        (UP._replace(control_plane_independent=True), changed(1, 0xC8)),
        (UP._replace(demand=True), changed(1, 0xC2)),
        (UP._replace(required_min_echo_rx_us=50_000), UP_BYTES[:20] + bytes.fromhex("0000c350")),
    ],
)
def test_a_packet_is_these_octets_and_they_are_that_packet(control: Control, octets: bytes) -> None:
    assert encode(control) == octets
    assert parse(octets) == control


@pytest.mark.parametrize(
    ("datagram", "why"),
    [
        (b"", "BFD packet of 0 octets: 24 are the least"),
        (UP_BYTES[:23], "BFD packet of 23 octets: 24 are the least"),
        (changed(0, 0x00), "BFD packet: version 0, not 1"),
        (changed(0, 0x40), "BFD packet: version 2, not 1"),
        (changed(3, 23), "BFD packet: Length is 23, in a datagram of 24 octets, and 24 are the least"),
        (changed(3, 25), "BFD packet: Length is 25, in a datagram of 24 octets, and 24 are the least"),
        (changed(1, 0xC4), "BFD packet: Length is 24, in a datagram of 24 octets, and 26 are the least"),
        (changed(2, 0), "BFD packet: Detect Mult is zero"),
        (changed(1, 0xC1), "BFD packet: the Multipoint bit is set"),
        (
            changed(1, 0xC4, changed(3, 28)) + b"\x01\x04\x01a",
            "BFD packet: it is authenticated, and no authentication is in use",
        ),
        (UP_BYTES[:4] + bytes(4) + UP_BYTES[8:], "BFD packet: My Discriminator is zero"),
        (UP_BYTES[:8] + bytes(4) + UP_BYTES[12:], "BFD packet: Your Discriminator is zero in state UP"),
        (
            changed(1, 0x80, UP_BYTES[:8] + bytes(4) + UP_BYTES[12:]),
            "BFD packet: Your Discriminator is zero in state INIT",
        ),
    ],
)
def test_a_packet_that_must_be_discarded_is_refused_and_why_is_said(datagram: bytes, why: str) -> None:
    with pytest.raises(Malformed) as raised:
        parse(datagram)
    assert str(raised.value) == why


def test_a_peer_that_does_not_know_us_yet_may_be_down_or_admin_down() -> None:
    assert parse(DOWN_BYTES).state is State.DOWN
    assert parse(changed(1, 0x00, DOWN_BYTES)).state is State.ADMIN_DOWN


def test_what_follows_the_packet_in_its_datagram_is_ignored() -> None:
    assert parse(UP_BYTES + b"padding") == UP


def test_diagnostics_have_words() -> None:
    assert diagnostic_words(0) == "no diagnostic"
    assert diagnostic_words(1) == "control detection time expired"
    assert diagnostic_words(3) == "neighbor signaled session down"
    assert diagnostic_words(7) == "administratively down"
    assert diagnostic_words(9) == "reserved diagnostic 9"
