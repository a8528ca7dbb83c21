"""Path attributes: what each says, and RFC 7606's verdict on each way in which it can be wrong."""

import pytest
from bgp_bytes import AS_PATH, LOCAL_PREF, ORIGIN, attribute, session

from kube_router.plugins.routing.bgp.attrs import BLOCK_MAX, Block, encode_attributes, parse_attributes
from kube_router.plugins.routing.bgp.fault import Fault
from kube_router.plugins.routing.bgp.model import Attributes, Origin, Segment, SegmentType, Unknown

SEQUENCE, SET = SegmentType.AS_SEQUENCE, SegmentType.AS_SET


def parse(attributes: str, *, four_octet_as: bool = True, internal: bool = True) -> Block:
    return parse_attributes(bytes.fromhex(attributes), four_octet_as, internal)


def sequence(*asns: int) -> tuple[Segment, ...]:
    return (Segment(SEQUENCE, asns),)


# -- what attributes say -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("octets", "attributes"),
    [
        pytest.param("40 01 01 02", Attributes(origin=Origin.INCOMPLETE), id="ORIGIN"),
        pytest.param("40 02 00", Attributes(), id="empty AS_PATH"),
        pytest.param("40 02 0a 02 02 0000fde9 fa56ea00", Attributes(as_path=sequence(65001, 4200000000)), id="AS_PATH"),
        pytest.param(
            "40 02 10 02 01 00000001 01 02 00000002 00000003",
            Attributes(as_path=(Segment(SEQUENCE, (1,)), Segment(SET, (2, 3)))),
            id="AS_SET",
        ),
        pytest.param("80 04 04 00000000", Attributes(med=0), id="a MED of 0 is a MED"),
        pytest.param("40 05 04 000000c8", Attributes(local_pref=200), id="LOCAL_PREF"),
        pytest.param("40 06 00", Attributes(atomic_aggregate=True), id="ATOMIC_AGGREGATE"),
        pytest.param("c0 07 08 fa56ea00 0a000001", Attributes(aggregator=(4200000000, b"\x0a\0\0\1"))),
        pytest.param("c0 08 08 ffffff01 00640001", Attributes(communities=(0xFFFFFF01, 0x00640001)), id="COMMUNITIES"),
        pytest.param("80 09 04 0a000001", Attributes(originator_id=0x0A000001), id="ORIGINATOR_ID"),
        pytest.param("80 0a 08 00000001 00000002", Attributes(cluster_list=(1, 2)), id="CLUSTER_LIST"),
        pytest.param(
            "c0 10 08 0002fde900000001", Attributes(extended_communities=(bytes.fromhex("0002fde900000001"),))
        ),
        pytest.param(
            "c0 20 24" + "000000010000000200000003" + "000000090000000900000009" + "000000010000000200000003",
            Attributes(large_communities=((1, 2, 3), (9, 9, 9))),
            id="a large community that is there twice counts once",
        ),
        pytest.param("c0 63 03 616263", Attributes(others=(Unknown(0xE0, 99, b"abc"),)), id="unknown, now partial"),
        pytest.param("80 63 03 616263", Attributes(), id="unknown that is not transitive is dropped"),
        pytest.param("d0 08 0004 00640001", Attributes(communities=(0x00640001,)), id="a short value in the long form"),
        pytest.param("4f 01 01 00", Attributes(), id="the lower flags are ignored"),
        pytest.param("60 01 01 00", Attributes(), id="the Partial bit is no error"),
    ],
)
def test_an_attribute_says_its_value(octets: str, attributes: Attributes) -> None:
    block = parse(octets)
    assert block.attributes == attributes
    assert not block.wrong
    assert not block.discarded


def test_what_belongs_to_one_message_is_taken_out() -> None:
    block = parse(f"{attribute(0x80, 14, 'aabb')} {ORIGIN} 40 03 04 0a000001 {attribute(0x80, 15, 'cc')}")
    assert (block.next_hop, block.reach, block.unreach) == (b"\x0a\0\0\1", b"\xaa\xbb", b"\xcc")
    assert not block.alone


def test_an_unreach_alone_is_known_as_such() -> None:
    assert parse(attribute(0x80, 15, "000201")).alone
    assert not parse(f"{attribute(0x80, 15, '000201')} {ORIGIN}").alone


def test_equal_octets_are_one_object_whatever_the_next_hop_and_the_prefixes() -> None:
    one = parse(f"{ORIGIN} {AS_PATH} 40 03 04 0a000001 {LOCAL_PREF}")
    other = parse(f"{attribute(0x80, 14, '0002')} {ORIGIN} {AS_PATH} {LOCAL_PREF}")
    assert one.attributes is other.attributes
    assert parse(ORIGIN, internal=False).attributes is not parse(ORIGIN, internal=True).attributes


def test_a_run_of_many_octets_is_not_remembered() -> None:
    long = attribute(0xD0, 99, "00" * BLOCK_MAX)
    assert parse(long).attributes is not parse(long).attributes
    assert parse(long).attributes == parse(long).attributes


def test_what_an_announcement_has_to_have_is_missed() -> None:
    assert parse("").missing == ("ORIGIN", "AS_PATH")
    assert parse(ORIGIN).missing == ("AS_PATH",)
    assert parse(f"{ORIGIN} {AS_PATH}").missing == ()


def test_a_wrong_attribute_is_not_missing_too() -> None:
    assert parse(f"40 01 01 09 {AS_PATH}").missing == ()


# -- RFC 7606, attribute by attribute ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("octets", "words"),
    [
        pytest.param("40 01 00", "ORIGIN: length 0, not 1"),
        pytest.param("40 01 02 0000", "ORIGIN: length 2, not 1"),
        pytest.param("40 01 01 03", "ORIGIN is 3"),
        pytest.param("c0 01 01 00", "ORIGIN has flags 0xc0"),
        pytest.param("00 01 01 00", "ORIGIN has flags 0x00"),
        pytest.param("40 02 01 02", "AS_PATH: one octet is left for a segment"),
        pytest.param("40 02 06 02 05 0000fde9", "AS_PATH: a segment of 5 AS numbers lacks 16 octets"),
        pytest.param("40 02 06 05 01 0000fde9", "AS_PATH: a segment is of type 5"),
        pytest.param("40 02 06 00 01 0000fde9", "AS_PATH: a segment is of type 0"),
        pytest.param("40 02 02 02 00", "AS_PATH: a segment is empty"),
        pytest.param("40 02 06 03 01 0000fde9", "AS_PATH: a segment is of type 3", id="confederation (RFC 5065)"),
        pytest.param("40 02 06 02 01 00000000", "AS_PATH: AS number 0", id="RFC 7607"),
        pytest.param("80 02 06 02 01 0000fde9", "AS_PATH has flags 0x80"),
        pytest.param("40 03 03 0a0000", "NEXT_HOP: length 3, not 4"),
        pytest.param("40 03 00", "NEXT_HOP: length 0, not 4"),
        pytest.param("c0 03 04 0a000001", "NEXT_HOP has flags 0xc0"),
        pytest.param("80 04 03 000000", "MULTI_EXIT_DISC: length 3, not 4"),
        pytest.param("c0 04 04 00000000", "MULTI_EXIT_DISC has flags 0xc0"),
        pytest.param("40 05 02 0000", "LOCAL_PREF: length 2, not 4"),
        pytest.param("40 05 05 0000000000", "LOCAL_PREF: length 5, not 4"),
        pytest.param("c0 05 04 00000064", "LOCAL_PREF has flags 0xc0"),
        pytest.param("c0 06 00", "ATOMIC_AGGREGATE has flags 0xc0", id="flags are worse than a length"),
        pytest.param("40 07 08 0000fde90a000001", "AGGREGATOR has flags 0x40"),
        pytest.param("c0 07 08 000000000a000001", "AGGREGATOR is of AS number 0", id="RFC 7607"),
        pytest.param("c0 08 00", "COMMUNITIES: length 0, no multiple of 4"),
        pytest.param("c0 08 03 000000", "COMMUNITIES: length 3, no multiple of 4"),
        pytest.param("80 08 04 00000000", "COMMUNITIES has flags 0x80"),
        pytest.param("80 09 03 000000", "ORIGINATOR_ID: length 3, not 4"),
        pytest.param("80 09 08 0000000000000000", "ORIGINATOR_ID: length 8, not 4"),
        pytest.param("c0 09 04 00000000", "ORIGINATOR_ID has flags 0xc0"),
        pytest.param("80 0a 00", "CLUSTER_LIST: length 0, no multiple of 4"),
        pytest.param("80 0a 05 0000000000", "CLUSTER_LIST: length 5, no multiple of 4"),
        pytest.param("40 0a 04 00000000", "CLUSTER_LIST has flags 0x40"),
        pytest.param("c0 10 00", "EXTENDED_COMMUNITIES: length 0, no multiple of 8"),
        pytest.param("c0 10 07 00000000000000", "EXTENDED_COMMUNITIES: length 7, no multiple of 8"),
        pytest.param("c0 20 00", "LARGE_COMMUNITY: length 0, no multiple of 12"),
        pytest.param("c0 20 0b 0000000000000000000000", "LARGE_COMMUNITY: length 11, no multiple of 12"),
        pytest.param("40 01 01 00 c0 08 40 00", "COMMUNITIES ends 63 octets behind the attributes", id="overrun"),
        pytest.param("40 01 01 00 c0", "1 octets are left for an attribute", id="one left"),
        pytest.param("40 01 01 00 c008", "2 octets are left for an attribute", id="two left"),
        pytest.param("40 01 01 00 d00800", "3 octets are left for an attribute", id="three left of four"),
    ],
)
def test_treated_as_withdraw(octets: str, words: str) -> None:
    block = parse(octets)
    assert [wrong.words for wrong in block.wrong] == [words]
    assert not block.discarded


@pytest.mark.parametrize(
    ("octets", "words"),
    [
        pytest.param("40 06 01 00", "ATOMIC_AGGREGATE: length 1, not 0"),
        pytest.param("c0 07 03 000000", "AGGREGATOR: length 3, not 8"),
        pytest.param(
            "c0 07 06 fde90a000001", "AGGREGATOR: length 6, not 8", id="a narrow AGGREGATOR in a wide session"
        ),
        pytest.param("c0 07 00", "AGGREGATOR: length 0, not 8"),
        pytest.param("40 05 04 00000064 40 05 04 000000c8", "a second LOCAL_PREF"),
        pytest.param("c0 63 01 61 c0 63 01 62", "a second attribute 99"),
        pytest.param("40 03 04 0a000001 40 03 04 0a000002", "a second NEXT_HOP"),
        pytest.param(
            "c0 11 06 02 01 0000fde9", "AS4_PATH from a neighbour that knows AS numbers of four octets", id="RFC 6793 3"
        ),
        pytest.param("c0 12 01 00", "AS4_AGGREGATOR from a neighbour that knows AS numbers of four octets"),
    ],
)
def test_discarded(octets: str, words: str) -> None:
    block = parse(octets)
    assert block.discarded == (words,)
    assert not block.wrong


def test_of_two_attributes_of_a_kind_the_first_counts() -> None:
    assert parse("40 05 04 00000064 40 05 04 000000c8").attributes.local_pref == 100
    assert parse("40 03 04 0a000001 40 03 04 0a000002").next_hop == b"\x0a\0\0\1"


@pytest.mark.parametrize(
    ("octets", "what"),
    [
        pytest.param("40 05 04 00000064", "LOCAL_PREF"),
        pytest.param("c0 05 01 00", "LOCAL_PREF", id="LOCAL_PREF, wrong in every way"),
        pytest.param("80 09 04 0a000001", "ORIGINATOR_ID"),
        pytest.param("80 09 01 00", "ORIGINATOR_ID", id="ORIGINATOR_ID too short"),
        pytest.param("80 0a 04 00000001", "CLUSTER_LIST"),
        pytest.param("80 0a 00", "CLUSTER_LIST", id="empty CLUSTER_LIST"),
    ],
)
def test_what_only_internal_neighbours_may_say_is_discarded_of_others_unread(octets: str, what: str) -> None:
    block = parse(octets, internal=False)
    assert block.discarded == (f"{what} from an external neighbour",)
    assert not block.wrong
    assert block.attributes == Attributes()


@pytest.mark.parametrize(
    ("octets", "subcode", "words"),
    [
        pytest.param("40 63 01 00", 2, "well-known attribute 99 is unknown here", id="RFC 4271 6.3"),
        pytest.param("00 63 01 00", 2, "well-known attribute 99 is unknown here"),
        pytest.param("80 0e 01 00 80 0e 01 00", 1, "a second MP_REACH_NLRI", id="RFC 7606 3 g"),
        pytest.param("80 0f 01 00 80 0f 01 00", 1, "a second MP_UNREACH_NLRI"),
        pytest.param("c0 0e 01 00", 9, "MP_REACH_NLRI has flags 0xc0", id="RFC 7606 5.3"),
        pytest.param("40 0f 01 00", 9, "MP_UNREACH_NLRI has flags 0x40"),
    ],
)
def test_the_end_of_a_session(octets: str, subcode: int, words: str) -> None:
    with pytest.raises(Fault) as raised:
        parse(f"40 01 02 0000 {octets}")  # the milder fault before it does not hide it
    assert (raised.value.code, raised.value.subcode, raised.value.words) == (3, subcode, words)


def test_the_notification_of_an_unknown_attribute_carries_it() -> None:
    with pytest.raises(Fault) as raised:
        parse(f"{ORIGIN} 40 63 01 00")
    assert raised.value.data == bytes.fromhex("40630100")


def test_all_that_is_wrong_is_told_up_to_a_bound() -> None:
    assert [one.words for one in parse("40 01 01 09 40 05 01 00 80 04 00").wrong] == [
        "ORIGIN is 9",
        "LOCAL_PREF: length 1, not 4",
        "MULTI_EXIT_DISC: length 0, not 4",
    ]
    assert len(parse("c0 63 00 " * 100).discarded) == 8


# -- AS numbers of two octets (RFC 6793) -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("octets", "path"),
    [
        pytest.param("40 02 06 02 02 0001 5ba0", sequence(1, 23456), id="no AS4_PATH"),
        pytest.param("40 02 06 02 02 0001 5ba0 c0 11 06 02 01 fa56ea00", sequence(1, 4200000000), id="prepended since"),
        pytest.param("40 02 04 02 01 5ba0 c0 11 06 02 01 fa56ea00", sequence(4200000000), id="the same length"),
        pytest.param("40 02 04 02 01 0001 c0 11 0a 02 02 00000002 00000003", sequence(1), id="a longer AS4_PATH"),
        pytest.param(
            "40 02 0a 01 02 0007 0008 02 01 5ba0 c0 11 06 02 01 fa56ea00",
            (Segment(SET, (7, 8)), Segment(SEQUENCE, (4200000000,))),
            id="a set counts as one",
        ),
        pytest.param(
            "40 02 06 02 02 0001 5ba0 c0 11 0c 03 01 00000009 02 01 fa56ea00",
            sequence(1, 4200000000),
            id="a confederation in AS4_PATH is left out",
        ),
    ],
)
def test_a_narrow_path_is_widened(octets: str, path: tuple[Segment, ...]) -> None:
    block = parse(octets, four_octet_as=False)
    assert block.attributes.as_path == path
    assert not block.wrong
    assert not block.discarded


@pytest.mark.parametrize(
    ("octets", "words"),
    [
        pytest.param("c0 11 00", "AS4_PATH is empty"),
        pytest.param("c0 11 02 02 00", "AS4_PATH: a segment is empty"),
        pytest.param("c0 11 05 02 01 000001", "AS4_PATH: a segment of 1 AS numbers lacks 1 octets"),
        pytest.param("c0 11 06 07 01 00000001", "AS4_PATH: a segment is of type 7"),
        pytest.param("c0 12 06 fde90a000001", "AS4_AGGREGATOR: length 6, not 8"),
    ],
)
def test_a_malformed_wide_attribute_harms_only_itself(octets: str, words: str) -> None:
    block = parse(f"40 02 04 02 01 0001 {octets}", four_octet_as=False)
    assert block.discarded == (words,)
    assert not block.wrong
    assert block.attributes.as_path == sequence(1)


@pytest.mark.parametrize(
    ("octets", "words"),
    [
        pytest.param("c0 11 06 02 01 00000000", "AS4_PATH: AS number 0"),
        pytest.param("c0 12 08 00000000 0a000001", "AS4_AGGREGATOR is of AS number 0"),
    ],
)
def test_the_as_number_of_nobody_is_treated_as_withdraw_there_too(octets: str, words: str) -> None:
    block = parse(f"40 02 04 02 01 0001 {octets}", four_octet_as=False)
    assert [wrong.words for wrong in block.wrong] == [words]


@pytest.mark.parametrize(
    ("aggregator", "asn", "path"),
    [
        pytest.param("5ba0", 4200000001, sequence(1, 4200000000), id="passed on by a narrow speaker"),
        pytest.param("0007", 7, sequence(1, 23456), id="aggregated anew by a narrow speaker"),
    ],
)
def test_whose_aggregator_counts(aggregator: str, asn: int, path: tuple[Segment, ...]) -> None:
    block = parse(
        f"40 02 06 02 02 0001 5ba0 c0 07 06 {aggregator} 0a000001 c0 11 06 02 01 fa56ea00 c0 12 08 fa56ea01 0a000002",
        four_octet_as=False,
    )
    assert block.attributes.aggregator is not None
    assert block.attributes.aggregator[0] == asn
    assert block.attributes.as_path == path


# -- encoding ----------------------------------------------------------------------------------------------------------

EVERYTHING = Attributes(
    origin=Origin.EGP,
    as_path=(Segment(SEQUENCE, (65001, 4200000000)), Segment(SET, (7, 8))),
    med=5,
    local_pref=100,
    atomic_aggregate=True,
    aggregator=(4200000000, b"\x0a\0\0\1"),
    communities=(0x00640001, 0xFFFFFF01),
    extended_communities=(bytes.fromhex("0002fde900000001"),),
    large_communities=((1, 2, 3),),
    originator_id=0x0A000001,
    cluster_list=(1, 2),
    others=(Unknown(0xE0, 99, b"abc"), Unknown(0xE0, 20, b"x" * 300)),
)


@pytest.mark.parametrize("four_octet_as", [True, False])
def test_what_is_encoded_is_read_back(four_octet_as: bool) -> None:
    octets = encode_attributes(EVERYTHING, b"\x0a\0\0\1", session(four_octet_as=four_octet_as))
    block = parse(octets.hex(), four_octet_as=four_octet_as)
    others = tuple(sorted(EVERYTHING.others, key=lambda other: other.type))
    assert block.attributes == Attributes(
        **{name: getattr(EVERYTHING, name) for name in EVERYTHING.__slots__ if name != "others"}, others=others
    )
    assert block.next_hop == b"\x0a\0\0\1"
    assert not block.wrong
    assert not block.discarded


def test_attributes_go_out_in_the_order_of_their_types() -> None:
    octets = encode_attributes(EVERYTHING, b"\x0a\0\0\1", session(four_octet_as=False))
    kinds, at = [], 0
    while at < len(octets):
        kinds.append(octets[at + 1])
        long = octets[at] & 0x10
        at += 4 + int.from_bytes(octets[at + 2 : at + 4]) if long else 3 + octets[at + 2]
    assert kinds == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 16, 17, 18, 20, 32, 99]


def test_a_plain_announcement_octet_by_octet() -> None:
    attributes = Attributes(as_path=sequence(65001), local_pref=100)
    octets = encode_attributes(attributes, b"\x0a\0\0\1", session())
    assert octets == bytes.fromhex("40010100 400206 0201 0000fde9 400304 0a000001 400504 00000064")


def test_a_narrow_neighbour_is_told_the_wide_path_beside_only_where_it_is_wide() -> None:
    narrow = session(four_octet_as=False)
    assert encode_attributes(Attributes(as_path=sequence(7)), None, narrow).hex() == "40010100" + "40020402010007"
    assert encode_attributes(Attributes(as_path=sequence(7, 4200000000)), None, narrow) == bytes.fromhex(
        "40010100 400206 0202 0007 5ba0 c0110a 0202 00000007 fa56ea00"
    )


def test_a_path_of_more_than_255_is_told_in_several_segments() -> None:
    octets = encode_attributes(Attributes(as_path=sequence(*range(1, 301))), None, session())
    assert parse(octets.hex()).attributes.as_path == (
        Segment(SEQUENCE, tuple(range(1, 256))),
        Segment(SEQUENCE, tuple(range(256, 301))),
    )
