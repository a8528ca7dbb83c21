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
DEST_ADDR_FAMILY = 11
INFO_VERSION, INFO_CONN_TAB_SIZE = 1, 2

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
        self._command = 0
        self._prefix = b""
        self._service_heads: dict[tuple[int, int], bytes] = {}
        self._dest_heads = {command: self._dest_head(command) for command in (NEW_DEST, SET_DEST, DEL_DEST)}

    def _head(self, command: int, body_length: int) -> bytes:
        length = nlmsg.HEADER.size + nlmsg.GENL.size + body_length
        return nlmsg.HEADER.pack(length, self._family, nlmsg.NLM_F_REQUEST, 0, 0) + nlmsg.GENL.pack(command, VERSION, 0)

    def _dest_head(self, command: int) -> bytes:
        nest = nlmsg.ATTR.pack(4 + _SERVICE.size, ATTR_SERVICE | nlmsg.NLA_F_NESTED)
        return self._head(command, len(nest) + _SERVICE.size + _DEST.size) + nest

    def service(self, command: int, id: ServiceId, settings: Settings | None = None) -> bytes:
        """Return NEW_SERVICE or SET_SERVICE with settings, DEL_SERVICE without."""
        rest = b"" if settings is None else _settings(":" in id.address, settings)
        head = self._service_heads.get((command, len(rest)))
        if head is None:
            nest = nlmsg.ATTR.pack(4 + _SERVICE.size + len(rest), ATTR_SERVICE | nlmsg.NLA_F_NESTED)
            head = self._head(command, len(nest) + _SERVICE.size + len(rest)) + nest
            self._service_heads[command, len(rest)] = head
        return head + _service_key(id) + rest

    def dest(self, command: int, id: ServiceId, server: ServerId, settings: Server = SERVER) -> bytes:
        """Return NEW_DEST, SET_DEST or DEL_DEST. The settings are all of them: nothing is left as it is."""
        if id is not self._id or command != self._command:  # a service's servers mostly come in a row
            self._id, self._command, self._prefix = id, command, self._dest_heads[command] + _service_key(id)
        family, address = packed(server.address)
        return self._prefix + _DEST.pack(
            _DEST_HEAD, address, _DEST_PORT, _PORT_OF.pack(server.port), _DEST_METHODS[settings.method],
            _DEST_WEIGHT, settings.weight, _DEST_THRESHOLDS, _DEST_FAMILIES[family],
        )  # fmt: skip

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


@lru_cache(maxsize=1024)
def _settings(is6: bool, settings: Settings) -> bytes:
    if is6:
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


# Generic netlink's header and the header of the attribute that holds the service.
_SERVICE_AT = nlmsg.GENL.size + nlmsg.ATTR.size
_decode_service = nlmsg.Decoder(
    _SERVICE_AT,
    SVC_AF,
    SVC_PROTOCOL,
    SVC_ADDR,
    SVC_PORT,
    SVC_FWMARK,
    SVC_SCHED_NAME,
    SVC_FLAGS,
    SVC_TIMEOUT,
    SVC_NETMASK,
)
_INET6 = nlmsg.U16.pack(nlmsg.AF_INET6)
_PROTOCOL_OF = {nlmsg.U16.pack(number): name for name, number in PROTOCOLS.items()}


@lru_cache(maxsize=64)
def _nests(length: int) -> tuple[bytes, bytes]:
    """Return the header of a service that fills a message, which the kernel does not flag as nested."""
    return nlmsg.ATTR.pack(length, ATTR_SERVICE), nlmsg.ATTR.pack(length, ATTR_SERVICE | nlmsg.NLA_F_NESTED)


def parse_service(body: memoryview) -> tuple[ServiceId, Settings] | None:
    """Return the service of one payload of a dump, ``None`` for one with a firewall mark or an unknown protocol."""
    if len(body) < _SERVICE_AT or body[4:8] not in _nests(len(body) - 4):
        raise nlmsg.Malformed("an IPVS answer without a service")
    family, protocol, address, port, fwmark, *settings = _decode_service(body)
    if fwmark is not None:
        return None
    if family is None or protocol is None or address is None or port is None or len(port) != 2:
        raise nlmsg.Malformed("a service without its key")
    name = _PROTOCOL_OF.get(protocol)
    if name is None:
        return None
    af = nlmsg.AF_INET6 if family == _INET6 else nlmsg.AF_INET
    return ServiceId(name, unpacked(af, address), port[0] << 8 | port[1]), _parse_settings(af, *settings)


@lru_cache(maxsize=1024)
def _parse_settings(
    af: int, scheduler: bytes | None, raw_flags: bytes | None, timeout: bytes | None, netmask: bytes | None
) -> Settings:
    if scheduler is None or raw_flags is None or timeout is None or netmask is None:
        raise nlmsg.Malformed("a service without its settings")
    if len(raw_flags) != 8 or len(netmask) != 4:
        raise nlmsg.Malformed("a service's settings of a strange size")
    (flags,) = nlmsg.U32.unpack_from(raw_flags)
    full = FULL_NETMASK6 if af == nlmsg.AF_INET6 else FULL_NETMASK4
    mask = nlmsg.U32.unpack(netmask)[0] if af == nlmsg.AF_INET6 else int.from_bytes(netmask, "big")
    return Settings(
        scheduler=nlmsg.string(memoryview(scheduler)),
        flags=flags & ~SVC_F_HASHED,
        timeout_s=nlmsg.number(memoryview(timeout)) if flags & SVC_F_PERSISTENT else 0,
        netmask=0 if mask == full else mask,
    )


def parse_dest(body: memoryview, service_family: int) -> tuple[ServerId, Server]:
    """Return the real server of one payload of a dump. Kernels before 3.18 do not tell its family: the service's."""
    found = _entry(body, ATTR_DEST)
    family = nlmsg.number(found[DEST_ADDR_FAMILY]) if DEST_ADDR_FAMILY in found else service_family
    method = METHOD_NAMES.get(nlmsg.number(found[DEST_FWD_METHOD]) & FWD_MASK, "bypass")
    server = ServerId(unpacked(family, bytes(found[DEST_ADDR])), _port(found[DEST_PORT]))
    return server, Server(weight=nlmsg.number(found[DEST_WEIGHT]), method=method)


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
    ids: dict[str, ServerId] = {}
    settings: dict[tuple[str, str], Server] = {}
    for line in lines:
        words = line.split()
        try:
            if words[0] == "->":
                if id is None or words[1] == "RemoteAddress:Port":
                    continue
                server = ids.get(words[1]) or ids.setdefault(words[1], ServerId(*_proc_address(words[1])))
                method = words[2], words[3]
                servers[server] = settings.get(method) or settings.setdefault(method, _proc_settings(*method))
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


def _proc_settings(method: str, weight: str) -> Server:
    return Server(int(weight), _PROC_METHODS[method])


def _proc_address(word: str) -> tuple[str, int]:
    address, _, port = word.rpartition(":")
    if address[0] == "[":
        return str(IPv6Address(address[1:-1])), int(port, 16)
    a, b, c, d = bytes.fromhex(address)
    return f"{a}.{b}.{c}.{d}", int(port, 16)
