"""``kr bgp`` and ``kr explain --route`` for people: what their lines say."""

from kube_router.cli.bgp import neighbour_lines, route_lines
from kube_router.cli.route import lines

SPEAKER = {
    "speaks": True, "asn": 64512, "router_id": "10.0.0.1", "cluster_id": "", "prefixes": 3, "originated": 1,
    "trouble": "", "waiting": [], "strangers": 0, "settled": True,
}  # fmt: skip
UP = {
    "address": "10.0.0.2", "asn": 64512, "mesh": True, "state": "established", "uptime_s": 62.4, "received": 2,
    "sent": 1, "stale": 0, "flaps": 0, "last_error": "", "last_fault": "", "faulty_updates": 0,
}  # fmt: skip


def test_each_neighbour_is_a_line_and_one_that_is_down_says_why() -> None:
    down = UP | {
        "address": "192.0.2.1",
        "asn": 65001,
        "mesh": False,
        "state": "active",
        "received": 0,
        "sent": 0,
        "stale": 2,
        "flaps": 3,
        "last_error": "it closed the connection",
        "last_fault": "ORIGIN has value 3",
        "faulty_updates": 4,
        "bfd": {"state": "Down"},
    }
    assert list(neighbour_lines(SPEAKER | {"neighbours": [UP, down]})) == [
        "AS 64512  router id 10.0.0.1  1 of 2 established  3 prefixes, 1 own",
        "  10.0.0.2   AS 64512   mesh  established 1m2s      2 in, 1 out",
        "  192.0.2.1  AS 65001   peer  active                0 in, 0 out  2 stale  3 flaps  BFD Down",
        "    it closed the connection",
        "    4 faulty updates, the last: ORIGIN has value 3",
    ]


def test_what_hinders_the_speaker_comes_first() -> None:
    hindered = SPEAKER | {"trouble": "cannot bind 10.0.0.1 port 179", "waiting": ["192.0.2.1"], "neighbours": []}
    assert list(neighbour_lines(hindered))[1:] == [
        "  not listening: cannot bind 10.0.0.1 port 179",
        "  waiting for passwords of 192.0.2.1",
    ]
    assert list(neighbour_lines({"speaks": False, "why": ["Node n1: is not known"]})) == [
        "this node does not speak BGP",
        "  Node n1: is not known",
    ]


def test_routes_of_one_prefix_stand_together_with_what_is_used_and_why() -> None:
    first = {
        "prefix": "10.244.2.0/24", "peer": "10.0.0.2", "next_hop": "10.0.0.2", "as_path": "", "origin": "IGP",
        "local_pref": 100, "best": True, "used": True, "why": "lower MED",
    }  # fmt: skip
    second = first | {
        "peer": "10.0.0.3", "as_path": "65001 65002", "med": 7, "communities": ["64512:1"], "stale": True,
        "best": False, "used": False, "why": "lost by MED",
    }  # fmt: skip
    assert list(route_lines([first, second], "in")) == [
        "10.244.2.0/24",
        " *> 10.0.0.2  via 10.0.0.2  local-pref 100 (lower MED)",
        "    10.0.0.3  via 10.0.0.2  path 65001 65002  local-pref 100  MED 7  64512:1  stale (lost by MED)",
    ]


def test_where_an_address_leads_is_said_with_its_causes() -> None:
    learned = {
        "address": "10.244.2.7", "way": "learned", "prefix": "10.244.2.0/24", "through": "10.0.0.2 dev eth0",
        "peers": ["10.0.0.2"], "next_hops": ["10.0.0.2"], "as_path": "65001", "why": "only path",
        "because": [{"seq": 11, "object": "Route 10.244.2.0/24"}], "announced": [],
    }  # fmt: skip
    assert list(lines(learned)) == [
        "10.244.2.7  by 10.244.2.0/24 through 10.0.0.2 dev eth0",
        "  learned by BGP from 10.0.0.2, next hop 10.0.0.2 (only path)",
        "  AS path 65001",
        "  Route 10.244.2.0/24 (seq 11)",
    ]
    claim = {"prefix": "10.96.0.9/32", "announced": False, "why": "no flag announces cluster IPs", "because": []}
    nowhere = {"address": "10.96.0.9", "way": "none", "why": "this node knows no route there", "announced": [claim]}
    assert list(lines(nowhere)) == [
        "10.96.0.9  nowhere",
        "  this node knows no route there",
        "  not announced: 10.96.0.9/32, no flag announces cluster IPs",
    ]
