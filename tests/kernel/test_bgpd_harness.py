"""BIRD, FRR and GoBGP as the tests use them: in namespaces, among themselves, without us."""

from collections.abc import Iterator

import pytest
from harness.bgpd import Announcement, Bgpd, Neighbour, Settings
from harness.bgpnet import Network
from harness.bird import Bird
from harness.frr import Frr
from harness.gobgp import Gobgp
from harness.plugin import need

from kube_router.plugins.routing.bgp.model import Family

pytestmark = [pytest.mark.root, pytest.mark.slow]

BOTH = (Family.IPV4, Family.IPV6)
KINDS: dict[str, type[Bgpd]] = {"bird": Bird, "frr": Frr, "gobgp": Gobgp}
NUMBERS = {"bird": 1, "frr": 2, "gobgp": 3}
FIRST = {name: f"10.10.{number}.0/24" for name, number in NUMBERS.items()}
SECOND = {name: f"fd10:{number}::/64" for name, number in NUMBERS.items()}
COMMUNITIES = {"communities": ("65000:1", "65000:2"), "large_communities": ("65000:1:2",), "med": 7, "prepend": 2}


def settings(name: str) -> Settings:
    """Return a daemon that peers with both others over IPv4 for both families, AS 64512 + its number."""
    others = tuple(other for other in NUMBERS if other != name)
    return Settings(
        asn=64512 + NUMBERS[name],
        router_id=f"10.66.0.{NUMBERS[name]}",
        address6=f"fd66::{NUMBERS[name]}",
        neighbours=tuple(
            Neighbour(address=f"10.66.0.{NUMBERS[other]}", asn=64512 + NUMBERS[other], families=BOTH, password="secret")
            for other in others
        ),
        announcements=(Announcement(prefix=FIRST[name]), Announcement(prefix=SECOND[name])),
    )


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    for kind in KINDS.values():
        need(kind.why_none())
    with Network() as made:
        yield made


@pytest.fixture(scope="module")
def three(network: Network) -> Iterator[dict[str, Bgpd]]:
    running = {}
    for name, kind in KINDS.items():
        number = NUMBERS[name]
        netns = network.add(name, number, f"10.10.{number}.1/24", f"fd10:{number}::1/64")
        running[name] = kind(settings(name), netns, network.folder(name))
    try:
        for each in running.values():
            each.up()
        yield running
    finally:
        for each in running.values():
            each.down()


def test_each_exchanges_routes_of_both_families_with_each_other(three: dict[str, Bgpd]) -> None:
    for name, daemon in three.items():
        daemon.wait_established()
        for other in set(NUMBERS) - {name}:
            first = daemon.wait_route(FIRST[other])
            assert first.as_path == (64512 + NUMBERS[other],)
            assert first.peer == f"10.66.0.{NUMBERS[other]}" == first.next_hop
            assert daemon.wait_route(SECOND[other]).next_hop == f"fd66::{NUMBERS[other]}"


@pytest.mark.parametrize("name", ["bird", "frr"])
def test_what_it_learns_is_in_its_kernel(three: dict[str, Bgpd], network: Network, name: str) -> None:
    other = "frr" if name == "bird" else "bird"
    for each in (name, other):
        three[each].wait_established()
        three[each].wait_route(FIRST["bird" if each == "frr" else "frr"])
    number, peer = NUMBERS[name], NUMBERS[other]
    talks = lambda: network.talks(name, f"10.10.{number}.1", other, f"10.10.{peer}.1")  # noqa: E731
    three[name].wait(talks, "traffic through learned routes")
    three[name].wait(lambda: network.talks(name, f"fd10:{number}::1", other, f"fd10:{peer}::1"), "the same for IPv6")


@pytest.mark.parametrize("name", KINDS)
def test_announcements_come_and_go_at_run_time_with_their_attributes(three: dict[str, Bgpd], name: str) -> None:
    daemon = three[name]
    asn = 64512 + NUMBERS[name]
    daemon.wait_established()
    daemon.announce(Announcement(prefix="10.99.0.0/16", **COMMUNITIES))  # type: ignore[arg-type]  # fields by name
    for other in set(NUMBERS) - {name}:
        seen = three[other].wait_path("10.99.0.0/16", peer=f"10.66.0.{NUMBERS[name]}")
        assert (seen.as_path, seen.med) == ((asn, asn, asn), 7)
        assert (seen.communities, seen.large_communities) == (("65000:1", "65000:2"), ("65000:1:2",))
    daemon.withdraw("10.99.0.0/16")
    for other in set(NUMBERS) - {name}:
        three[other].wait_no_route("10.99.0.0/16")


@pytest.mark.parametrize("name", KINDS)
def test_a_graceful_restart_keeps_its_routes_at_the_others(three: dict[str, Bgpd], name: str) -> None:
    daemon = three[name]
    daemon.wait_established()
    others = set(NUMBERS) - {name}
    for other in others:
        three[other].wait_route(FIRST[name])
    daemon.stop_gracefully()
    address = f"10.66.0.{NUMBERS[name]}"
    for other in others:
        three[other].wait_lost(address)
        assert [each.prefix for each in three[other].routes(FIRST[name]) if each.best] == [FIRST[name]]
    daemon.up(restarted=True)
    daemon.wait_established()
    daemon.down()
    for other in others:
        three[other].wait_no_route(FIRST[name])
    daemon.up()
    daemon.wait_established()
