"""What nfnetlink's subsystems have in common, and the names of all nftables tables (pure).

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

NFT_MSG_GETTABLE = NFNL_SUBSYS_NFTABLES << 8 | 1
NFTA_TABLE_NAME = 1


def header(family: int) -> bytes:
    """Return the nfgenmsg with which a request for this family begins."""
    return NFGEN.pack(family, 0, 0)


def get_tables() -> bytes:
    """Return the request for a dump of all nftables tables."""
    return nlmsg.message(NFT_MSG_GETTABLE, 0, header(NFPROTO_UNSPEC))


def parse_tables(bodies: Iterable[memoryview]) -> set[tuple[int, str]]:
    """Return the family and the name of each table."""
    return {(body[0], nlmsg.string(nlmsg.attributes(body, NFGEN.size)[NFTA_TABLE_NAME])) for body in bodies}
