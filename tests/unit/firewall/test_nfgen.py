"""Raw nftables messages: what this kernel answered in a network namespace of its own."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube_router.core.nlmsg import Malformed
from kube_router.plugins.firewall.nfgen import (
    Count,
    Stamp,
    get_counters,
    get_generation,
    get_stamp,
    is_about_us,
    parse_counters,
    parse_generation,
    parse_stamp,
)

HEADER = "01000002"  # nfgenmsg: inet, version 0, the generation's low bits
OUR_NAME = "190001006b7562652d726f757465722d6669726577616c6c00000000"
GENERATION = "0000000208000100000000020800020000001c5b0b000300707974686f6e0000"
STAMP = (
    f"{HEADER}{OUR_NAME}0a0002007374616d70000000"
    "300003002c0001000c000100060001000001000019000600001332203835383037653065626235656136333000000000"
)
NO_ELEMENT = f"{HEADER}{OUR_NAME}0a0002007374616d7000000004000300"
DENIED_EGRESS = (
    f"{HEADER}{OUR_NAME}1200020064656e6965645f6567726573730000000800030000000001"
    "0c000600000000000000001108000500000000011c0004000c0001000000000000000540"
    "0c0002000000000000000010"
)


def sent(*texts: str) -> list[memoryview]:
    return [memoryview(bytes.fromhex(text)) for text in texts]


def test_requests_are_these_bytes() -> None:
    head = "0000000000000000"  # sequence number and port are the socket's to fill in
    assert get_generation().hex() == f"14000000100a0100{head}00000000"
    assert get_stamp().hex() == f"3c0000000d0a0100{head}01000000{OUR_NAME}0a0002007374616d70000000"
    assert get_counters().hex() == f"38000000130a0100{head}01000000{OUR_NAME}0800030000000001"


def test_the_generation_is_read() -> None:
    assert parse_generation(sent(GENERATION)[0]) == 2


def test_an_answer_without_a_generation_is_an_error_of_its_own() -> None:
    with pytest.raises(Malformed):
        parse_generation(sent("00000002")[0])


def test_the_stamp_is_read() -> None:
    assert parse_stamp(sent(STAMP, NO_ELEMENT)) == Stamp(2, 0x85807E0EBB5EA630)


def test_a_set_without_an_element_holds_no_stamp() -> None:
    assert parse_stamp(sent(NO_ELEMENT)) is None
    assert parse_stamp([]) is None


@pytest.mark.parametrize(
    "comment", ["", "2", "2 ", " 85807e0ebb5ea630", "two 85807e0ebb5ea630", "2 nothing", "\xff\xfe"]
)
def test_a_comment_that_we_never_write_is_no_stamp(comment: str) -> None:
    text = comment.encode("latin-1")
    recorded, length = bytes.fromhex(STAMP), len("2 85807e0ebb5ea630")
    at = recorded.index(b"2 85807")
    assert parse_stamp([memoryview(recorded[:at] + text.ljust(length, b"\0") + recorded[at + length :])]) is None


def test_counters_are_read_by_name() -> None:
    assert dict(parse_counters(sent(DENIED_EGRESS))) == {"denied_egress": Count(16, 1344)}


def test_counters_of_another_table_are_left_out() -> None:
    others = DENIED_EGRESS.replace(b"kube-router-firewall".hex(), b"kube-router-forewell".hex())
    assert dict(parse_counters(sent(others))) == {}


@pytest.mark.parametrize(
    ("body", "is_ours"),
    [
        (f"{HEADER}{OUR_NAME}", True),
        (STAMP, True),
        (f"02{HEADER[2:]}{OUR_NAME}", False),  # the same name in family ip
        (f"{HEADER}{OUR_NAME}".replace("77616c6c", "77616c6d"), False),
        (HEADER, False),
        ("", False),
        ("01", False),
    ],
)
def test_a_notification_is_about_us_if_its_first_name_is_our_table_s(body: str, is_ours: bool) -> None:
    assert is_about_us(sent(body)[0]) is is_ours


_recorded = [bytes.fromhex(text) for text in (GENERATION, STAMP, NO_ELEMENT, DENIED_EGRESS)]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Return a recorded message of which a piece is another or gone."""
    body = draw(st.sampled_from(_recorded))
    at = draw(st.integers(0, len(body)))
    return body[:at] + draw(st.binary(max_size=8)) + body[at + draw(st.integers(0, 8)) :]


@given(st.binary() | damaged())
def test_no_bytes_raise_anything_but_an_error_of_the_kernel_s(body: bytes) -> None:
    view = memoryview(body)
    with contextlib.suppress(Malformed):
        parse_generation(view)
    with contextlib.suppress(Malformed):
        parse_stamp([view])
    with contextlib.suppress(Malformed):
        list(parse_counters([view]))
    with contextlib.suppress(Malformed):
        is_about_us(view)
