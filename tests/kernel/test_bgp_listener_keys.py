"""One neighbour's password that the kernel does not take keeps out that neighbour alone."""

from collections.abc import Iterator

import pytest
from harness.bgp_router import Router, config, established, router
from harness.machine import until

from kube_router.events.errors import KernelError
from kube_router.lab import netns

pytestmark = pytest.mark.root

A, B = "krlk-a", "krlk-b"
A4, B4, OTHER = "10.98.0.1", "10.98.0.2", "10.98.0.3"
SECRET = "swordfish-0815"
TOO_LONG = "x" * 81
REFUSED = rf"the password of {OTHER} has 81 octets, the kernel takes 80"


@pytest.fixture(autouse=True)
def _namespaces() -> Iterator[None]:
    netns.remove((A, B))
    netns.add((A, B))
    try:
        netns.ip_batch([f"link add ab netns {A} type veth peer name ba netns {B}"])
        for name, device, addresses in ((A, "ab", (A4,)), (B, "ba", (B4, OTHER))):
            lines = [f"addr add {address}/24 dev {device}" for address in addresses]
            netns.ip_batch([*lines, "link set lo up", f"link set {device} up"], namespace=name)
        yield
    finally:
        netns.remove((A, B))


@pytest.fixture(name="a")
def _a() -> Iterator[Router]:
    with router(A, router_id=1) as made:
        yield made


@pytest.fixture(name="b")
def _b() -> Iterator[Router]:
    with router(B, router_id=2) as made:
        yield made


def test_the_others_are_listened_for_and_it_is_not_let_in(a: Router, b: Router) -> None:
    with pytest.raises(KernelError, match=REFUSED):
        a.listen(A4, keys={OTHER: TOO_LONG, B4: SECRET})
    ours = a.peer(config(B4, password=SECRET, passive=True))
    theirs = b.peer(config(A4, password=SECRET, local_address=B4))
    until(lambda: established((ours, theirs)), what="the session of the neighbour whose password is right")
    refused = a.peer(config(OTHER, passive=True))
    without = b.peer(config(A4, local_address=OTHER))
    until(lambda: without.peer.last_error != "", what="the other to be turned away")
    assert refused.told == without.told == []


def test_passwords_that_come_later_are_known_though_one_is_refused(a: Router, b: Router) -> None:
    a.listen(A4)
    listener = a.listener
    assert listener is not None
    with pytest.raises(KernelError, match=REFUSED):
        a.call(lambda: listener.set_keys({OTHER: TOO_LONG, B4: SECRET}))
    with pytest.raises(KernelError, match=REFUSED):
        a.call(listener.open)
    ours = a.peer(config(B4, password=SECRET, passive=True))
    theirs = b.peer(config(A4, password=SECRET, local_address=B4))
    until(lambda: established((ours, theirs)), what="the session of the neighbour whose password is right")
    a.call(lambda: listener.set_keys({B4: SECRET}))
