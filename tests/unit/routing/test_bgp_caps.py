"""Capabilities as octets, and what two OPENs agree on."""

from dataclasses import replace

import pytest

from kube_router.plugins.routing.bgp.caps import (
    Capabilities,
    Open,
    encode_capabilities,
    negotiate,
    parse_capabilities,
)
from kube_router.plugins.routing.bgp.fault import Fault
from kube_router.plugins.routing.bgp.model import Family, GracefulRestart, Negotiated, PeerConfig

V4, V6 = Family.IPV4, Family.IPV6
BOTH = frozenset(Family)

EVERYTHING = Capabilities(
    families=BOTH,
    four_octet_asn=4200000000,
    add_path={V4: 1, V6: 3},
    extended_next_hop=frozenset({V4}),
    graceful_restart=GracefulRestart(restarting=True, notification=True, time_s=120, families={V4: True, V6: False}),
    route_refresh=True,
    enhanced_refresh=True,
    extended_message=True,
    unknown=((71, b""), (73, b"\x02r1\x00")),
)


def parse(*values: tuple[int, str]) -> Capabilities:
    return parse_capabilities([(code, bytes.fromhex(value)) for code, value in values])


@pytest.mark.parametrize(
    ("code", "value", "capabilities"),
    [
        pytest.param(1, "0002 00 01", Capabilities(families=frozenset({V6})), id="only IPv6"),
        pytest.param(1, "0002 ff 01", Capabilities(families=frozenset({V6})), id="the reserved octet is ignored"),
        pytest.param(
            1,
            "0019 00 46",
            Capabilities(families=frozenset(), unknown=((1, bytes.fromhex("00190046")),)),
            id="only EVPN",
        ),
        pytest.param(2, "", Capabilities(route_refresh=True), id="route refresh"),
        pytest.param(128, "", Capabilities(unknown=((128, b""),)), id="old route refresh means nothing"),
        pytest.param(5, "0001 0001 0002", Capabilities(extended_next_hop=frozenset({V4})), id="RFC 8950"),
        pytest.param(5, "0001 0080 0002 0001 0001 0001", Capabilities(), id="RFC 8950 for others"),
        pytest.param(5, "", Capabilities(), id="RFC 8950 for nothing"),
        pytest.param(6, "", Capabilities(extended_message=True), id="RFC 8654"),
        pytest.param(64, "c078", Capabilities(graceful_restart=GracefulRestart(
            restarting=True, notification=True, time_s=120)), id="graceful restart without families"),
        pytest.param(64, "0fff 0001 01 80 0002 01 7f 0019 46 80", Capabilities(graceful_restart=GracefulRestart(
            time_s=4095, families={V4: True, V6: False})), id="graceful restart"),
        pytest.param(65, "fa56ea00", Capabilities(four_octet_asn=4200000000), id="four-octet AS"),
        pytest.param(69, "0001 01 02 0002 01 00 0002 02 03 0019 46 03", Capabilities(add_path={V4: 2}), id="ADD-PATH"),
        pytest.param(69, "0001 01 04", Capabilities(), id="ADD-PATH in an unknown mode"),
        pytest.param(70, "", Capabilities(enhanced_refresh=True), id="enhanced refresh"),
        pytest.param(71, "", Capabilities(unknown=((71, b""),)), id="BIRD's empty LLGR"),
        pytest.param(73, "02723100", Capabilities(unknown=((73, b"\x02r1\x00"),)), id="FQDN"),
        pytest.param(239, "01", Capabilities(unknown=((239, b"\x01"),)), id="private"),
    ],
)  # fmt: skip
def test_a_capability_says_its_value(code: int, value: str, capabilities: Capabilities) -> None:
    assert parse((code, value)) == capabilities


def test_no_multiprotocol_capability_means_ipv4() -> None:
    assert parse().families == frozenset({V4})


def test_families_add_up_and_of_others_the_last_counts() -> None:
    its = parse(
        (1, "00010001"),
        (1, "00020001"),
        (1, "00020001"),
        (64, "8001"),
        (64, "0002"),
        (65, "00000001"),
        (65, "00000002"),
    )
    assert its.families == BOTH
    assert its.graceful_restart == GracefulRestart(time_s=2)
    assert its.four_octet_asn == 2


@pytest.mark.parametrize(
    ("code", "value"),
    [
        pytest.param(1, "000100", id="multiprotocol"),
        pytest.param(1, "", id="multiprotocol without a value"),
        pytest.param(5, "00010001", id="RFC 8950"),
        pytest.param(64, "", id="graceful restart"),
        pytest.param(64, "0078 0001", id="graceful restart, half a family"),
        pytest.param(65, "0001", id="four-octet AS"),
        pytest.param(69, "000101", id="ADD-PATH"),
    ],
)
def test_a_known_capability_that_cannot_be_read_is_an_error_of_the_open(code: int, value: str) -> None:
    with pytest.raises(Fault, match=f"capability {code} has {len(bytes.fromhex(value))} octets") as raised:
        parse((code, value))
    assert (raised.value.code, raised.value.subcode) == (2, 0)


def split(capabilities: list[bytes]) -> list[tuple[int, bytes]]:
    assert all(one[1] == len(one) - 2 for one in capabilities)
    return [(one[0], one[2:]) for one in capabilities]


def test_capabilities_octet_by_octet() -> None:
    assert [one.hex(" ") for one in encode_capabilities(EVERYTHING)] == [
        "01 04 00 01 00 01",
        "01 04 00 02 00 01",
        "02 00",
        "05 06 00 01 00 01 00 02",
        "06 00",
        "40 0a c0 78 00 01 01 80 00 02 01 00",
        "41 04 fa 56 ea 00",
        "45 08 00 01 01 01 00 02 01 03",
        "46 00",
        "47 00",
        "49 04 02 72 31 00",
    ]


def test_what_is_encoded_is_read_back() -> None:
    assert parse_capabilities(split(encode_capabilities(EVERYTHING))) == EVERYTHING


def test_a_restart_time_beyond_twelve_bits_is_the_longest() -> None:
    its = Capabilities(graceful_restart=GracefulRestart(time_s=10_000))
    assert parse_capabilities(split(encode_capabilities(its))).graceful_restart == GracefulRestart(time_s=4095)


# -- negotiation -------------------------------------------------------------------------------------------------------

PEER = PeerConfig(address="10.0.0.2", asn=65002, internal=False)
OURS = Open(4, 65001, 90, 0x0A000001, replace(EVERYTHING, four_octet_asn=65001))
THEIRS = Open(4, 65002, 30, 0x0A000002, Capabilities(four_octet_asn=65002))


def agree(ours: Open = OURS, theirs: Open = THEIRS, peer: PeerConfig = PEER) -> Negotiated:
    return negotiate(ours, theirs, peer, ours.asn)


def telling(**changes: object) -> Open:
    """Return the peer's OPEN with other capabilities."""
    return THEIRS._replace(capabilities=replace(THEIRS.capabilities, **changes))  # type: ignore[arg-type]  # by name


def test_a_plain_neighbour() -> None:
    assert agree() == Negotiated(asn=65002, router_id=0x0A000002, internal=False, hold_time_s=30)


def test_an_internal_neighbour() -> None:
    theirs = THEIRS._replace(asn=65001)
    assert agree(theirs=theirs, peer=replace(PEER, asn=65001, internal=True)).internal


@pytest.mark.parametrize(
    ("ours", "theirs", "agreed"),
    [(90, 30, 30), (30, 90, 30), (90, 3, 3), (90, 0, 0), (0, 90, 0), (0, 0, 0), (65535, 65535, 65535)],
)
def test_the_shorter_hold_time_counts_and_none_is_the_shortest(ours: int, theirs: int, agreed: int) -> None:
    negotiated = agree(OURS._replace(hold_time_s=ours), THEIRS._replace(hold_time_s=theirs))
    assert negotiated.hold_time_s == agreed


def test_what_one_side_lacks_is_not_agreed_on() -> None:
    assert agree(theirs=telling(families=BOTH)).families == BOTH
    assert agree(theirs=telling(families=frozenset({V6}))).families == frozenset({V6})
    assert not agree(theirs=telling(four_octet_asn=None)).four_octet_as
    assert agree(theirs=telling(extended_message=True)).message_max == 65535
    assert agree(theirs=telling(route_refresh=True)).route_refresh
    assert agree(theirs=telling(enhanced_refresh=True)).enhanced_refresh
    assert agree(theirs=telling(extended_next_hop=BOTH)).extended_next_hop == frozenset({V4})
    bare = OURS._replace(capabilities=Capabilities())
    theirs = THEIRS._replace(capabilities=replace(EVERYTHING, four_octet_asn=65002))
    assert agree(bare, theirs) == Negotiated(
        asn=65002, router_id=0x0A000002, internal=False, hold_time_s=30, four_octet_as=False
    )


@pytest.mark.parametrize(
    ("ours", "theirs", "agreed"),
    [
        pytest.param({V4: 1}, {V4: 2}, {V4}, id="we receive, they send"),
        pytest.param({V4: 3}, {V4: 3}, {V4}, id="both, both"),
        pytest.param({V4: 1}, {V4: 1}, set(), id="nobody sends"),
        pytest.param({V4: 2}, {V4: 3}, set(), id="we do not receive"),
        pytest.param({V4: 1, V6: 1}, {V6: 2}, {V6}, id="one family"),
        pytest.param({}, {V4: 3}, set(), id="we do not know of it"),
    ],
)
def test_path_identifiers_come_where_we_receive_and_they_send(
    ours: dict[Family, int], theirs: dict[Family, int], agreed: set[Family]
) -> None:
    mine = OURS._replace(capabilities=replace(EVERYTHING, add_path=ours))
    assert agree(mine, telling(families=BOTH, add_path=theirs)).add_path_receive == agreed


def test_the_peers_restart_counts_only_where_we_speak_of_ours() -> None:
    restart = GracefulRestart(time_s=120, families={V4: True})
    assert agree(theirs=telling(graceful_restart=restart)).graceful_restart == restart
    silent = OURS._replace(capabilities=Capabilities(four_octet_asn=65001))
    assert agree(silent, telling(graceful_restart=restart)).graceful_restart is None


@pytest.mark.parametrize(
    ("theirs", "subcode", "words", "octets"),
    [
        pytest.param(THEIRS._replace(version=3), 1, "BGP version 3, not 4", "0004", id="version"),
        pytest.param(THEIRS._replace(asn=65003), 2, "the peer is of AS 65003, configured is 65002", "", id="wrong AS"),
        pytest.param(THEIRS._replace(asn=0), 2, "AS number 0", "", id="AS 0"),
        pytest.param(THEIRS._replace(router_id=0), 3, "router ID 0.0.0.0", "", id="router ID 0"),
        pytest.param(THEIRS._replace(hold_time_s=1), 6, "a hold time of 1 s, neither 0 nor at least 3", "", id="1 s"),
        pytest.param(THEIRS._replace(hold_time_s=2), 6, "a hold time of 2 s, neither 0 nor at least 3", "", id="2 s"),
        pytest.param(
            telling(families=frozenset()),
            7,
            "no common family: ours IPV4, IPV6, theirs none",
            "010400010001 010400020001",
            id="no family",
        ),
    ],
)
def test_no_session_with_such_a_peer(theirs: Open, subcode: int, words: str, octets: str) -> None:
    with pytest.raises(Fault) as raised:
        agree(theirs=theirs)
    fault = raised.value
    assert (fault.code, fault.subcode, fault.words, fault.data) == (2, subcode, words, bytes.fromhex(octets))


def test_our_router_id_is_an_internal_neighbours_error_and_no_external_ones() -> None:
    twin = THEIRS._replace(router_id=OURS.router_id)
    assert agree(theirs=twin).router_id == OURS.router_id
    with pytest.raises(Fault, match=r"the peer has our router ID 10\.0\.0\.1") as raised:
        agree(theirs=twin._replace(asn=65001), peer=replace(PEER, asn=65001, internal=True))
    assert (raised.value.code, raised.value.subcode) == (2, 3)
