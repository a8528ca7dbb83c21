"""Speakers over real TCP after an end, a change of role or a change of mind: what was told before is still known."""

from typing import Any

import pytest
from harness.loopback import address, config, peer, until, world
from virtual_time import BACKEND

from kube_router.plugins.routing.bgp.model import Kind, prefix_of

CLUSTER = 0x01010101
MORE = prefix_of("10.244.9.0/24")
PODS = {i: prefix_of(f"10.244.{i}.0/24") for i in (1, 2, 3)}


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
