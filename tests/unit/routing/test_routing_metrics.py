"""Routing's metrics: their names and labels, word for word, and what is counted."""

import re
import threading
from dataclasses import replace

from harness.loopback import address, config, peer, until, world
from prometheus_client import CollectorRegistry, generate_latest

from kube_router.plugins.routing import show
from kube_router.plugins.routing.bgp.model import Kind, SpeakerConfig, prefix_of
from kube_router.plugins.routing.metrics import Metrics, PeerFigures

EMPTY = SpeakerConfig(asn=64512, router_id=1)
POD, VIP, OTHER = prefix_of("10.244.1.0/24"), prefix_of("10.96.0.1/32"), prefix_of("10.96.0.2/32")


def exported(registry: CollectorRegistry) -> list[str]:
    """Return the samples that Prometheus reads, without what depends on the clock."""
    lines = generate_latest(registry).decode().splitlines()
    return [line for line in lines if not line.startswith("#") and "_created" not in line and "_bucket" not in line]


def test_all_names_are_there_from_the_beginning() -> None:
    registry = CollectorRegistry()
    Metrics(registry, list)
    assert exported(registry) == [
        "kube_router_controller_routes_sync_time_count 0.0",
        "kube_router_controller_routes_sync_time_sum 0.0",
        "kube_router_controller_bgp_internal_peers_sync_time_count 0.0",
        "kube_router_controller_bgp_internal_peers_sync_time_sum 0.0",
        "kube_router_host_routes_sync_time_count 0.0",
        "kube_router_host_routes_sync_time_sum 0.0",
        "kube_router_host_routes_synced 0.0",
        "kube_router_host_routes_added_total 0.0",
        "kube_router_host_routes_removed_total 0.0",
        "kube_router_controller_bgp_advertisements_received_total 0.0",
    ]


def test_a_neighbours_figures_have_its_address_and_its_state_has_its_as_too() -> None:
    registry = CollectorRegistry()
    figures = PeerFigures(
        "10.0.0.2", 64512, mesh=True, state="established", flaps=3, received=10, stale=2, sent=4, faults=1
    )
    Metrics(registry, lambda: [figures, PeerFigures("fd00::9", 65000, mesh=False, state="active")])
    assert [line for line in exported(registry) if "bgp_peer" in line] == [
        'kube_router_bgp_peer_info{address="10.0.0.2",asn="64512",state="established",type="internal"} 1.0',
        'kube_router_bgp_peer_info{address="fd00::9",asn="65000",state="active",type="external"} 1.0',
        'kube_router_bgp_peer_paths_received{address="10.0.0.2"} 10.0',
        'kube_router_bgp_peer_paths_received{address="fd00::9"} 0.0',
        'kube_router_bgp_peer_paths_stale{address="10.0.0.2"} 2.0',
        'kube_router_bgp_peer_paths_stale{address="fd00::9"} 0.0',
        'kube_router_bgp_peer_prefixes_sent{address="10.0.0.2"} 4.0',
        'kube_router_bgp_peer_prefixes_sent{address="fd00::9"} 0.0',
        'kube_router_bgp_peer_flaps_total{address="10.0.0.2"} 3.0',
        'kube_router_bgp_peer_flaps_total{address="fd00::9"} 0.0',
        'kube_router_bgp_peer_faulty_updates_total{address="10.0.0.2"} 1.0',
        'kube_router_bgp_peer_faulty_updates_total{address="fd00::9"} 0.0',
    ]


def test_what_begins_and_ceases_to_be_announced_is_counted_by_what_it_is() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry, list)
    one = replace(EMPTY, originated={POD: Kind.POD, VIP: Kind.SERVICE})
    metrics.count_announced(None, one)
    metrics.count_announced(one, one)
    metrics.count_announced(one, replace(EMPTY, originated={POD: Kind.POD, OTHER: Kind.SERVICE}))
    metrics.count_announced(replace(EMPTY, originated={POD: Kind.POD}), EMPTY)
    assert [line for line in exported(registry) if "_sent" in line] == [
        'kube_router_controller_bgp_advertisements_sent_total{type="pod-route"} 1.0',
        'kube_router_controller_bgp_advertisements_sent_total{type="advertise-vip"} 2.0',
        'kube_router_controller_bgp_advertisements_sent_total{type="withdraw-vip"} 1.0',
    ]


def test_two_agents_parts_in_one_process_do_not_share_figures() -> None:
    one, two = CollectorRegistry(), CollectorRegistry()
    Metrics(one, list).synced.set(7)
    Metrics(two, list)
    assert "kube_router_host_routes_synced 0.0" in exported(two)


async def test_they_can_be_read_in_another_thread_while_routes_come_and_go() -> None:
    async with world() as w:
        one = w.node(config(1, peer(1, 2), peer(1, 3, reflector_client=True), cluster_id=7))
        two, three = w.node(config(2, 1)), w.node(config(3, 1))
        await until(lambda: one.routes and three.routes, "what is reflected")
        registry = CollectorRegistry()
        Metrics(registry, lambda: show.figures(one.speaker))
        errors: list[Exception] = []
        reads, stopping = 0, threading.Event()

        def read() -> None:
            nonlocal reads
            while not stopping.is_set():
                try:
                    exported(registry)
                    reads += 1
                except RuntimeError as error:
                    errors.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        try:
            own = [prefix_of(f"10.{i}.{j}.0/24") for i in (200, 201) for j in range(256)]
            for turn in range(20):
                two.become(originated=dict.fromkeys(own[turn % 2 :: 2], Kind.POD))
                await until(lambda t=turn: str(own[t % 2]) in three.routes and len(three.routes) == 257, "all")  # type: ignore[misc]
        finally:
            stopping.set()
            thread.join()
        assert errors == []
        assert reads > 0
        sent = [line for line in exported(registry) if "prefixes_sent" in line and address(3) in line]
        assert [re.sub(r"{.*} ", " ", line) for line in sent] == ["kube_router_bgp_peer_prefixes_sent 257.0"]
