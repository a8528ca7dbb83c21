"""What is taken from a neighbour and what is told to it (pure)."""

from typing import NamedTuple

from kube_router.plugins.routing.bgp.best import PeerInfo
from kube_router.plugins.routing.bgp.model import Attributes, NextHop, Path, PeerConfig, Prefix, SpeakerConfig


class PrefixFilter:
    """Which prefixes are taken from nobody. Equal filters judge alike: ``rib.set_filter`` is needed only for others."""

    def __init__(self, config: SpeakerConfig) -> None:
        raise NotImplementedError

    def __call__(self, prefix: Prefix) -> str:
        """Return why a prefix is refused, in words, "" where it is not."""
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        raise NotImplementedError


def judge(config: SpeakerConfig, peer: PeerConfig, attributes: Attributes, next_hop: NextHop) -> str:
    """Return why nothing with these attributes is taken from a peer, in words, "" where it is: loops, first AS, …"""
    raise NotImplementedError


def accept(config: SpeakerConfig, peer: PeerConfig, prefix: Prefix, attributes: Attributes, next_hop: NextHop) -> str:
    """Return why a path is refused, in words, "" where it is accepted (``judge`` and PrefixFilter in one)."""
    raise NotImplementedError


class Exported(NamedTuple):
    """A path as a neighbour is told it."""

    attributes: Attributes
    next_hop: NextHop


def export(config: SpeakerConfig, peer: PeerConfig, path: Path, source: PeerInfo | None) -> Exported | None:
    """Return how a selected path is told to a peer, ``None`` where it is not. ``source`` is who told it to us.

    Whether it came from this very peer is not asked here (adjout.py's split horizon).
    """
    raise NotImplementedError
