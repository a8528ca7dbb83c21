"""Blocks minus their exceptions: exactly the addresses that are left, in the fewest ranges."""

import time
from ipaddress import IPv4Network
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube_router.events.model import IPBlock
from kube_router.plugins.firewall.blocks import merged, ranges_of, text
from kube_router.plugins.firewall.model import IPV4, IPV6, family_of

MANY = 10_000


def left(*blocks: IPBlock) -> list[str]:
    """Return what blocks hold, in nft's words."""
    family = family_of(blocks[0].cidr)
    return [text(found, family) for found in ranges_of(blocks, family)]


@pytest.mark.parametrize(
    ("cidr", "excepts", "ranges"),
    [
        ("10.0.0.0/8", (), ["10.0.0.0/8"]),
        ("10.0.0.5/32", (), ["10.0.0.5"]),
        ("10.1.2.3/8", (), ["10.0.0.0/8"]),
        ("0.0.0.0/0", (), ["0.0.0.0/0"]),
        ("0.0.0.0/0", ("10.0.0.0/8",), ["0.0.0.0-9.255.255.255", "11.0.0.0-255.255.255.255"]),
        ("0.0.0.0/0", ("0.0.0.0/1",), ["128.0.0.0/1"]),
        ("0.0.0.0/0", ("0.0.0.0/32", "255.255.255.255/32"), ["0.0.0.1-255.255.255.254"]),
        ("10.0.0.0/24", ("10.0.0.0/25", "10.0.0.128/25"), []),
        ("10.0.0.0/24", ("10.0.0.8/29", "10.0.0.10/31", "10.0.0.12/30"), ["10.0.0.0/29", "10.0.0.16-10.0.0.255"]),
        ("10.0.0.0/24", ("10.0.0.200/25",), ["10.0.0.0/25"]),
        ("10.0.0.0/30", ("10.0.0.1/32",), ["10.0.0.0", "10.0.0.2/31"]),
        ("10.0.0.0/24", ("10.0.1.0/24", "9.0.0.0/8"), ["10.0.0.0/24"]),
        ("::/0", (), ["::/0"]),
        ("::/0", ("8000::/1",), ["::/1"]),
        ("fd00::/64", ("fd00::/65",), ["fd00::8000:0:0:0/65"]),
        ("fd00::/126", ("fd00::1/128",), ["fd00::", "fd00::2/127"]),
    ],
)
def test_what_is_left_of_a_block(cidr: str, excepts: tuple[str, ...], ranges: list[str]) -> None:
    assert left(IPBlock(cidr=cidr, excepts=excepts)) == ranges


def test_blocks_that_touch_or_overlap_become_one_range() -> None:
    assert left(IPBlock(cidr="10.0.1.0/24"), IPBlock(cidr="10.0.0.0/24")) == ["10.0.0.0/23"]
    assert left(IPBlock(cidr="10.0.0.0/8"), IPBlock(cidr="10.1.0.0/16")) == ["10.0.0.0/8"]
    assert left(IPBlock(cidr="10.0.0.1/32"), IPBlock(cidr="10.0.0.2/32")) == ["10.0.0.1-10.0.0.2"]


def test_what_one_block_excepts_another_may_hold() -> None:
    blocks = IPBlock(cidr="10.0.0.0/8", excepts=("10.1.0.0/16",)), IPBlock(cidr="10.1.2.0/24")
    assert left(*blocks) == ["10.0.0.0/16", "10.1.2.0/24", "10.2.0.0-10.255.255.255"]


def test_blocks_of_the_other_family_are_left_out() -> None:
    blocks = [IPBlock(cidr="10.0.0.0/8"), IPBlock(cidr="::/0")]
    assert ranges_of(blocks, IPV4) == [(10 << 24, (11 << 24) - 1)]
    assert ranges_of(blocks, IPV6) == [(0, (1 << 128) - 1)]


def test_what_is_no_cidr_is_an_error_for_the_caller() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        ranges_of([IPBlock(cidr="nonsense")], IPV4)


def test_ten_thousand_exceptions_and_ten_thousand_blocks_take_a_moment() -> None:
    hosts = [f"10.{n >> 8}.{n & 255}.1/32" for n in range(MANY)]
    began = time.monotonic()
    between = left(IPBlock(cidr="10.0.0.0/8", excepts=tuple(hosts)))
    apart = left(*(IPBlock(cidr=host) for host in hosts))
    assert time.monotonic() - began < 5.0
    assert between[:3] == ["10.0.0.0", "10.0.0.2-10.0.1.0", "10.0.1.2-10.0.2.0"]
    assert len(between) == MANY + 1
    assert apart == [host.removesuffix("/32") for host in hosts]


# -- held against ipaddress --------------------------------------------------------------------------------------------


def small(top: int, low: int) -> st.SearchStrategy[IPv4Network]:
    """Return networks inside 10.0.0.0/24."""
    first = int(IPv4Network("10.0.0.0/24")[0])
    return st.builds(
        lambda length, host: IPv4Network((first + host, length), strict=False),
        st.integers(top, low),
        st.integers(0, 255),
    )


@given(small(24, 30), small(25, 32))
def test_one_exception_leaves_what_address_exclude_leaves(whole: IPv4Network, excepted: IPv4Network) -> None:
    found = ranges_of([IPBlock(cidr=str(whole), excepts=(str(excepted),))], IPV4)
    if excepted.subnet_of(whole):
        wanted = merged((int(part[0]), int(part[-1])) for part in whole.address_exclude(excepted))
    else:
        wanted = [] if whole.subnet_of(excepted) else [(int(whole[0]), int(whole[-1]))]
    assert found == wanted


@given(st.lists(st.tuples(small(24, 32), st.lists(small(25, 32), max_size=4)), max_size=4))
def test_ranges_hold_exactly_the_addresses_that_are_left_and_could_not_be_fewer(
    blocks: list[tuple[IPv4Network, list[IPv4Network]]],
) -> None:
    found = ranges_of((IPBlock(cidr=str(whole), excepts=tuple(map(str, excepts))) for whole, excepts in blocks), IPV4)
    wanted: set[int] = set()
    for whole, excepts in blocks:
        wanted |= set(map(int, whole)).difference(*(map(int, each) for each in excepts))
    assert {address for first, last in found for address in range(first, last + 1)} == wanted
    assert sum(last - first + 1 for first, last in found) == len(wanted)
    assert all(last + 1 < first for (_, last), (first, _) in pairwise(found))


@given(small(24, 32))
def test_a_network_is_written_as_itself(network: IPv4Network) -> None:
    assert left(IPBlock(cidr=str(network))) == [str(network).removesuffix("/32")]
