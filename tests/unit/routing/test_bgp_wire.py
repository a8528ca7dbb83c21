"""Framing, OPEN, NOTIFICATION and ROUTE-REFRESH, octet by octet."""

import pytest

from kube_router.plugins.routing.bgp.caps import Capabilities
from kube_router.plugins.routing.bgp.fault import Fault, Notification, communication, error_name, hard_reset
from kube_router.plugins.routing.bgp.model import Family
from kube_router.plugins.routing.bgp.wire import (
    EXTENDED_MAX,
    KEEPALIVE,
    Framer,
    MessageType,
    Open,
    RouteRefresh,
    encode_open,
    notification,
    parse_notification,
    parse_open,
    parse_route_refresh,
    route_refresh,
)

MARKER = b"\xff" * 16


def message(kind: int, body: bytes = b"", length: int | None = None) -> bytes:
    return MARKER + (19 + len(body) if length is None else length).to_bytes(2) + bytes((kind,)) + body


UPDATE = message(2, bytes(4))


# -- framing -----------------------------------------------------------------------------------------------------------


def test_messages_are_cut_from_the_stream_whatever_its_pieces() -> None:
    stream = KEEPALIVE + UPDATE + message(3, b"\x06\x02") + message(5, bytes(4)) + KEEPALIVE
    whole = Framer().feed(stream)
    assert [kind.name for kind, _ in whole] == ["KEEPALIVE", "UPDATE", "NOTIFICATION", "ROUTE_REFRESH", "KEEPALIVE"]
    assert [body for _, body in whole] == [b"", bytes(4), b"\x06\x02", bytes(4), b""]
    for size in (1, 2, 18, 19, 20, 23):
        framer = Framer()
        pieces = [framer.feed(stream[at : at + size]) for at in range(0, len(stream), size)]
        assert [one for piece in pieces for one in piece] == whole


@pytest.mark.parametrize(
    ("octets", "subcode", "data", "words"),
    [
        pytest.param(b"\xfe" + KEEPALIVE[1:], 1, "", f"a header starts with fe{'ff' * 15}, not with ones", id="marker"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x", 1, "", None, id="another protocol"),
        pytest.param(message(0), 3, "00", "a message of type 0"),
        pytest.param(message(6), 3, "06", "a message of type 6"),
        pytest.param(message(255), 3, "ff", "a message of type 255"),
        pytest.param(message(4, length=18), 2, "0012", "a KEEPALIVE of 18 octets"),
        pytest.param(message(4, length=0), 2, "0000", "a KEEPALIVE of 0 octets"),
        pytest.param(message(4, b"x"), 2, "0014", "a KEEPALIVE of 20 octets"),
        pytest.param(message(1, length=28), 2, "001c", "an OPEN of 28 octets"),
        pytest.param(message(2, length=22), 2, "0016", "an UPDATE of 22 octets"),
        pytest.param(message(3, length=20), 2, "0014", "a NOTIFICATION of 20 octets"),
        pytest.param(message(5, length=22), 2, "0016", "a ROUTE-REFRESH of 22 octets"),
        pytest.param(message(2, length=4097), 2, "1001", "an UPDATE of 4097 octets"),
    ],
)
def test_a_wrong_header_is_known_from_its_nineteen_octets(
    octets: bytes, subcode: int, data: str, words: str | None
) -> None:
    with pytest.raises(Fault) as raised:
        Framer().feed(octets)
    assert (raised.value.code, raised.value.subcode, raised.value.data) == (1, subcode, bytes.fromhex(data))
    assert words is None or raised.value.words == words


def test_what_came_before_a_wrong_header_is_handled_first() -> None:
    framer = Framer()
    assert framer.feed(message(3, b"\x06\x04") + b"\0" * 19) == [(MessageType.NOTIFICATION, b"\x06\x04")]
    for _ in range(2):
        with pytest.raises(Fault, match="connection not synchronized"):
            framer.feed(b"")


def test_longer_messages_come_once_they_are_agreed_on() -> None:
    framer = Framer()
    long = message(2, bytes(EXTENDED_MAX - 19))
    assert framer.feed(KEEPALIVE + long) == [(MessageType.KEEPALIVE, b"")]
    framer.message_max = EXTENDED_MAX
    assert framer.feed(b"") == [(MessageType.UPDATE, bytes(EXTENDED_MAX - 19))]


@pytest.mark.parametrize("kind", [1, 4])
def test_an_open_and_a_keepalive_never_are_longer(kind: int) -> None:
    with pytest.raises(Fault, match="of 4097 octets"):
        Framer(EXTENDED_MAX).feed(message(kind, length=4097))


# -- OPEN --------------------------------------------------------------------------------------------------------------


def test_our_open_octet_by_octet() -> None:
    ours = Open(4, 4200000000, 90, 0x0A000001, Capabilities(families=frozenset(Family), four_octet_asn=4200000000))
    assert encode_open(ours).hex(" ", 1) == (
        f"{'ff ' * 16}00 31 01 04 5b a0 00 5a 0a 00 00 01 14 02 12"
        " 01 04 00 01 00 01 01 04 00 02 00 01 41 04 fa 56 ea 00"
    )


def test_an_open_without_capabilities_has_no_parameter() -> None:
    octets = encode_open(Open(4, 65001, 90, 1, Capabilities(families=frozenset())))
    assert octets[19:] == bytes.fromhex("04 fde9 005a 00000001 00")
    assert parse_open(octets[19:]).capabilities.families == frozenset({Family.IPV4})


@pytest.mark.parametrize("size", [0, 1, 200, 237, 238, 239, 240, 241, 242, 243, 255])
def test_an_open_is_read_back_on_both_sides_of_255_octets(size: int) -> None:
    ours = Open(4, 65001, 90, 1, Capabilities(four_octet_asn=65001, unknown=((99, bytes(size)),)))
    octets = encode_open(ours)
    assert Framer().feed(octets) == [(MessageType.OPEN, octets[19:])]
    assert parse_open(octets[19:]) == ours


def test_the_long_form_is_taken_only_where_needed() -> None:
    def parameters(size: int) -> bytes:
        return encode_open(Open(4, 1, 90, 1, Capabilities(unknown=((99, bytes(size)),))))[28:]

    assert parameters(244)[:3] == bytes((254, 2, 252))
    assert parameters(245)[:7] == bytes((255, 255, 1, 0, 2, 0, 253))


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param("0c 02 06 4104 0000fde9 02 02 0200", id="one parameter per capability"),
        pytest.param("0a 02 08 4104 0000fde9 0200", id="one parameter for all"),
        pytest.param("ff ff 000b 02 0008 4104 0000fde9 0200", id="RFC 9072"),
        pytest.param("01 ff 000b 02 0008 4104 0000fde9 0200", id="RFC 9072 with another length before"),
    ],
)
def test_capabilities_in_any_form(octets: str) -> None:
    theirs = parse_open(bytes.fromhex(f"04 fde9 005a 0a000001 {octets}"))
    assert theirs == Open(4, 65001, 90, 0x0A000001, Capabilities(four_octet_asn=65001, route_refresh=True))


@pytest.mark.parametrize(
    ("octets", "code", "subcode", "data", "words"),
    [
        pytest.param("04 fd", 1, 2, "0015", "an OPEN of 21 octets, below 29", id="short"),
        pytest.param("03 fde9 005a 0a000001 00", 2, 1, "0004", "BGP version 3, not 4", id="version"),
        pytest.param("03 fde9 005a 0a000001 09", 2, 1, "0004", "BGP version 3, not 4", id="version first"),
        pytest.param("04 0000 005a 0a000001 00", 2, 2, "", "AS number 0", id="AS 0"),
        pytest.param("04 0000 005a 0a000001 08 0206 4104 0000fde9", 2, 2, "", "AS number 0", id="AS 0 and a wide one"),
        pytest.param("04 5ba0 005a 0a000001 08 0206 4104 00000000", 2, 2, "", "AS number 0", id="wide AS 0"),
        pytest.param("04 fde9 005a 00000000 00", 2, 3, "", "router ID 0.0.0.0", id="router ID"),
        pytest.param("04 fde9 0001 0a000001 00", 2, 6, "", "a hold time of 1 s, neither 0 nor at least 3", id="1 s"),
        pytest.param("04 fde9 0002 0a000001 00", 2, 6, "", "a hold time of 2 s, neither 0 nor at least 3", id="2 s"),
        pytest.param("04 fde9 005a 0a000001 02 01 00", 2, 4, "", "optional parameter 1", id="authentication"),
        pytest.param("04 fde9 005a 0a000001 09 0206", 2, 0, "", "optional parameters of 9 octets in a message with 2"),
        pytest.param("04 fde9 005a 0a000001 00 0206", 2, 0, "", "optional parameters of 0 octets in a message with 2"),
        pytest.param("04 fde9 005a 0a000001 04 0202 4109", 2, 0, "", "capability 65 ends behind its place"),
        pytest.param("04 fde9 005a 0a000001 03 0201 41", 2, 0, "", "capability 65 ends behind its place"),
        pytest.param("04 fde9 005a 0a000001 02 0203", 2, 0, "", "optional parameter 2 ends behind its place"),
        pytest.param("04 fde9 005a 0a000001 01 02", 2, 0, "", "optional parameter 2 ends behind its place"),
        pytest.param("04 fde9 005a 0a000001 ff ff 0001 02", 2, 0, "", "optional parameter 2 ends behind its place"),
        pytest.param("04 fde9 005a 0a000001 ff ff", 2, 0, "", None, id="RFC 9072 without a length"),
    ],
)  # fmt: skip
def test_an_open_that_is_none(octets: str, code: int, subcode: int, data: str, words: str | None) -> None:
    with pytest.raises(Fault) as raised:
        parse_open(bytes.fromhex(octets))
    assert (raised.value.code, raised.value.subcode, raised.value.data) == (code, subcode, bytes.fromhex(data))
    assert words is None or raised.value.words == words


def test_a_hold_time_of_none_and_of_three_seconds_are_good() -> None:
    assert parse_open(bytes.fromhex("04 fde9 0000 0a000001 00")).hold_time_s == 0
    assert parse_open(bytes.fromhex("04 fde9 0003 0a000001 00")).hold_time_s == 3


# -- NOTIFICATION ------------------------------------------------------------------------------------------------------


def test_a_notification_octet_by_octet() -> None:
    assert notification(2, 1, b"\0\4") == MARKER + bytes.fromhex("0017 03 02 01 0004")
    assert Fault(2, 1, "why", b"\0\4").message == notification(2, 1, b"\0\4")
    assert parse_notification(notification(6, 7)[19:]) == Notification(6, 7)


def test_data_that_is_too_long_is_cut() -> None:
    octets = notification(3, 9, bytes(5000))
    assert len(octets) == 4096
    assert Framer().feed(octets) == [(MessageType.NOTIFICATION, b"\x03\x09" + bytes(4075))]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param("04 00", "hold timer expired"),
        pytest.param("06 02", "cease: administrative shutdown"),
        pytest.param("06 02 00", 'cease: administrative shutdown: ""'),
        pytest.param("06 02 05 68656c6c6f", 'cease: administrative shutdown: "hello"', id="RFC 9003"),
        pytest.param("06 04 06 c3bcc3bc 0a 22", 'cease: administrative reset: "üü��"', id="made harmless"),
        pytest.param("06 02 03 fffe41", 'cease: administrative shutdown: "��A"', id="no UTF-8"),
        pytest.param("06 02 ff 41", 'cease: administrative shutdown: "A"', id="a length beyond the end"),
        pytest.param("06 09 06 02 01 41", 'cease: hard reset: cease: administrative shutdown: "A"', id="RFC 8538"),
        pytest.param("06 09", "cease: hard reset"),
        pytest.param("06 0a", "cease: BFD down"),
        pytest.param("02 07 010400010001", "OPEN message error: unsupported capability (data 010400010001)"),
        pytest.param("63 05", "error 99: subcode 5"),
        pytest.param("06 63", "cease: subcode 99"),
        pytest.param("05 03", "finite state machine error: unexpected message in Established"),
    ],
)
def test_a_notification_in_words(body: str, words: str) -> None:
    assert parse_notification(bytes.fromhex(body)).words == words


def test_hard_resets_in_hard_resets_are_not_followed() -> None:
    assert parse_notification(b"\x06\x09" * 2000).words == "cease: hard reset: cease: hard reset"


def test_what_a_peer_makes_us_log_is_bounded() -> None:
    assert len(parse_notification(b"\x06\x02" + b"\xff" * 4000).words) < 300
    assert len(parse_notification(b"\x02\x07" + b"\xff" * 4000).words) < 100


def test_a_notification_too_short_to_say_anything() -> None:
    with pytest.raises(Fault, match="a NOTIFICATION of 20 octets"):
        parse_notification(b"\x06")


def test_our_words_are_cut_between_characters() -> None:
    assert communication("ü" * 200) == b"\xfe" + "ü".encode() * 127
    assert communication("") == b"\0"


def test_a_hard_reset_carries_what_it_is_for() -> None:
    its = parse_notification(hard_reset(6, 3)[19:])
    assert its.hard
    assert its.words == "cease: hard reset: cease: peer de-configured"
    assert not Notification(6, 3).hard


def test_errors_have_names() -> None:
    assert error_name(3, 11) == "UPDATE message error: malformed AS_PATH"
    assert str(Fault(2, 6, "a hold time of 1 s")) == "OPEN message error: unacceptable hold time: a hold time of 1 s"


# -- ROUTE-REFRESH -----------------------------------------------------------------------------------------------------


def test_a_route_refresh_octet_by_octet() -> None:
    assert route_refresh(Family.IPV6) == MARKER + bytes.fromhex("0017 05 0002 00 01")
    assert route_refresh(Family.IPV4, 2) == MARKER + bytes.fromhex("0017 05 0001 02 01")


@pytest.mark.parametrize(
    ("body", "refresh", "family"),
    [
        pytest.param("0001 00 01", RouteRefresh(1, 1, 0), Family.IPV4),
        pytest.param("0002 01 01", RouteRefresh(2, 1, 1), Family.IPV6),
        pytest.param("0002 02 01", RouteRefresh(2, 1, 2), Family.IPV6),
        pytest.param("0001 00 80", RouteRefresh(1, 128, 0), None, id="a family that is none of ours"),
        pytest.param("0001 00 01 01 80 0001 00", RouteRefresh(1, 1, 0), Family.IPV4, id="with ORF entries"),
        pytest.param("0001 63 01 00", RouteRefresh(1, 1, 99), Family.IPV4, id="of an unknown subtype"),
    ],
)
def test_a_route_refresh_says_its_family(body: str, refresh: RouteRefresh, family: Family | None) -> None:
    assert parse_route_refresh(bytes.fromhex(body)) == refresh
    assert refresh.family is family


@pytest.mark.parametrize("body", ["", "000100", "0001 01 01 00", "0001 02 01 0000"])
def test_a_route_refresh_of_a_wrong_length(body: str) -> None:
    octets = bytes.fromhex(body)
    with pytest.raises(Fault) as raised:
        parse_route_refresh(octets)
    assert (raised.value.code, raised.value.subcode, raised.value.data) == (7, 1, message(5, octets))


@pytest.mark.parametrize("body", ["0001 01 01", "0001 02 01 00", "0001 63 01"])
def test_without_enhanced_refresh_every_route_refresh_is_a_request(body: str) -> None:
    assert parse_route_refresh(bytes.fromhex(body), enhanced=False) == RouteRefresh(1, 1, 0)
