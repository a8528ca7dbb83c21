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

from functools import lru_cache
from typing import NamedTuple

from kube_router.plugins.routing.bgp.attrs import BLOCK_MAX, BLOCKS_MAX, Block, encode_attribute, parse_attributes
from kube_router.plugins.routing.bgp.attrtable import MP_REACH_NLRI, MP_UNREACH_NLRI, OPTIONAL, Wrong, name
from kube_router.plugins.routing.bgp.fault import Fault
from kube_router.plugins.routing.bgp.model import Attributes, Family, Negotiated, NextHop, Prefix
from kube_router.plugins.routing.bgp.nexthop import SIZES, parse_next_hop
from kube_router.plugins.routing.bgp.nlri import Malformed, parse_prefixes
from kube_router.plugins.routing.bgp.pack import UNICAST
from kube_router.plugins.routing.bgp.pack import encode_reach as encode_reach
from kube_router.plugins.routing.bgp.pack import encode_withdraw as encode_withdraw
from kube_router.plugins.routing.bgp.pack import end_of_rib as end_of_rib

_FAMILIES = {1: Family.IPV4, 2: Family.IPV6}
_END_OF_RIB = b"\x00\x00\x00\x00"
_NO_NEXT_HOP = NextHop(b"")
remembering = lru_cache(maxsize=BLOCKS_MAX)(parse_attributes)


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

    def __init__(self, negotiated: Negotiated) -> None:
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
        parse = remembering if size > nlri_at and len(run) <= BLOCK_MAX else parse_attributes
        block = parse(run, self._four_octet_as, self._internal)
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
        """Return NEXT_HOP; where it is none, the message's prefixes are withdrawn."""
        octets = self._block.next_hop
        if octets is None:
            self._wrong = (*self._wrong, Wrong(3, "NEXT_HOP missing"))
        if octets is None or len(octets) != 4:
            return _NO_NEXT_HOP
        next_hop, nobody = parse_next_hop(octets)
        if nobody:
            self._wrong = (*self._wrong, Wrong(8, f"NEXT_HOP is {nobody}"))
        return next_hop

    def _read_unreach(self, value: bytes, *, empty: bool) -> None:
        if len(value) < 3:
            raise _optional(MP_UNREACH_NLRI, value, f"{len(value)} octets, below 3")
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
            raise _optional(MP_REACH_NLRI, value, f"{len(value)} octets, below 5")
        nlri_at = 5 + value[3]  # the octet before is reserved, and ignored whatever it is (RFC 4760 section 3)
        if nlri_at > len(value):
            raise _optional(MP_REACH_NLRI, value, f"a next hop of {value[3]} octets, more than there are")
        self._announces = self._announces or nlri_at < len(value)
        family = self._family(value)
        if family is None:
            return
        if value[3] not in SIZES[family]:
            raise _optional(MP_REACH_NLRI, value, f"a next hop of {value[3]} octets")
        prefixes, path_ids = self._others(MP_REACH_NLRI, value, family, nlri_at)
        next_hop, nobody = parse_next_hop(value[4 : nlri_at - 1])
        if nobody:
            self._wrong = (*self._wrong, Wrong(8, f"MP_REACH_NLRI's next hop is {nobody}"))
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
        else:
            self._withdrawn.append(Withdrawn(prefixes, path_ids))

    def _pass_over(self, family: str) -> None:
        self._passed_over = (*self._passed_over, f"passed over: {family}, which was not agreed on")


def _optional(kind: int, value: bytes, words: str) -> Fault:
    """Return the Fault of an attribute whose prefixes cannot be relied upon (RFC 7606 section 5.3, 7.11)."""
    return Fault(3, 9, f"{name(kind)}: {words}", encode_attribute(OPTIONAL, kind, value))
