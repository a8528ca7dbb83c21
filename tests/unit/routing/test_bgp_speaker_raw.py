"""A speaker and neighbours that are none, say what they should not, or do not read, over real TCP."""

import logging
import re
import socket
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from bgp_neighbours import Hearer
from harness.loopback import PORT, Node, Raw, address, config, connection, outside, peer, peers, pods, until, world

from kube_router.plugins.routing import show
from kube_router.plugins.routing.bgp import neighbour, session, sockopt
from kube_router.plugins.routing.bgp.fault import parse_notification
from kube_router.plugins.routing.bgp.model import (
    Attributes,
    Family,
    GracefulRestart,
    Kind,
    Negotiated,
    NextHop,
    Prefix,
    prefix_of,
)
from kube_router.plugins.routing.bgp.update import encode_reach, end_of_rib
from kube_router.plugins.routing.bgp.wire import KEEPALIVE, MessageType, parse_route_refresh, route_refresh

MARKER = b"\xff" * 16
AGREED = Negotiated(asn=64512, router_id=99, internal=True, hold_time_s=90)
LOCAL = Attributes(local_pref=100)
TURNS_MAX = 100


def told(raw: Raw) -> dict[str, str]:
    """Return what a neighbour has been told, with the next hops."""
    hearer = Hearer(AGREED)
    hearer.hear(framed(MessageType.UPDATE, body) for body in raw.bodies(MessageType.UPDATE))
    return {str(prefix): ".".join(map(str, hop.address)) for prefix, (_, hop) in hearer.routes.items()}


def framed(kind: MessageType, body: bytes) -> bytes:
    return MARKER + (len(body) + 19).to_bytes(2) + bytes((kind,)) + body


def reach(*prefixes: str, hop: str = "10.0.0.2", attributes: Attributes = LOCAL) -> Iterable[bytes]:
    next_hop = NextHop(bytes(map(int, hop.split("."))))
    return encode_reach(attributes, next_hop, [prefix_of(each) for each in prefixes], AGREED)


def small_buffers(set_common: Callable[[socket.socket], None]) -> Callable[[socket.socket], None]:
    """Return what makes a socket BGP's, with a small buffer in the kernel."""

    def set_small(sock: socket.socket) -> None:
        set_common(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

    return set_small


def has_all(node: Node, prefixes: list[Prefix]) -> bool:
    """Tell whether a node has learned these, by their number and two of them."""
    return len(node.routes) == len(prefixes) and str(prefixes[0]) in node.routes and str(prefixes[-1]) in node.routes


async def test_a_connection_from_no_neighbour_is_closed_and_counted() -> None:
    async with world() as w:
        one = w.node(config(1, 2))
        async with connection(9, 1) as raw:
            await until(lambda: raw.hear() == [] and raw.closed, "a close")
        assert one.speaker.strangers == 1
        assert one.sessions == []


async def test_a_neighbour_of_another_as_is_told_so_and_gets_no_session() -> None:
    async with world() as w:
        one = w.node(config(1, 2))
        async with connection(2, 1) as raw:
            await raw.establish(asn=65000)
            await until(lambda: raw.bodies(MessageType.NOTIFICATION) and raw.closed, "a NOTIFICATION")
            notification = parse_notification(raw.bodies(MessageType.NOTIFICATION)[0])
        assert (notification.code, notification.subcode) == (2, 2)
        assert one.sessions == []


async def test_a_route_refresh_is_answered_with_all_between_its_marks() -> None:
    async with world() as w:
        w.node(config(1, 2))
        async with connection(2, 1) as raw:
            await raw.establish(route_refresh=True, enhanced_refresh=True)
            await until(lambda: told(raw) == {pods(1): "10.0.0.1"}, "the table")
            raw.say(route_refresh(Family.IPV4))
            await until(lambda: len(raw.bodies(MessageType.ROUTE_REFRESH)) == 2, "the marks")
            marks = [parse_route_refresh(body).subtype for body in raw.bodies(MessageType.ROUTE_REFRESH)]
            assert marks == [1, 2]
            kinds = [kind for kind, _ in raw.hear() if kind is not MessageType.KEEPALIVE]
            assert kinds[-3:] == [MessageType.ROUTE_REFRESH, MessageType.UPDATE, MessageType.ROUTE_REFRESH]
            raw.say(route_refresh(Family.IPV6))  # which this session does not carry
            raw.say(route_refresh(Family.IPV4))
            await until(lambda: len(raw.bodies(MessageType.ROUTE_REFRESH)) == 4, "the marks again")


async def test_a_neighbour_may_say_all_anew_and_what_it_leaves_out_goes() -> None:
    async with world() as w:
        one = w.node(config(1, 2))
        async with connection(2, 1) as raw:
            await raw.establish(route_refresh=True, enhanced_refresh=True)
            raw.say(*reach("10.9.1.0/24", "10.9.2.0/24"), end_of_rib(Family.IPV4))
            await until(lambda: set(one.routes) == {"10.9.1.0/24", "10.9.2.0/24"}, "its routes")
            raw.say(route_refresh(Family.IPV4, 1))
            await until(lambda: [each.stale for each in show.figures(one.speaker)] == [2], "the beginning")
            raw.say(*reach("10.9.1.0/24"), route_refresh(Family.IPV4, 2))
            await until(lambda: set(one.routes) == {"10.9.1.0/24"}, "what is left")
            assert [each.stale for each in show.figures(one.speaker)] == [0]


async def test_what_has_faults_is_taken_as_withdrawn_and_logged_the_first_the_second_and_the_fourth_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    async with world() as w:
        one = w.node(config(1, 2))
        async with connection(2, 1) as raw:
            await raw.establish()
            raw.say(*reach("10.9.1.0/24", "10.9.2.0/24"))
            await until(lambda: len(one.routes) == 2, "its routes")
            [message] = reach("10.9.1.0/24")
            origin = message.index(b"\x40\x01\x01\x00")
            faulty = message[: origin + 3] + b"\x09" + message[origin + 4 :]
            raw.say(*[faulty] * 5)
            await until(lambda: one.of(2).faults == 5, "five faults")
            await until(lambda: set(one.routes) == {"10.9.2.0/24"}, "a withdrawal")
            assert one.is_up(2)
    lines = [line for line in caplog.messages if line.startswith("bgp_update_faulty")]
    assert [line.split()[2] for line in lines] == ["number=1", "number=2", "number=4"]


async def test_refused_paths_are_held_and_not_used_until_the_node_is_another() -> None:
    async with world() as w:
        one = w.node(config(1, 2))
        async with connection(2, 1) as raw:
            await raw.establish()
            raw.say(*reach("10.9.1.0/24", hop="10.0.0.1"), *reach("10.9.2.0/24"))
            await until(lambda: set(one.routes) == {"10.9.2.0/24"}, "the one that can be used")
            assert one.speaker.rib.count(address(2)) == 2
            one.become(next_hops={Family.IPV4: b"\x0a\x00\x00\x63"})
            await until(lambda: set(one.routes) == {"10.9.1.0/24", "10.9.2.0/24"}, "both")


async def test_a_neighbour_that_never_reads_is_given_up_and_keeps_nothing_from_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(neighbour, "BACKLOG_BYTES_MAX", 1 << 17)
    monkeypatch.setattr(session, "BUFFER_HIGH", 1 << 15)
    monkeypatch.setattr(sockopt, "set_common", small_buffers(sockopt.set_common))
    vips = [prefix_of(f"100.64.{i}.{j}/32") for i in range(20) for j in range(256)]
    turns = dict.fromkeys(vips[::2], Kind.SERVICE), dict.fromkeys(vips[1::2], Kind.SERVICE)
    async with world() as w:
        one = w.node(config(1, outside(1, 2, hold_time_s=0), outside(1, 3)))
        three = w.node(config(3, outside(3, 1, asn=64512), asn=64515))
        await until(lambda: three.routes, "a session with who reads")
        async with connection(2, 1, receive_buffer=4096) as raw:
            await raw.establish(asn=64514, hold_time_s=0)
            await until(lambda: one.is_up(2), "a session with who does not")
            for turn in range(TURNS_MAX):
                if not one.is_up(2):
                    break
                one.become(originated=turns[turn % 2])
                await until(partial(has_all, three, vips[turn % 2 :: 2]), "what the other reads")
        words = r"we ended it: cease: out of resources: it reads too slowly: 1\d\d KiB of routes wait for it"
        assert re.fullmatch(words, one.last_words(2))
        assert one.ups_and_downs(2) == [True, False]
        assert three.ups_and_downs(1) == [True]


async def test_a_message_that_is_no_bgp_ends_the_session_with_the_right_words() -> None:
    async with world() as w:
        one = w.node(config(1, 2))
        async with connection(2, 1) as raw:
            await raw.establish()
            raw.say(*reach("10.9.1.0/24"), KEEPALIVE)
            await until(lambda: one.routes, "its routes")
            raw.say(bytes(19))
            await until(lambda: raw.bodies(MessageType.NOTIFICATION) and raw.closed, "a NOTIFICATION")
            notification = parse_notification(raw.bodies(MessageType.NOTIFICATION)[0])
            assert (notification.code, notification.subcode) == (1, 1)
        await until(lambda: one.routes == {}, "the end of its routes")


async def test_a_password_is_asked_of_who_connects_from_then_on() -> None:
    async with world() as w:
        one = w.node(config(1, peer(1, 2, passive=True)))
        two = w.node(config(2, 1))
        await until(lambda: one.routes and two.routes, "a session without one")
        one.change(2, password="swordfish")
        await until(lambda: not one.is_up(2) and not two.is_up(1), "no session")
        two.change(1, password="swordfish")
        await until(lambda: one.routes and two.routes and one.is_up(2), "a session with one")
        assert "swordfish" not in repr(one.config)
        one.become(peers=peers(replace(one.config.peers[address(2)], port=PORT)))


async def test_marks_of_a_refresh_right_behind_the_end_of_rib_of_a_restart_count() -> None:
    restart = GracefulRestart(time_s=60, families={Family.IPV4: True})
    can: dict[str, Any] = {"route_refresh": True, "enhanced_refresh": True, "graceful_restart": restart}
    async with world() as w:
        one = w.node(config(1, 2))
        async with connection(2, 1) as raw:
            await raw.establish(**can)
            raw.say(*reach("10.9.1.0/24", "10.9.2.0/24"), end_of_rib(Family.IPV4))
            await until(lambda: len(one.routes) == 2, "its routes")
        await until(lambda: not one.is_up(2), "the end")
        async with connection(2, 1) as raw:
            await raw.establish(**can)
            await until(lambda: one.is_up(2), "a session again")
            said = *reach("10.9.1.0/24", "10.9.2.0/24"), end_of_rib(Family.IPV4)
            raw.say(*said, route_refresh(Family.IPV4, 1), *reach("10.9.1.0/24"), route_refresh(Family.IPV4, 2))
            await until(lambda: set(one.routes) == {"10.9.1.0/24"}, "what is left", wait_s=5)
