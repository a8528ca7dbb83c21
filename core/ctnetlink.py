"""The connection tracking table, as ctnetlink bytes and back (pure).

A flow has two directions, each with a tuple of addresses and ports. The original direction's is what the first packet
had on entering this node; the reply direction's is what an answer has to have, and so tells of address translation:
where the destination was rewritten the reply's source is the real one, where the source was, the reply's destination.

The kernel filters a dump by what a request names of the original direction, though not by an IPv6 address, for which it
takes all others (6.1). Before 5.8 it filters nothing, so that whoever asks compares again.

A flow is deleted by its original tuple, its zone and its id. The id keeps a flow that has meanwhile been made anew from
being hit. A flow that another one brought about (an FTP transfer) says by whose tuple.

What a dump holds is mostly laid out alike, so a layout is learned once: 100,000 flows take a second.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kube_router.core import nlmsg
from kube_router.core.nfnl import NFGEN, NFNL_SUBSYS_CTNETLINK, header

CT_GET, CT_DELETE = NFNL_SUBSYS_CTNETLINK << 8 | 1, NFNL_SUBSYS_CTNETLINK << 8 | 2  # IPCTNL_MSG_CT_*
CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_ID, CTA_TUPLE_MASTER, CTA_ZONE, CTA_FILTER = 1, 2, 12, 14, 18, 25
CTA_TUPLE_IP, CTA_TUPLE_PROTO = 1, 2
CTA_IP_V4_SRC, CTA_IP_V4_DST, CTA_IP_V6_SRC, CTA_IP_V6_DST = 1, 2, 3, 4
CTA_PROTO_NUM, CTA_PROTO_SRC_PORT, CTA_PROTO_DST_PORT = 1, 2, 3
CTA_FILTER_ORIG_FLAGS, CTA_FILTER_REPLY_FLAGS = 1, 2
F_IP_DST, F_PROTO_NUM, F_PROTO_DST_PORT = 1 << 1, 1 << 3, 1 << 5
TCP, UDP, SCTP = 6, 17, 132

_flow = nlmsg.Decoder(NFGEN.size, CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_ID, CTA_ZONE, CTA_TUPLE_MASTER)
_tuple = nlmsg.Decoder(0, CTA_TUPLE_IP, CTA_TUPLE_PROTO)
_addresses = {
    nlmsg.AF_INET: nlmsg.Decoder(0, CTA_IP_V4_SRC, CTA_IP_V4_DST),
    nlmsg.AF_INET6: nlmsg.Decoder(0, CTA_IP_V6_SRC, CTA_IP_V6_DST),
}
_proto = nlmsg.Decoder(0, CTA_PROTO_NUM, CTA_PROTO_SRC_PORT, CTA_PROTO_DST_PORT)


class Direction(NamedTuple):
    """One direction's tuple: packed addresses, and ports that are 0 where the protocol has none."""

    protocol: int
    source: bytes
    destination: bytes
    source_port: int
    destination_port: int


class Flow(NamedTuple):
    """An entry of the table. The raw tuples are as the kernel gave them."""

    family: int
    original: Direction
    reply: Direction
    raw_original: bytes
    id: bytes | None = None
    zone: bytes | None = None  # None is the default zone
    raw_master: bytes | None = None  # the original tuple of the flow that brought this one about

    @property
    def protocol(self) -> int:
        return self.original.protocol


def get_flows(
    family: int, *, protocol: int | None = None, destination: bytes | None = None, port: int | None = None
) -> bytes:
    """Return the request for a dump of this family's flows, as far as the kernel filters only those to what is named.

    ``destination`` and ``port`` are the original direction's; a port goes with a protocol only.
    """
    flags = 0
    address, proto = [], []
    if protocol is not None:
        flags |= F_PROTO_NUM
        proto.append(nlmsg.attr(CTA_PROTO_NUM, bytes([protocol])))
    if port is not None:
        flags |= F_PROTO_DST_PORT
        proto.append(nlmsg.attr(CTA_PROTO_DST_PORT, port.to_bytes(2, "big")))
    if destination is not None and family == nlmsg.AF_INET:
        flags |= F_IP_DST
        address.append(nlmsg.attr(CTA_IP_V4_DST, destination))
    if not flags:
        return nlmsg.message(CT_GET, 0, header(family))
    return nlmsg.message(
        CT_GET,
        0,
        header(family),
        nlmsg.nested(CTA_TUPLE_ORIG, nlmsg.nested(CTA_TUPLE_IP, *address), nlmsg.nested(CTA_TUPLE_PROTO, *proto)),
        nlmsg.nested(CTA_FILTER, nlmsg.u32(CTA_FILTER_ORIG_FLAGS, flags), nlmsg.u32(CTA_FILTER_REPLY_FLAGS, 0)),
    )


def parse_flows(bodies: Iterable[memoryview], family: int) -> Iterator[Flow]:
    """Yield the flows of this family that a dump holds.

    Raises ``nlmsg.Malformed`` where a length leaves the data; what lacks a tuple or an address is no flow.
    """
    for body in bodies:
        if body[0] != family:
            continue
        raw_original, raw_reply, id, zone, raw_master = _flow(body)
        original = _direction(raw_original, family)
        reply = _direction(raw_reply, family)
        if original is not None and reply is not None and raw_original is not None:
            yield Flow(family, original, reply, raw_original, id, zone, raw_master)


def _direction(raw: bytes | None, family: int) -> Direction | None:
    if raw is None:
        return None
    addresses, proto = _tuple(memoryview(raw))
    if addresses is None or proto is None:
        return None
    source, destination = _addresses[family](memoryview(addresses))
    number, source_port, destination_port = _proto(memoryview(proto))
    if source is None or destination is None or not number:
        return None
    return Direction(number[0], source, destination, _port(source_port), _port(destination_port))


def _port(value: bytes | None) -> int:
    return int.from_bytes(value, "big") if value is not None else 0


def delete_flow(flow: Flow) -> bytes:
    """Return the request that deletes this flow, and none that took its place."""
    attributes = [nlmsg.nested(CTA_TUPLE_ORIG, flow.raw_original)]
    if flow.id is not None:
        attributes.append(nlmsg.attr(CTA_ID, flow.id))
    if flow.zone is not None:
        attributes.append(nlmsg.attr(CTA_ZONE, flow.zone))
    return nlmsg.message(CT_DELETE, 0, header(flow.family), *attributes)
