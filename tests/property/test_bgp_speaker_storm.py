"""Law 1 for speakers that speak: what each has and tells depends on what all are told to be, not on the way there.

Four speakers over real TCP on virtual time live through a storm of configurations, resets, ends and starts. Then four
new ones are told the last configurations alone. Both must end with the same sessions, routes and Adj-RIB-Outs.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import anyio
import pytest
from harness.loopback import Node, address, config, peer, world
from virtual_time import BACKEND

from kube_router.plugins.routing.bgp.model import Attributes, Family, Kind, Prefix, SpeakerConfig, prefix_of
from kube_router.plugins.routing.bgp.policy import Exported

NODES = (1, 2, 3, 4)
STORMS = 12
STEPS_MAX = 60
CALM_S = 900  # more than every timer
PREFIXES = [prefix_of(f"10.{i}.{j}.0/24") for i in (200, 201) for j in range(4)]
PAUSES_S = (0, 0.002, 0.011, 0.05, 1, 12, 40)


class Seen(NamedTuple):
    """A speaker in the end."""

    routes: Mapping[str, tuple[list[str], Attributes]]
    told: Mapping[str, list[tuple[Prefix, Exported]]]  # by neighbour
    sessions: Mapping[str, bool]
    stale: int


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return BACKEND


def own(dice: random.Random, now: SpeakerConfig, me: int) -> SpeakerConfig:
    some = dice.sample(PREFIXES, dice.randrange(len(PREFIXES)))
    return replace(now, originated={prefix: dice.choice(list(Kind)) for prefix in some})


def role(dice: random.Random, now: SpeakerConfig, me: int) -> SpeakerConfig:
    return replace(now, cluster_id=dice.choice((0, 0, 7, 8)))


def next_hop(dice: random.Random, now: SpeakerConfig, me: int) -> SpeakerConfig:
    return replace(now, next_hops={Family.IPV4: bytes((10, 0, dice.randrange(3), me))})


def router_id(dice: random.Random, now: SpeakerConfig, me: int) -> SpeakerConfig:
    return replace(now, router_id=0x0A000000 + dice.randrange(2) * 256 + me)


def fewer(dice: random.Random, now: SpeakerConfig, me: int) -> SpeakerConfig:
    left = dict(now.peers)
    left.pop(address(dice.choice(NODES)), None)
    return replace(now, peers=left)


def more(dice: random.Random, now: SpeakerConfig, me: int) -> SpeakerConfig:
    other = dice.choice([node for node in NODES if node != me])
    return replace(now, peers={address(other): peer(me, other), **now.peers})


def otherwise(dice: random.Random, now: SpeakerConfig, me: int) -> SpeakerConfig:
    """Return it with a neighbour that is to be treated otherwise; of some changes its session takes notice."""
    if not now.peers:
        return now
    where = dice.choice(sorted(now.peers))
    changes: dict[str, Any] = dice.choice((
        {"reflector_client": dice.random() < 0.5},
        {"communities": dice.choice(((), (5,), (6,)))},
        {"next_hop_self": dice.random() < 0.5},
        {"mesh": dice.random() < 0.7},
        {"hold_time_s": dice.choice((0, 30, 90))},
        {"graceful_restart_s": dice.choice((None, 60))},
    ))  # fmt: skip
    return replace(now, peers={**now.peers, where: replace(now.peers[where], **changes)})


CHANGES: tuple[Callable[[random.Random, SpeakerConfig, int], SpeakerConfig], ...] = (
    own, own, own, role, next_hop, router_id, fewer, more, otherwise, otherwise
)  # fmt: skip


def seen(node: Node) -> Seen:
    """Return what became of a speaker; of its routes those that its settling leaves."""
    assert node.speaker.settled
    held = {str(prefix) for prefix, selection in node.speaker.rib.each_selection() if selection.best.peer}
    neighbours = node.speaker.neighbours.items()
    return Seen(
        routes={prefix: (hops, node.best[prefix]) for prefix, hops in node.routes.items() if prefix in held},
        told={where: each.group.announced(where) if each.group else [] for where, each in neighbours},
        sessions={where: each.peer.established_at is not None for where, each in neighbours},
        stale=sum(node.speaker.rib.stale(where) for where, _ in neighbours),
    )


def cut(dice: random.Random, node: Node) -> None:
    """End one of its sessions, gracefully where both can or not."""
    if neighbours := list(node.speaker.neighbours.values()):
        dice.choice(neighbours).peer.reset(6, 8, "storm", hard=dice.random() < 0.5)


async def storm(dice: random.Random, configs: dict[int, SpeakerConfig]) -> dict[int, Seen]:
    """Return what becomes of speakers; ``configs`` are the last ones when it is over."""
    async with world() as w:
        nodes = {me: w.node(first, preserved=dice.choice(((), tuple(Family)))) for me, first in configs.items()}
        ended = set[int]()
        for _ in range(dice.randrange(10, STEPS_MAX)):
            me, chance = dice.choice(NODES), dice.random()
            if chance < 0.12 and me not in ended:
                nodes[me].stop()
                ended.add(me)
            elif chance < 0.35 and me in ended:
                await anyio.sleep(0.01)
                nodes[me].start()
                ended.discard(me)
            elif chance < 0.45:
                cut(dice, nodes[me])
            else:
                now = configs[me] = dice.choice(CHANGES)(dice, configs[me], me)
                nodes[me].speaker.configure(now)
            if dice.random() < 0.6:
                await anyio.sleep(dice.choice(PAUSES_S))
        await anyio.sleep(0.05)
        for me in ended:
            nodes[me].start()
        await anyio.sleep(CALM_S)
        return {me: seen(node) for me, node in nodes.items()}


async def calm(configs: Mapping[int, SpeakerConfig]) -> dict[int, Seen]:
    """Return what becomes of new speakers that are told these configurations alone."""
    async with world() as w:
        nodes = {me: w.node(each) for me, each in configs.items()}
        await anyio.sleep(CALM_S)
        return {me: seen(node) for me, node in nodes.items()}


@pytest.mark.parametrize("seed", range(STORMS))
async def test_what_speakers_have_and_tell_after_a_storm_is_what_new_ones_would(seed: int) -> None:
    configs = {
        me: config(
            me, *(other for other in NODES if other != me), originated={prefix_of(f"10.244.{me}.0/24"): Kind.POD}
        )
        for me in NODES
    }
    after = await storm(random.Random(seed), configs)
    assert after == await calm(configs)
