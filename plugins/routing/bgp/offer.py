"""What a configuration means on the wire: capabilities, own paths, keys (pure)."""

from collections.abc import Collection
from ipaddress import ip_address

from kube_router.plugins.routing.bgp.best import PeerInfo
from kube_router.plugins.routing.bgp.bfd_session import Wanted
from kube_router.plugins.routing.bgp.caps import Capabilities
from kube_router.plugins.routing.bgp.model import (
    Attributes,
    Family,
    GracefulRestart,
    Kind,
    Negotiated,
    NextHop,
    PeerConfig,
    Prefix,
    SpeakerConfig,
)
from kube_router.plugins.routing.bgp.rib import Own

RECEIVE = 1  # RFC 7911's Send/Receive field
NO_ATTRIBUTES = Attributes()


def capabilities(
    config: SpeakerConfig, peer: PeerConfig, *, settled: bool, preserved: Collection[Family]
) -> Capabilities:
    """Return what we say to a peer that we can do.

    Until the speaker has ``settled`` it is restarting (RFC 4724's R bit), and only the ``preserved`` families' routes
    are still in the kernel (F); from then on all of them are, whatever becomes of a session.
    """
    graceful = None
    if peer.graceful_restart_s is not None:
        kept = {family: settled or family in preserved for family in peer.families}
        graceful = GracefulRestart(
            restarting=not settled, notification=True, time_s=peer.graceful_restart_s, families=kept
        )
    extended = Family.IPV4 in peer.families and Family.IPV6 in config.next_hops
    return Capabilities(
        families=frozenset(peer.families),
        four_octet_asn=config.asn,
        add_path=dict.fromkeys(peer.families, RECEIVE) if peer.add_path_receive else {},
        extended_next_hop=frozenset({Family.IPV4}) if extended else frozenset(),
        graceful_restart=graceful,
        route_refresh=True,
        enhanced_refresh=True,
        extended_message=peer.extended_message,
    )


def own_paths(config: SpeakerConfig) -> dict[Prefix, Own]:
    """Return what the node originates. A family without an address of the node has the IPv6 one (RFC 8950)."""
    shared: dict[tuple[int, Kind], Own] = {}  # by octets of the prefix: there may be thousands of services
    for octets, family in ((4, Family.IPV4), (16, Family.IPV6)):
        address = config.next_hops.get(family) or config.next_hops.get(Family.IPV6)
        if address is not None:
            shared |= {(octets, kind): Own(NO_ATTRIBUTES, NextHop(address), kind) for kind in Kind}
    found = ((prefix, shared.get((len(prefix.network), kind))) for prefix, kind in config.originated.items())
    return {prefix: own for prefix, own in found if own is not None}


def bfd_sessions(config: SpeakerConfig) -> dict[str, Wanted]:
    """Return the BFD sessions by peer. Other nodes may be routers away: theirs are multihop ones (RFC 5883)."""
    return {
        address: Wanted(peer.local_address, peer.bfd, peer.mesh or peer.ttl > 1)
        for address, peer in config.peers.items()
        if peer.bfd is not None
    }


def keys(config: SpeakerConfig) -> dict[str, str]:
    """Return the passwords by peer."""
    return {address: peer.password for address, peer in config.peers.items() if peer.password}


def peer_info(address: str, agreed: Negotiated) -> PeerInfo:
    """Return what the choice among paths needs to know of a peer whose session is up."""
    return PeerInfo(agreed.asn, agreed.router_id, ip_address(address).packed, agreed.internal)
