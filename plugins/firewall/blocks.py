"""Blocks of addresses minus their exceptions, as the fewest ranges there are, in nft's words (pure).

Ranges are pairs of integers, both ends included. Several blocks of a rule are one union: what one of them excepts
another may hold. So nothing has to be excepted in the kernel, and no two intervals of a set overlap.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from kube_router.events.model import IPBlock
from kube_router.plugins.firewall.model import IPV4, IPV6, Family

Range = tuple[int, int]
BITS = {IPV4: 32, IPV6: 128}


def ranges_of(blocks: Iterable[IPBlock], family: Family) -> list[Range]:
    """Return what blocks of one family hold, merged and in order. Blocks of the other family are left out.

    Raises ValueError for what is no CIDR: a policy that holds such a block is refused before.
    """
    kept: list[Range] = []
    for block in blocks:
        network = ip_network(block.cidr, strict=False)
        if network.version == family.number:
            excepted = merged([_range(ip_network(text, strict=False)) for text in block.excepts])
            kept += _without(_range(network), excepted)
    return merged(kept)


def _range(network: IPv4Network | IPv6Network) -> Range:
    first = int(network.network_address)
    return first, first + network.num_addresses - 1


def merged(ranges: Iterable[Range]) -> list[Range]:
    """Return the same addresses in as few ranges as possible, in order."""
    found: list[Range] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(found[-1][1], last)
        else:
            found.append((first, last))
    return found


def _without(whole: Range, excepted: Iterable[Range]) -> list[Range]:
    """Return what is left of a range; ``excepted`` is merged and in order."""
    left, (first, end) = [], whole
    for low, high in excepted:
        if high < first or low > end:
            continue
        if low > first:
            left.append((first, low - 1))
        first = high + 1
    if first <= end:
        left.append((first, end))
    return left


def text(range: Range, family: Family) -> str:
    """Return a range as nft lists it: an address, a network where it is one, else both ends."""
    first, last = range
    address = IPv4Address if family is IPV4 else IPv6Address
    size = last - first + 1
    if size == 1:
        return str(address(first))
    if size & (size - 1) == 0 and first % size == 0:
        return f"{address(first)}/{BITS[family] - size.bit_length() + 1}"
    return f"{address(first)}-{address(last)}"
