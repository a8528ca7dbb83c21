"""IPVS's counters and rates per virtual service, from the payloads of a dump of services (pure).

Names are those of linux/ip_vs.h: the 64-bit statistics, which every kernel since 4.1 gives. Counters lag behind traffic
by up to two seconds, for the kernel sums up what its CPUs have counted only so often; rates are its own estimate over
some seconds. Services without an address (firewall marks) have none of our names and are left out.
"""

import struct
from collections.abc import Iterable
from typing import NamedTuple

from kube_router.core import nlmsg
from kube_router.plugins.proxy import ipvs
from kube_router.plugins.proxy.model import ServiceId


class Traffic(NamedTuple):
    """What one virtual service has seen since it was added, and what it sees per second now.

    In the kernel's order: IPVS_STATS_ATTR_CONNS, INPKTS, OUTPKTS, INBYTES, OUTBYTES, CPS, INPPS, OUTPPS, INBPS, OUTBPS.
    """

    connections: int = 0
    packets_in: int = 0
    packets_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    connections_per_s: int = 0
    packets_in_per_s: int = 0
    packets_out_per_s: int = 0
    bytes_in_per_s: int = 0
    bytes_out_per_s: int = 0


_KINDS = tuple(range(1, len(Traffic._fields) + 1))
# How the kernel lays them out where 64 bits need no alignment: each a header of four bytes and a number.
_ROW = struct.Struct("=" + "HHQ" * len(_KINDS))


class Table(NamedTuple):
    """``total`` is that of all services there are, also of those that are not in ``traffic``."""

    total: int
    traffic: dict[ServiceId, Traffic]


def parse(bodies: Iterable[memoryview]) -> Table:
    """Return the statistics in a dump of services."""
    total = 0
    traffic: dict[ServiceId, Traffic] = {}
    for body in bodies:
        total += 1
        service = nlmsg.attributes(nlmsg.attributes(body, nlmsg.GENL.size)[ipvs.ATTR_SERVICE])
        if ipvs.SVC_FWMARK in service:
            continue
        protocol = ipvs.PROTOCOL_NAMES.get(nlmsg.number(service[ipvs.SVC_PROTOCOL]))
        if protocol is None:
            continue
        address = ipvs.unpacked(nlmsg.number(service[ipvs.SVC_AF]), bytes(service[ipvs.SVC_ADDR]))
        id = ServiceId(protocol, address, int.from_bytes(service[ipvs.SVC_PORT], "big"))
        traffic[id] = _traffic(service.get(ipvs.SVC_STATS64))
    return Table(total, traffic)


def _traffic(found: memoryview | None) -> Traffic:
    if found is None:
        return Traffic()
    if len(found) == _ROW.size:
        row = _ROW.unpack(found)
        if row[1::3] == _KINDS:
            return Traffic(*row[2::3])
    counters = nlmsg.attributes(found)
    return Traffic(*(nlmsg.number(counters[kind]) if kind in counters else 0 for kind in _KINDS))
