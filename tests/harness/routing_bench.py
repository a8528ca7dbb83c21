"""The routing plugin on a test bench in a network namespace of its own, with other nodes' speakers beside it.

The other nodes' addresses are on the namespace's loopback, so that they can be spoken from; the next hops that they
announce are on eth0, where nobody answers. What runs the plugin is a loop here: it reconciles when something is dirty.
"""

import dataclasses
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from ipaddress import ip_address
from typing import Any

import anyio
from harness.loopback import Node, World, config, peer, peers, until, world
from harness.netns import run_in_new, sh
from prometheus_client import CollectorRegistry

from kube_router.core.api import Receipt
from kube_router.core.state import View
from kube_router.events.model import Object
from kube_router.lab.testkit import Bench
from kube_router.lab.topology import IPV4, IPV6
from kube_router.plugins.routing import facts
from kube_router.plugins.routing.bgp.model import Family, Kind, prefix_of
from kube_router.plugins.routing.bgp.speaker import Speaker
from kube_router.plugins.routing.plugin import Routing

PORT = 1790
ADDRESS = {i: f"172.30.0.{10 + i}" for i in (1, 2, 3)}
NEXT_HOP = {i: f"172.30.0.{110 + i}" for i in (2, 3)}
NEXT_HOP6 = {i: f"fd30::{110 + i}" for i in (2, 3)}
FLAGS = (f"--bgp-port={PORT}", "--enable-cni=false", "--bgp-graceful-restart")
LINK = f"""
ip link add eth0 type veth peer name beyond
ip addr add {ADDRESS[1]}/24 dev eth0; ip addr add fd30::b/64 dev eth0 nodad
ip link set eth0 up; ip link set beyond up
ip addr add {ADDRESS[2]}/32 dev lo; ip addr add {ADDRESS[3]}/32 dev lo
"""


class RoutingBench(Bench):
    """A bench that is in sync when the source has ``listed`` all and the plugin has confirmed its own kinds."""

    def __init__(self, *flags: str) -> None:
        self.journal: list[str] = []
        self.confirmed: set[str] = set()
        self.listed = True
        self.everything = True
        super().__init__("routing", families=(IPV4, IPV6), flags=(*FLAGS, *flags))

    def build_anew(self) -> None:
        """Put a new plugin in the place of the one there is, as the runner does when that got stuck."""
        context = self.routing._context
        self.plugin = self.registry.build("routing", dataclasses.replace(context, metrics=CollectorRegistry()))
        self.everything = True

    @property
    def routing(self) -> Routing:
        assert isinstance(self.plugin, Routing)
        return self.plugin

    @property
    def speaker(self) -> Speaker:
        return self.routing._speaker

    @property
    def view(self) -> View:
        live = {resource.name for resource in self.state.catalogue.watched} if self.listed else set()
        return View(self.state, self.plugin.needs, live | self.confirmed)

    @property
    def routes(self) -> dict[str, tuple[str, ...]]:
        return {route.name: route.next_hops for route in self.view.each(facts.Route)}

    @property
    def sessions(self) -> dict[str, str]:
        return {session.name: session.state for session in self.view.each(facts.Session)}

    def publish(
        self, model: type[Object], objects: Iterable[Object] = (), gone: Iterable[str] = (), *, journaled: bool = True
    ) -> None:
        before, resource = dict(self.state.known(self.state.catalogue.by_model(model).name)), model.__name__
        objects, gone = list(objects), [key for key in gone if key in before]
        super().publish(model, objects, gone, journaled=journaled)
        if journaled:
            changed = [obj.key for obj in objects if obj.key not in before or before[obj.key].obj != obj]
            self.journal += [f"put {resource} {key}" for key in changed]
            self.journal += [f"delete {resource} {key}" for key in gone]

    def confirm(self, model: type[Object]) -> None:
        name = self.state.catalogue.by_model(model).name
        self.everything = self.everything or name not in self.confirmed
        self.confirmed.add(name)

    def changed(self) -> None:
        self.everything = True

    async def work(self) -> Counter[str]:
        """Reconcile until nothing is dirty; return what was written."""
        written: Counter[str] = Counter()
        while self.everything or self._dirty:
            everything, self.everything = self.everything, False
            receipt: Receipt = await self.reconcile(everything=everything)
            assert receipt.failed == "", receipt
            written.update(receipt.changes)
        return written

    async def works_until(self, condition: Callable[[], object], what: str) -> Counter[str]:
        """Work until something is so; return what was written."""
        written: Counter[str] = Counter()

        async def step() -> None:
            written.update(await self.work())

        with anyio.fail_after(20):
            await step()
            while not condition():
                await anyio.sleep(0.02)
                await step()
        return written


def kernel_routes() -> dict[str, str]:
    """Return the routes of ours in the main table, with their next hops."""
    lines = sh("ip -4 route show table main proto 75; ip -6 route show table main proto 75").splitlines()
    return {line.split()[0]: line.split()[2] for line in lines}


def other(w: World, i: int, *prefixes: str, **changes: Any) -> Node:
    """Start the speaker of another node."""
    its_peer = peer(1, 2, address=ADDRESS[1], local_address=ADDRESS[i], port=PORT, families=tuple(Family))
    its = config(
        i,
        listen=(ADDRESS[i],),
        port=PORT,
        peers=peers(its_peer),
        originated=dict.fromkeys(map(prefix_of, prefixes), Kind.POD),
    )
    node = w.node(its)
    hops = {Family.IPV4: ip_address(NEXT_HOP[i]).packed, Family.IPV6: ip_address(NEXT_HOP6[i]).packed}
    node.become(next_hops=hops, **changes)
    return node


Body = Callable[[RoutingBench, World], Awaitable[None]]


def benched(body: Body, *flags: str, watching: bool = True) -> None:
    """Run a test's body with a bench in a namespace of its own; the plugin's watch runs meanwhile."""

    async def run() -> None:
        bench = RoutingBench(*flags)
        bench.apply("kind: Namespace\nmetadata: {name: prod}")
        async with world() as w:
            if watching:
                w.tasks.start_soon(bench.routing.watch, bench.changed)
            await body(bench, w)

    def inside() -> None:
        sh(LINK)
        anyio.run(run)

    run_in_new(inside)


__all__ = ["ADDRESS", "NEXT_HOP", "NEXT_HOP6", "PORT", "RoutingBench", "benched", "kernel_routes", "other", "until"]
