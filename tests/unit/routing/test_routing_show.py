"""What kr bgp shows of speakers that really speak: neighbours, routes, and why a path is used or not."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
from harness.loopback import ASN, PORT, Node, address, config, connection, outside, peer, until, world

from kube_router.events.errors import Problem
from kube_router.plugins.routing import show
from kube_router.plugins.routing.bgp.model import Family, Kind, prefix_of
from kube_router.plugins.routing.bgp.speaker import Hooks, Speaker
from kube_router.plugins.routing.config import Configured

SHARED, MINE, VIP = "203.0.113.0/24", "10.244.1.0/24", "10.96.0.10/32"
LONELY = Speaker(Hooks(routes=lambda changes: None, session=lambda *words: None, settled=lambda: None))


class Cluster(NamedTuple):
    """A node, another one, and a router outside; both announce one prefix."""

    one: Node
    two: Node
    router: Node


@asynccontextmanager
async def cluster() -> AsyncIterator[Cluster]:
    async with world() as w:
        own = {prefix_of(MINE): Kind.POD, prefix_of(VIP): Kind.SERVICE}
        one = w.node(config(1, 2, outside(1, 3), originated=own))
        two = w.node(config(2, 1, originated={prefix_of(p): Kind.POD for p in ("10.244.2.0/24", SHARED)}))
        told = {prefix_of(p): Kind.POD for p in ("198.18.0.0/15", SHARED)}
        router = w.node(config(3, outside(3, 1, asn=ASN), asn=ASN + 3, originated=told))
        await until(lambda: len(one.routes) == 3 and two.routes and len(router.routes) == 2, "all that is told")
        await until(lambda: len(one.speaker.rib.paths(prefix_of(SHARED))) == 2 and one.speaker.settled, "both paths")
        yield Cluster(one, two, router)


def rows(node: Node, which: str, **words: str) -> list[dict[str, Any]]:
    found = show.routes(node.speaker, which, **words)
    json.dumps(found)  # it goes to a client
    return [dict(row) for row in found]


async def test_neighbours_are_rows_by_address_with_what_was_told_and_heard() -> None:
    async with cluster() as c:
        inside, router = show.neighbours(c.one.speaker)
        json.dumps([inside, router])
        assert (inside["address"], inside["asn"], inside["mesh"]) == (address(2), ASN, True)
        assert (router["address"], router["asn"], router["mesh"]) == (address(3), ASN + 3, False)
        assert (inside["state"], inside["received"], inside["sent"], inside["stale"]) == ("established", 2, 1, 0)
        assert (router["state"], router["received"], router["sent"], router["awaited"]) == ("established", 2, 2, [])
        assert (inside["faulty_updates"], inside["last_fault"], inside["flaps"]) == (0, "", 0)
        assert inside["families"] == ["ipv4"]
        assert "graceful-restart" in inside["capabilities"]  # type: ignore[operator]


async def test_a_neighbour_that_is_not_there_says_why_and_of_what_it_is_awaited() -> None:
    async with world() as w:
        one = w.node(config(1, 2))
        await until(lambda: one.speaker.neighbours and one.of(2).peer.last_error, "a refusal")
        [row] = show.neighbours(one.speaker)
        assert row["state"] in ("connect", "active")
        assert row["last_error"] == (
            f"it refuses connections to port {PORT}: does a BGP speaker listen there, and does it know us?"
        )
        assert row["awaited"] == []
        assert show.status(one.speaker, Configured(config=one.config)) == {
            "bgp": f"AS {ASN}, 0 of 1 neighbours established",
            "routes": "1 prefixes, 1 of them this node's own",
            "still to be heard": address(2),
        }


async def test_who_this_node_is_and_that_all_is_well() -> None:
    async with cluster() as c:
        found = show.us(c.one.speaker, Configured(config=c.one.config))
        assert found == {
            "speaks": True,
            "asn": ASN,
            "router_id": "10.0.0.1",
            "listen": [address(1)],
            "port": PORT,
            "trouble": "",
            "cluster_id": "",
            "prefixes": 5,
            "originated": 2,
            "waiting": [],
            "strangers": 0,
            "settled": True,
        }
        assert show.status(c.one.speaker, Configured(config=c.one.config)) == {
            "bgp": f"AS {ASN}, 2 of 2 neighbours established",
            "routes": "5 prefixes, 2 of them this node's own",
        }


def test_a_node_that_does_not_speak_says_why() -> None:
    configured = Configured(config=None, problems=(Problem("Node", "n1", "is not known (yet)"),))
    assert show.us(LONELY, configured) == {"speaks": False, "why": ["Node n1: is not known (yet)"]}
    assert show.status(LONELY, configured) == {"bgp": "does not speak: see the problems"}
    assert show.neighbours(LONELY) == []
    assert show.routes(LONELY, "best") == []


async def test_where_it_cannot_listen_and_whose_password_it_waits_for_is_in_the_status() -> None:
    async with world() as w:
        one = w.node(config(1, listen=("192.0.2.1",)))
        await until(lambda: one.speaker.trouble, "trouble")
        status = show.status(one.speaker, Configured(config=one.config, waiting=("10.0.0.9", "10.0.0.8")))
        assert status["listening"] == f"cannot listen on 192.0.2.1 port {PORT}: Cannot assign requested address"
        assert status["waiting for passwords of"] == "10.0.0.9, 10.0.0.8"


async def test_the_best_routes_come_by_prefix_with_why_each_won() -> None:
    async with cluster() as c:
        found = rows(c.one, "best")
        assert [(row["prefix"], row["peer"]) for row in found] == [
            (VIP, "this node"),
            (MINE, "this node"),
            ("10.244.2.0/24", address(2)),
            ("198.18.0.0/15", address(3)),
            (SHARED, address(2)),
        ]
        shared = next(row for row in found if row["prefix"] == SHARED)
        assert shared["peer"] == address(2)
        assert shared["why"] == "shorter AS path"
        assert (shared["best"], shared["used"], shared["next_hop"], shared["local_pref"]) == (
            True,
            True,
            "10.0.0.2",
            100,
        )


async def test_all_that_was_told_shows_what_lost_and_why() -> None:
    async with cluster() as c:
        winner, loser = rows(c.one, "in", prefix=SHARED)
        assert (winner["peer"], winner["best"], winner["used"]) == (address(2), True, True)
        assert (loser["peer"], loser["best"], loser["used"]) == (address(3), False, False)
        assert loser["why"] == "AS path length 1, not 0"
        assert loser["as_path"] == str(ASN + 3)


async def test_what_is_refused_is_shown_with_the_reason() -> None:
    async with cluster() as c:
        c.one.become(rejected=(prefix_of("198.18.0.0/15"),))
        [row] = rows(c.one, "in", prefix="198.18.0.0/15")
        assert (row["best"], row["used"]) == (False, False)
        assert row["why"] == "inside the refused 198.18.0.0/15"
        assert rows(c.one, "best", prefix="198.18.0.0/15") == []


async def test_what_neighbours_are_told_is_shown_as_they_are_told_it() -> None:
    async with cluster() as c:
        found = rows(c.one, "out")
        assert [(row["prefix"], row["peer"], row["as_path"]) for row in found] == [
            (VIP, address(3), str(ASN)),
            (MINE, address(2), ""),
            (MINE, address(3), str(ASN)),
        ]
        assert [row["prefix"] for row in rows(c.one, "out", peer=address(2))] == [MINE]


async def test_an_address_is_looked_up_as_a_packet_would_be_and_a_prefix_with_what_is_inside() -> None:
    async with cluster() as c:
        wide = prefix_of("10.244.0.0/16")
        c.two.become(originated={**c.two.config.originated, wide: Kind.POD})
        await until(lambda: "10.244.0.0/16" in c.one.routes, "the wide prefix")
        assert [row["prefix"] for row in rows(c.one, "best", prefix="10.244.2.9")] == ["10.244.2.0/24"]
        assert [row["prefix"] for row in rows(c.one, "best", prefix="10.244.77.9")] == ["10.244.0.0/16"]
        assert [row["prefix"] for row in rows(c.one, "best", prefix="10.244.0.0/16")] == [
            "10.244.0.0/16",
            MINE,
            "10.244.2.0/24",
        ]
        assert rows(c.one, "best", prefix="fd00::/8") == []
        assert rows(c.one, "best", prefix="9.9.9.9") == []


async def test_routes_of_one_neighbour_alone() -> None:
    async with cluster() as c:
        assert [row["prefix"] for row in rows(c.one, "in", peer=address(3))] == ["198.18.0.0/15", SHARED]
        assert [row["prefix"] for row in rows(c.one, "best", peer=address(3))] == ["198.18.0.0/15"]


async def test_what_makes_no_sense_is_refused_in_words() -> None:
    async with cluster() as c:
        with pytest.raises(ValueError, match=rf"10\.9\.9\.9 is no neighbour; there are {address(2)}, {address(3)}"):
            show.routes(c.one.speaker, "in", peer="10.9.9.9")
        with pytest.raises(ValueError, match="'worst' is none of best, in, out"):
            show.routes(c.one.speaker, "worst")
        with pytest.raises(ValueError, match="does not appear to be"):
            show.routes(c.one.speaker, "best", prefix="nonsense")


async def test_paths_of_a_neighbour_that_restarts_are_marked_as_stale() -> None:
    async with cluster() as c:
        c.two.stop()
        await until(lambda: not c.one.is_up(2), "the end")
        [row] = rows(c.one, "in", prefix="10.244.2.0/24")
        assert row["stale"] is True
        assert [each.stale for each in show.figures(c.one.speaker)] == [2, 0]
        assert [each.state for each in show.figures(c.one.speaker)][1] == "established"


async def test_an_equally_good_path_is_used_and_said_to_be() -> None:
    async with world() as w:
        one = w.node(config(1, 2, 3))
        for i in (2, 3):
            w.node(config(i, 1, originated={prefix_of(SHARED): Kind.POD}))
        await until(lambda: len(one.routes.get(SHARED, ())) == 2, "two next hops")
        best, other = rows(one, "in", prefix=SHARED)
        assert (best["best"], best["used"], other["best"], other["used"]) == (True, True, False, True)
        assert other["why"] == "as good as the best"
        assert [row["best"] for row in rows(one, "best", prefix=SHARED)] == [True, False]


async def test_rows_of_a_large_table_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(show, "ROWS_MAX", 2)
    async with cluster() as c:
        assert len(rows(c.one, "best")) == 2


async def test_what_an_unsettled_neighbour_still_owes_is_named_by_family() -> None:
    async with world() as w:
        one = w.node(config(1, peer(1, 2, passive=True)))
        async with connection(2, 1) as raw:
            await raw.establish()
            await until(lambda: one.is_up(2), "a session")
            [row] = show.neighbours(one.speaker)
            assert row["awaited"] == [Family.IPV4.name]


async def test_a_reflectors_neighbours_are_told_all_but_their_own() -> None:
    async with world() as w:
        server = w.node(config(1, *(peer(1, i, reflector_client=True) for i in (2, 3)), cluster_id=1))
        two, three = w.node(config(2, 1)), w.node(config(3, 1))
        await until(lambda: len(two.routes) == len(three.routes) == 2, "what is reflected")
        assert [row["sent"] for row in show.neighbours(server.speaker)] == [2, 2]
        assert [row["prefix"] for row in rows(server, "out", peer=address(2))] == [MINE, "10.244.3.0/24"]
        assert show.us(server.speaker, Configured(config=server.config))["cluster_id"] == "0.0.0.1"
