"""Hypothesis strategies: what one BGP speaker may tell another."""

from hypothesis import strategies as st

from kube_router.plugins.routing.bgp.caps import Capabilities
from kube_router.plugins.routing.bgp.model import (
    Attributes,
    Family,
    GracefulRestart,
    NextHop,
    Origin,
    Prefix,
    Segment,
    SegmentType,
    Unknown,
)

numbers = st.integers(0, 0xFFFFFFFF)
asns = st.sampled_from((1, 23456, 65001, 65535, 65536, 4200000000, 0xFFFFFFFF))
segments = st.builds(
    Segment,
    st.sampled_from((SegmentType.AS_SEQUENCE, SegmentType.AS_SET)),
    st.lists(asns, min_size=1, max_size=5).map(tuple),
)
KNOWN = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 14, 15, 16, 17, 18, 32}
unknowns = st.builds(
    Unknown, st.just(0xE0), st.integers(0, 255).filter(lambda kind: kind not in KNOWN), st.binary(max_size=300)
)
attributes = st.builds(
    Attributes,
    origin=st.sampled_from(Origin),
    as_path=st.lists(segments, max_size=3).map(tuple),
    med=st.none() | numbers,
    local_pref=st.none() | numbers,
    atomic_aggregate=st.booleans(),
    aggregator=st.none() | st.tuples(asns, st.binary(min_size=4, max_size=4)),
    communities=st.lists(numbers, max_size=70).map(tuple),
    extended_communities=st.lists(st.binary(min_size=8, max_size=8), max_size=3).map(tuple),
    large_communities=st.lists(st.tuples(numbers, numbers, numbers), max_size=3, unique=True).map(tuple),
    originator_id=st.none() | numbers,
    cluster_list=st.lists(numbers, max_size=3).map(tuple),
    others=st.lists(unknowns, max_size=2, unique_by=lambda other: other.type).map(
        lambda others: tuple(sorted(others, key=lambda other: other.type))
    ),
)


@st.composite
def prefixes_of(draw: st.DrawFn, family: Family) -> Prefix:
    size = 4 if family is Family.IPV4 else 16
    length = draw(st.integers(0, size * 8))
    bits = draw(st.integers(0, (1 << length) - 1))
    return Prefix((bits << size * 8 - length).to_bytes(size), length)


prefixes = prefixes_of(Family.IPV4) | prefixes_of(Family.IPV6)
hops4 = st.sampled_from((NextHop(b"\x0a\0\0\1"), NextHop(b"\xc0\0\2\1")))
hops6 = st.sampled_from((NextHop(b"\xfd" + bytes(15)), NextHop(b"\xfd" + bytes(15), b"\xfe\x80" + bytes(13) + b"\1")))
announcements = st.one_of(
    st.tuples(st.lists(prefixes_of(Family.IPV4), min_size=1, max_size=40), hops4 | hops6),
    st.tuples(st.lists(prefixes_of(Family.IPV6), min_size=1, max_size=40), hops6),
)
families = st.sampled_from([frozenset(one) for one in ((), (Family.IPV4,), (Family.IPV6,), tuple(Family))])
modes = st.tuples(st.integers(0, 3), st.integers(0, 3)).map(
    lambda both: {family: mode for family, mode in zip(Family, both, strict=True) if mode}
)
capabilities = st.builds(
    Capabilities,
    families=families.filter(bool),
    four_octet_asn=st.none(),
    add_path=modes,
    extended_next_hop=families,
    graceful_restart=st.none()
    | st.builds(
        GracefulRestart,
        restarting=st.booleans(),
        notification=st.booleans(),
        time_s=st.integers(0, 4095),
        families=modes.map(lambda both: {family: mode > 1 for family, mode in both.items()}),
    ),
    route_refresh=st.booleans(),
    enhanced_refresh=st.booleans(),
    extended_message=st.booleans(),
    unknown=st.lists(st.tuples(st.sampled_from((0, 71, 73, 128, 255)), st.binary(max_size=255)), max_size=5).map(tuple),
)
