"""Whatever a peer sends: the codec answers with a whole value or with a Fault; what it sends itself is read back."""

import random
from contextlib import suppress
from dataclasses import replace

import pytest
from bgp_bytes import session
from bgp_mutants import READERS, SESSIONS, mutate, seeds, valid_messages, verdict
from bgp_strategies import announcements, asns, attributes, capabilities, prefixes
from hypothesis import given, settings
from hypothesis import strategies as st

from kube_router.plugins.routing.bgp.attrs import encode_attributes, parse_attributes
from kube_router.plugins.routing.bgp.caps import Capabilities
from kube_router.plugins.routing.bgp.fault import Fault
from kube_router.plugins.routing.bgp.model import Attributes, NextHop, Prefix
from kube_router.plugins.routing.bgp.update import UpdateParser, encode_reach, encode_withdraw
from kube_router.plugins.routing.bgp.wire import Framer, MessageType, Open, encode_open, parse_open

MUTANTS = 2000
VALID = valid_messages()

# -- what we send is read back -----------------------------------------------------------------------------------------


@given(attributes)
def test_attributes_survive_the_wire(its: Attributes) -> None:
    octets = encode_attributes(its, b"\x0a\0\0\1", session())
    block = parse_attributes(octets, True, True)
    assert (block.attributes, block.next_hop) == (its, b"\x0a\0\0\1")
    assert not block.wrong
    assert not block.discarded


@given(attributes)
def test_attributes_survive_a_narrow_neighbour(its: Attributes) -> None:
    octets = encode_attributes(its, None, session(four_octet_as=False))
    block = parse_attributes(octets, False, True)
    assert not block.wrong
    assert not block.discarded
    flat = [asn for segment in block.attributes.as_path for asn in segment.asns]
    assert flat == [asn for segment in its.as_path for asn in segment.asns]
    assert replace(block.attributes, as_path=()) == replace(its, as_path=())


@given(attributes, announcements, st.sampled_from((4096, 65535)))
def test_announcements_survive_the_wire(
    its: Attributes, announced: tuple[list[Prefix], NextHop], message_max: int
) -> None:
    wanted, next_hop = announced
    negotiated = session(message_max=message_max)
    updates = [
        UpdateParser(negotiated).parse(message[19:]) for message in encode_reach(its, next_hop, wanted, negotiated)
    ]
    assert [prefix for update in updates for reach in update.reaches for prefix in reach.prefixes] == wanted
    assert {reach.next_hop for update in updates for reach in update.reaches} == {next_hop}
    assert all(update.attributes == its and not update.faults and not update.withdrawn for update in updates)


@given(st.lists(prefixes, max_size=60))
def test_withdrawals_survive_the_wire(wanted: list[Prefix]) -> None:
    updates = [UpdateParser(session()).parse(message[19:]) for message in encode_withdraw(wanted, session())]
    gone = [prefix for update in updates for withdrawn in update.withdrawn for prefix in withdrawn.prefixes]
    assert gone == sorted(wanted, key=lambda prefix: prefix.family)


@given(capabilities, asns, st.integers(3, 65535) | st.just(0), st.integers(1, 0xFFFFFFFF), st.booleans())
def test_opens_survive_the_wire(
    its: Capabilities, asn: int, hold_time_s: int, router_id: int, four_octet_as: bool
) -> None:
    wide = four_octet_as or asn > 65535
    ours = Open(4, asn, hold_time_s, router_id, replace(its, four_octet_asn=asn if wide else None))
    ((kind, body),) = Framer().feed(encode_open(ours))
    assert kind is MessageType.OPEN
    assert parse_open(body) == ours


# -- what others send is understood or refused -------------------------------------------------------------------------


@pytest.mark.parametrize("octets", VALID, ids=range(len(VALID)))
def test_the_seeds_are_good(octets: bytes) -> None:
    assert "ends the session" not in verdict(octets, SESSIONS[0])


def test_mutants_are_understood_or_refused() -> None:
    rng, wrongable = random.Random(7606), seeds()
    counts: dict[str, int] = {}
    for _ in range(MUTANTS):
        octets = mutate(rng, rng.choice(wrongable))
        try:
            said = verdict(octets, rng.choice(SESSIONS))
        except Exception as error:
            raise AssertionError(f"{octets.hex()} made the codec raise {error!r}") from error
        counts[said] = counts.get(said, 0) + 1
    # Each kind of verdict is met many times: so the mutants go as deep as they should.
    assert min(counts.get(f"UPDATE {what}", 0) for what in ("accepted", "treated as withdraw", "ends the session")) > 50
    assert counts["UPDATE accepted, attributes discarded"] > 50
    assert counts["OPEN ends the session"] > 20


@given(st.randoms(use_true_random=False), st.sampled_from(VALID), st.sampled_from(range(len(SESSIONS))))
def test_mutants_that_can_be_made_smaller(rng: random.Random, octets: bytes, which: int) -> None:
    verdict(mutate(rng, octets), SESSIONS[which])


@settings(max_examples=300)
@given(st.binary(max_size=120), st.sampled_from(sorted(READERS)), st.sampled_from(range(len(SESSIONS))))
def test_any_bytes_as_a_body(body: bytes, kind: MessageType, which: int) -> None:
    with suppress(Fault):
        READERS[kind](body, SESSIONS[which])


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_any_stream(pieces: list[bytes]) -> None:
    framer = Framer()
    with suppress(Fault):
        for piece in pieces:
            framer.feed(piece)
