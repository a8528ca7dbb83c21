"""What one value means that an operator wrote into a flag or an annotation (pure).

Every function raises ValueError with words that follow the value: ``'x' is no AS number``. Whether that stops the
agent (a flag) or leaves out one item (an annotation) is for the caller to say. Numbers are Go's: decimal, 0x, 0o.
"""

import base64
import binascii
import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from kube_router.core import pflag
from kube_router.events import canonical
from kube_router.plugins.routing.bgp.model import AS_TRANS, Family, Prefix

BFD_INTERVAL_MAX_MS = 4294967  # in microseconds it has to fit 32 bits (RFC 5880 section 4.1)
ASN_MAX = 4294967294  # RFC 7300 reserves the last one
PORT_MAX = 65535
PASSWORD_BYTES_MAX = 80  # TCP_MD5SIG_MAXKEYLEN (linux/tcp.h)
PREFIXES_MAX = 16384  # kept parsed: two of each of some thousand nodes
UINT16_MAX, UINT32_MAX = 0xFFFF, 0xFFFFFFFF

# RFC 5396 writes AS numbers in decimal. Reserved are: 0 (RFC 7607), 23456 (6793), 64496-64511 and 65536-65551 (5398,
# documentation), 65535 and 4294967295 (7300), and what IANA keeps between them.
EXTERNAL_ASNS = ((1, 23455), (23457, 63999), (64512, 65534), (131072, ASN_MAX))
CLUSTER_ASNS = ((64512, 65535), (4200000000, ASN_MAX))
NODE_ASNS = ((1, AS_TRANS - 1), (AS_TRANS + 1, ASN_MAX))

# IANA's registry of well-known communities, in the spelling that people use in configurations.
WELL_KNOWN_COMMUNITIES = {
    "internet": 0x00000000,
    "planned-shut": 0xFFFF0000,
    "graceful-shutdown": 0xFFFF0000,
    "accept-own": 0xFFFF0001,
    "route-filter-translated-v4": 0xFFFF0002,
    "route-filter-v4": 0xFFFF0003,
    "route-filter-translated-v6": 0xFFFF0004,
    "route-filter-v6": 0xFFFF0005,
    "llgr-stale": 0xFFFF0006,
    "no-llgr": 0xFFFF0007,
    "accept-own-nexthop": 0xFFFF0008,
    "blackhole": 0xFFFF029A,
    "no-export": 0xFFFFFF01,
    "no-advertise": 0xFFFFFF02,
    "no-export-subconfed": 0xFFFFFF03,
    "no-peer": 0xFFFFFF04,
}

_is_community = re.compile(r"[0-9]{1,10}(?::[0-9]{1,10}){0,2}", re.ASCII).fullmatch

LargeCommunity = tuple[int, int, int]


def number(value: object) -> int:
    """Return a whole number that YAML or a text holds."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        try:
            return pflag.integer(value.strip())
        except ValueError as error:
            raise ValueError(f"is not {error}") from None
    raise ValueError("is not a whole number")


def between(value: object, low: int, high: int) -> int:
    """Return a whole number within bounds."""
    found = number(value)
    if not low <= found <= high:
        raise ValueError(f"is not within {low}-{high}")
    return found


def asn(value: object, ranges: tuple[tuple[int, int], ...] = EXTERNAL_ASNS) -> int:
    """Return an AS number that may be used."""
    found = between(value, 0, UINT32_MAX)
    if not any(low <= found <= high for low, high in ranges):
        allowed = ", ".join(f"{low}-{high}" for low, high in ranges)
        raise ValueError(f"is a reserved AS number (allowed: {allowed})")
    return found


def port(value: object) -> int:
    """Return a TCP or UDP port."""
    return between(value, 1, PORT_MAX)


def cluster_id(text: str) -> int:
    """Return a route reflector's cluster id, which may be written as a number or as an IPv4 address."""
    address = canonical.address(text.strip())
    if address is not None and ":" not in address:
        found = int(IPv4Address(address))
    else:
        try:
            found = between(text, 0, UINT32_MAX)
        except ValueError:
            raise ValueError(f"is no cluster id (1-{UINT32_MAX} or an IPv4 address)") from None
    if not found:
        raise ValueError("is no cluster id: 0 identifies nothing")
    return found


def address(value: object) -> str:
    """Return an address in canonical text."""
    found = canonical.address(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ValueError("is no IP address")
    return found


def unicast(value: object) -> str:
    """Return an address that a neighbour can have and that means the same on every node."""
    found = address(value)
    parsed = ip_address(found)
    if parsed.is_unspecified or parsed.is_multicast or found == "255.255.255.255":
        raise ValueError("is no address of a host")
    if isinstance(parsed, IPv6Address) and parsed.is_link_local:
        raise ValueError("is link-local: it means nothing without an interface")
    return found


@lru_cache(maxsize=PREFIXES_MAX)  # the pod CIDRs of all nodes are read again whenever one of these changes
def prefix(text: str) -> Prefix:
    """Return a CIDR; host bits are cleared."""
    found = canonical.network(text)
    if found is None:
        raise ValueError("is no CIDR such as 10.0.0.0/8 or 2001:db8::/32")
    network = ip_network(found)
    return Prefix(network.network_address.packed, network.prefixlen)


def community(text: str) -> int | LargeCommunity:
    """Return a community (RFC 1997: a number, ``64512:100``, a name) or a large one (RFC 8092: ``64512:1:2``)."""
    known = WELL_KNOWN_COMMUNITIES.get(text.strip().lower().replace("_", "-"))
    if known is not None:
        return known
    parts = [int(part) for part in text.strip().split(":")] if _is_community(text.strip()) else []
    if len(parts) == 1 and parts[0] <= UINT32_MAX:
        return parts[0]
    if len(parts) == 2 and max(parts) <= UINT16_MAX:
        return parts[0] << 16 | parts[1]
    if len(parts) == 3 and max(parts) <= UINT32_MAX:
        return parts[0], parts[1], parts[2]
    raise ValueError("is no community (a 32-bit number, 64512:100, 64512:1:2 or a well-known name such as no-export)")


def password(text: str) -> str:
    """Return the password that base64 text stands for. No message quotes it."""
    try:
        key = base64.b64decode("".join(text.split()), validate=True)
        found = key.decode()
    except (binascii.Error, ValueError):
        raise ValueError("the password is no base64 of UTF-8 text") from None
    if len(key) > PASSWORD_BYTES_MAX:
        raise ValueError(f"the password is longer than the {PASSWORD_BYTES_MAX} bytes that TCP-MD5 takes")
    return found


def family(text: str) -> Family:
    """Return the family of a canonical address or CIDR."""
    return Family.IPV6 if ":" in text else Family.IPV4


def packed(text: str) -> bytes:
    """Return a canonical address as bytes in network order."""
    return ip_address(text).packed


def items(text: str) -> list[tuple[int, str]]:
    """Return the items of a comma list that are not blank, trimmed, each with its place."""
    return [(i, item.strip()) for i, item in enumerate(text.split(",")) if item.strip()]


def fnv1a(data: bytes) -> int:
    """Return the FNV-1a hash of 32 bits."""
    found = 0x811C9DC5
    for octet in data:
        found = (found ^ octet) * 0x01000193 & UINT32_MAX
    return found
