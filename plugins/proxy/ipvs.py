"""IPVS over generic netlink: services and real servers to bytes and back (pure).

Names are those of linux/ip_vs.h. A message is a netlink header, a ``genlmsghdr`` with the command, and one nested
attribute for the service and, for commands about real servers (the kernel says destinations), one for that. All of a
message but a few fields is constant, so it is joined from parts made once: hand-packed this way a message costs a
seventieth of what a general attribute encoder takes.

What is easy to get wrong: SET_SERVICE takes flags and timeout as they are given, so leaving them out drops persistence;
the netmask is the mask itself in network order for IPv4, but the prefix length in the machine's for IPv6, and must be
there for both; ports are in network order, a missing one is EINVAL.

Real servers are read from /proc/net/ip_vs (``parse_proc``): one sequential read, where netlink wants one dump for each
service. /proc does not tell all flags of a service, so those come by netlink. Firewall-mark services are nobody's of
ours and are left out; so are sync daemons.
"""

import struct
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv6Address
from typing import NamedTuple

from kube_router.core import nlmsg
from kube_router.plugins.proxy.model import Server, ServerId, ServiceId, Settings

FAMILY, VERSION = "IPVS", 1

NEW_SERVICE, SET_SERVICE, DEL_SERVICE, GET_SERVICE = 1, 2, 3, 4
NEW_DEST, SET_DEST, DEL_DEST, GET_DEST = 5, 6, 7, 8
SET_CONFIG, GET_CONFIG, SET_INFO, GET_INFO = 12, 13, 14, 15

ATTR_SERVICE, ATTR_DEST = 1, 2
ATTR_TIMEOUT_TCP, ATTR_TIMEOUT_TCP_FIN, ATTR_TIMEOUT_UDP = 4, 5, 6
SVC_AF, SVC_PROTOCOL, SVC_ADDR, SVC_PORT, SVC_FWMARK, SVC_SCHED_NAME = 1, 2, 3, 4, 5, 6
SVC_FLAGS, SVC_TIMEOUT, SVC_NETMASK, SVC_STATS64 = 7, 8, 9, 12
DEST_ADDR, DEST_PORT, DEST_FWD_METHOD, DEST_WEIGHT, DEST_U_THRESH, DEST_L_THRESH = 1, 2, 3, 4, 5, 6
DEST_ADDR_FAMILY, DEST_STATS64 = 11, 12
INFO_VERSION, INFO_CONN_TAB_SIZE = 1, 2
STATS_CONNS, STATS_INPKTS, STATS_OUTPKTS, STATS_INBYTES, STATS_OUTBYTES = 1, 2, 3, 4, 5

SVC_F_PERSISTENT, SVC_F_HASHED, SVC_F_ONEPACKET = 0x1, 0x2, 0x4
SVC_F_SCHED1, SVC_F_SCHED2, SVC_F_SCHED3 = 0x8, 0x10, 0x20
FWD_MASK = 0x7
METHODS = {"masq": 0, "local": 1, "tunnel": 2, "route": 3}
METHOD_NAMES = {number: name for name, number in METHODS.items()}

PROTOCOLS = {"TCP": 6, "UDP": 17, "SCTP": 132}
PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}
SERVER = Server()
FULL_NETMASK4, FULL_NETMASK6 = 0xFFFFFFFF, 128

_PORT_OF = struct.Struct("!H")
_SERVICE = struct.Struct("=4s H2x 4s H2x 4s 16s 4s 2s2x")
_DEST = struct.Struct("=8s 16s 4s 2s2x 8s 4s I 16s 8s")
_SERVICE_HEADS = tuple(nlmsg.ATTR.pack(n, kind) for n, kind in ((6, SVC_AF), (6, SVC_PROTOCOL), (20, SVC_ADDR)))
_SERVICE_PORT = nlmsg.ATTR.pack(6, SVC_PORT)
_DEST_HEAD = nlmsg.ATTR.pack(4 + _DEST.size - 4, ATTR_DEST | nlmsg.NLA_F_NESTED) + nlmsg.ATTR.pack(20, DEST_ADDR)
_DEST_PORT, _DEST_WEIGHT = nlmsg.ATTR.pack(6, DEST_PORT), nlmsg.ATTR.pack(8, DEST_WEIGHT)
_DEST_METHODS = {name: nlmsg.u32(DEST_FWD_METHOD, number) for name, number in METHODS.items()}
_DEST_THRESHOLDS = nlmsg.u32(DEST_U_THRESH, 0) + nlmsg.u32(DEST_L_THRESH, 0)
_DEST_FAMILIES = {af: nlmsg.u16(DEST_ADDR_FAMILY, af) for af in (nlmsg.AF_INET, nlmsg.AF_INET6)}


class Stats(NamedTuple):
    """The 64-bit counters of a service or a real server. They lag behind traffic by up to two seconds."""

    connections: int = 0
    packets_in: int = 0
    packets_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


class Timeouts(NamedTuple):
    """The global connection timeouts; 0 leaves the kernel's as it is."""

    tcp_s: int = 0
    tcp_fin_s: int = 0
    udp_s: int = 0


class Info(NamedTuple):
    """IPVS itself: its version as text, and the size of its connection table."""

    version: str
    connection_table: int


# -- addresses ---------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=65536)
def packed(address: str) -> tuple[int, bytes]:
    """Return the family of a canonical address and its bytes, padded to the 16 of ``union nf_inet_addr``."""
    if ":" in address:
        return nlmsg.AF_INET6, IPv6Address(address).packed
    return nlmsg.AF_INET, bytes(map(int, address.split("."))) + bytes(12)


@lru_cache(maxsize=65536)
def unpacked(family: int, raw: bytes) -> str:
    """Return the canonical text of packed bytes."""
    if len(raw) < (16 if family == nlmsg.AF_INET6 else 4):
        raise nlmsg.Malformed(f"an address of {len(raw)} bytes")
    if family == nlmsg.AF_INET6:
        return str(IPv6Address(raw[:16]))
    return f"{raw[0]}.{raw[1]}.{raw[2]}.{raw[3]}"


# -- requests ----------------------------------------------------------------------------------------------------------


def _service_key(id: ServiceId) -> bytes:
    family, address = packed(id.address)
    head_af, head_protocol, head_address = _SERVICE_HEADS
    return _SERVICE.pack(
        head_af, family, head_protocol, PROTOCOLS[id.protocol], head_address, address, _SERVICE_PORT,
        _PORT_OF.pack(id.port),
    )  # fmt: skip


class Packer:
    """Packs requests for the kernel that gave the generic netlink family this number."""

    def __init__(self, family: int) -> None:
        self._family = family
        self._id: ServiceId | None = None
        self._key = b""
        self._dest_heads = {command: self._dest_head(command) for command in (NEW_DEST, SET_DEST, DEL_DEST)}

    def _head(self, command: int, body_length: int) -> bytes:
        length = nlmsg.HEADER.size + nlmsg.GENL.size + body_length
        return nlmsg.HEADER.pack(length, self._family, nlmsg.NLM_F_REQUEST, 0, 0) + nlmsg.GENL.pack(command, VERSION, 0)

    def _dest_head(self, command: int) -> bytes:
        nest = nlmsg.ATTR.pack(4 + _SERVICE.size, ATTR_SERVICE | nlmsg.NLA_F_NESTED)
        return self._head(command, len(nest) + _SERVICE.size + _DEST.size) + nest

    def service(self, command: int, id: ServiceId, settings: Settings | None = None) -> bytes:
        """Return NEW_SERVICE or SET_SERVICE with settings, DEL_SERVICE without."""
        attributes = _service_key(id) + (b"" if settings is None else _settings(id, settings))
        body = nlmsg.nested(ATTR_SERVICE, attributes)
        return self._head(command, len(body)) + body

    def dest(self, command: int, id: ServiceId, server: ServerId, settings: Server = SERVER) -> bytes:
        """Return NEW_DEST, SET_DEST or DEL_DEST. The settings are all of them: nothing is left as it is."""
        if id != self._id:  # a service's servers mostly come in a row
            self._id, self._key = id, _service_key(id)
        family, address = packed(server.address)
        return b"".join((
            self._dest_heads[command], self._key,
            _DEST.pack(
                _DEST_HEAD, address, _DEST_PORT, _PORT_OF.pack(server.port), _DEST_METHODS[settings.method],
                _DEST_WEIGHT, settings.weight, _DEST_THRESHOLDS, _DEST_FAMILIES[family],
            ),
        ))  # fmt: skip

    def get_services(self) -> bytes:
        """Return the request for a dump of all services."""
        return self._head(GET_SERVICE, 0)

    def get_dests(self, id: ServiceId) -> bytes:
        """Return the request for a dump of one service's real servers."""
        body = nlmsg.nested(ATTR_SERVICE, _service_key(id))
        return self._head(GET_DEST, len(body)) + body

    def get_config(self) -> bytes:
        return self._head(GET_CONFIG, 0)

    def set_config(self, timeouts: Timeouts) -> bytes:
        kinds = (ATTR_TIMEOUT_TCP, ATTR_TIMEOUT_TCP_FIN, ATTR_TIMEOUT_UDP)
        body = b"".join(nlmsg.u32(kind, seconds) for kind, seconds in zip(kinds, timeouts, strict=True) if seconds)
        return self._head(SET_CONFIG, len(body)) + body

    def get_info(self) -> bytes:
        return self._head(GET_INFO, 0)


def _settings(id: ServiceId, settings: Settings) -> bytes:
    if ":" in id.address:
        netmask = nlmsg.u32(SVC_NETMASK, settings.netmask or FULL_NETMASK6)
    else:
        netmask = nlmsg.be32(SVC_NETMASK, settings.netmask or FULL_NETMASK4)
    return b"".join((
        nlmsg.text(SVC_SCHED_NAME, settings.scheduler),
        nlmsg.attr(SVC_FLAGS, struct.pack("=II", settings.flags, 0xFFFFFFFF)),
        nlmsg.u32(SVC_TIMEOUT, settings.timeout_s),
        netmask,
    ))  # fmt: skip


# -- answers -----------------------------------------------------------------------------------------------------------


def parse_service(body: memoryview) -> tuple[ServiceId, Settings] | None:
    """Return the service of one payload of a dump, ``None`` for one with a firewall mark or an unknown protocol."""
    found = _entry(body, ATTR_SERVICE)
    if SVC_FWMARK in found:
        return None
    family = nlmsg.number(found[SVC_AF])
    protocol = PROTOCOL_NAMES.get(nlmsg.number(found[SVC_PROTOCOL]))
    if protocol is None:
        return None
    id = ServiceId(protocol, unpacked(family, bytes(found[SVC_ADDR])), _port(found[SVC_PORT]))
    flags = int.from_bytes(found[SVC_FLAGS][:4], "little" if nlmsg.U16.pack(1)[0] else "big")
    if family == nlmsg.AF_INET6:
        full, netmask = FULL_NETMASK6, nlmsg.number(found[SVC_NETMASK])
    else:
        full, netmask = FULL_NETMASK4, int.from_bytes(found[SVC_NETMASK], "big")
    return id, Settings(
        scheduler=nlmsg.string(found[SVC_SCHED_NAME]),
        flags=flags & ~SVC_F_HASHED,
        timeout_s=nlmsg.number(found[SVC_TIMEOUT]) if flags & SVC_F_PERSISTENT else 0,
        netmask=0 if netmask == full else netmask,
    )


def parse_dest(body: memoryview, service_family: int) -> tuple[ServerId, Server]:
    """Return the real server of one payload of a dump. Kernels before 3.18 do not tell its family: the service's."""
    found = _entry(body, ATTR_DEST)
    family = nlmsg.number(found[DEST_ADDR_FAMILY]) if DEST_ADDR_FAMILY in found else service_family
    method = METHOD_NAMES.get(nlmsg.number(found[DEST_FWD_METHOD]) & FWD_MASK, "bypass")
    server = ServerId(unpacked(family, bytes(found[DEST_ADDR])), _port(found[DEST_PORT]))
    return server, Server(weight=nlmsg.number(found[DEST_WEIGHT]), method=method)


def parse_stats(body: memoryview, kind: int) -> Stats:
    """Return the counters in the payload of a service (``ATTR_SERVICE``) or real server (``ATTR_DEST``)."""
    found = _entry(body, kind).get(SVC_STATS64 if kind == ATTR_SERVICE else DEST_STATS64)
    if found is None:
        return Stats()
    counters = nlmsg.attributes(found)
    kinds = (STATS_CONNS, STATS_INPKTS, STATS_OUTPKTS, STATS_INBYTES, STATS_OUTBYTES)
    return Stats(*(nlmsg.number(counters[k]) if k in counters else 0 for k in kinds))


def parse_config(body: memoryview) -> Timeouts:
    found = nlmsg.attributes(body, nlmsg.GENL.size)
    kinds = (ATTR_TIMEOUT_TCP, ATTR_TIMEOUT_TCP_FIN, ATTR_TIMEOUT_UDP)
    return Timeouts(*(nlmsg.number(found[kind]) if kind in found else 0 for kind in kinds))


def parse_info(body: memoryview) -> Info:
    found = nlmsg.attributes(body, nlmsg.GENL.size)
    code = nlmsg.number(found[INFO_VERSION])
    return Info(f"{code >> 16}.{code >> 8 & 0xFF}.{code & 0xFF}", nlmsg.number(found[INFO_CONN_TAB_SIZE]))


def _entry(body: memoryview, kind: int) -> nlmsg.Attrs:
    return nlmsg.attributes(nlmsg.attributes(body, nlmsg.GENL.size)[kind])


def _port(value: memoryview) -> int:
    if len(value) != 2:
        raise nlmsg.Malformed(f"a port of {len(value)} bytes")
    return value[0] << 8 | value[1]


# -- /proc/net/ip_vs ---------------------------------------------------------------------------------------------------

_PROC_METHODS = {"Masq": "masq", "Local": "local", "Tunnel": "tunnel", "Route": "route"}


class ProcTable(NamedTuple):
    """What /proc/net/ip_vs says of real servers, and the services of which a line was not understood."""

    servers: dict[ServiceId, dict[ServerId, Server]]
    doubtful: frozenset[ServiceId]


def parse_proc(lines: Iterable[str]) -> ProcTable:
    """Return the real servers in the text of /proc/net/ip_vs.

    A line that is not understood makes the service it belongs to doubtful; a service that is not understood is missing.
    """
    tables: dict[ServiceId, dict[ServerId, Server]] = {}
    doubtful: set[ServiceId] = set()
    id: ServiceId | None = None
    servers: dict[ServerId, Server] = {}
    known: dict[str, tuple[str, int]] = {}
    for line in lines:
        words = line.split()
        try:
            if words[0] == "->":
                if words[1] == "RemoteAddress:Port" or id is None:
                    continue
                server = known.get(words[1])
                if server is None:
                    server = known[words[1]] = _proc_address(words[1])
                servers[ServerId(*server)] = Server(int(words[3]), _PROC_METHODS[words[2]])
            elif words[0] in PROTOCOLS:
                id = ServiceId(words[0], *_proc_address(words[1]))
                if id in tables:
                    doubtful.add(id)  # listed twice: the table changed between two reads
                servers = tables[id] = {}
            else:
                id = None  # the heading, or a firewall mark
        except (LookupError, ValueError):
            if id is not None:
                doubtful.add(id)
            if words and words[0] != "->":
                id = None
    return ProcTable(tables, frozenset(doubtful))


def _proc_address(word: str) -> tuple[str, int]:
    address, _, port = word.rpartition(":")
    if address[0] == "[":
        return str(IPv6Address(address[1:-1])), int(port, 16)
    value = int(address, 16)
    if len(address) != 8:
        raise ValueError(f"{address} is no address")
    return f"{value >> 24}.{value >> 16 & 255}.{value >> 8 & 255}.{value & 255}", int(port, 16)
