"""What libnftables does not tell cheaply, over nfnetlink: generation, stamp, counters, who changed what (pure).

Every commit, by anybody, gives the network namespace's nftables the next generation number. Notifications come commit
by commit: what was changed, then NEWGEN with the number. So a listener that knows the numbers of its own commits knows
whose a change was. Constants are those of linux/netfilter/nf_tables.h.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kube_router.core import nlmsg
from kube_router.core.nfnl import (
    NFGEN,
    NFNL_SUBSYS_NFTABLES,
    NFPROTO_INET,
    NFPROTO_UNSPEC,
    NFTA_LIST_ELEM,
    NFTA_SET_ELEM_LIST_ELEMENTS,
    NFTA_TABLE_NAME,
    comment,
    get_elements,
    header,
)
from kube_router.plugins.firewall.model import STAMP, TABLE

_SUBSYSTEM = NFNL_SUBSYS_NFTABLES << 8
NFT_MSG_NEWGEN, NFT_MSG_GETGEN, NFT_MSG_GETOBJ = _SUBSYSTEM | 15, _SUBSYSTEM | 16, _SUBSYSTEM | 19
NFTA_GEN_ID = 1
NFTA_SET_ELEM_USERDATA = 6
NFTA_OBJ_TABLE, NFTA_OBJ_NAME, NFTA_OBJ_TYPE, NFTA_OBJ_DATA = 1, 2, 3, 4
NFT_OBJECT_COUNTER, NFTA_COUNTER_BYTES, NFTA_COUNTER_PACKETS = 1, 1, 2


class Stamp(NamedTuple):
    """After which commit our table held what."""

    generation: int
    digest: int


class Count(NamedTuple):
    packets: int
    bytes: int


def get_generation() -> bytes:
    return nlmsg.message(NFT_MSG_GETGEN, 0, header(NFPROTO_UNSPEC))


def parse_generation(body: memoryview) -> int:
    """Return the number in an answer, or in a NEWGEN notification."""
    return int.from_bytes(nlmsg.attributes(body, NFGEN.size)[NFTA_GEN_ID], "big")


def is_about_us(body: memoryview) -> bool:
    """Whether what a notification tells of is in our table: of chains, rules, sets and elements it is named first."""
    if len(body) < NFGEN.size or body[0] != NFPROTO_INET:
        return False
    name = nlmsg.attributes(body, NFGEN.size).get(NFTA_TABLE_NAME)
    return name is not None and nlmsg.string(name) == TABLE


def get_stamp() -> bytes:
    return get_elements(TABLE, STAMP)


def parse_stamp(bodies: Iterable[memoryview]) -> Stamp | None:
    """Return the stamp in a dump of its set, None where there is none that we could have written."""
    for body in bodies:
        elements = nlmsg.attributes(body, NFGEN.size).get(NFTA_SET_ELEM_LIST_ELEMENTS)
        element = nlmsg.attributes(elements).get(NFTA_LIST_ELEM) if elements is not None else None
        userdata = nlmsg.attributes(element).get(NFTA_SET_ELEM_USERDATA) if element is not None else None
        if userdata is not None:
            return _stamp(comment(bytes(userdata)))
    return None


def _stamp(text: str) -> Stamp | None:
    generation, _, digest = text.partition(" ")
    try:
        return Stamp(int(generation), int(digest, 16))
    except ValueError:
        return None


def get_counters() -> bytes:
    return nlmsg.message(
        NFT_MSG_GETOBJ,
        0,
        header(NFPROTO_INET),
        nlmsg.text(NFTA_OBJ_TABLE, TABLE),
        nlmsg.be32(NFTA_OBJ_TYPE, NFT_OBJECT_COUNTER),
    )


def parse_counters(bodies: Iterable[memoryview]) -> Iterator[tuple[str, Count]]:
    """Return our table's counters by name. (The kernel filters by table since 4.12; who does not is filtered here.)"""
    for body in bodies:
        attributes = nlmsg.attributes(body, NFGEN.size)
        if nlmsg.string(attributes[NFTA_OBJ_TABLE]) == TABLE:
            data = nlmsg.attributes(attributes[NFTA_OBJ_DATA])
            numbers = (int.from_bytes(data[kind], "big") for kind in (NFTA_COUNTER_PACKETS, NFTA_COUNTER_BYTES))
            yield nlmsg.string(attributes[NFTA_OBJ_NAME]), Count(*numbers)
