"""Next hops as bytes: NEXT_HOP's four octets, or the field of MP_REACH_NLRI (pure).

Whether a next hop can be reached, or is ourselves, is not known here; only what no host could have as its address.
"""

from functools import lru_cache
from typing import NamedTuple

from kube_router.plugins.routing.bgp.model import Family, NextHop

NEXT_HOPS_MAX = 4096  # remembered, so that many routes share one

# IPv4 prefixes with a next hop of 4 octets belong into fields of their own, but BIRD sends them in MP_REACH_NLRI once
# RFC 8950 is agreed on. 32 octets are a global address and a link-local one (RFC 2545).
SIZES = {Family.IPV4: (4, 16, 32), Family.IPV6: (16, 32)}


class Told(NamedTuple):
    """A next hop as a message tells it. ``nobody`` says what it is if it is no host's (RFC 4271 section 6.3)."""

    next_hop: NextHop
    nobody: str = ""


@lru_cache(maxsize=NEXT_HOPS_MAX)
def parse_next_hop(octets: bytes) -> Told:
    """Return the next hop in 4, 16 or 32 octets; the link-local address counts where there is no global one."""
    address, link_local = octets[:16], octets[16:]
    if link_local and not any(address):
        address = link_local
    return Told(NextHop(address, link_local), _nobody4(address) if len(address) == 4 else _nobody16(address))


def _nobody4(address: bytes) -> str:
    first = address[0]
    if first == 0:
        return "of the unspecified network"
    if first == 127:
        return "a loopback address"
    if 224 <= first < 240:
        return "a multicast address"
    return "the broadcast address" if address == b"\xff\xff\xff\xff" else ""


def _nobody16(address: bytes) -> str:
    if not any(address):
        return "the unspecified address"
    if not any(address[:15]) and address[15] == 1:
        return "the loopback address"
    return "a multicast address" if address[0] == 0xFF else ""
