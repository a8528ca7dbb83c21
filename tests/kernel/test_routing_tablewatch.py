"""A table that somebody takes away is noticed, and our own writes are not taken for that: in the real kernel."""

from collections.abc import Awaitable, Callable

import anyio
import pytest
from harness.netns import run_in_new

from kube_router.core.nft import Nft
from kube_router.plugins.routing.egress import Egress
from kube_router.plugins.routing.tablewatch import TableWatch

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

NOTICED_S = 5.0


def bring(egress: Egress, pods: list[str], *, enabled: bool = True) -> None:
    egress.bring(pods4=pods, pods6=[], nodes4=["192.0.2.1"], nodes6=[], enabled=enabled, in_sync=True)


class Noticed:
    """How often something was noticed."""

    def __init__(self) -> None:
        self.count = 0
        self._event = anyio.Event()

    def changed(self) -> None:
        self.count += 1
        self._event.set()

    async def once(self) -> None:
        """Wait until something was noticed since the last call."""
        with anyio.fail_after(NOTICED_S):
            await self._event.wait()
        self._event = anyio.Event()


def watched(body: Callable[[TableWatch, Noticed], Awaitable[None]]) -> None:
    async def run() -> None:
        watch, noticed = TableWatch(), Noticed()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch.run, noticed.changed)
            await anyio.wait_all_tasks_blocked()
            await body(watch, noticed)
            tasks.cancel_scope.cancel()

    run_in_new(lambda: anyio.run(run))


@pytest.mark.parametrize(
    "harm",
    [
        "flush ruleset",
        "delete table inet kube-router-routing",
        "flush chain inet kube-router-routing postrouting",
        "delete element inet kube-router-routing pods4 { 10.244.1.0/24 }",
    ],
)
def test_what_somebody_takes_away_is_noticed(harm: str) -> None:
    async def body(watch: TableWatch, noticed: Noticed) -> None:
        watch.begin()
        bring(Egress(), ["10.244.1.0/24"])
        watch.end()
        Nft().run(harm)
        await noticed.once()

    watched(body)


def test_our_own_removals_and_those_in_others_tables_are_not_noticed() -> None:
    async def body(watch: TableWatch, noticed: Noticed) -> None:
        egress = Egress()
        for pods, enabled in ((["10.244.1.0/24"], True), (["10.244.2.0/24"], True), ([], False), ([], True)):
            watch.begin()
            bring(egress, pods, enabled=enabled)
            watch.end()
        Nft().run("add table inet other")
        Nft().run("delete table inet other")
        await anyio.wait_all_tasks_blocked()
        assert noticed.count == 0
        Nft().run("delete table inet kube-router-routing")
        await noticed.once()
        assert noticed.count == 1

    watched(body)
