"""UDP flows of services in the connection tracking table, found and ended (pure).

A UDP client that goes on sending keeps its conntrack entry, and with it the server it was once given. When that server
is gone the entry has to go too: only the flows that it answered, for those of the other servers are well. TCP needs
none of it, since IPVS ends such connections itself (``vs.expire_nodest_conn``).

A flow of a service is found by both its ends: the original direction goes to the service's address and port, the reply
comes from the real server's. The kernel filters a dump by protocol, and by the service where there is only one, as far
as it can (core/ctnetlink.py), so that all is compared here again.
"""

from collections.abc import Collection, Iterable

from kube_router.core import ctnetlink, nlmsg
from kube_router.plugins.proxy.ipvs import packed
from kube_router.plugins.proxy.model import ServerId, ServiceId

Target = tuple[ServiceId, ServerId]


def get_flows(family: int, ids: Collection[ServiceId]) -> bytes:
    """Return the request for a dump of the UDP flows of this family, to the one service where ``ids`` is one."""
    if len(ids) != 1:
        return ctnetlink.get_flows(family, protocol=ctnetlink.UDP)
    (id,) = ids
    return ctnetlink.get_flows(family, protocol=ctnetlink.UDP, destination=_address(id.address, family), port=id.port)


def delete_flows(bodies: Iterable[memoryview], family: int, targets: Collection[Target]) -> list[bytes]:
    """Return the requests that delete those flows of a dump that are some target's."""
    keys = {
        (_address(id.address, family), id.port, _address(server.address, family), server.port)
        for id, server in targets
        if packed(id.address)[0] == family
    }
    return [
        ctnetlink.delete_flow(flow)
        for flow in ctnetlink.parse_flows(bodies, family)
        if flow.protocol == ctnetlink.UDP
        and (flow.original.destination, flow.original.destination_port, flow.reply.source, flow.reply.source_port)
        in keys
    ]


def _address(address: str, family: int) -> bytes:
    return packed(address)[1][: 16 if family == nlmsg.AF_INET6 else 4]
