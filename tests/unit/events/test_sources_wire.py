"""What an API server sends, cut into lines and read; anything else is refused in words, never with a crash."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from kube_router.events.sources import wire
from kube_router.events.sources.reflector import Broken, Expired, Refused


@given(
    lines=st.lists(st.binary(min_size=1, max_size=40).filter(lambda line: b"\n" not in line and line != b"\r")),
    cuts=st.lists(st.integers(1, 30)),
)
def test_lines_come_out_whole_whatever_the_chunks(lines: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    splitter = wire.LineSplitter(1 << 20)
    found: list[bytes] = []
    for cut in cuts:
        found += splitter.feed(stream[:cut])
        stream = stream[cut:]
    found += splitter.feed(stream)
    splitter.finish()
    assert found == lines


def test_empty_lines_are_no_lines() -> None:
    assert wire.LineSplitter(100).feed(b"\n\r\na\n\n") == [b"a"]


def test_a_rest_without_an_end_is_named() -> None:
    splitter = wire.LineSplitter(100)
    assert splitter.feed(b"whole\nhal") == [b"whole"]
    with pytest.raises(Broken, match="the watch ended within a line, after 3 bytes of it"):
        splitter.finish()


def test_a_line_has_a_bound() -> None:
    splitter = wire.LineSplitter(10)
    splitter.feed(b"12345")
    with pytest.raises(Broken, match="a line of a watch exceeds 10 bytes"):
        splitter.feed(b"678901")


def test_a_bookmark_says_whether_it_ends_a_streamed_list() -> None:
    assert wire.decode_bookmark(b'{"kind":"Pod","metadata":{"resourceVersion":"12","creationTimestamp":null}}') == (
        "12",
        False,
    )
    ending = b'{"metadata":{"resourceVersion":"12","annotations":{"k8s.io/initial-events-end":"true"}}}'
    assert wire.decode_bookmark(ending) == ("12", True)


def test_an_empty_list_may_have_null_items() -> None:
    assert wire.decode_page(b'{"metadata":{"resourceVersion":"5"},"items":null}') == wire.Page((), "5", "")


def test_a_status_in_the_stream_with_code_410_is_expired() -> None:
    told = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version: 1 (2)"}
    error = wire.refusal(0, json.dumps(told).encode())
    assert isinstance(error, Expired)
    assert str(error) == "the API server answered 410 Expired: too old resource version: 1 (2)"


def test_a_status_may_ask_to_wait() -> None:
    told = {"kind": "Status", "code": 429, "reason": "TooManyRequests", "details": {"retryAfterSeconds": 7}}
    error = wire.refusal(429, json.dumps(told).encode(), 3)
    assert isinstance(error, Refused)
    assert (error.status, error.retry_after_s) == (429, 7)


def test_a_foreign_text_is_cut_to_one_short_line() -> None:
    error = wire.refusal(502, b"<html>\n\n" + b"bad gateway " * 1000)
    assert len(str(error)) < 250
    assert "\n" not in str(error)


foreign = st.one_of(
    st.binary(max_size=200),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["type", "object", "metadata", "resourceVersion", "annotations", "items", "code", "name"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    ).map(lambda value: json.dumps(value).encode()),
)


@given(foreign)
def test_no_bytes_crash_the_readers(body: bytes) -> None:
    for read in (wire.decode_bookmark, wire.decode_page, wire.decode_uid):
        with contextlib.suppress(Broken):
            read(body)
    try:
        event = wire.decode_event(body)
    except Broken:
        return
    assert isinstance(event.type, str)
    assert isinstance(event.object, Raw)
    meta = wire.decode_meta(event.object)
    assert meta is None or meta.name
    assert isinstance(wire.refusal(0, bytes(event.object)), (Refused, Expired))


@given(foreign, st.integers(100, 599))
def test_every_refusal_has_words(body: bytes, code: int) -> None:
    error = wire.refusal(code, body)
    assert isinstance(error, Expired if code == 410 else (Refused, Expired))
    assert str(error).startswith(f"the API server answered {code}")
