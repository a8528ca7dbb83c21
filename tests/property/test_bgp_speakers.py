"""Speakers over real TCP on virtual time live through random changes; then what each was told is what there is.

After all has come to rest, for every session: what the one end says that it has told is what the other end holds of it,
and it is what a speaker would tell that came to its configuration and its table just now. And what the speaker told its
owner is what its table selects.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import anyio
from harness.loopback import ASN, Node, World, address, config, outside, peer, peers, world
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_time import BACKEND

from kube_router.plugins.routing.bgp import adjout
from kube_router.plugins.routing.bgp.model import Attributes, Family, Kind, NextHop, PeerConfig, Prefix, prefix_of

REST_S = 700.0  # longer than every pause and every time that stale routes are kept
INSIDE, ROUTER = (1, 2, 3), 4
SPEAKERS = (*INSIDE, ROUTER)
PREFIXES = [prefix_of(f"10.{i}.0.0/16") for i in range(4)]
REFUSED = prefix_of("10.1.0.0/16")
COMMUNITIES = (0xFC000064, 0xFFFFFF01, 0xFFFFFF02)


@dataclass
class Wish:
    """What a speaker is to be."""

    me: int
    neighbours: set[int]
    originated: dict[Prefix, Kind] = field(default_factory=dict)
    clients: set[int] = field(default_factory=set)
    cluster_id: int = 0
    hop: int = 0
    router_id: int = 0
    hold_time_s: dict[int, int] = field(default_factory=dict)
    communities: tuple[int, ...] = ()
    rejected: tuple[Prefix, ...] = ()
    outside_pods: bool = True
    graceful: bool = True

    def peer(self, other: int) -> PeerConfig:
        changes = {
            "hold_time_s": self.hold_time_s.get(other, 90),
            "graceful_restart_s": 60 if self.graceful else None,
        }
        if ROUTER in (self.me, other):
            asn = ASN if self.me == ROUTER else ASN + ROUTER
            return outside(self.me, other, asn=asn, communities=self.communities, **changes)
        return peer(self.me, other, reflector_client=other in self.clients, **changes)

    def become(self, node: Node) -> None:
        node.become(
            peers=peers(*(self.peer(other) for other in sorted(self.neighbours))),
            originated=dict(self.originated),
            cluster_id=self.cluster_id,
            router_id=0x0A000000 + 256 * self.router_id + self.me,
            next_hops={Family.IPV4: bytes((10, self.hop, 0, self.me))},
            rejected=self.rejected,
            advertise_pods_externally=self.outside_pods,
        )


@dataclass
class Cast:
    """The speakers of an example; who is stopped says nothing."""

    nodes: dict[int, Node]
    wishes: dict[int, Wish]
    stopped: set[int] = field(default_factory=set)

    def change(self, who: int, edit: Callable[[Wish], None]) -> None:
        edit(self.wishes[who])
        self.wishes[who].become(self.nodes[who])

    def toggle_run(self, who: int, *, preserved: bool) -> None:
        node = self.nodes[who]
        if who in self.stopped:
            node.speaker.set_preserved(tuple(Family) if preserved else ())
            node.start()
        else:
            node.stop()
        self.stopped ^= {who}


Event = Callable[[Cast], None]


def _toggle_origin(wish: Wish, prefix: Prefix, kind: Kind) -> None:
    if wish.originated.pop(prefix, None) is None:
        wish.originated[prefix] = kind


def _toggle(wish: Wish, name: str, item: int) -> None:
    setattr(wish, name, getattr(wish, name) ^ {item})


def _changing(who: st.SearchStrategy[int], edit: st.SearchStrategy[Callable[[Wish], None]]) -> st.SearchStrategy[Event]:
    return st.builds(lambda i, how: lambda cast: cast.change(i, how), who, edit)


def _setting(name: str, values: st.SearchStrategy[object]) -> st.SearchStrategy[Callable[[Wish], None]]:
    return st.builds(lambda value: lambda wish: setattr(wish, name, value), values)


def _hold(wish: Wish, other: int, seconds: int) -> None:
    wish.hold_time_s[other] = seconds


ANYBODY, NODE = st.sampled_from(SPEAKERS), st.sampled_from(INSIDE)
EVENTS: st.SearchStrategy[Event] = st.one_of(
    _changing(
        ANYBODY,
        st.builds(
            lambda prefix, kind: partial(_toggle_origin, prefix=prefix, kind=kind),
            st.sampled_from(PREFIXES),
            st.sampled_from(Kind),
        ),
    ),
    _changing(NODE, _setting("cluster_id", st.sampled_from((0, 1, 2)))),
    _changing(NODE, st.builds(lambda i: partial(_toggle, name="clients", item=i), NODE)),
    _changing(NODE, _setting("hop", st.integers(0, 1))),
    _changing(NODE, _setting("rejected", st.sampled_from(((), (REFUSED,))))),
    _changing(NODE, _setting("outside_pods", st.booleans())),
    _changing(ANYBODY, _setting("communities", st.sampled_from(((), COMMUNITIES[:1], COMMUNITIES[1:2])))),
    _changing(NODE, _setting("router_id", st.integers(0, 1))),
    _changing(ANYBODY, _setting("graceful", st.booleans())),
    _changing(NODE, st.builds(lambda i, s: partial(_hold, other=i, seconds=s), NODE, st.sampled_from((30, 90)))),
    st.builds(lambda i, kept: lambda cast: cast.toggle_run(i, preserved=kept), ANYBODY, st.booleans()),
)
WAITS = st.sampled_from((0.0, 0.0, 0.001, 0.02, 0.5, 3.0, 80.0))


async def start(w: World) -> Cast:
    wishes = {i: Wish(i, set(SPEAKERS) - {i} if i in (1, ROUTER) else set(INSIDE) - {i}) for i in SPEAKERS}
    wishes[ROUTER].neighbours = {1}
    nodes = {}
    for i, wish in wishes.items():
        wish.originated = {PREFIXES[i - 1]: Kind.POD}
        nodes[i] = w.node(config(i, asn=ASN + ROUTER if i == ROUTER else ASN))
        wish.become(nodes[i])
    return Cast(nodes, wishes)


def told(node: Node, to: int) -> dict[Prefix, tuple[Attributes, NextHop]]:
    """Return what a speaker has told, as it remembers it."""
    group = node.of(to).group
    assert group is not None
    return {p: (each.attributes, each.next_hop) for p, each in group.announced(address(to))}


def would_tell(node: Node, to: int) -> dict[Prefix, tuple[Attributes, NextHop]]:
    """Return what it would tell had it come to be what it is just now."""
    neighbour = node.of(to)
    assert neighbour.peer.negotiated is not None
    group = adjout.Group(node.config, neighbour.config, neighbour.peer.negotiated)
    group.members.add(address(to))
    group.changed(dict(node.speaker.rib.each_selection()))
    return {p: (each.attributes, each.next_hop) for p, each in group.announced(address(to))}


def heard(node: Node, of: int) -> dict[Prefix, tuple[Attributes, NextHop]]:
    return {p: (path.attributes, path.next_hop) for p, path in node.speaker.rib.routes_of(address(of))}


def check(cast: Cast) -> None:
    running = [i for i in SPEAKERS if i not in cast.stopped]
    for i in running:
        node = cast.nodes[i]
        selected = {str(p) for p, each in node.speaker.rib.each_selection() if each.best.peer}
        assert set(node.routes) == selected, f"{i} told its owner something else"
        assert node.speaker.settled
        for j in cast.wishes[i].neighbours:
            assert node.is_up(j) == (j in running), f"{i} with {j}: {node.of(j).peer.last_error}"
            if j in running:
                assert told(node, j) == would_tell(node, j), f"{i} told {j}"
                assert heard(cast.nodes[j], i) == told(node, j), f"{j} of {i}"
                assert node.speaker.rib.stale(address(j)) == 0
            else:
                assert heard(node, j) == {}


@given(events=st.lists(st.tuples(EVENTS, WAITS), max_size=12))
@settings(max_examples=25)
def test_whatever_happened_each_neighbour_knows_what_it_is_to_know(events: list[tuple[Event, float]]) -> None:
    async def live() -> None:
        async with world() as w:
            cast = await start(w)
            for event, wait_s in events:
                event(cast)
                await anyio.sleep(wait_s)
            await anyio.sleep(REST_S)
            check(cast)

    anyio.run(live, backend=BACKEND[0], backend_options=BACKEND[1])
