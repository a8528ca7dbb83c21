"""What neighbours are told: one Adj-RIB-Out and one encoding for all of an update group (pure)."""

from collections.abc import Mapping

from kube_router.plugins.routing.bgp.best import Selection
from kube_router.plugins.routing.bgp.model import Family, Negotiated, PeerConfig, Prefix, SpeakerConfig

GroupKey = tuple[object, ...]


def key(peer: PeerConfig, negotiated: Negotiated) -> GroupKey:
    """Return what neighbours must have in common to be told the same in the same bytes."""
    raise NotImplementedError


class Outgoing:
    """Messages for all members of a group; a member that a route came from gets its own share of them."""

    def of(self, member: str) -> list[bytes]:
        """Return the messages for a member. The list may be shared: it is not to be changed."""
        raise NotImplementedError


class Group:
    """Neighbours with an equal key."""

    members: set[str]  # the caller adds and removes

    def __init__(self, config: SpeakerConfig, peer: PeerConfig, negotiated: Negotiated) -> None:
        raise NotImplementedError

    def configure(self, config: SpeakerConfig) -> None:
        """Export by a new configuration from now on; ``changed`` with all selections brings the members up to it."""
        raise NotImplementedError

    def changed(self, changes: Mapping[Prefix, Selection | None]) -> Outgoing:
        """Return what members have to be told of changed selections: what is withdrawn first."""
        raise NotImplementedError

    def table(self, member: str) -> list[bytes]:
        """Return all that a new member is told, with End-of-RIB of each family at the end."""
        raise NotImplementedError

    def refresh(self, member: str, family: Family, *, enhanced: bool) -> list[bytes]:
        """Return the answer to a ROUTE-REFRESH: the family's table, within BoRR and EoRR where both can (RFC 7313)."""
        raise NotImplementedError

    def announced(self, member: str) -> list[tuple[Prefix, object]]:
        """Return what a member has been told (Adj-RIB-Out)."""
        raise NotImplementedError
