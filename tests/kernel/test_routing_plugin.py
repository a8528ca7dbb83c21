"""The routing plugin as a whole, in a network namespace: what peers tell, the state, the kernel, and back."""

from pathlib import Path
from typing import Any

import anyio
import pytest
from harness.loopback import World
from harness.netns import sh
from harness.routing_bench import ADDRESS, NEXT_HOP, NEXT_HOP6, RoutingBench, benched, kernel_routes, other

from kube_router.plugins.routing import published
from kube_router.plugins.routing.bgp.model import Family, Kind, prefix_of
from kube_router.plugins.routing.facts import Route, RouteDigest, Session

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

TWO, THREE, OLD = "10.244.2.0/24", "10.244.3.0/24", "10.244.9.0/24"
ROUTES = {TWO: NEXT_HOP[2], THREE: NEXT_HOP[3]}


async def meshed(bench: RoutingBench, w: World) -> None:
    """Have both other nodes tell their pods, and all of it known."""
    other(w, 2, TWO)
    other(w, 3, THREE)
    await bench.works_until(lambda: kernel_routes() == ROUTES and bench.view.in_sync, "all routes")


def test_what_peers_tell_is_journaled_and_reaches_the_kernel_and_is_written_once() -> None:
    async def body(bench: RoutingBench, w: World) -> None:
        await meshed(bench, w)
        assert bench.routes == {TWO: (NEXT_HOP[2],), THREE: (NEXT_HOP[3],)}
        assert bench.sessions == {ADDRESS[2]: "established", ADDRESS[3]: "established"}
        assert {f"put Route {TWO}", f"put Route {THREE}", f"put Session {ADDRESS[2]}"} < set(bench.journal)
        assert bench.confirmed == {"hosts", "routes", "sessions", "routedigests"}
        written = len(bench.journal)
        bench.everything = True
        assert await bench.work() == {}
        assert len(bench.journal) == written

    benched(body)


@pytest.mark.parametrize(("marked", "kept"), [("proto 75 metric 75", True), ("proto 17", True), ("proto 16", False)])
def test_peers_keep_our_routes_where_ours_or_kube_routers_still_lead_packets(marked: str, kept: bool) -> None:
    async def body(bench: RoutingBench, w: World) -> None:
        sh(f"ip route add {TWO} via {NEXT_HOP[2]} {marked}")
        two = other(w, 2, TWO)
        await bench.works_until(lambda: two.speaker.neighbours[ADDRESS[1]].peer.their_open, "what we say to node-2")
        said = two.speaker.neighbours[ADDRESS[1]].peer.their_open
        assert said is not None
        assert said.capabilities.graceful_restart is not None
        assert said.capabilities.graceful_restart.families == {Family.IPV4: kept, Family.IPV6: False}

    benched(body)


def test_routes_of_an_earlier_run_stay_until_peers_and_source_have_told_all_and_go_then() -> None:
    async def body(bench: RoutingBench, w: World) -> None:
        bench.listed = False
        bench.publish(Route, [Route(name=OLD, next_hops=(NEXT_HOP[2],), peers=(ADDRESS[2],))])
        bench.publish(Session, [Session(name="172.30.0.99")])
        sh(f"ip route add {OLD} via {NEXT_HOP[2]} proto 75 metric 75")
        other(w, 2, TWO)
        await bench.works_until(lambda: TWO in kernel_routes(), "a route")
        assert set(kernel_routes()) == {TWO, OLD}  # node-3 has told nothing yet
        other(w, 3, THREE)
        await bench.works_until(lambda: bench.routing.status()["bgp"] == "AS 64512, 2 of 2 neighbours established", "3")
        await bench.works_until(lambda: THREE in kernel_routes(), "its route")
        assert set(kernel_routes()) == {TWO, THREE, OLD}  # the source has listed nothing yet
        assert bench.confirmed == {"hosts"}
        bench.listed = bench.everything = True
        await bench.works_until(lambda: kernel_routes() == ROUTES, "what is left")
        assert bench.routes.keys() == ROUTES.keys()
        assert bench.sessions.keys() == {ADDRESS[2], ADDRESS[3]}
        assert bench.view.in_sync

    benched(body)


def test_a_stale_route_in_the_kernel_alone_goes_when_all_is_known() -> None:
    async def body(bench: RoutingBench, w: World) -> None:
        sh(f"ip route add {OLD} via {NEXT_HOP[2]} proto 75 metric 75")
        other(w, 2, TWO)
        await bench.works_until(lambda: TWO in kernel_routes(), "a route")
        assert OLD in kernel_routes()
        other(w, 3, THREE)
        await bench.works_until(lambda: kernel_routes() == ROUTES, "what is left")

    benched(body)


def test_what_a_peer_withdraws_goes_at_once_also_before_all_is_known() -> None:
    async def body(bench: RoutingBench, w: World) -> None:
        two = other(w, 2, TWO, OLD)
        await bench.works_until(lambda: set(kernel_routes()) == {TWO, OLD}, "both routes")
        assert not bench.view.in_sync
        two.become(originated={prefix_of(TWO): Kind.POD})
        written = await bench.works_until(lambda: set(kernel_routes()) == {TWO}, "the withdrawal")
        assert written == {"route removed": 1}
        assert bench.metrics.get_sample_value("kube_router_host_routes_removed_total") == 1
        assert not bench.view.in_sync

    benched(body)


def test_a_peer_that_changes_its_next_hop_changes_the_route_in_place() -> None:
    async def body(bench: RoutingBench, w: World) -> None:
        two = other(w, 2, TWO)
        await bench.works_until(lambda: kernel_routes() == {TWO: NEXT_HOP[2]}, "the route")
        two.become(next_hops=dict.fromkeys(two.config.next_hops, b"\xac\x1e\x00\x7b"))
        written = await bench.works_until(lambda: kernel_routes() == {TWO: "172.30.0.123"}, "the change")
        assert written == {"route set": 1}
        assert bench.metrics.get_sample_value("kube_router_host_routes_added_total") == 2
        assert bench.metrics.get_sample_value("kube_router_host_routes_synced") == 1

    benched(body)


def test_routes_that_become_too_many_for_the_journal_leave_it_and_not_the_kernel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(published, "JOURNALED_MAX", 5)
    more = [f"10.200.{i}.0/24" for i in range(8)]

    async def body(bench: RoutingBench, w: World) -> None:
        two, _ = other(w, 2, TWO, *more[:2]), other(w, 3, THREE)
        await bench.works_until(lambda: len(kernel_routes()) == 4 and bench.view.in_sync, "few routes")
        journaled = len(bench.journal)
        two.become(originated=dict.fromkeys(map(prefix_of, (TWO, *more)), Kind.POD))
        written = await bench.works_until(lambda: len(kernel_routes()) == 10, "many routes")
        await bench.works_until(lambda: list(bench.view.each(RouteDigest)), "a digest")
        assert written == {"route added": 6}
        assert sorted(bench.journal[journaled:]) == [
            *(f"delete Route {prefix}" for prefix in sorted((*more[:2], TWO, THREE))),
            "put RouteDigest routes",
        ]
        [digest] = bench.view.each(RouteDigest)
        assert digest.count == 10
        assert f"# 10 routes are not in the journal (sha256 {digest.sha256})" in bench.lines()
        bench.everything = True
        assert await bench.work() == {}
        two.become(originated=dict.fromkeys(map(prefix_of, more[:3]), Kind.POD))
        await bench.works_until(lambda: len(kernel_routes()) == 4, "few routes again")
        bench.everything = True
        await bench.works_until(lambda: [each.count for each in bench.view.each(RouteDigest)] == [4], "their digest")

    benched(body)


def test_ipv6_routes_come_over_an_ipv4_session_with_a_next_hop_of_their_own() -> None:
    async def body(bench: RoutingBench, w: World) -> None:
        six = "fd00:10:244:2::/64"
        two = other(w, 2, TWO, six)
        await bench.works_until(lambda: kernel_routes() == {TWO: NEXT_HOP[2], six: NEXT_HOP6[2]}, "both families")
        assert two.routes == {"10.244.1.0/24": [ADDRESS[1]], "fd00:10:244:1::/64": ["fd30::b"]}
        two.become(originated={prefix_of(TWO): Kind.POD})
        await bench.works_until(lambda: kernel_routes() == {TWO: NEXT_HOP[2]}, "the withdrawal")

    benched(body)


def test_a_next_hop_out_of_reach_is_told_of_and_its_route_comes_with_the_link_that_reaches_it() -> None:
    async def body(bench: RoutingBench, w: World) -> None:
        two, _ = other(w, 2, TWO), other(w, 3)
        two.become(next_hops=dict.fromkeys(two.config.next_hops, b"\xc0\x00\x02\x09"))
        await bench.works_until(lambda: bench.routes == {TWO: ("192.0.2.9",)} and bench.view.in_sync, "the route")
        receipt = await bench.reconcile(everything=True)
        assert [str(each) for each in receipt.problems if each.kind == "Route"] == [
            f"Route {TWO}: next hop 192.0.2.9: no link and no gateway of this node leads there; not installed"
        ]
        assert kernel_routes() == {}
        sh("ip addr add 192.0.2.1/24 dev eth0")
        await bench.works_until(lambda: kernel_routes() == {TWO: "192.0.2.9"}, "the route in the kernel")
        sh("ip addr del 192.0.2.1/24 dev eth0")
        await bench.works_until(lambda: kernel_routes() == {}, "its end")

    benched(body)


def test_a_plugin_that_is_built_anew_goes_on_where_the_old_one_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "JOURNALED_MAX", 1)  # so that routes have left the journal by then

    async def body(bench: RoutingBench, w: World) -> None:
        scope = anyio.CancelScope()

        async def watch() -> None:
            with scope:
                await bench.routing.watch(bench.changed)

        w.tasks.start_soon(watch)
        await meshed(bench, w)
        scope.cancel()
        await bench.works_until(lambda: not bench.speaker.neighbours, "the end")
        bench.build_anew()
        await bench.work()
        assert kernel_routes() == ROUTES
        w.tasks.start_soon(bench.routing.watch, bench.changed)
        written = await bench.works_until(lambda: bench.speaker.settled, "all is known again")
        bench.everything = True
        written += await bench.work()
        assert kernel_routes() == ROUTES
        assert not {what for what in written if what.startswith("route")}

    benched(body, watching=False)


def test_what_somebody_takes_out_of_the_kernel_is_put_back() -> None:
    async def body(bench: RoutingBench, w: World) -> None:
        await meshed(bench, w)
        sh(f"ip route del {TWO} proto 75 metric 75")
        await bench.works_until(lambda: kernel_routes() == ROUTES, "the repair")
        sh("ip link del kube-bridge; nft delete table inet kube-router-routing")
        there = "ip link show kube-bridge >/dev/null && nft list table inet kube-router-routing || true"
        await bench.works_until(lambda: "chain postrouting" in sh(there), "the repair")

    benched(body)


def test_a_watch_that_fails_and_begins_again_takes_no_route_away() -> None:
    async def body(bench: RoutingBench, w: World) -> None:
        scope = anyio.CancelScope()

        async def watch() -> None:
            with scope:
                await bench.routing.watch(bench.changed)

        w.tasks.start_soon(watch)
        await meshed(bench, w)
        journaled = len(bench.journal)
        scope.cancel()
        await bench.works_until(lambda: not bench.speaker.neighbours, "the end")
        bench.everything = True
        await bench.work()
        assert kernel_routes() == ROUTES
        w.tasks.start_soon(bench.routing.watch, bench.changed)
        await bench.works_until(lambda: bench.speaker.settled, "all is known again")
        bench.everything = True
        await bench.work()
        assert kernel_routes() == ROUTES
        assert [line for line in bench.journal[journaled:] if line.startswith("delete Route")] == []

    benched(body, watching=False)


def test_a_password_file_is_read_again_until_it_is_right(tmp_path: Path) -> None:
    file = tmp_path / "passwords"

    async def body(bench: RoutingBench, w: World) -> None:
        def waiting() -> object:
            return bench.routing.status().get("waiting for passwords of")

        receipt = await bench.reconcile(everything=True)
        [problem] = [str(each) for each in receipt.problems if "password" in str(each)]
        assert problem == (
            f"Node node-1: --peer-router-passwords-file {file}: No such file or directory; "
            "the peers of --peer-router-ips are left out until it is right"
        )
        assert waiting() == "172.30.0.254"
        file.write_text("c3dvcmRmaXNo,b25lIHRvbyBtYW55")
        bench.everything = True
        await bench.work()
        assert waiting() == "172.30.0.254"
        file.write_text("c3dvcmRmaXNo\n")
        bench.everything = True
        await bench.work()
        assert waiting() is None
        assert bench.speaker.config is not None
        assert bench.speaker.config.peers["172.30.0.254"].password == "swordfish"

    benched(
        body,
        "--peer-router-ips=172.30.0.254",
        "--peer-router-asns=65000",
        f"--peer-router-passwords-file={file}",
    )


def test_a_clean_up_takes_all_of_it_away_and_nothing_else() -> None:
    async def body(bench: RoutingBench, w: World) -> None:
        await meshed(bench, w)
        sh(f"ip route add 10.77.0.0/16 via {NEXT_HOP[2]}")
        await bench.routing.cleanup()
        assert kernel_routes() == {}
        assert "10.77.0.0/16" in sh("ip route show")
        assert sh("ip rule show | grep -c 32700 || true").strip() == "0"
        assert "kube-router-routing" not in sh("nft list tables")

    benched(body)


def test_questions_of_kr_bgp_are_answered_and_others_refused() -> None:
    async def body(bench: RoutingBench, w: World) -> None:
        await meshed(bench, w)
        answer: Any = bench.routing.answer({"what": "neighbours"})
        assert (answer["asn"], len(answer["neighbours"]), answer["settled"]) == (64512, 2, True)
        rows: Any = bench.routing.answer({"what": "routes", "which": "in", "peer": ADDRESS[2]})
        assert [row["prefix"] for row in rows] == [TWO]
        way = bench.routing.explain(bench.view, {"route": "10.244.2.9"})
        assert (way["way"], way["through"]) == ("learned", f"{NEXT_HOP[2]} dev eth0")
        with pytest.raises(ValueError, match="ask routing"):
            bench.routing.answer({"what": "time is it"})

    benched(body)
