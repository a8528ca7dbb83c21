"""Valid BGP messages, ways of making them wrong, and what holds of whatever the codec says to the result.

Shared by the fuzz of the gate and the long one of benchmarks/. A mutant is made of one valid message, most often with
the lengths around the change put right again: else nearly all would die of the first length field.
"""

import random
from collections.abc import Callable

from bgp_bytes import BOTH, session

from kube_router.plugins.routing.bgp.caps import Capabilities
from kube_router.plugins.routing.bgp.fault import Fault, communication, hard_reset, notification, parse_notification
from kube_router.plugins.routing.bgp.model import (
    Attributes,
    Family,
    GracefulRestart,
    Negotiated,
    NextHop,
    Origin,
    Prefix,
    Segment,
    SegmentType,
    Unknown,
    prefix_of,
)
from kube_router.plugins.routing.bgp.update import Update, UpdateParser, encode_reach, encode_withdraw, end_of_rib
from kube_router.plugins.routing.bgp.wire import (
    KEEPALIVE,
    Framer,
    MessageType,
    Open,
    encode_open,
    parse_open,
    parse_route_refresh,
    route_refresh,
)

HEADER = 19
SESSIONS = (
    session(),
    session(internal=False),
    session(four_octet_as=False),
    session(internal=False, four_octet_as=False, families=frozenset({Family.IPV4})),
    session(add_path=BOTH),
    session(families=frozenset({Family.IPV6})),
    session(message_max=65535),
)
RICH = Attributes(
    origin=Origin.EGP,
    as_path=(Segment(SegmentType.AS_SEQUENCE, (65001, 4200000000)), Segment(SegmentType.AS_SET, (7, 8))),
    med=5,
    local_pref=100,
    atomic_aggregate=True,
    aggregator=(4200000000, b"\x0a\0\0\1"),
    communities=(0x00640001, 0xFFFFFF01),
    extended_communities=(bytes.fromhex("0002fde900000001"),),
    large_communities=((1, 2, 3), (4, 5, 6)),
    originator_id=0x0A000001,
    cluster_list=(1, 2),
    others=(Unknown(0xE0, 20, b"x" * 300), Unknown(0xE0, 99, b"abc")),
)
PLAIN = Attributes(as_path=(Segment(SegmentType.AS_SEQUENCE, (65001,)),))
HOP4 = NextHop(b"\x0a\0\0\1")
HOP6 = NextHop(bytes.fromhex("fd000000000000000000000000000001"), bytes.fromhex("fe800000000000000000000000000001"))
FOUR = [prefix_of(text) for text in ("10.0.0.0/8", "10.128.0.0/9", "10.1.2.0/24", "1.2.3.4/32", "0.0.0.0/0")]
SIX = [prefix_of(text) for text in ("2000::/3", "fd00:1::/64", "2001:db8::1/128", "::/0")]
EVERYTHING = Capabilities(
    families=BOTH,
    four_octet_asn=4200000000,
    add_path={Family.IPV4: 3, Family.IPV6: 1},
    extended_next_hop=frozenset({Family.IPV4}),
    graceful_restart=GracefulRestart(notification=True, time_s=120, families={Family.IPV4: True}),
    route_refresh=True,
    enhanced_refresh=True,
    extended_message=True,
    unknown=((71, b""), (73, b"\x02r1\0")),
)


def valid_messages() -> list[bytes]:
    """Return one message, or several, of each kind a peer sends."""
    wide, narrow = session(), session(four_octet_as=False)
    updates = [
        *encode_reach(RICH, HOP4, FOUR, wide),
        *encode_reach(RICH, HOP6, SIX, wide),
        *encode_reach(RICH, HOP6, FOUR, wide),
        *encode_reach(RICH, HOP4, FOUR, narrow),
        *encode_reach(PLAIN, HOP4, FOUR[:1], wide),
        *encode_reach(PLAIN, HOP6, SIX[:1], wide),
        *encode_withdraw([*FOUR, *SIX], wide),
    ]
    opens = [
        Open(4, 65001, 90, 1, Capabilities()),
        Open(4, 4200000000, 0, 1, EVERYTHING),
        Open(4, 65001, 3, 1, Capabilities(unknown=((99, bytes(250)), (98, bytes(250))))),
    ]
    return [
        *updates,
        mixed(updates[0], updates[1]),
        *(end_of_rib(family) for family in Family),
        *(encode_open(one) for one in opens),
        notification(6, 2, communication("maintenance")),
        hard_reset(6, 3),
        *(route_refresh(family, subtype) for family in Family for subtype in (0, 1, 2)),
        KEEPALIVE,
    ]


def seeds() -> list[bytes]:
    """Return valid messages to be made wrong: UPDATEs and OPENs more often than what has little in it."""
    valid = valid_messages()
    return [*valid, *(one for one in valid for _ in range(len(one) // 60) if one[HEADER - 1] in (1, 2))]


def mixed(four: bytes, six: bytes) -> bytes:
    """Return an UPDATE that announces in both ways, and withdraws."""
    gone, run, nlri = split(four[HEADER:])
    reach = split(six[HEADER:])[1]
    unreach = bytes.fromhex("800f05 000201 0820")
    return whole(2, joined(b"\x08\x0b", reach[: 4 + int.from_bytes(reach[2:4])] + unreach + run + gone, nlri))


def whole(kind: int, body: bytes) -> bytes:
    return b"\xff" * 16 + min(HEADER + len(body), 65535).to_bytes(2) + bytes((kind,)) + body


def split(body: bytes) -> tuple[bytes, bytes, bytes]:
    """Return an UPDATE's withdrawn routes, attributes and NLRI, as far as its lengths mean anything."""
    at = 2 + int.from_bytes(body[:2])
    end = at + 2 + int.from_bytes(body[at : at + 2])
    return body[2:at], body[at + 2 : end], body[end:]


def joined(withdrawn: bytes, run: bytes, nlri: bytes) -> bytes:
    return len(withdrawn).to_bytes(2) + withdrawn + len(run).to_bytes(2) + run + nlri


# -- making them wrong -------------------------------------------------------------------------------------------------

INTERESTING = (0, 1, 2, 3, 4, 5, 0x0E, 0x0F, 0x10, 0x20, 0x40, 0x7F, 0x80, 0x90, 0xC0, 0xE0, 0xFF)


def flip(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes((data[at] ^ 1 << rng.randrange(8),)) + data[at + 1 :]


def put(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes((rng.choice(INTERESTING),)) + data[at + 1 :]


def nudge(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes(((data[at] + rng.choice((-1, 1))) & 255,)) + data[at + 1 :]


def cut(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + data[at + rng.randint(1, 8) :]


def truncate(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data))]


def insert(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.randint(1, 8)) + data[at:]


def repeat(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data))
    piece = data[at : at + rng.randint(1, 40)]
    return data[:at] + piece * rng.randint(2, 3) + data[at + len(piece) :]


CHANGES: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    flip, flip, put, put, nudge, cut, truncate, insert, repeat,
)  # fmt: skip


def change(rng: random.Random, data: bytes) -> bytes:
    return rng.choice(CHANGES)(rng, data) if data else rng.randbytes(rng.randint(0, 4))


def attributes_of(run: bytes) -> list[bytes]:
    """Return a run of attributes one by one; what is none at its end counts for one."""
    found: list[bytes] = []
    at = 0
    while at < len(run):
        if at + 4 > len(run):
            return [*found, run[at:]]
        size = 4 + int.from_bytes(run[at + 2 : at + 4]) if run[at] & 0x10 else 3 + run[at + 2]
        found.append(run[at : at + size])
        at += size
    return found


def change_attributes(rng: random.Random, run: bytes) -> bytes:
    """Return a run with one attribute wrong, its own length right again in most cases."""
    attributes = attributes_of(run)
    if not attributes:
        return change(rng, run)
    at = rng.randrange(len(attributes))
    one = attributes[at]
    head = 4 if one[0] & 0x10 else 3
    match rng.randrange(6):
        case 0:
            value = change(rng, one[head:])
            attributes[at] = one[:2] + len(value).to_bytes(head - 2) + value if len(value) < 256 else one
        case 1:
            attributes[at] = bytes((rng.choice(INTERESTING) & 0xEF | one[0] & 0x10,)) + one[1:]
        case 2:
            attributes[at] = one[:1] + bytes((rng.randrange(40),)) + one[2:]
        case 3:
            del attributes[at]
        case 4:
            attributes.insert(rng.randrange(len(attributes) + 1), one)
        case _:
            attributes[at] = change(rng, one)
    if rng.random() < 0.2:
        rng.shuffle(attributes)
    return b"".join(attributes)


def mutate(rng: random.Random, message: bytes) -> bytes:
    """Return a message that is wrong in one way or several, now and then in none."""
    if rng.random() < 0.08:
        return change(rng, message)
    kind, body = message[HEADER - 1], message[HEADER:]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        withdrawn, run, nlri = split(body) if kind == 2 else (b"", b"", b"")
        if not run or rng.random() < 0.15:
            body = change(rng, body)
            continue
        match rng.randrange(8):
            case 0:
                body = joined(change(rng, withdrawn), run, nlri)
            case 1:
                body = joined(withdrawn, run, change(rng, nlri))
            case 2:
                body = joined(withdrawn, change(rng, run), nlri)
            case _:
                body = joined(withdrawn, change_attributes(rng, run), nlri)
    if kind == 1 and len(body) > 10 and body[9] != 255 and rng.random() < 0.7:
        body = body[:9] + bytes((min(len(body) - 10, 255),)) + body[10:]
    return whole(kind, body)


# -- what holds of every answer ----------------------------------------------------------------------------------------


def verdict(octets: bytes, negotiated: Negotiated) -> str:
    """Return what the codec makes of a stream, after checking that its answers are whole. Raises nothing by itself."""
    try:
        messages = Framer(negotiated.message_max).feed(octets)
    except Fault as fault:
        return refused(fault, "header refused")
    if not messages:
        return "incomplete"
    kind, body = messages[0]
    try:
        return READERS[kind](body, negotiated)
    except Fault as fault:
        return refused(fault, f"{kind.name} ends the session")


def refused(fault: Fault, words: str) -> str:
    octets = fault.message
    assert len(octets) <= 4096
    assert Framer().feed(octets)[0][1][:2] == bytes((fault.code, fault.subcode))
    assert str(fault).isprintable()
    return words


def check_open(body: bytes, negotiated: Negotiated) -> str:
    its = parse_open(body)
    assert its.asn
    assert its.router_id
    assert its.hold_time_s not in (1, 2)
    assert parse_open(encode_open(its)[HEADER:]) == its
    return "OPEN accepted"


def check_notification(body: bytes, negotiated: Negotiated) -> str:
    words = parse_notification(body).words
    assert words.isprintable()
    assert len(words) < 400
    return "NOTIFICATION read"


def check_refresh(body: bytes, negotiated: Negotiated) -> str:
    parse_route_refresh(body)
    return "ROUTE-REFRESH read"


def check_update(body: bytes, negotiated: Negotiated) -> str:
    update = UpdateParser(negotiated).parse(body)
    for next_hop, prefixes, path_ids in update.reaches:
        assert prefixes
        assert len(next_hop.address) in (4, 16)
        assert len(next_hop.link_local) in (0, 16)
        check_prefixes(prefixes, path_ids, negotiated)
    for withdrawn in update.withdrawn:
        assert withdrawn.prefixes
        check_prefixes(*withdrawn, negotiated)
    assert (update.attributes is None) == (not update.reaches)
    assert all(fault.isprintable() for fault in update.faults)
    assert len(update.faults) <= 24
    check_sent_on(update, negotiated)
    if any(fault.startswith("treated as withdraw") for fault in update.faults):
        assert not update.reaches
        return "UPDATE treated as withdraw"
    return "UPDATE accepted, attributes discarded" if update.faults else "UPDATE accepted"


def check_prefixes(prefixes: list[Prefix], path_ids: list[int] | None, negotiated: Negotiated) -> None:
    families = {prefix.family for prefix in prefixes}
    assert len(families) == 1
    (family,) = families
    assert family in negotiated.families
    assert (path_ids is not None) == (family in negotiated.add_path_receive)
    assert path_ids is None or len(path_ids) == len(prefixes)
    for network, length in prefixes:
        bits = len(network) * 8
        assert bits in (32, 128)
        assert 0 <= length <= bits
        assert int.from_bytes(network) & ((1 << bits - length) - 1) == 0


def check_sent_on(update: Update, negotiated: Negotiated) -> None:
    """Assert that what was understood can be told to another, who understands the same."""
    plain = session(
        internal=negotiated.internal, four_octet_as=negotiated.four_octet_as, message_max=negotiated.message_max
    )
    for reach in update.reaches:
        assert update.attributes is not None
        assert all(0 < asn < 1 << 32 for segment in update.attributes.as_path for asn in segment.asns)
        told = encode_reach(update.attributes, reach.next_hop, reach.prefixes, plain)
        assert all(len(message) <= plain.message_max for message in told)
        heard = [UpdateParser(plain).parse(message[HEADER:]) for message in told]
        if heard[0].reaches:  # else the attributes have no room in a message with prefixes
            assert [prefix for one in heard for prefix in one.reaches[0].prefixes] == reach.prefixes
            assert {one.reaches[0].next_hop for one in heard} == {reach.next_hop}
            ordered = tuple(sorted(update.attributes.others, key=lambda other: other.type))
            assert heard[0].attributes is not None
            assert heard[0].attributes.others == ordered
            assert heard[0].attributes.as_path == update.attributes.as_path
            assert not heard[0].faults


READERS: dict[MessageType, Callable[[bytes, Negotiated], str]] = {
    MessageType.OPEN: check_open,
    MessageType.UPDATE: check_update,
    MessageType.NOTIFICATION: check_notification,
    MessageType.KEEPALIVE: lambda body, negotiated: "KEEPALIVE read",
    MessageType.ROUTE_REFRESH: check_refresh,
}
