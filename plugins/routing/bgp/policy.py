"""What is taken from a neighbour and what is told to it (pure).

Taken is what cannot loop and cannot take over the node: no path that has been here already (own AS, own originator id,
own cluster id, own address as next hop: RFC 4271 section 9.1.2, RFC 4456 section 8), none whose first AS is not the
external neighbour that sends it, no default route, no prefix that never leaves a link or a host, none that the operator
refuses. A prefix that this node originates is no matter of import: its own path wins in the table (rib.py).

Told is what this node originates: pods' prefixes to the other nodes, and to neighbours outside the mesh if so wished;
services' to the latter alone. What it learned is passed on by a route reflector alone, between internal neighbours of
which one is its client (RFC 4456 section 6): whatever came from an external neighbour is told to nobody.
"""

from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple, TypeVar

from kube_router.plugins.routing.bgp.aspath import SEGMENT_MAX
from kube_router.plugins.routing.bgp.best import LOCAL_PREF, PeerInfo
from kube_router.plugins.routing.bgp.model import (
    Attributes,
    Family,
    Kind,
    NextHop,
    Path,
    PeerConfig,
    Prefix,
    Segment,
    SegmentType,
    SpeakerConfig,
    prefix_of,
)

Item = TypeVar("Item")

NO_EXPORT = 0xFFFFFF01  # RFC 1997
NO_ADVERTISE = 0xFFFFFF02
NO_EXPORT_SUBCONFED = 0xFFFFFF03

# Nothing inside these is reachable through another router (RFC 6890).
MARTIANS = tuple(
    (prefix_of(text), words)
    for text, words in (
        ("0.0.0.0/8", "this host"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("224.0.0.0/4", "multicast"),
        ("255.255.255.255/32", "broadcast"),
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::ffff:0:0/96", "IPv4-mapped"),
        ("fe80::/10", "link-local"),
        ("ff00::/8", "multicast"),
    )
)


class _Block(NamedTuple):
    """A prefix as a mask and a value of whole addresses, so that a look inside is two operations."""

    shift: int
    value: int
    length: int
    words: str


def _block(prefix: Prefix, words: str) -> _Block:
    shift = 8 * len(prefix.network) - prefix.length
    return _Block(shift, int.from_bytes(prefix.network) >> shift, prefix.length, words)


class PrefixFilter:
    """Which prefixes are taken from nobody. Equal filters judge alike."""

    def __init__(self, config: SpeakerConfig) -> None:
        self._blocks = MARTIANS + tuple((prefix, f"inside the refused {prefix}") for prefix in sorted(config.rejected))
        self._exactly = config.rejected_exactly
        # By family and first octet: few octets have any block, and most prefixes are done with one look.
        self._by_octet: dict[tuple[int, int], list[_Block]] = {}
        for prefix, words in self._blocks:
            first, spread = prefix.network[0], 1 << max(0, 8 - prefix.length)
            for octet in range(first, first + spread):
                self._by_octet.setdefault((len(prefix.network), octet), []).append(_block(prefix, words))

    def __call__(self, prefix: Prefix) -> str:
        """Return why a prefix is refused, in words, "" where it is not."""
        network, length = prefix
        if length == 0:
            return "a default route is taken from nobody"
        if prefix in self._exactly:
            return "refused by this node's configuration"
        blocks = self._by_octet.get((len(network), network[0]))
        if blocks is None:
            return ""
        address = int.from_bytes(network)
        return next((b.words for b in blocks if length >= b.length and address >> b.shift == b.value), "")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PrefixFilter):
            return NotImplemented
        return self._blocks == other._blocks and self._exactly == other._exactly

    def __hash__(self) -> int:
        return hash((self._blocks, self._exactly))


def judge(config: SpeakerConfig, peer: PeerConfig, attributes: Attributes, next_hop: NextHop) -> str:
    """Return why nothing with these attributes is taken from a peer, in words, "" where it is."""
    if any(config.asn in segment.asns for segment in attributes.as_path):
        return f"loop: AS {config.asn} of this node is in its AS path"
    if attributes.originator_id == config.router_id:
        return "loop: this node is its originator"
    if config.cluster_id and config.cluster_id in attributes.cluster_list:
        return "loop: the cluster of this node is in its cluster list"
    if next_hop.address in config.next_hops.values():
        return "its next hop is this node"
    if not peer.internal and _first_as(attributes) != peer.asn:
        return f"its AS path does not begin with AS {peer.asn}, which sent it"
    return ""


def _first_as(attributes: Attributes) -> int | None:
    first = attributes.as_path[0] if attributes.as_path else None
    return first.asns[0] if first is not None and first.type == SegmentType.AS_SEQUENCE and first.asns else None


def accept(config: SpeakerConfig, peer: PeerConfig, prefix: Prefix, attributes: Attributes, next_hop: NextHop) -> str:
    """Return why a path is refused, in words, "" where it is accepted: all of the above for one path."""
    if prefix in config.originated:
        return "this node originates it"
    return PrefixFilter(config)(prefix) or judge(config, peer, attributes, next_hop)


# -- What is told ------------------------------------------------------------------------------------------------------


class Exported(NamedTuple):
    """A path as a neighbour is told it."""

    attributes: Attributes
    next_hop: NextHop


def export(config: SpeakerConfig, peer: PeerConfig, path: Path, source: PeerInfo | None) -> Exported | None:
    """Return how a selected path is told to a peer, ``None`` where it is not. ``source`` is who told it to us.

    Whether it came from this very peer is not asked here (adjout.py's split horizon).
    """
    if _is_kept_from(peer, path.attributes.communities):
        return None
    if path.peer:
        return None if source is None else _reflected(config, peer, path, source)
    # A neighbour outside the mesh may be of our own AS: it is told what external ones are told.
    if path.kind is Kind.SERVICE and peer.mesh:
        return None
    if path.kind is Kind.POD and not peer.mesh and not config.advertise_pods_externally:
        return None
    attributes = path.attributes if peer.mesh else _with_communities(peer, path.attributes)
    attributes = _internal(attributes) if peer.internal else _external(config, peer, attributes)
    return Exported(attributes, _ourselves(config, path.next_hop) if peer.next_hop_self else path.next_hop)


def _is_kept_from(peer: PeerConfig, communities: tuple[int, ...]) -> bool:
    """Return whether the well-known communities of RFC 1997 forbid to tell a peer."""
    if not communities:
        return False
    return NO_ADVERTISE in communities or (
        not peer.internal and (NO_EXPORT in communities or NO_EXPORT_SUBCONFED in communities)
    )


def _reflected(config: SpeakerConfig, peer: PeerConfig, path: Path, source: PeerInfo) -> Exported | None:
    """Return a learned path as a route reflector passes it on (RFC 4456 sections 6 and 8)."""
    if not config.cluster_id or not peer.internal or not source.internal:
        return None
    sender = config.peers.get(path.peer)
    if not peer.reflector_client and (sender is None or not sender.reflector_client):
        return None
    originator = path.attributes.originator_id
    attributes = replace(
        _internal(path.attributes),
        originator_id=source.router_id if originator is None else originator,
        cluster_list=(config.cluster_id, *path.attributes.cluster_list),
    )
    # The next hop stays (section 10); a link-local one says nothing beyond the link it came over (RFC 2545 section 3).
    return Exported(attributes, NextHop(path.next_hop.address))


def _ourselves(config: SpeakerConfig, next_hop: NextHop) -> NextHop:
    family = Family.IPV4 if len(next_hop.address) == 4 else Family.IPV6
    return NextHop(config.next_hops.get(family, next_hop.address))


def _internal(attributes: Attributes) -> Attributes:
    return replace(attributes, local_pref=LOCAL_PREF) if attributes.local_pref is None else attributes


def _external(config: SpeakerConfig, peer: PeerConfig, attributes: Attributes) -> Attributes:
    # The AS that is prepended stands before ours, as kube-router has it.
    as_path = prepend(prepend(attributes.as_path, config.asn, 1), peer.prepend_asn, peer.prepend_count)
    return replace(
        attributes,
        as_path=as_path,
        local_pref=None,
        originator_id=None,
        cluster_list=(),
    )


def _with_communities(peer: PeerConfig, attributes: Attributes) -> Attributes:
    if not peer.communities and not peer.large_communities:
        return attributes
    return replace(
        attributes,
        communities=_united(attributes.communities, peer.communities),
        large_communities=_united(attributes.large_communities, peer.large_communities),
    )


def _united(some: tuple[Item, ...], more: tuple[Item, ...]) -> tuple[Item, ...]:
    return tuple(dict.fromkeys((*some, *more)))


def prepend(as_path: tuple[Segment, ...], asn: int, times: int) -> tuple[Segment, ...]:
    """Return a path with an AS in front, in a new segment where the first one is full (RFC 4271 section 5.1.2)."""
    if times <= 0:
        return as_path
    asns, rest = (asn,) * times, as_path
    if as_path and as_path[0].type == SegmentType.AS_SEQUENCE:
        asns, rest = (*asns, *as_path[0].asns), as_path[1:]
    # What is too long is split from the end, so that the next AS still finds room in front.
    head = len(asns) % SEGMENT_MAX or SEGMENT_MAX
    cuts = [0, *range(head, len(asns) + 1, SEGMENT_MAX)]
    segments = [asns[start:end] for start, end in pairwise(cuts)]
    return (*(Segment(SegmentType.AS_SEQUENCE, part) for part in segments), *rest)
