"""Addresses, networks, ports and names in the one form that events and models hold (decision: canonical text).

Everything here is total: it returns the canonical value, or None (``0`` for a port) for what is none, and the caller
says what that means for its object. Text that is canonical already, which is nearly all of it, is returned as it is.

What the Go side does is followed where it differs from ``ipaddress``: an IPv4-mapped IPv6 address is that IPv4
address. A zone (``fe80::1%eth0``) is refused: no such address means anything to another node.
"""

import ipaddress
import re
import sys
from collections.abc import Mapping
from functools import lru_cache

from kube_router.events.model import ContainerPort

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_is_ipv4 = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}", re.ASCII).fullmatch
_is_name = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?", re.ASCII).fullmatch
_is_prefix = re.compile(r"[^/%]+/[0-9]{1,3}", re.ASCII).fullmatch

PORT_MAX = 65535
PROTOCOLS: Mapping[str, str] = {"TCP": "TCP", "UDP": "UDP", "SCTP": "SCTP"}

# Bounds of the caches below: enough for the label sets of 8k workloads; a cache that is too small costs time only.
SHARED_LABELS_MAX = 8192
SHARED_PORTS_MAX = 4096
IPV6_MAX = 8192

intern = sys.intern


def address(text: str) -> str | None:
    """Return the address in canonical text, None for what is none."""
    return text if _is_ipv4(text) else _ipv6(text)


def family(canonical: str) -> str:
    """Return ``IPv4`` or ``IPv6`` for an address that ``address`` returned."""
    return "IPv6" if ":" in canonical else "IPv4"


@lru_cache(maxsize=IPV6_MAX)
def _ipv6(text: str) -> str | None:
    if "%" in text:
        return None
    try:
        parsed = ipaddress.IPv6Address(text)
    except ValueError:
        return None
    return str(parsed.ipv4_mapped or parsed)


def network(text: str) -> str | None:
    """Return the CIDR with its host bits cleared, None for what is none (a prefix length is asked for)."""
    text = text.strip()
    if not _is_prefix(text):
        return None
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        return None


def is_port(number: int | None) -> bool:
    """Whether the number is a port that can be served."""
    return number is not None and 1 <= number <= PORT_MAX


def is_name(text: str) -> bool:
    """Whether the text is a DNS subdomain (RFC 1123), as the names of all our kinds are."""
    return _is_name(text) is not None


def labels(written: dict[str, str | None] | None) -> Mapping[str, str]:
    """Return the labels, shared between all objects that carry the same ones. Not to be changed."""
    return _shared_labels(tuple(written.items())) if written else _NO_LABELS


_NO_LABELS: Mapping[str, str] = {}


@lru_cache(maxsize=SHARED_LABELS_MAX)
def _shared_labels(items: tuple[tuple[str, str | None], ...]) -> Mapping[str, str]:
    # Go reads a null in a map of strings as the empty string.
    return {intern(name): intern(value or "") for name, value in items}


@lru_cache(maxsize=SHARED_PORTS_MAX)
def container_ports(ports: tuple[tuple[str, str, int], ...]) -> tuple[ContainerPort, ...]:
    """Return the named ports (name, protocol, number), shared between all pods that have the same ones."""
    return tuple(ContainerPort(name=intern(name), protocol=protocol, port=port) for name, protocol, port in ports)
