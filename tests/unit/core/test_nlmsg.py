"""Netlink messages: what is packed is laid out as the kernel wants it, and what is read stays inside its bytes."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube_router.core import nlmsg


def test_a_message_carries_its_length_and_asks_for_something() -> None:
    message = nlmsg.message(0x22, nlmsg.NLM_F_CREATE, b"abcd", nlmsg.u32(7, 5))
    assert message == struct.pack("=IHHII", 28, 0x22, 0x401, 0, 0) + b"abcd" + struct.pack("=HHI", 8, 7, 5)


def test_values_are_padded_to_four_bytes_but_not_counted_so() -> None:
    assert nlmsg.text(3, "lo") == struct.pack("=HH", 7, 3) + b"lo\0\0"
    assert nlmsg.u16(1, 10) == struct.pack("=HHH", 6, 1, 10) + b"\0\0"
    assert nlmsg.be32(1, 10) == struct.pack("=HH", 8, 1) + b"\0\0\0\x0a"


def test_of_a_repeated_attribute_the_last_counts_and_values_gives_all() -> None:
    data = memoryview(nlmsg.u32(1, 5) + nlmsg.u32(2, 6) + nlmsg.u32(1, 7))
    assert {kind: nlmsg.number(value) for kind, value in nlmsg.attributes(data).items()} == {1: 7, 2: 6}
    assert [nlmsg.number(value) for value in nlmsg.values(data, 1)] == [5, 7]


@pytest.mark.parametrize("length", [0, 3, 9, 65535])
def test_a_length_that_leaves_the_data_is_an_error(length: int) -> None:
    data = memoryview(struct.pack("=HHI", length, 1, 5))
    with pytest.raises(nlmsg.Malformed):
        nlmsg.attributes(data)
    with pytest.raises(nlmsg.Malformed):
        nlmsg.values(data, 1)


@given(st.dictionaries(st.integers(0, 0x3FFF), st.binary(max_size=40)))
def test_attributes_survive_packing(values: dict[int, bytes]) -> None:
    packed = memoryview(b"".join(nlmsg.attr(kind, value) for kind, value in values.items()))
    assert {kind: bytes(value) for kind, value in nlmsg.attributes(packed).items()} == values


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_readers(data: bytes) -> None:
    view = memoryview(data)
    for read in (nlmsg.attributes, nlmsg.split, lambda v: nlmsg.values(v, 1), nlmsg.number):
        try:
            read(view)
        except nlmsg.Malformed:
            continue


@given(st.lists(st.tuples(st.integers(0, 65535), st.binary(max_size=30)), max_size=5))
def test_a_datagram_is_split_into_its_messages(messages: list[tuple[int, bytes]]) -> None:
    data = b"".join(
        nlmsg.message(kind, 0, body) + bytes(-len(body) % 4) for kind, body in messages
    )  # fmt: skip
    assert [(kind, bytes(body)) for kind, _, _, body in nlmsg.split(memoryview(data))] == messages


RUNS = st.lists(st.tuples(st.integers(0, 5), st.binary(max_size=9)), max_size=6)


@given(st.lists(RUNS, max_size=6))
def test_a_decoder_reads_what_walking_reads_whatever_it_has_seen_before(runs: list[list[tuple[int, bytes]]]) -> None:
    decode = nlmsg.Decoder(4, 1, 2, 3)
    for run in [*runs, *runs]:
        data = memoryview(b"head" + b"".join(nlmsg.attr(kind, value) for kind, value in run))
        found = nlmsg.attributes(data, 4)
        assert decode(data) == tuple(bytes(found[kind]) if kind in found else None for kind in (1, 2, 3))


@given(st.lists(st.binary(max_size=60), max_size=8))
def test_no_bytes_crash_a_decoder(messages: list[bytes]) -> None:
    decode = nlmsg.Decoder(4, 1, 2)
    for message in messages:
        try:
            decode(memoryview(message))
        except nlmsg.Malformed:
            continue
