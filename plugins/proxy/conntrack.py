"""UDP flows in the connection tracking table, as ctnetlink bytes and back (pure).

A UDP client that goes on sending keeps its conntrack entry, and with it the server it was once given. When that server
is gone the entry has to go too: only the flows that it answered, for those of the other servers are well. TCP needs
none of it, since IPVS ends such connections itself (``vs.expire_nodest_conn``).

A flow of a service is found by both its ends: the original direction goes to the service's address and port, the reply
comes from the real server's. The kernel filters a dump by protocol, and by the service where there is only one, though
not by an IPv6 address, for which it takes all others (6.1). Before 5.8 it filters nothing, so that all is compared here
again.
"""

import struct
from collections.abc import Collection, Iterable

from kube_router.core import nlmsg
from kube_router.plugins.proxy.ipvs import packed
from kube_router.plugins.proxy.model import ServerId, ServiceId

CT_GET, CT_DELETE = 1 << 8 | 1, 1 << 8 | 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_*
CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_ID, CTA_ZONE, CTA_FILTER = 1, 2, 12, 18, 25
CTA_TUPLE_IP, CTA_TUPLE_PROTO = 1, 2
CTA_IP_V4_SRC, CTA_IP_V4_DST, CTA_IP_V6_SRC, CTA_IP_V6_DST = 1, 2, 3, 4
CTA_PROTO_NUM, CTA_PROTO_SRC_PORT, CTA_PROTO_DST_PORT = 1, 2, 3
CTA_FILTER_ORIG_FLAGS, CTA_FILTER_REPLY_FLAGS = 1, 2
F_IP_DST, F_PROTO_NUM, F_PROTO_DST_PORT = 1 << 1, 1 << 3, 1 << 5
UDP = 17

_NFGEN = struct.Struct("=BBH")

Target = tuple[ServiceId, ServerId]


def get_flows(family: int, ids: Collection[ServiceId]) -> bytes:
    """Return the request for a dump of the UDP flows of this family, to the one service where ``ids`` is one."""
    flags = F_PROTO_NUM
    proto = [nlmsg.attr(CTA_PROTO_NUM, bytes([UDP]))]
    address = []
    if len(ids) == 1:
        (id,) = ids
        flags |= F_PROTO_DST_PORT
        proto.append(nlmsg.attr(CTA_PROTO_DST_PORT, id.port.to_bytes(2, "big")))
        if family == nlmsg.AF_INET:
            flags |= F_IP_DST
            address.append(nlmsg.attr(CTA_IP_V4_DST, packed(id.address)[1][:4]))
    return nlmsg.message(
        CT_GET,
        0,
        _NFGEN.pack(family, 0, 0),
        nlmsg.nested(CTA_TUPLE_ORIG, nlmsg.nested(CTA_TUPLE_IP, *address), nlmsg.nested(CTA_TUPLE_PROTO, *proto)),
        nlmsg.nested(CTA_FILTER, nlmsg.u32(CTA_FILTER_ORIG_FLAGS, flags), nlmsg.u32(CTA_FILTER_REPLY_FLAGS, 0)),
    )


def delete_flows(bodies: Iterable[memoryview], family: int, targets: Collection[Target]) -> list[bytes]:
    """Return the requests that delete those flows of a dump that are some target's."""
    keys = {
        (packed(id.address)[1][: _size(family)], id.port, packed(server.address)[1][: _size(family)], server.port)
        for id, server in targets
        if packed(id.address)[0] == family
    }
    found = []
    for body in bodies:
        if body[0] != family:
            continue
        attributes = nlmsg.attributes(body, _NFGEN.size)
        if CTA_TUPLE_ORIG not in attributes or CTA_TUPLE_REPLY not in attributes:
            continue
        wanted = _end(attributes[CTA_TUPLE_ORIG], family, source=False)
        answered = _end(attributes[CTA_TUPLE_REPLY], family, source=True)
        if wanted is None or answered is None or (*wanted, *answered) not in keys:
            continue
        # The id keeps a flow that has meanwhile been made anew, to another server, from being hit.
        same = (CTA_TUPLE_ORIG, CTA_ID, CTA_ZONE)
        attributes_kept = [nlmsg.attr(kind, bytes(attributes[kind])) for kind in same if kind in attributes]
        attributes_kept[0] = nlmsg.nested(CTA_TUPLE_ORIG, bytes(attributes[CTA_TUPLE_ORIG]))
        found.append(nlmsg.message(CT_DELETE, 0, _NFGEN.pack(family, 0, 0), *attributes_kept))
    return found


def _size(family: int) -> int:
    return 16 if family == nlmsg.AF_INET6 else 4


def _end(tuple_: memoryview, family: int, *, source: bool) -> tuple[bytes, int] | None:
    """Return one end of a direction's tuple, ``None`` where it is not UDP."""
    parts = nlmsg.attributes(tuple_)
    if CTA_TUPLE_IP not in parts or CTA_TUPLE_PROTO not in parts:
        return None
    addresses, proto = nlmsg.attributes(parts[CTA_TUPLE_IP]), nlmsg.attributes(parts[CTA_TUPLE_PROTO])
    if family == nlmsg.AF_INET6:
        address = addresses.get(CTA_IP_V6_SRC if source else CTA_IP_V6_DST)
    else:
        address = addresses.get(CTA_IP_V4_SRC if source else CTA_IP_V4_DST)
    port = proto.get(CTA_PROTO_SRC_PORT if source else CTA_PROTO_DST_PORT)
    if address is None or port is None or CTA_PROTO_NUM not in proto or proto[CTA_PROTO_NUM][0] != UDP:
        return None
    return bytes(address), int.from_bytes(port, "big")
