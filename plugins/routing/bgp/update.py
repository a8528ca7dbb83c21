"""UPDATE messages as bytes (pure).

An UPDATE withdraws prefixes and announces others that share one block of attributes. IPv4 prefixes with an IPv4 next
hop are in fields of their own, all others in the attributes MP_REACH_NLRI and MP_UNREACH_NLRI (RFC 4760), which are
read from wherever they are and written first of all (RFC 7606 section 5.1). Which prefixes carry path identifiers
(RFC 7911) and how wide AS numbers are is agreed per session: so is a parser, and so is whatever is encoded.

What is wrong either ends the session (Fault), or turns what was announced into withdrawn, or costs one attribute
(RFC 7606; attrtable.py has the table). A message that announces nothing cannot be treated as withdraw: there the same
error ends the session (section 5.2). Families that are not agreed on are passed over.

What prefixes and next hops are worth is not judged here, but for next hops that are nobody's.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from kube_router.plugins.routing.bgp.attrs import (
    BLOCK_MAX,
    Block,
    encode_attribute,
    encode_attributes,
    parse_attributes,
)
from kube_router.plugins.routing.bgp.attrtable import MP_REACH_NLRI, MP_UNREACH_NLRI, OPTIONAL, Wrong
from kube_router.plugins.routing.bgp.fault import HEADER_LENGTH, MARKER, Fault
from kube_router.plugins.routing.bgp.model import Attributes, Family, Negotiated, NextHop, Prefix
from kube_router.plugins.routing.bgp.nlri import Malformed, pack_prefixes, parse_prefixes

BLOCKS_MAX = 4096  # remembered runs of attributes of one session's kind
UNICAST = 1

_FAMILIES = {1: Family.IPV4, 2: Family.IPV6}
_UPDATE = b"\x02"
_END_OF_RIB = b"\x00\x00\x00\x00"
_remembering = lru_cache(maxsize=BLOCKS_MAX)(parse_attributes)


class Reach(NamedTuple):
    """Prefixes that are reachable through a next hop; path identifiers where ADD-PATH is negotiated."""

    next_hop: NextHop
    prefixes: list[Prefix]
    path_ids: list[int] | None = None


class Withdrawn(NamedTuple):
    """Prefixes that are not reachable any more."""

    prefixes: list[Prefix]
    path_ids: list[int] | None = None


class Update(NamedTuple):
    """An UPDATE. What is withdrawn goes before what is reached (RFC 4271 section 4.3): a prefix in both is reachable.

    ``attributes`` are there wherever something is reached. Treat-as-withdraw (RFC 7606) has turned what was reached
    into ``withdrawn``; ``faults`` say why, and which attributes were discarded.
    """

    attributes: Attributes | None = None
    reaches: tuple[Reach, ...] = ()
    withdrawn: tuple[Withdrawn, ...] = ()
    end_of_rib: Family | None = None
    faults: tuple[str, ...] = ()


# -- Reading -----------------------------------------------------------------------------------------------------------


class UpdateParser:
    """The parser of one session's UPDATEs."""

    def __init__(self, negotiated: Negotiated, our_asn: int) -> None:
        self._families = negotiated.families
        self._add_path = negotiated.add_path_receive
        self._four_octet_as = negotiated.four_octet_as
        self._internal = negotiated.internal

    def parse(self, body: bytes) -> Update:
        """Return what an UPDATE says. Fault 3/x where it ends the session."""
        if body == _END_OF_RIB:
            return Update(end_of_rib=Family.IPV4 if Family.IPV4 in self._families else None)
        size = len(body)
        withdrawn_end = 2 + int.from_bytes(body[:2])
        attributes_at = withdrawn_end + 2
        if size < attributes_at:
            raise Fault(3, 1, "the withdrawn routes end behind the message")
        nlri_at = attributes_at + int.from_bytes(body[withdrawn_end:attributes_at])
        if size < nlri_at:
            raise Fault(3, 1, "the path attributes end behind the message")
        run = body[attributes_at:nlri_at]
        # A run without IPv4 prefixes behind it most likely has other prefixes in it, and so will never be met again.
        parse = _remembering if size > nlri_at and len(run) <= BLOCK_MAX else parse_attributes
        block = parse(run, four_octet_as=self._four_octet_as, internal=self._internal)
        message = _Message(self._families, self._add_path, block)
        message.read(body[2:withdrawn_end], body[nlri_at:])
        return message.update()


class _Message:
    """What one UPDATE holds, while it is read."""

    def __init__(self, families: frozenset[Family], add_path: frozenset[Family], block: Block) -> None:
        self._families = families
        self._add_path = add_path
        self._block = block
        self._reaches: list[Reach] = []
        self._withdrawn: list[Withdrawn] = []
        self._announces = False  # also of families that are passed over
        self._end_of_rib: Family | None = None
        self._wrong = block.wrong
        self._passed_over: tuple[str, ...] = ()

    def read(self, withdrawn: bytes, nlri: bytes) -> None:
        """Read the message's prefixes wherever they are. Fault where their bytes are none."""
        block = self._block
        if withdrawn:
            prefixes, path_ids = self._ipv4(withdrawn, "withdrawn routes")
            self._withdraw(Family.IPV4, prefixes, path_ids)
        if block.unreach is not None:
            self._read_unreach(block.unreach, empty=block.alone and not withdrawn and not nlri)
        if block.reach is not None:
            self._read_reach(block.reach)
        if nlri:
            self._announces = True
            prefixes, path_ids = self._ipv4(nlri, "NLRI")
            self._reach(Family.IPV4, self._next_hop(), prefixes, path_ids)

    def update(self) -> Update:
        """Return the message, its errors weighed."""
        block, reaches, withdrawn, wrong = self._block, self._reaches, self._withdrawn, self._wrong
        if self._announces and block.missing:
            wrong = (*wrong, Wrong(3, f"{' and '.join(block.missing)} missing"))
        faults = self._passed_over
        if block.discarded:
            faults = (*faults, *(f"attribute discarded: {words}" for words in block.discarded))
        if wrong:
            if not self._announces:
                raise Fault(3, wrong[0].subcode, f"{wrong[0].words}, in a message that announces nothing")
            faults = (*(f"treated as withdraw: {its.words}" for its in wrong), *faults)
            withdrawn = [*withdrawn, *(Withdrawn(reach.prefixes, reach.path_ids) for reach in reaches)]
            reaches = []
        attributes = block.attributes if reaches else None
        return Update(attributes, tuple(reaches), tuple(withdrawn), self._end_of_rib, faults)

    def _ipv4(self, data: bytes, field: str) -> tuple[list[Prefix], list[int] | None]:
        try:
            return parse_prefixes(data, Family.IPV4, Family.IPV4 in self._add_path)
        except Malformed as error:
            raise Fault(3, 10, f"{field}: {error}") from None

    def _next_hop(self) -> NextHop:
        """Return NEXT_HOP; where there is none that could be one, the message's prefixes are withdrawn."""
        address = self._block.next_hop
        if address is None:
            self._wrong = (*self._wrong, Wrong(3, "NEXT_HOP missing"))
            return NextHop(b"")
        if len(address) == 4 and (words := _nobody(address)):
            self._wrong = (*self._wrong, Wrong(8, f"NEXT_HOP is {words}"))
        return NextHop(address)

    def _read_unreach(self, value: bytes, *, empty: bool) -> None:
        if len(value) < 3:
            raise _optional(MP_UNREACH_NLRI, value, f"has {len(value)} octets, below 3")
        family = self._family(value)
        if family is None:
            return
        if len(value) == 3:
            self._end_of_rib = family if empty else None
            return
        prefixes, path_ids = self._others(MP_UNREACH_NLRI, value, family, 3)
        self._withdraw(family, prefixes, path_ids)

    def _read_reach(self, value: bytes) -> None:
        if len(value) < 5:
            raise _optional(MP_REACH_NLRI, value, f"has {len(value)} octets, below 5")
        nlri_at = 5 + value[3]  # the octet before is reserved, and ignored whatever it is (RFC 4760 section 3)
        if nlri_at > len(value):
            raise _optional(MP_REACH_NLRI, value, f"has a next hop of {value[3]} octets, more than there are")
        self._announces = self._announces or nlri_at < len(value)
        family = self._family(value)
        if family is None:
            return
        if value[3] not in _NEXT_HOP_SIZES[family]:
            raise _optional(MP_REACH_NLRI, value, f"has a next hop of {value[3]} octets")
        prefixes, path_ids = self._others(MP_REACH_NLRI, value, family, nlri_at)
        next_hop = _next_hop(value[4 : nlri_at - 1])
        if words := _nobody(next_hop.address):
            self._wrong = (*self._wrong, Wrong(8, f"MP_REACH_NLRI's next hop is {words}"))
        self._reach(family, next_hop, prefixes, path_ids)

    def _others(self, kind: int, value: bytes, family: Family, at: int) -> tuple[list[Prefix], list[int] | None]:
        try:
            return parse_prefixes(value[at:], family, family in self._add_path)
        except Malformed as error:
            raise _optional(kind, value, str(error)) from None

    def _family(self, value: bytes) -> Family | None:
        """Return the family of an attribute's prefixes, None where the session is not about it."""
        family = _FAMILIES.get(int.from_bytes(value[:2])) if value[2] == UNICAST else None
        if family in self._families:
            return family
        self._pass_over(f"AFI {int.from_bytes(value[:2])} SAFI {value[2]}")
        return None

    def _reach(self, family: Family, next_hop: NextHop, prefixes: list[Prefix], path_ids: list[int] | None) -> None:
        if family not in self._families:
            self._pass_over(f"AFI {family} SAFI {UNICAST}")
        elif prefixes:
            self._reaches.append(Reach(next_hop, prefixes, path_ids))

    def _withdraw(self, family: Family, prefixes: list[Prefix], path_ids: list[int] | None) -> None:
        if family not in self._families:
            self._pass_over(f"AFI {family} SAFI {UNICAST}")
        elif prefixes:
            self._withdrawn.append(Withdrawn(prefixes, path_ids))

    def _pass_over(self, family: str) -> None:
        self._passed_over = (*self._passed_over, f"passed over: {family}, which was not agreed on")


# IPv4 prefixes with a next hop of 4 octets belong into fields of their own, but BIRD sends them here once RFC 8950 is
# agreed on. 32 octets are a global address and a link-local one.
_NEXT_HOP_SIZES = {Family.IPV4: (4, 16, 32), Family.IPV6: (16, 32)}


def _next_hop(octets: bytes) -> NextHop:
    """Return a next hop; of one without a global address, the link-local one counts for it."""
    address, link_local = octets[:16], octets[16:]
    if link_local and (not any(address) or address == link_local):
        return NextHop(link_local, link_local)
    return NextHop(address, link_local)


def _nobody(address: bytes) -> str:
    """Return what kind of address a next hop is if it is nobody's (RFC 4271 section 6.3), else ``""``."""
    if len(address) == 4:
        first = address[0]
        if first == 0:
            return "of the unspecified network"
        if first == 127:
            return "a loopback address"
        return "a multicast address" if 224 <= first < 240 else "the broadcast address" * (address == b"\xff" * 4)
    if not any(address[:15]) and address[15] < 2:
        return "the loopback address" if address[15] else "the unspecified address"
    return "a multicast address" if address[0] == 0xFF else ""


def _optional(kind: int, value: bytes, words: str) -> Fault:
    """Return the Fault of an attribute whose prefixes cannot be relied upon (RFC 7606 section 5.3, 7.11)."""
    what = "MP_REACH_NLRI" if kind == MP_REACH_NLRI else "MP_UNREACH_NLRI"
    return Fault(3, 9, f"{what} {words}", encode_attribute(OPTIONAL, kind, value))


# -- Writing -----------------------------------------------------------------------------------------------------------


def encode_reach(
    attributes: Attributes, next_hop: NextHop, prefixes: Iterable[Prefix], negotiated: Negotiated
) -> list[bytes]:
    """Return UPDATE messages that announce prefixes of one family, each within ``negotiated.message_max``.

    Attributes that leave no room for a prefix cannot be told: the prefixes are withdrawn then (RFC 8654 section 4).
    """
    wanted = list(prefixes)
    if not wanted:
        return []
    family = wanted[0].family
    if family is Family.IPV4 and len(next_hop.address) == 4:
        run = encode_attributes(attributes, next_hop.address, negotiated)
        head = b"\x00\x00" + len(run).to_bytes(2) + run
        chunks = _chunks(wanted, negotiated.message_max - HEADER_LENGTH - len(head))
        messages = [_message(head, chunk) for chunk in chunks]
    else:
        run = encode_attributes(attributes, None, negotiated)
        octets = next_hop.address + next_hop.link_local
        head = bytes((0, family, UNICAST, len(octets))) + octets + b"\x00"
        room = negotiated.message_max - HEADER_LENGTH - _AROUND - len(head) - len(run)
        chunks = _chunks(wanted, room)
        messages = [_attributes_only(_extended(MP_REACH_NLRI, head + chunk), run) for chunk in chunks]
    return messages or encode_withdraw(wanted, negotiated)


def encode_withdraw(prefixes: Iterable[Prefix], negotiated: Negotiated) -> list[bytes]:
    """Return UPDATE messages that withdraw prefixes, each within ``negotiated.message_max``."""
    by_family: dict[Family, list[Prefix]] = {Family.IPV4: [], Family.IPV6: []}
    for prefix in prefixes:
        by_family[prefix.family].append(prefix)
    room = negotiated.message_max - HEADER_LENGTH - 4
    messages = [_message(len(chunk).to_bytes(2), chunk, b"\x00\x00") for chunk in _chunks(by_family[Family.IPV4], room)]
    room = negotiated.message_max - HEADER_LENGTH - _AROUND - 3
    head = bytes((0, Family.IPV6, UNICAST))
    messages += [
        _attributes_only(_extended(MP_UNREACH_NLRI, head + chunk)) for chunk in _chunks(by_family[Family.IPV6], room)
    ]
    return messages


_AROUND = 4 + 4  # both length fields, and the header of an attribute of extended length


def end_of_rib(family: Family) -> bytes:
    """Return the End-of-RIB marker of a family (RFC 4724 section 2)."""
    if family is Family.IPV4:
        return _message(_END_OF_RIB)
    return _attributes_only(encode_attribute(OPTIONAL, MP_UNREACH_NLRI, bytes((0, family, UNICAST))))


def _chunks(prefixes: Sequence[Prefix], room: int) -> list[bytes]:
    """Return prefixes as octets, in runs that fit into a room; none if not a single one would."""
    packed = pack_prefixes(prefixes)
    longest = max(map(len, packed), default=1)
    count = room // longest
    if count < 1:
        return []
    return [b"".join(packed[at : at + count]) for at in range(0, len(packed), count)]


def _extended(kind: int, value: bytes) -> bytes:
    """Return an optional attribute in the long form, so that its size is known before its value is."""
    return bytes((OPTIONAL | 0x10, kind)) + len(value).to_bytes(2) + value


def _attributes_only(*attributes: bytes) -> bytes:
    run = b"".join(attributes)
    return _message(b"\x00\x00" + len(run).to_bytes(2), run)


def _message(*parts: bytes) -> bytes:
    body = b"".join(parts)
    return MARKER + (HEADER_LENGTH + len(body)).to_bytes(2) + _UPDATE + body
