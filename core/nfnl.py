"""What nfnetlink's subsystems have in common, and what everybody asks nftables: its tables, a set's elements (pure).

Each message of conntrack, nftables and the packet log begins with the same four bytes: the family, a version that is 0,
and a number that most requests leave 0. The tables' names tell what there is without making any of it, which programs
of the iptables family do by looking.
"""

import struct
from collections.abc import Iterable

from kube_router.core import nlmsg

NFGEN = struct.Struct("=BBH")  # struct nfgenmsg
NFPROTO_UNSPEC, NFPROTO_INET = 0, 1
NFNL_SUBSYS_CTNETLINK, NFNL_SUBSYS_NFTABLES = 1, 10

NFNLGRP_NFTABLES = 7
NFT_MSG_GETTABLE, NFT_MSG_GETSETELEM = NFNL_SUBSYS_NFTABLES << 8 | 1, NFNL_SUBSYS_NFTABLES << 8 | 13
NFTA_TABLE_NAME = 1
NFTA_SET_ELEM_LIST_TABLE, NFTA_SET_ELEM_LIST_SET, NFTA_SET_ELEM_LIST_ELEMENTS = 1, 2, 3
NFTA_LIST_ELEM = 1
# NFT_MSG_DELTABLE, DELCHAIN, DELRULE, DELSET, DELSETELEM; all name the table first.
_REMOVALS = frozenset(NFNL_SUBSYS_NFTABLES << 8 | message for message in (2, 5, 8, 11, 14))
NFTNL_UDATA_COMMENT = 0  # NFTNL_UDATA_RULE_COMMENT, NFTNL_UDATA_SET_ELEM_COMMENT


def header(family: int) -> bytes:
    """Return the nfgenmsg with which a request for this family begins."""
    return NFGEN.pack(family, 0, 0)


def get_tables() -> bytes:
    """Return the request for a dump of all nftables tables."""
    return nlmsg.message(NFT_MSG_GETTABLE, 0, header(NFPROTO_UNSPEC))


def parse_tables(bodies: Iterable[memoryview]) -> set[tuple[int, str]]:
    """Return the family and the name of each table."""
    return {(body[0], nlmsg.string(nlmsg.attributes(body, NFGEN.size)[NFTA_TABLE_NAME])) for body in bodies}


def is_removal(kind: int, body: memoryview, table: str) -> bool:
    """Whether a notification tells that an inet table, or something in it, was removed."""
    if kind not in _REMOVALS or len(body) < NFGEN.size or body[0] != NFPROTO_INET:
        return False
    name = nlmsg.attributes(body, NFGEN.size).get(NFTA_TABLE_NAME)
    return name is not None and nlmsg.string(name) == table


def get_elements(table: str, name: str) -> bytes:
    """Return the request for a dump of the elements of a set of an inet table."""
    return nlmsg.message(
        NFT_MSG_GETSETELEM,
        0,
        header(NFPROTO_INET),
        nlmsg.text(NFTA_SET_ELEM_LIST_TABLE, table),
        nlmsg.text(NFTA_SET_ELEM_LIST_SET, name),
    )


def comment(userdata: bytes) -> str:
    """Return the comment in the user data of a rule or an element, which is runs of type, length, value."""
    while len(userdata) >= 2:
        kind, length = userdata[0], userdata[1]
        if kind == NFTNL_UDATA_COMMENT:
            return userdata[2 : 2 + length].rstrip(b"\0").decode(errors="replace")
        userdata = userdata[2 + length :]
    return ""
