"""Speakers over real TCP after an end, a change of role or a change of mind: what was told before is still known."""

from typing import Any

import anyio
import pytest
from bgp_neighbours import Hearer
from harness.loopback import Raw, address, config, connection, outside, peer, until, world
from virtual_time import BACKEND

from kube_router.plugins.routing.bgp import session
from kube_router.plugins.routing.bgp.model import Family, Kind, Negotiated, Prefix, prefix_of
from kube_router.plugins.routing.bgp.wire import MessageType

CLUSTER = 0x01010101
MORE = prefix_of("10.244.9.0/24")
PODS = {i: prefix_of(f"10.244.{i}.0/24") for i in (1, 2, 3)}


class Reader:
    """What a neighbour has been told, read when it is asked for."""

    def __init__(self, raw: Raw) -> None:
        self._raw, self._read = raw, 0
        self._hearer = Hearer(Negotiated(asn=64512, router_id=1, internal=False, hold_time_s=90))

    def routes(self) -> set[Prefix]:
        new = self._raw.bodies(MessageType.UPDATE)[self._read :]
        self._read += len(new)
        self._hearer.hear(b"\xff" * 16 + (len(body) + 19).to_bytes(2) + b"\x02" + body for body in new)
        return set(self._hearer.routes)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return BACKEND


async def test_what_was_originated_before_an_end_is_withdrawn_after_it() -> None:
    async with world() as w:
        one, two = w.node(config(1, 2, originated=dict.fromkeys((PODS[1], MORE), Kind.POD))), w.node(config(2, 1))
        await until(lambda: len(two.routes) == 2 and one.routes, "both prefixes")
        one.stop()
        await until(lambda: not two.is_up(1), "the end")
        one.start()
        await until(lambda: two.is_up(1) and two.of(1).helper.stale == frozenset(), "the session again")
        one.become(originated={PODS[1]: Kind.POD})
        await until(lambda: set(two.routes) == {str(PODS[1])}, "a withdrawal")


async def test_what_a_reflector_originated_is_withdrawn_when_it_is_none_any_more() -> None:
    async with world() as w:
        one, two = w.node(config(1, 2, cluster_id=CLUSTER)), w.node(config(2, 1))
        await until(lambda: one.routes and two.routes, "what each has")
        one.become(originated=dict.fromkeys((PODS[1], MORE), Kind.POD))
        await until(lambda: len(two.routes) == 2, "both prefixes")
        one.become(cluster_id=0)
        one.become(originated={PODS[1]: Kind.POD})
        await until(lambda: set(two.routes) == {str(PODS[1])}, "a withdrawal")


async def test_what_was_withdrawn_in_the_moment_before_the_role_ended_is_withdrawn_from_clients() -> None:
    async with world() as w:
        one = w.node(config(1, *(peer(1, i, reflector_client=True) for i in (2, 3)), cluster_id=CLUSTER))
        two, three = w.node(config(2, 1)), w.node(config(3, 1))
        await until(lambda: len(two.routes) == 2 and len(three.routes) == 2, "what is reflected")
        one.speaker.rib.withdraw(address(3), [PODS[3]])  # what an UPDATE does, before anybody is told
        one.become(cluster_id=0)
        await until(lambda: set(two.routes) == {str(PODS[1])}, "a withdrawal")


async def test_what_a_slow_neighbour_has_not_read_yet_is_not_lost_when_it_is_to_be_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session, "BUFFER_HIGH", 1)
    vips = dict.fromkeys([prefix_of(f"100.64.{i}.{j}/32") for i in range(8) for j in range(256)], Kind.SERVICE)
    async with world() as w:
        one = w.node(config(1, outside(1, 2)))
        async with connection(2, 1, receive_buffer=4096) as raw:
            await raw.establish(asn=64514)
            await until(lambda: one.is_up(2), "a session")
            while not one.of(2).has_backlog:
                one.become(originated={PODS[1]: Kind.POD} | vips)
                one.become(originated={PODS[1]: Kind.POD})
            one.become(originated={MORE: Kind.SERVICE})
            one.change(2, communities=(0xFC000064,))
            assert one.of(2).has_backlog
            reader = Reader(raw)
            await until(lambda: reader.routes() == {MORE}, "what it is told at last")


async def test_a_reflector_whose_forwarding_state_is_lost_keeps_nobody_waiting() -> None:
    async with world() as w:
        w.node(config(1, *(peer(1, i, reflector_client=True) for i in (2, 3, 4)), cluster_id=CLUSTER))
        two, three = w.node(config(2, 1)), w.node(config(3, 1))
        await until(lambda: len(two.routes) == 2 and len(three.routes) == 2, "what is reflected", wait_s=5)


async def test_a_reflector_tells_who_kept_nothing_of_it_before_it_has_heard_all() -> None:
    async with world() as w:
        clients = (peer(1, i, reflector_client=True, graceful_restart_s=g) for i, g in ((2, None), (3, 60), (4, 60)))
        one = w.node(config(1, *clients, cluster_id=CLUSTER), preserved=Family)
        two, three = w.node(config(2, peer(2, 1, graceful_restart_s=None))), w.node(config(3, 1))
        await until(lambda: len(two.routes) == 2 and three.is_up(1), "what is reflected", wait_s=5)
        assert three.routes == {}
        await until(lambda: one.speaker.settled and len(three.routes) == 2, "the end of the deferral", wait_s=31)


async def test_a_reflector_that_is_none_any_more_while_it_defers_tells_its_own_at_once() -> None:
    async with world() as w:
        clients = (peer(1, i, reflector_client=True) for i in (2, 3))
        one = w.node(config(1, *clients, cluster_id=CLUSTER), preserved=Family)
        two = w.node(config(2, 1))
        await until(lambda: two.is_up(1) and one.routes, "a session")
        assert two.routes == {}
        one.become(cluster_id=0)
        await until(lambda: set(two.routes) == {str(PODS[1])}, "its own", wait_s=5)


async def test_who_is_reset_by_this_node_before_it_has_said_all_is_waited_for_anew() -> None:
    async with world() as w:
        one = w.node(config(1, peer(1, 2, graceful_restart_s=None)))
        async with connection(2, 1) as raw:
            await raw.establish()
            await until(lambda: one.is_up(2), "a session")
            await anyio.sleep(9)
            one.change(2, hold_time_s=30)
        await anyio.sleep(2)
        assert one.speaker.awaited == {address(2): frozenset()}
