"""UPDATEs: what they announce and withdraw, what of them counts when something is wrong, and what we send."""

from collections.abc import Iterable

import pytest
from bgp_bytes import AS_PATH, BOTH, LOCAL_PREF, MANDATORY, ORIGIN, PREFIX, attribute, body, session

from kube_router.plugins.routing.bgp.fault import Fault
from kube_router.plugins.routing.bgp.model import (
    Attributes,
    Family,
    Negotiated,
    NextHop,
    Prefix,
    Segment,
    SegmentType,
    Unknown,
    prefix_of,
)
from kube_router.plugins.routing.bgp.update import (
    Reach,
    Update,
    UpdateParser,
    Withdrawn,
    encode_reach,
    encode_withdraw,
    end_of_rib,
)

V4, V6 = Family.IPV4, Family.IPV6
HOP4 = NextHop(bytes.fromhex("0a000001"))
HOP6 = NextHop(bytes.fromhex("fd000000000000000000000000000001"))
LINK_LOCAL = bytes.fromhex("fe800000000000000000000000000001")
ATTRIBUTES = Attributes(as_path=(Segment(SegmentType.AS_SEQUENCE, (65001,)),), local_pref=100)
OTHERS = f"{ORIGIN} {AS_PATH} {LOCAL_PREF}"
TEN = prefix_of("10.1.2.0/24")
FD = prefix_of("fd00:1::/64")


def parse(octets: bytes, negotiated: Negotiated | None = None) -> Update:
    return UpdateParser(negotiated or session()).parse(octets)


def reach(family: Family, next_hop: str, prefixes: str, *, flags: int = 0x90) -> str:
    hop = bytes.fromhex(next_hop)
    return attribute(flags, 14, f"{family:04x} 01 {len(hop):02x} {hop.hex()} 00 {prefixes}")


def unreach(family: Family, prefixes: str = "") -> str:
    return attribute(0x80, 15, f"{family:04x} 01 {prefixes}")


FD_REACH = reach(V6, HOP6.address.hex(), "40 fd00000100000000")


# -- what is said ------------------------------------------------------------------------------------------------------


def test_ipv4_in_fields_of_its_own() -> None:
    assert parse(body(MANDATORY, PREFIX, "10 0a03")) == Update(
        ATTRIBUTES, (Reach(HOP4, [TEN]),), (Withdrawn([prefix_of("10.3.0.0/16")]),)
    )


def test_both_families_in_one_message_share_their_attributes() -> None:
    assert parse(body(f"{MANDATORY} {FD_REACH} {unreach(V6, '00')}", PREFIX)) == Update(
        ATTRIBUTES, (Reach(HOP6, [FD]), Reach(HOP4, [TEN])), (Withdrawn([prefix_of("::/0")]),)
    )


@pytest.mark.parametrize(
    ("family", "octets", "next_hop"),
    [
        pytest.param(V6, HOP6.address, HOP6, id="v6"),
        pytest.param(V6, HOP6.address + LINK_LOCAL, NextHop(HOP6.address, LINK_LOCAL), id="and link-local"),
        pytest.param(V6, LINK_LOCAL, NextHop(LINK_LOCAL), id="only a link-local one"),
        pytest.param(V6, bytes(16) + LINK_LOCAL, NextHop(LINK_LOCAL, LINK_LOCAL), id="no global one"),
        pytest.param(V4, HOP6.address, HOP6, id="v4 over v6 (RFC 8950)"),
        pytest.param(V4, HOP4.address, HOP4, id="v4 over v4 here, as BIRD does"),
    ],
)
def test_next_hops_of_mp_reach(family: Family, octets: bytes, next_hop: NextHop) -> None:
    update = parse(body(f"{reach(family, octets.hex(), '00')} {OTHERS}"))
    assert update == Update(ATTRIBUTES, (Reach(next_hop, [prefix_of("0.0.0.0/0" if family is V4 else "::/0")]),))


def test_a_next_hop_attribute_means_nothing_where_mp_reach_has_one() -> None:
    update = parse(body(f"{OTHERS} 40 03 04 00000000 {FD_REACH}"))
    assert update == Update(ATTRIBUTES, (Reach(HOP6, [FD]),))


def test_path_identifiers_of_the_families_that_have_them() -> None:
    path4 = session(add_path=frozenset({V4}))
    update = parse(body(f"{MANDATORY} {FD_REACH}", f"00000007 {PREFIX}", "00000008 00"), path4)
    assert update.reaches == (Reach(HOP6, [FD]), Reach(HOP4, [TEN], [7]))
    assert update.withdrawn == (Withdrawn([prefix_of("0.0.0.0/0")], [8]),)


@pytest.mark.parametrize(
    ("octets", "family"),
    [
        pytest.param("00000000", V4, id="v4"),
        pytest.param(body(unreach(V6)).hex(), V6, id="v6"),
        pytest.param(body(unreach(V4)).hex(), V4, id="v4 as others say it"),
    ],
)
def test_end_of_rib(octets: str, family: Family) -> None:
    assert parse(bytes.fromhex(octets)) == Update(end_of_rib=family)


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(body(f"{unreach(V6)} {OTHERS}"), id="other attributes"),
        pytest.param(body(unreach(V6), withdrawn="00"), id="withdrawn routes"),
        pytest.param(body(f"{unreach(V6)} {MANDATORY}", PREFIX), id="NLRI"),
        pytest.param(body(attribute(0x80, 15, "001946")), id="of another family"),
    ],
)
def test_an_empty_unreach_with_company_ends_nothing(octets: bytes) -> None:
    assert parse(octets).end_of_rib is None


def test_attributes_without_prefixes_say_nothing() -> None:
    assert parse(body(MANDATORY)) == Update()


# -- families that were not agreed on ----------------------------------------------------------------------------------


def test_other_families_are_passed_over_unread() -> None:
    evpn = attribute(0x80, 14, "0019 46 04 0a000001 00 ffffffffff")
    gone = attribute(0x80, 15, "0001 80 ffffffffff")
    update = parse(body(f"{evpn} {gone} {MANDATORY}", PREFIX))
    assert update.reaches == (Reach(HOP4, [TEN]),)
    assert update.faults == (
        "passed over: AFI 1 SAFI 128, which was not agreed on",
        "passed over: AFI 25 SAFI 70, which was not agreed on",
    )


def test_a_family_of_ours_that_this_session_is_not_about_is_passed_over() -> None:
    only6 = session(families=frozenset({V6}))
    update = parse(body(f"{MANDATORY} {FD_REACH}", PREFIX, "00"), only6)
    assert update.reaches == (Reach(HOP6, [FD]),)
    assert update.withdrawn == ()
    assert parse(b"\0\0\0\0", only6) == Update()
    only4 = session(families=frozenset({V4}))
    assert parse(body(f"{OTHERS} {FD_REACH}"), only4).reaches == ()


# -- treat as withdraw -------------------------------------------------------------------------------------------------


def test_everything_announced_is_withdrawn_and_what_was_withdrawn_stays_so() -> None:
    octets = body(f"{FD_REACH} 40 01 01 09 {AS_PATH} 40 03 04 0a000001 {unreach(V6, '00')}", PREFIX, "10 0a03")
    assert parse(octets) == Update(
        None,
        (),
        (
            Withdrawn([prefix_of("10.3.0.0/16")]),
            Withdrawn([prefix_of("::/0")]),
            Withdrawn([FD]),
            Withdrawn([TEN]),
        ),
        None,
        ("treated as withdraw: ORIGIN is 9",),
    )


def test_path_identifiers_go_along() -> None:
    update = parse(body(f"40 01 01 09 {AS_PATH}", f"00000007 {PREFIX}"), session(add_path=BOTH))
    assert update.withdrawn == (Withdrawn([TEN], [7]),)


@pytest.mark.parametrize(
    ("attributes", "nlri", "words"),
    [
        pytest.param(f"{AS_PATH} 40 03 04 0a000001", PREFIX, "ORIGIN missing"),
        pytest.param(f"{ORIGIN} 40 03 04 0a000001", PREFIX, "AS_PATH missing"),
        pytest.param("40 03 04 0a000001", PREFIX, "ORIGIN and AS_PATH missing"),
        pytest.param(f"{ORIGIN} {AS_PATH}", PREFIX, "NEXT_HOP missing"),
        pytest.param(f"{OTHERS} {FD_REACH}", PREFIX, "NEXT_HOP missing", id="another family's is no substitute"),
        pytest.param(FD_REACH, "", "ORIGIN and AS_PATH missing"),
        pytest.param(f"{OTHERS} 40 03 04 00000001", PREFIX, "NEXT_HOP is of the unspecified network"),
        pytest.param(f"{OTHERS} 40 03 04 7f000001", PREFIX, "NEXT_HOP is a loopback address"),
        pytest.param(f"{OTHERS} 40 03 04 e0000001", PREFIX, "NEXT_HOP is a multicast address"),
        pytest.param(f"{OTHERS} 40 03 04 ffffffff", PREFIX, "NEXT_HOP is the broadcast address"),
        pytest.param(
            f"{OTHERS} {reach(V6, '00' * 16, '00')}", "", "MP_REACH_NLRI's next hop is the unspecified address"
        ),
        pytest.param(
            f"{OTHERS} {reach(V6, '00' * 15 + '01', '00')}", "", "MP_REACH_NLRI's next hop is the loopback address"
        ),
        pytest.param(
            f"{OTHERS} {reach(V6, 'ff02' + '00' * 14, '00')}", "", "MP_REACH_NLRI's next hop is a multicast address"
        ),
    ],
)
def test_what_is_missing_or_nobody(attributes: str, nlri: str, words: str) -> None:
    update = parse(body(attributes, nlri))
    assert update.faults == (f"treated as withdraw: {words}",)
    assert update.reaches == ()
    assert update.withdrawn


def test_an_address_of_the_reserved_range_can_be_a_next_hop() -> None:
    assert parse(body(f"{OTHERS} 40 03 04 f0000001", PREFIX)).reaches == (Reach(NextHop(b"\xf0\0\0\1"), [TEN]),)


def test_local_pref_may_be_missing() -> None:
    update = parse(body(f"{ORIGIN} {AS_PATH} 40 03 04 0a000001", PREFIX))
    assert update.attributes is not None
    assert update.attributes.local_pref is None


def test_a_discarded_attribute_costs_nothing_else() -> None:
    update = parse(body(f"{MANDATORY} c0 07 03 000000", PREFIX))
    assert update == Update(
        ATTRIBUTES, (Reach(HOP4, [TEN]),), (), None, ("attribute discarded: AGGREGATOR: length 3, not 8",)
    )


# -- session reset -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("octets", "subcode", "words"),
    [
        pytest.param(b"", 1, "the withdrawn routes end behind the message"),
        pytest.param(b"\0\0\0", 1, "the withdrawn routes end behind the message"),
        pytest.param(bytes.fromhex("0010 0000 180a0000"), 1, "the withdrawn routes end behind the message"),
        pytest.param(bytes.fromhex("0000 0040 40010100"), 1, "the path attributes end behind the message"),
        pytest.param(body(MANDATORY, "21 0a00000000"), 10, "NLRI: a prefix of 33 bits, above 32"),
        pytest.param(body(withdrawn="18 0a"), 10, "withdrawn routes: the last prefix lacks 2 octets"),
        pytest.param(body(attribute(0x80, 15, "0002")), 9, "MP_UNREACH_NLRI: 2 octets, below 3"),
        pytest.param(body(unreach(V6, "40 fd")), 9, "MP_UNREACH_NLRI: the last prefix lacks 7 octets"),
        pytest.param(body(attribute(0x80, 14, "00020104")), 9, "MP_REACH_NLRI: 4 octets, below 5"),
        pytest.param(
            body(attribute(0x80, 14, "0002 01 10 0000")),
            9,
            "MP_REACH_NLRI: a next hop of 16 octets, more than there are",
        ),
        pytest.param(body(f"{OTHERS} {reach(V6, '0a000001', '00')}"), 9, "MP_REACH_NLRI: a next hop of 4 octets"),
        pytest.param(body(f"{OTHERS} {reach(V4, '0a00', '00')}"), 9, "MP_REACH_NLRI: a next hop of 2 octets"),
        pytest.param(body(f"{OTHERS} {reach(V6, '', '00')}"), 9, "MP_REACH_NLRI: a next hop of 0 octets"),
        pytest.param(
            body(f"{OTHERS} {reach(V6, HOP6.address.hex(), '81' + '00' * 17)}"),
            9,
            "MP_REACH_NLRI: a prefix of 129 bits, above 128",
        ),
        pytest.param(
            body(f"{OTHERS} {reach(V6, HOP6.address.hex(), '00', flags=0xD0)}"), 9, "MP_REACH_NLRI has flags 0xd0"
        ),
        pytest.param(body(f"{FD_REACH} {FD_REACH}"), 1, "a second MP_REACH_NLRI"),
        pytest.param(body("40 63 00", PREFIX), 2, "well-known attribute 99 is unknown here"),
        pytest.param(
            body("40 01 02 0000"), 5, "ORIGIN: length 2, not 1, in a message that announces nothing", id="RFC 7606 5.2"
        ),
        pytest.param(
            body(f"40 01 01 09 {unreach(V6, '00')}", withdrawn="00"),
            6,
            "ORIGIN is 9, in a message that announces nothing",
            id="RFC 7606 5.2, withdrawing",
        ),
        pytest.param(
            body(f"{OTHERS} c0 08 00 {reach(V6, HOP6.address.hex(), '')}"),
            9,
            "COMMUNITIES: length 0, no multiple of 4, in a message that announces nothing",
            id="RFC 7606 5.2, an empty MP_REACH_NLRI",
        ),
    ],
)
def test_the_end_of_a_session(octets: bytes, subcode: int, words: str) -> None:
    with pytest.raises(Fault) as raised:
        parse(octets)
    assert (raised.value.code, raised.value.subcode, raised.value.words) == (3, subcode, words)


def test_a_message_that_announces_nothing_may_lose_an_attribute() -> None:
    update = parse(body(f"{ORIGIN} c0 07 00", withdrawn="00"))
    assert update.withdrawn == (Withdrawn([prefix_of("0.0.0.0/0")]),)
    assert update.faults == ("attribute discarded: AGGREGATOR: length 0, not 8",)


def test_the_notification_carries_the_attribute_with_the_prefixes() -> None:
    with pytest.raises(Fault) as raised:
        parse(body(unreach(V6, "40 fd")))
    assert raised.value.data == bytes.fromhex("800f 05 0002 01 40 fd")


def test_the_same_octets_mean_different_things_in_different_sessions() -> None:
    octets = body(MANDATORY, PREFIX)
    assert parse(octets).faults == ()
    assert parse(octets, session(internal=False)).faults == (
        "attribute discarded: LOCAL_PREF from an external neighbour",
    )
    assert parse(octets, session(four_octet_as=False)).faults == ("treated as withdraw: AS_PATH: AS number 0",)
    assert parse(octets).faults == ()


# -- what we send ------------------------------------------------------------------------------------------------------


def read_back(messages: Iterable[bytes], negotiated: Negotiated) -> list[Update]:
    updates = []
    for message in messages:
        assert message[:16] == b"\xff" * 16
        assert int.from_bytes(message[16:18]) == len(message) <= negotiated.message_max
        assert message[18] == 2
        updates.append(parse(message[19:], negotiated))
    return updates


def many(family: Family, count: int) -> list[Prefix]:
    if family is V4:
        return [Prefix(bytes((10, number >> 8, number & 255, 0)), 24) for number in range(count)]
    return [Prefix(b"\xfd\0" + number.to_bytes(4) + bytes(10), 48) for number in range(count)]


def test_an_announcement_octet_by_octet() -> None:
    (message,) = encode_reach(ATTRIBUTES, HOP4, [TEN], session())
    assert message == bytes.fromhex(f"{'ff' * 16} 0036 02 0000 001b") + bytes.fromhex(MANDATORY + PREFIX)


def test_mp_reach_is_the_first_attribute() -> None:
    (message,) = encode_reach(ATTRIBUTES, HOP6, [FD], session())
    assert message[23:] == bytes.fromhex(f"90 0e 001e 0002 01 10 {HOP6.address.hex()} 00 40 fd00000100000000 {OTHERS}")


@pytest.mark.parametrize("message_max", [4096, 65535])
@pytest.mark.parametrize(
    ("family", "next_hop"),
    [
        pytest.param(V4, HOP4, id="v4"),
        pytest.param(V6, HOP6, id="v6"),
        pytest.param(V6, NextHop(HOP6.address, LINK_LOCAL), id="v6 with link-local"),
        pytest.param(V4, HOP6, id="v4 over v6"),
    ],
)
def test_many_prefixes_go_in_few_messages(family: Family, next_hop: NextHop, message_max: int) -> None:
    negotiated = session(message_max=message_max)
    prefixes = many(family, 10_000)
    updates = read_back(encode_reach(ATTRIBUTES, next_hop, prefixes, negotiated), negotiated)
    assert [prefix for update in updates for prefix in update.reaches[0].prefixes] == prefixes
    assert {update.reaches[0].next_hop for update in updates} == {next_hop}
    assert all(update.attributes == ATTRIBUTES for update in updates)
    octets = sum(1 + (prefix.length + 7) // 8 for prefix in prefixes)
    assert len(updates) <= octets // (message_max - 150) + 1


@pytest.mark.parametrize("message_max", [4096, 65535])
def test_many_prefixes_are_withdrawn_in_few_messages(message_max: int) -> None:
    negotiated = session(message_max=message_max)
    prefixes = [*many(V4, 5000), *many(V6, 5000)]
    updates = read_back(encode_withdraw(prefixes, negotiated), negotiated)
    assert [prefix for update in updates for prefix in update.withdrawn[0].prefixes] == prefixes
    assert len(updates) <= 5000 * (4 + 7) // (message_max - 50) + 2


def test_nothing_to_say_is_no_message() -> None:
    assert encode_reach(ATTRIBUTES, HOP4, [], session()) == []
    assert encode_withdraw([], session()) == []


@pytest.mark.parametrize(("hop", "prefix"), [(HOP4, TEN), (HOP6, FD)])
@pytest.mark.parametrize("octets", [4000, 4070, 65000, 70_000])
def test_attributes_that_leave_no_room_lead_to_a_withdrawal(hop: NextHop, prefix: Prefix, octets: int) -> None:
    attributes = Attributes(others=(Unknown(0xE0, 99, bytes(octets)),))
    (update,) = read_back(encode_reach(attributes, hop, [prefix], session()), session())
    if octets == 4000:
        assert update.reaches == (Reach(hop, [prefix]),)
    else:
        assert update == Update(withdrawn=(Withdrawn([prefix]),))


@pytest.mark.parametrize("family", Family)
def test_our_end_of_rib_is_one(family: Family) -> None:
    assert read_back([end_of_rib(family)], session()) == [Update(end_of_rib=family)]
