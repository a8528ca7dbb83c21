"""Our speaker and other people's on one link, each with addresses of its own that only BGP makes reachable.

number N: eth0 10.66.0.N, fd66::N; behind it 10.244.N.1 of 10.244.N.0/24, fd44:N::1 of fd44:N::/64
"""

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from harness.bgpd import Announcement, Bgpd, Neighbour, Settings
from harness.bgpnet import Network
from harness.gobgp import Gobgp
from harness.speaking import Speaking, peer, router_id

from kube_router.plugins.routing.bgp.model import Family, Kind, SpeakerConfig, prefix_of

V4, V6 = Family.IPV4, Family.IPV6
BOTH = (V4, V6)
OURS, THEIRS = 64512, 65002
PROBE_S = 0.05


def link_address(number: int, family: Family = V4, link: int = 0) -> str:
    """Return the address on the link."""
    return f"10.66.{link}.{number}" if family is V4 else f"fd66:{link}::{number}" if link else f"fd66::{number}"


def prefix(number: int, family: Family = V4) -> str:
    """Return what is behind a number."""
    return f"10.244.{number}.0/24" if family is V4 else f"fd44:{number}::/64"


def inner_address(number: int, family: Family = V4) -> str:
    """Return the address that is behind a number."""
    return f"10.244.{number}.1" if family is V4 else f"fd44:{number}::1"


@dataclass
class Place:
    """Who is in the network, by number."""

    network: Network
    ours: dict[int, Speaking] = field(default_factory=dict)
    theirs: dict[int, Bgpd] = field(default_factory=dict)

    def talk(self, one: int, other: int, families: tuple[Family, ...] = BOTH) -> bool:
        """Tell whether what is behind two numbers reaches each other, whoever begins."""
        for daemon in self.theirs.values():
            if isinstance(daemon, Gobgp):
                daemon.install()
        return all(
            self.network.talks(f"n{a}", inner_address(a, family), f"n{b}", inner_address(b, family))
            for family in families
            for a, b in ((one, other), (other, one))
        )

    def wait_talk(self, one: int, other: int, families: tuple[Family, ...] = BOTH) -> None:
        """Wait until what is behind two numbers reaches each other through learned routes."""
        known = self.ours.get(one) or self.ours.get(other) or self.theirs[one]
        known.wait(lambda: self.talk(one, other, families), f"traffic between {one} and {other}")

    @contextmanager
    def probed(self, one: int, other: int, families: tuple[Family, ...] = BOTH) -> Iterator[None]:
        """Try all the time whether two numbers reach each other; AssertionError if they once did not."""
        over, lost, tried = threading.Event(), [], itertools.count()

        def probe() -> None:
            while not over.wait(PROBE_S):
                next(tried)
                for family in families:
                    addresses = inner_address(one, family), f"n{other}", inner_address(other, family)
                    if not self.network.talks(f"n{one}", *addresses):
                        lost.append((time.monotonic(), *addresses))

        thread = threading.Thread(target=probe, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
        assert not lost, f"{len(lost)} of {next(tried)} probes were lost, the first {lost[0]}"


def config_of(
    number: int, *peers: Any, asn: int = OURS, families: tuple[Family, ...] = BOTH, **more: Any
) -> SpeakerConfig:
    """Return our speaker behind a number, that announces what is behind it."""
    next_hops = {V4: bytes([10, 66, 0, number]), V6: bytes.fromhex("fd66") + bytes(13) + bytes([number])}
    return SpeakerConfig(
        asn=asn,
        router_id=router_id(link_address(number)),
        listen=(link_address(number), link_address(number, V6)),
        peers={each.address: each for each in peers},
        originated=more.pop("originated", {prefix_of(prefix(number, family)): Kind.POD for family in families}),
        next_hops=more.pop("next_hops", next_hops),
        deferral_s=more.pop("deferral_s", 30.0),
        **more,
    )


def settings_of(
    number: int, *neighbours: Neighbour, asn: int = THEIRS, families: tuple[Family, ...] = BOTH, **more: Any
) -> Settings:
    """Return somebody else's speaker behind a number."""
    return Settings(
        asn=asn,
        router_id=link_address(number),
        neighbours=neighbours,
        announcements=more.pop("announcements", tuple(Announcement(prefix=prefix(number, each)) for each in families)),
        address6=link_address(number, V6),
        **more,
    )


@contextmanager
def place(
    numbers: dict[int, SpeakerConfig | tuple[type[Bgpd], Settings]], *, far: tuple[int, ...] = ()
) -> Iterator[Place]:
    """Run these speakers for the block; those in ``far`` behind the router."""
    with ExitStack() as stack:
        network = stack.enter_context(Network())
        here = Place(network)
        for number, what in numbers.items():
            inner = (f"{inner_address(number)}/24", f"{inner_address(number, V6)}/64")
            netns = network.add(f"n{number}", number, *inner, link=int(number in far))
            if isinstance(what, SpeakerConfig):
                here.ours[number] = Speaking(what, netns)
            else:
                kind, settings = what
                here.theirs[number] = kind(settings, netns, network.folder(f"n{number}"))
        for daemon in here.theirs.values():
            stack.enter_context(daemon)
        for speaking in here.ours.values():
            stack.enter_context(speaking)
        yield here


@contextmanager
def pair(
    kind: type[Bgpd],
    *,
    families: tuple[Family, ...] = BOTH,
    our_asn: int = OURS,
    their_asn: int = THEIRS,
    ours: dict[str, Any] | None = None,
    theirs: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    transport: Family = V4,
    far: bool = False,
    config: dict[str, Any] | None = None,
) -> Iterator[Place]:
    """Run our speaker as number 1 and another as number 2, each the other's neighbour.

    ``ours`` and ``theirs`` are what the session is at either end, ``config`` and ``settings`` what the speakers are.
    """
    our_end = peer(link_address(2, transport, int(far)), their_asn, our_asn, families=families, **(ours or {}))
    their_end = Neighbour(address=link_address(1, transport), asn=our_asn, families=families)
    their_end = replace(their_end, **(theirs or {}))
    our_config = config_of(1, our_end, asn=our_asn, families=families, **(config or {}))
    their_settings = settings_of(2, their_end, families=families, **{"asn": their_asn, **(settings or {})})
    with place({1: our_config, 2: (kind, their_settings)}, far=(2,) if far else ()) as here:
        yield here
