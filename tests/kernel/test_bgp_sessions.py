"""BGP sessions over real TCP: neighbours in namespaces, and one that does not keep to the rules."""

import select
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness.bgp_router import Router, Scripted, Watched, config, established, router
from harness.machine import until as waited_until

from kube_router.events.errors import KernelError
from kube_router.lab import netns
from kube_router.plugins.routing.bgp import sockopt
from kube_router.plugins.routing.bgp.model import PeerConfig
from kube_router.plugins.routing.bgp.peer import State
from kube_router.plugins.routing.bgp.wire import KEEPALIVE

pytestmark = pytest.mark.root

A, B, MIDDLE, FAR = "krses-a", "krses-b", "krses-m", "krses-f"
A4, B4, A6, B6, STRANGER = "10.99.0.1", "10.99.0.2", "fd99::1", "fd99::2", "10.99.0.66"
FAR4 = "10.99.1.2"
LINKS = (
    f"link add ab netns {A} type veth peer name ba netns {B}",
    f"link add to-m netns {A} type veth peer name to-a netns {MIDDLE}",
    f"link add to-f netns {MIDDLE} type veth peer name to-m netns {FAR}",
)
ADDRESSES = {
    A: (f"{A4}/24 dev ab", f"{A6}/64 dev ab nodad", "10.99.2.1/24 dev to-m"),
    B: (f"{B4}/24 dev ba", f"{STRANGER}/24 dev ba", f"{B6}/64 dev ba nodad"),
    MIDDLE: ("10.99.2.2/24 dev to-a", "10.99.1.1/24 dev to-f"),
    FAR: (f"{FAR4}/24 dev to-m",),
}
DEVICES = {A: ("ab", "to-m"), B: ("ba",), MIDDLE: ("to-a", "to-f"), FAR: ("to-m",)}
ROUTES = {A: "10.99.1.0/24 via 10.99.2.2", FAR: "default via 10.99.1.1"}
MARKER = b"\xff" * 16
MESSAGES = 200_000
SECRET = "swordfish-0815"


@pytest.fixture(scope="module", autouse=True)
def _namespaces() -> Iterator[None]:
    """a and b on one link; f behind a router m, one hop further."""
    names = (A, B, MIDDLE, FAR)
    netns.remove(names)
    netns.add(names)
    try:
        netns.ip_batch(LINKS)
        for name in names:
            lines = [f"link set {device} up" for device in ("lo", *DEVICES[name])]
            lines += [f"addr add {address}" for address in ADDRESSES[name]]
            lines += [f"route add {ROUTES[name]}"] if name in ROUTES else []
            netns.ip_batch(lines, namespace=name)
        netns.run_in(MIDDLE, lambda: netns.write_sysctls({"net/ipv4/ip_forward": "1"}))
        yield
    finally:
        netns.remove(names)


@pytest.fixture(name="a")
def _a() -> Iterator[Router]:
    with router(A, router_id=1) as made:
        yield made


@pytest.fixture(name="b")
def _b() -> Iterator[Router]:
    with router(B, router_id=2) as made:
        yield made


def until(condition: Callable[[], object], *, timeout_s: float = 10) -> None:
    waited_until(condition, what="a BGP session's change", timeout_s=timeout_s)


def waiting(a: Router, *, hold_time_s: int = 90, asn: int = 65001, address: str = B4) -> Watched:
    """Have a wait for the scripted neighbour at b."""
    a.listen(A4)
    return a.peer(config(address, asn=asn, internal=asn == 65001, passive=True, hold_time_s=hold_time_s))


def up(watched: Watched) -> None:
    until(lambda: watched.peer.state is State.ESTABLISHED)


def down(watched: Watched, timeout_s: float = 10) -> str:
    """Return why the session ended, once it did."""
    until(lambda: watched.told[-1].startswith("down"), timeout_s=timeout_s)
    return watched.told[-1]


# -- Two of ours -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("here", "there"), [(A4, B4), (A6, B6)], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("password", ["", SECRET], ids=["", "MD5"])
@pytest.mark.parametrize("ttl_security", [False, True], ids=["", "GTSM"])
def test_two_neighbours_come_up(a: Router, b: Router, here: str, there: str, password: str, ttl_security: bool) -> None:
    a.listen(here, keys={there: password} if password else {})
    b.listen(there, keys={here: password} if password else {})
    ours = a.peer(config(there, password=password, ttl_security=ttl_security, local_address=here))
    theirs = b.peer(config(here, password=password, ttl_security=ttl_security))
    until(lambda: established((ours, theirs)))
    assert ours.told == theirs.told == ["established"]
    about = ours.peer.describe()
    assert about["state"] == "established"
    assert about["hold_time_s"] == 90
    assert about["families"] == ["ipv4"]
    assert SECRET not in repr(about) + repr(ours.peer.config)


def test_either_alone_may_open_the_connection(a: Router, b: Router) -> None:
    a.listen(A4)
    b.listen(B4)
    ours = a.peer(config(B4, passive=True))
    theirs = b.peer(config(A4))
    until(lambda: established((ours, theirs)))


def test_a_stop_is_a_cease_that_tells_the_operators_words(a: Router, b: Router) -> None:
    a.listen(A4)
    ours, theirs = a.peer(config(B4, passive=True)), b.peer(config(A4))
    until(lambda: established((ours, theirs)))
    a.call(lambda: ours.peer.stop(6, 2, "node is drained"))
    assert ours.told[1:] == ["down: we ended it: node is drained"]
    assert down(theirs) == 'down: it ended the session: cease: administrative shutdown: "node is drained"'


def test_a_silent_stop_leaves_the_neighbour_what_it_learned() -> None:
    with router(A, router_id=1, restart=True) as a, router(B, router_id=2, restart=True) as b:
        a.listen(A4)
        ours, theirs = a.peer(config(B4, passive=True, graceful_restart_s=90)), b.peer(config(A4))
        until(lambda: established((ours, theirs)))
        a.call(lambda: ours.peer.stop(silent=True))
        assert down(theirs) == "down gracefully: it closed the connection without a NOTIFICATION"


def test_a_neighbour_that_is_not_there_is_named_as_what_it_is(a: Router) -> None:
    refused = a.peer(config(B4, port=1790))
    until(lambda: refused.peer.last_error != "")
    assert refused.peer.last_error == (
        "it refuses connections to port 1790: does a BGP speaker listen there, and does it know us?"
    )
    absent = a.peer(config("10.99.0.9", local_address="10.99.0.8"))
    until(lambda: absent.peer.last_error != "")
    assert absent.peer.last_error == "this node has no address 10.99.0.8"


@pytest.mark.slow
def test_a_wrong_password_looks_like_no_answer_and_is_said_to(a: Router, b: Router) -> None:
    a.listen(A4, keys={B4: SECRET})
    ours = a.peer(config(B4, password=SECRET, passive=True))
    theirs = b.peer(config(A4, password="another"))
    until(lambda: theirs.peer.last_error != "", timeout_s=15)
    assert theirs.peer.last_error == (
        "no answer to SYN within 5 s: is the peer up, and do both have the same password?"
    )
    assert ours.told == []


def test_a_password_that_is_taken_back_is_demanded_no_longer(a: Router) -> None:
    a.listen(A4, keys={B4: SECRET})
    watched = a.peer(config(B4, passive=True))
    with Scripted.connect(B, A4, source=B4, password=SECRET):
        until(lambda: watched.peer.counters.sent == 1)
    a.call(lambda: a.listener.set_keys({}))  # type: ignore[union-attr]  # it listens
    with Scripted.connect(B, A4, source=B4) as scripted:
        scripted.establish()
        up(watched)


def test_a_password_longer_than_the_kernel_takes_is_refused_without_being_told(a: Router) -> None:
    with pytest.raises(KernelError, match=f"the password of {B4} has 81 octets, the kernel takes 80"):
        a.listen(A4, keys={B4: "x" * 81})


def test_an_address_that_cannot_be_listened_on_is_named_and_tried_again(a: Router) -> None:
    with pytest.raises(KernelError, match=r"cannot listen on 10\.99\.0\.77 port 179: Cannot assign requested address"):
        a.listen("10.99.0.77", A4)
    listener = a.listener
    assert listener is not None
    netns.ip_batch(["addr add 10.99.0.77/24 dev ab"], namespace=A)
    try:
        a.call(listener.open)
    finally:
        a.call(listener.close)
        netns.ip_batch(["addr del 10.99.0.77/24 dev ab"], namespace=A)


# -- Hops ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_external_neighbour_behind_a_router_needs_a_ttl_that_reaches_it(a: Router) -> None:
    with router(FAR, asn=65002, router_id=3) as far:
        far.listen(FAR4)
        there = far.peer(PeerConfig(address="10.99.2.1", asn=65001, internal=False, passive=True, ttl=2))
        near = a.peer(config(FAR4, asn=65002, internal=False))
        until(lambda: near.peer.last_error != "", timeout_s=15)
        assert "multihop TTL" in near.peer.last_error
        assert there.told == []
        a.call(near.peer.stop)
        reaching = a.peer(config(FAR4, asn=65002, internal=False, ttl=2))
        until(lambda: established((reaching, there)))


@pytest.mark.parametrize(("here", "there"), [(A4, B4), (A6, B6)], ids=["IPv4", "IPv6"])
def test_with_ttl_security_what_comes_from_further_away_is_closed_unheard(a: Router, here: str, there: str) -> None:
    a.listen(here)
    watched = a.peer(config(there, asn=65002, internal=False, passive=True, ttl_security=True))
    with Scripted.connect(B, here, source=there, ttl=254) as forged:
        assert forged.read() == (0, b"")
    assert watched.peer.counters.refused == 1
    assert watched.peer.counters.received == 0
    with Scripted.connect(B, here, source=there, ttl=255) as honest:
        honest.establish(asn=65002)
        up(watched)
        sockopt.set_ttl(honest.sock, 254)
        with pytest.raises(TimeoutError):  # its acknowledgements are not heard either
            _hear(honest, watched)
        sockopt.set_ttl(honest.sock, 255)


def _hear(scripted: Scripted, watched: Watched) -> None:
    before = watched.peer.counters.received
    scripted.send(KEEPALIVE)
    deadline = time.monotonic() + 1
    while watched.peer.counters.received == before:
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.02)


# -- Neighbours that say the wrong thing -----------------------------------------------------------------------------


def test_a_hold_time_of_zero_means_no_keepalives(a: Router) -> None:
    watched = waiting(a)
    with Scripted.connect(B, A4, source=B4) as scripted:
        scripted.establish(hold=0)
        up(watched)
        scripted.sock.settimeout(2)
        with pytest.raises(TimeoutError):
            scripted.read()
        assert watched.peer.describe()["hold_time_s"] == 0


@pytest.mark.parametrize("hold", [1, 2])
def test_a_hold_time_below_three_seconds_is_refused(a: Router, hold: int) -> None:
    watched = waiting(a)
    with Scripted.connect(B, A4, source=B4) as scripted:
        scripted.open(hold=hold)
        assert scripted.last_words()[:2] == (2, 6)
    until(lambda: "hold time" in watched.peer.last_error)
    assert watched.told == []


def test_another_version_is_answered_with_ours(a: Router) -> None:
    waiting(a)
    with Scripted.connect(B, A4, source=B4) as scripted:
        scripted.open(version=3)
        assert scripted.last_words() == (2, 1, b"\x00\x04")


def test_another_as_is_refused_and_named(a: Router) -> None:
    watched = waiting(a)
    with Scripted.connect(B, A4, source=B4) as scripted:
        scripted.open(asn=65009)
        assert scripted.last_words()[:2] == (2, 2)
    until(lambda: watched.peer.last_error != "")
    assert watched.peer.last_error == (
        "we ended it: OPEN message error: bad peer AS: the peer is of AS 65009, configured is 65001"
    )


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        pytest.param(b"\xfe" * 16 + b"\x00\x13\x04", (1, 1), id="marker"),
        pytest.param(MARKER + b"\x00\x12\x04", (1, 2), id="length"),
        pytest.param(MARKER + b"\x00\x13\x09", (1, 3), id="type"),
        pytest.param(KEEPALIVE, (5, 1), id="keepalive before OPEN"),
        pytest.param(MARKER + b"\x00\x17\x02\x00\x00\x00\x00", (5, 1), id="update before OPEN"),
    ],
)
def test_what_is_no_open_is_answered_by_the_error_it_is(a: Router, message: bytes, expected: tuple[int, int]) -> None:
    waiting(a)
    with Scripted.connect(B, A4, source=B4) as scripted:
        scripted.send(message)
        assert scripted.last_words()[:2] == expected


def test_a_stranger_is_closed_at_once_and_counted(a: Router) -> None:
    watched = waiting(a)
    with Scripted.connect(B, A4, source=STRANGER) as stranger:
        assert stranger.read() == (0, b"")
    assert a.listener is not None
    assert a.listener.strangers == 1
    assert watched.peer.counters.sent == 0


# -- Neighbours that go quiet ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_link_that_goes_down_ends_the_session_at_its_hold_time(a: Router, b: Router) -> None:
    a.listen(A4)
    ours, theirs = a.peer(config(B4, passive=True, hold_time_s=3)), b.peer(config(A4, hold_time_s=3))
    until(lambda: established((ours, theirs)))
    netns.ip_batch(["link set ba down"], namespace=B)
    try:
        began = time.monotonic()
        why = down(ours)
        assert 1.5 < time.monotonic() - began < 6
        assert why in (
            "down: nothing was heard from it for the whole hold time",
            "down: it did not acknowledge what we sent for 3 s: the way to it is cut, or it does not read",
        )
    finally:
        netns.ip_batch(["link set ba up", f"addr replace {B6}/64 dev ba nodad"], namespace=B)


@pytest.mark.slow
def test_a_neighbour_that_reads_slowly_is_waited_for_and_one_that_does_not_read_is_given_up(a: Router) -> None:
    watched = waiting(a, hold_time_s=3)
    message = MARKER + struct.pack("!HB", 4096, 2) + bytes(4077)
    stop = threading.Event()
    with Scripted.connect(B, A4, source=B4) as slow:
        slow.establish(hold=3)
        up(watched)
        alive = threading.Thread(target=_keep_alive, args=(slow, stop))
        alive.start()
        sent = 0
        while a.call(lambda: watched.peer.send([message] * 8)):
            sent += 8
            assert sent < 100_000
        received = 0
        while "writable" not in watched.told and received < sent:
            assert slow.read()[0] in (2, 4)
            received += 1
        until(lambda: "writable" in watched.told)
        assert a.call(lambda: watched.peer.send([message]))
        while a.call(lambda: watched.peer.send([message] * 8)):
            pass
        why = down(watched, timeout_s=20)
        stop.set()
        alive.join()
    assert "did not acknowledge" in why or "has read nothing" in why


def _keep_alive(scripted: Scripted, stop: threading.Event) -> None:
    while not stop.wait(0.5):
        try:
            scripted.send(KEEPALIVE)
        except OSError:
            return


# -- Neighbours that are too busy ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_flood_from_one_neighbour_does_not_delay_the_keepalives_of_others(a: Router) -> None:
    a.listen(A4)
    quiet = [f"10.99.0.{100 + number}" for number in range(20)]
    netns.ip_batch([f"addr add {address}/24 dev ba" for address in quiet], namespace=B)
    flooded = a.peer(config(B4, passive=True))
    calm = [a.peer(config(address, passive=True, hold_time_s=3), jitter=1.0) for address in quiet]
    sessions = [Scripted.connect(B, A4, source=address) for address in quiet]
    try:
        for number, session in enumerate(sessions):
            session.establish(hold=3, router_id=100 + number)
        with Scripted.connect(B, A4, source=B4) as flood:
            flood.establish(router_id=99)
            until(lambda: established([*calm, flooded]))
            late = _lateness_during(lambda: _flood(flood, flooded), sessions)
        assert flooded.updates == MESSAGES
        assert established(calm)
        print(f"lateness of keepalives under flood: p99 {late * 1000:.1f} ms")
        assert late < 0.5
    finally:
        for session in sessions:
            session.sock.close()
        netns.ip_batch([f"addr del {address}/24 dev ba" for address in quiet], namespace=B)


def _updates(number: int) -> bytes:
    """Return a thousand small UPDATEs of which each has attributes of its own."""
    messages = []
    for med in range(number, number + 1000):
        attributes = bytes.fromhex("400101004002004003040a63000240050400000064800404") + med.to_bytes(4)
        body = b"\x00\x00" + struct.pack("!H", len(attributes)) + attributes + bytes.fromhex("180a0a01")
        messages.append(MARKER + struct.pack("!HB", 19 + len(body), 2) + body)
    return b"".join(messages)


def _flood(flood: Scripted, watched: Watched) -> None:
    flood.sock.settimeout(60)
    for number in range(0, MESSAGES, 1000):
        flood.send(_updates(number))
    until(lambda: watched.updates >= MESSAGES, timeout_s=60)


def _lateness_during(work: Callable[[], None], sessions: list[Scripted]) -> float:
    """Return how much more than a second was between keepalives during some work: 99 of 100 were less late."""
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work)
        heard = {session.sock: time.monotonic() for session in sessions}
        spoke = 0.0
        late = []
        while not working.done():
            readable, _, _ = select.select(list(heard), [], [], 0.1)
            now = time.monotonic()
            for sock in readable:
                assert sock.recv(4096) != b""
                late.append(now - heard[sock] - 1)
                heard[sock] = now
            if now - spoke > 0.8:
                spoke = now
                for sock in heard:
                    sock.sendall(KEEPALIVE)
        working.result()
    late = late[len(sessions) :]  # the first of each came somewhen in its second
    assert len(late) >= 2 * len(sessions)
    return sorted(late)[int(len(late) * 0.99)]


@pytest.mark.slow
def test_a_neighbour_that_flaps_is_let_in_less_and_less_often(a: Router) -> None:
    watched = waiting(a)
    until_s = time.monotonic() + 8
    refused = 0
    while time.monotonic() < until_s:
        with Scripted.connect(B, A4, source=B4) as scripted:
            scripted.open()
            kind, body = scripted.read()
            if kind == 3:
                assert body[:2] == b"\x06\x05"  # connection rejected
                refused += 1
                time.sleep(0.02)
                continue
            assert (kind, scripted.read()[0]) == (1, 4)
            scripted.send(KEEPALIVE)
            up(watched)
            scripted.send(MARKER + b"\x00\x13\x09")
            assert scripted.last_words()[:2] == (1, 3)
        down(watched)
    assert watched.peer.flaps == 4  # at 0, 1, 3 and 7 s, each a little earlier by jitter
    assert watched.peer.counters.refused == refused > 20
    assert watched.told.count("established") == 4
