"""Our nftables table as the kernel dumps it."""

import pytest
from harness.netns import run_in_new
from hypothesis import given
from hypothesis import strategies as st

from kube_router.core import nfnl, nlmsg
from kube_router.core.nft import Nft
from kube_router.plugins.proxy import nfset, observe, render
from kube_router.plugins.proxy.model import Masquerade, ServiceId

WEB, DNS6 = ServiceId("TCP", "10.96.0.10", 80), ServiceId("UDP", "fd00:96::a", 53)


def element(key: bytes) -> bytes:
    return nlmsg.nested(nfnl.NFTA_LIST_ELEM, nlmsg.nested(nfset.NFTA_SET_ELEM_KEY, nlmsg.attr(1, key)))


def test_elements_of_both_families_are_read_and_others_are_not_ours() -> None:
    keys = (
        bytes([6, 0, 0, 0, 10, 96, 0, 10, 0, 80, 0, 0]),
        bytes([17, 0, 0, 0, 0xFD, 0, 0, 0x96, *[0] * 11, 0x0A, 0, 53, 0, 0]),
        bytes([1, 0, 0, 0, 10, 96, 0, 10, 0, 80, 0, 0]),
        bytes([6, 0, 0, 0]),
    )
    body = bytes(4) + nlmsg.nested(nfnl.NFTA_SET_ELEM_LIST_ELEMENTS, *map(element, keys))
    assert nfset.parse_elements([memoryview(body)]) == {WEB, DNS6}


def test_a_list_of_nothing_but_keys_is_read_at_once_with_the_same_result() -> None:
    keys = [bytes([6, 0, 0, 0, 10, 96, 0, n, 0, 80, 0, 0]) for n in range(5)]
    plain = b"".join(nlmsg.attr(1, nlmsg.attr(1, nlmsg.attr(1, key))) for key in keys)
    expected = {ServiceId("TCP", f"10.96.0.{n}", 80) for n in range(5)}
    for elements in (plain, b"".join(map(element, keys)), plain + element(keys[0])):
        body = bytes(4) + nlmsg.nested(nfnl.NFTA_SET_ELEM_LIST_ELEMENTS, elements)
        assert nfset.parse_elements([memoryview(body)]) == expected


def test_comments_come_in_order_and_a_rule_without_one_counts() -> None:
    def rule(userdata: bytes, table: str = "t") -> memoryview:
        attributes = nlmsg.text(1, table) + nlmsg.text(2, "c") + (nlmsg.attr(7, userdata) if userdata else b"")
        return memoryview(bytes([1, 0, 0, 0]) + attributes)

    rules = [rule(b"\x01\x01x\x00\x04a 1\0"), rule(b""), rule(b"\x00\x04b 1\0", "other"), rule(b"\x00\xffab")]
    assert nfset.parse_comments(rules, "t", "c") == ["a 1", "", "ab"]


@given(st.binary(min_size=4, max_size=80))
def test_no_bytes_are_a_crash(data: bytes) -> None:
    body = memoryview(bytes([1, 0, 0, 0]) + nlmsg.nested(nfnl.NFTA_SET_ELEM_LIST_ELEMENTS, data))
    rule = memoryview(bytes([1, 0, 0, 0]) + nlmsg.text(1, "t") + nlmsg.text(2, "c") + nlmsg.attr(7, data))
    try:
        nfset.parse_comments([rule], "t", "c")
        nfset.parse_elements([body])
    except nlmsg.Malformed:
        return


@pytest.mark.root
def test_what_nft_wrote_is_read_back_from_the_kernel() -> None:
    def body() -> None:
        assert observe.table() == ("", set())
        nft = Nft()
        many = {ServiceId("TCP", f"10.96.{n >> 8}.{n & 255}", 80) for n in range(3000)}
        nft.run(render.write_table(Masquerade(), many | {DNS6}))
        assert observe.table() == (render.stamp(Masquerade()), many | {DNS6})
        nft.run(render.disown(many | {WEB}))
        nft.run(render.own((WEB, DNS6)))
        assert observe.table() == (render.stamp(Masquerade()), {WEB, DNS6})

    run_in_new(body)
