"""Our nftables table, read back over nfnetlink (pure).

The sets' elements are dumped raw: a key is the protocol, the address and the port, each padded to four bytes. Listing
5000 of them through libnftables costs many times as much, and a restart should cost next to nothing.
"""

import struct
from collections.abc import Iterable

from kube_router.core import nlmsg
from kube_router.core.nfnl import (
    NFGEN,
    NFNL_SUBSYS_NFTABLES,
    NFPROTO_INET,
    NFTA_LIST_ELEM,
    NFTA_SET_ELEM_LIST_ELEMENTS,
    comment,
    header,
)
from kube_router.plugins.proxy.ipvs import PROTOCOL_NAMES, unpacked
from kube_router.plugins.proxy.model import ServiceId

NFT_MSG_GETRULE = NFNL_SUBSYS_NFTABLES << 8 | 7
NFTA_SET_ELEM_KEY, NFTA_DATA_VALUE = 1, 1
NFTA_RULE_TABLE, NFTA_RULE_CHAIN, NFTA_RULE_USERDATA = 1, 2, 7

# An element of a plain set: three headers, one in the other, and the key. The kernel does not flag them as nested.
_PLAIN = {
    12 + size: (
        nlmsg.attr(NFTA_LIST_ELEM, nlmsg.attr(NFTA_SET_ELEM_KEY, nlmsg.attr(NFTA_DATA_VALUE, bytes(size))))[:12],
        struct.Struct(f"=12s{size}s"),
    )
    for size in (12, 24)
}


def get_rules(table: str, chain: str) -> bytes:
    return nlmsg.message(
        NFT_MSG_GETRULE,
        0,
        header(NFPROTO_INET),
        nlmsg.text(NFTA_RULE_TABLE, table),
        nlmsg.text(NFTA_RULE_CHAIN, chain),
    )


def parse_elements(bodies: Iterable[memoryview]) -> set[ServiceId]:
    """Return the services in a set's dump."""
    found = set()
    for body in bodies:
        elements = nlmsg.attributes(body, NFGEN.size).get(NFTA_SET_ELEM_LIST_ELEMENTS)
        for key in _keys(elements) if elements is not None else ():
            if id := _service(key):
                found.add(id)
    return found


def _keys(elements: memoryview) -> list[bytes]:
    """Return the keys of a list of elements, at once where each is a key of the same length and nothing else."""
    length = nlmsg.U16.unpack_from(elements)[0] if len(elements) >= 4 else 0
    if length in _PLAIN and len(elements) % length == 0:
        headers, packing = _PLAIN[length]
        rows = list(packing.iter_unpack(elements))
        if all(row[0] == headers for row in rows):
            return [row[1] for row in rows]
    return [
        bytes(nlmsg.attributes(nlmsg.attributes(element)[NFTA_SET_ELEM_KEY])[NFTA_DATA_VALUE])
        for element in nlmsg.values(elements, NFTA_LIST_ELEM)
    ]


def _service(key: bytes) -> ServiceId | None:
    """Return the service of a key, ``None`` for one that we would not have written."""
    family = {12: nlmsg.AF_INET, 24: nlmsg.AF_INET6}.get(len(key))
    protocol = PROTOCOL_NAMES.get(key[0])
    if family is None or protocol is None:
        return None
    return ServiceId(protocol, unpacked(family, key[4:-4]), key[-4] << 8 | key[-3])


def parse_comments(bodies: Iterable[memoryview], table: str, chain: str) -> list[str]:
    """Return the comments of a chain's rules, in order, "" for a rule without one; old kernels do not filter a dump."""
    found = []
    for body in bodies:
        attributes = nlmsg.attributes(body, NFGEN.size)
        place = [nlmsg.string(attributes[kind]) for kind in (NFTA_RULE_TABLE, NFTA_RULE_CHAIN) if kind in attributes]
        if body[0] == NFPROTO_INET and place == [table, chain]:
            found.append(comment(bytes(attributes.get(NFTA_RULE_USERDATA, b""))))
    return found
