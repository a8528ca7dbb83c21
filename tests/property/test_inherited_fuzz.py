"""Whatever a dump of routes or rules holds: what is recognised is one of it, and carries none of our marks."""

from contextlib import suppress

from hypothesis import example, given
from hypothesis import strategies as st

from kube_router.core import nlmsg
from kube_router.core.nlmsg import Malformed
from kube_router.plugins.routing import inherited
from kube_router.plugins.routing.rtnetlink import RTMSG

CIDRS = ("10.244.2.0/24", "fd00:244:2::/64")
ADDRESSES = st.sampled_from([bytes([10, 244, 2, 0]), bytes.fromhex("fd000244000200000000000000000000"), b"x"])
NUMBERS = st.sampled_from([77, 254, 3, 4]).map(nlmsg.U32.pack)
PROTOCOLS = st.sampled_from([0, 17, 75])
MORE = st.lists(st.builds(nlmsg.attr, st.integers(0, 30), st.binary(max_size=17)), max_size=1).map(b"".join)


def attributes(*kinds: tuple[int, st.SearchStrategy[bytes]]) -> st.SearchStrategy[bytes]:
    """Return attributes of these kinds, most of them there, and perhaps one more."""
    each = [st.builds(nlmsg.attr, st.just(kind), value) | st.just(b"") for kind, value in kinds]
    return st.builds(lambda *parts: b"".join(parts), *each, MORE)


ROUTES = st.builds(
    lambda family, bits, table, protocol, rest: (
        RTMSG.pack(family, bits, 0, 0, table, protocol, 0, 1, 0) + rest  # a unicast route
    ),
    *map(st.sampled_from, ([2, 10], [0, 24, 64], [77, 254])),
    PROTOCOLS,
    attributes((1, ADDRESSES), (4, NUMBERS), (15, NUMBERS)),
)
RULES = st.builds(
    lambda family, bits, rest: RTMSG.pack(family, 0, bits, 0, 77, 0, 0, 1, 0) + rest,  # look into a table
    *map(st.sampled_from, ([2, 10], [0, 24, 64])),
    attributes((2, ADDRESSES), (6, NUMBERS), (15, NUMBERS), (21, PROTOCOLS.map(lambda number: bytes([number])))),
)
OCTETS = st.builds(lambda header, rest: header + rest, st.binary(min_size=12, max_size=12), st.binary() | MORE)
BODIES = (ROUTES | RULES | OCTETS).map(lambda octets: memoryview(octets))
MARKED = RTMSG.pack(2, 24, 0, 0, 254, 75, 0, 1, 0) + nlmsg.attr(1, bytes([10, 244, 2, 0]))


@given(st.lists(BODIES, max_size=4))
@example([memoryview(MARKED)])
def test_only_what_was_dumped_is_deleted_and_nothing_of_ours(bodies: list[memoryview]) -> None:
    deleted: list[bytes] = []
    with suppress(Malformed):
        deleted += inherited.its_routes(bodies, CIDRS, (3,))
    with suppress(Malformed):
        deleted += inherited.its_rules(bodies)
    with suppress(Malformed):
        inherited.advertised(bodies)
    for request in deleted:
        body = request[nlmsg.HEADER.size :]
        assert body in [bytes(each) for each in bodies]
        its = nlmsg.attributes(memoryview(body), RTMSG.size)
        is_route = nlmsg.HEADER.unpack_from(request)[1] == 25
        protocol = body[5] if is_route else (its[21][0] if 21 in its else 0)
        assert protocol != 75
