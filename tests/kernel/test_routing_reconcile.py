"""The whole plugin in a namespace of its own, without neighbours: what a reconcile brings about, and when."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest
from harness.loopback import World, until
from harness.netns import run_in_new, sh
from harness.routing_bench import ADDRESS, NEXT_HOP, RoutingBench, benched, other

from kube_router.core.api import Dirty, Ref
from kube_router.events.errors import KernelError
from kube_router.events.event import Delete, Put
from kube_router.events.model import Node, NodeAddress, Object
from kube_router.lab.testkit import Bench
from kube_router.plugins.routing import watch
from kube_router.plugins.routing.cnifile import VARIABLE
from kube_router.plugins.routing.facts import GATEWAYS_MAX, Gateway, Route, Session
from kube_router.plugins.routing.host import read_host
from kube_router.plugins.routing.plugin import Routing
from kube_router.plugins.routing.tablewatch import TableWatch

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

EVERYTHING = Dirty(everything=True)


def node(name: str, address: str, *cidrs: str) -> Node:
    return Node(name=name, addresses=(NodeAddress(type="InternalIP", address=address),), pod_cidrs=cidrs)


class Rig:
    """The plugin of node-1, and the state that it sees."""

    def __init__(self, *flags: str) -> None:
        self.bench = Bench("routing", flags=("--enable-pod-egress=false", *flags))
        self.put("nodes", node("node-1", "10.0.0.1"), node("node-2", "10.0.0.2", "10.244.2.0/24"))

    def put(self, resource: str, *objects: Object) -> Dirty:
        state = self.bench.state
        for obj in objects:
            state.apply(Put(seq=state.seq + 1, t=1, r=resource, key=obj.key, obj=obj))
        return Dirty(frozenset(Ref(resource, obj.key) for obj in objects))

    def delete(self, resource: str, key: str) -> Dirty:
        state = self.bench.state
        state.apply(Delete(seq=state.seq + 1, t=1, r=resource, key=key))
        return Dirty(frozenset({Ref(resource, key)}))

    async def reconcile(self, dirty: Dirty) -> None:
        receipt = await self.bench.plugin.reconcile(self.bench.view, dirty)
        assert not receipt.failed


def inside(body: Callable[[], Awaitable[None]]) -> None:
    """Run a body in a network namespace that has one link."""

    def run() -> None:
        sh("ip link add eth0 type veth peer name far; ip link set eth0 up; ip link set far up")
        sh("ip addr add 10.0.0.1/24 dev eth0")
        anyio.run(body)

    run_in_new(run)


def test_a_node_whose_pod_cidr_comes_late_can_give_pods_addresses_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "10-kuberouter.conflist"
    monkeypatch.setenv(VARIABLE, str(path))

    async def body() -> None:
        rig = Rig()
        await rig.reconcile(EVERYTHING)
        assert not path.exists()
        await rig.reconcile(rig.put("nodes", node("node-1", "10.0.0.1", "10.244.1.0/24")))
        assert json.loads(path.read_text())["plugins"][0]["ipam"]["ranges"] == [[{"subnet": "10.244.1.0/24"}]]

    inside(body)


def test_what_is_withdrawn_goes_before_all_have_spoken_even_when_more_than_routes_changes() -> None:
    async def body() -> None:
        rig = Rig("--enable-cni=false", "--enable-overlay=false")
        rig.bench.in_sync = False
        for prefix in ("10.244.2.0/24", "10.244.3.0/24"):
            rig.put("routes", Route(name=prefix, next_hops=("10.0.0.2",), peers=("10.0.0.2",)))
        await rig.reconcile(EVERYTHING)
        assert sh("ip -o route show proto 75").split("\n")[:2] == [
            "10.244.2.0/24 via 10.0.0.2 dev eth0 metric 75 ",
            "10.244.3.0/24 via 10.0.0.2 dev eth0 metric 75 ",
        ]
        route, other = rig.delete("routes", "10.244.2.0/24"), rig.put("nodes", node("node-3", "10.0.0.3"))
        await rig.reconcile(Dirty(route.refs | other.refs))
        assert sh("ip -o route show proto 75").strip() == "10.244.3.0/24 via 10.0.0.2 dev eth0 metric 75"

    inside(body)


def test_bgp_goes_on_in_a_kernel_that_does_not_tell_of_nftables(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(self: TableWatch, changed: Callable[[], None]) -> None:
        raise KernelError("cannot listen to netlink protocol 12: Protocol not supported")

    monkeypatch.setattr(TableWatch, "run", run)

    async def body() -> None:
        plugin = Rig("--enable-cni=false").bench.plugin
        assert isinstance(plugin, Routing)
        with anyio.move_on_after(0.2) as time:
            await plugin.watch(lambda: None)
        assert time.cancelled_caught  # until then it spoke

    inside(body)


def test_what_an_earlier_run_said_of_a_session_is_put_right_at_once() -> None:
    async def body(bench: RoutingBench, w: World) -> None:
        bench.publish(Session, [Session(name=ADDRESS[3], asn=64512, state="established")])
        other(w, 2, "10.244.2.0/24")
        await bench.works_until(lambda: bench.sessions == {ADDRESS[2]: "established", ADDRESS[3]: "down"}, "the truth")

    benched(body)


def test_routes_and_sessions_are_told_again_when_the_state_begins_anew() -> None:
    async def body(bench: RoutingBench, w: World) -> None:
        other(w, 2, "10.244.2.0/24")
        await bench.works_until(lambda: bench.routes == {"10.244.2.0/24": (NEXT_HOP[2],)}, "the route")
        for resource in ("routes", "sessions", "hosts"):  # as when the journal was another cluster's
            bench.state.objects[resource].clear()
        bench.everything = True
        await bench.work()
        assert bench.routes == {"10.244.2.0/24": (NEXT_HOP[2],)}
        assert bench.sessions == {ADDRESS[2]: "established"}
        assert set(bench.state.known("hosts")) == {"node-1"}

    benched(body)


def test_a_routing_daemon_that_changes_its_routes_all_the_time_is_looked_at_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "GATEWAYS_S", 0.5)
    told: list[float] = []

    async def change_routes() -> None:
        watching = watch.Watch(wanted=lambda what: False, uses=lambda device: False)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watching.run, lambda: None, lambda: told.append(anyio.current_time()))
            await anyio.sleep(0.1)
            for i in range(20):
                sh(f"ip route replace 192.0.2.0/24 via 10.0.0.{i + 2}")
                await anyio.sleep(0.01)
            assert told  # the first one at once
            await until(lambda: len(told) > 1, "the last one, after a while")
            assert told[1] - told[0] >= 0.5
            tasks.cancel_scope.cancel()

    inside(change_routes)


def test_the_default_route_is_known_beside_more_gateways_than_are_held() -> None:
    async def body() -> None:
        sh("ip route add default via 10.0.0.254")
        lines = "".join(
            f"route add 10.{i // 256}.{i % 256}.0/24 via 10.0.0.2\n" for i in range(256, 256 + GATEWAYS_MAX)
        )
        sh(f"ip -batch - <<'END'\n{lines}END")
        gateways = read_host("node-1").gateways
        assert len(gateways) == GATEWAYS_MAX
        assert gateways[-1] == Gateway(destination="0.0.0.0/0", via="10.0.0.254", device="eth0")

    inside(body)
