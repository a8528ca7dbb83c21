"""Tell the neighbours: update groups, who is in which, and what each has still to be sent."""

from collections.abc import Callable, Mapping

from kube_router.plugins.routing.bgp import adjout
from kube_router.plugins.routing.bgp.best import Selection
from kube_router.plugins.routing.bgp.model import Family, PeerConfig, Prefix, SpeakerConfig
from kube_router.plugins.routing.bgp.neighbour import Neighbour
from kube_router.plugins.routing.bgp.rib import Rib
from kube_router.plugins.routing.bgp.update import encode_withdraw

Find = Callable[[str], Neighbour]


class Groups:
    """All update groups of a speaker. ``find`` returns the neighbour of an address."""

    def __init__(self, rib: Rib, find: Find) -> None:
        self._rib, self._find = rib, find
        self._groups: dict[adjout.GroupKey, adjout.Group] = {}
        self._own: set[Prefix] = set()  # prefixes whose selection is an own path, as far as groups may know

    def configure(self, before: SpeakerConfig | None, config: SpeakerConfig) -> None:
        """Export by a new configuration from now on."""
        self._config = config
        for group in self._groups.values():
            group.configure(config)
        if before is not None and _exported(before) != _exported(config):
            self._tell_all(dict(self._rib.each_selection()))

    def clear(self) -> None:
        """Forget the groups: the speaker stops. The table stays, so which prefixes are own ones does too."""
        self._groups.clear()

    def join(self, neighbour: Neighbour) -> None:
        """Tell a neighbour whose session came up all there is, and from now on what changes."""
        negotiated = neighbour.peer.negotiated
        assert negotiated is not None
        key = adjout.key(neighbour.config, negotiated)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = adjout.Group(self._config, neighbour.config, negotiated)
            group.changed(dict(self._rib.each_selection()))
        group.members.add(neighbour.config.address)
        neighbour.group = group
        neighbour.send(group.table(neighbour.config.address))

    def leave(self, neighbour: Neighbour) -> None:
        """Tell a neighbour nothing more: its session is over."""
        neighbour.forget_backlog()
        self._quit(neighbour)

    def _quit(self, neighbour: Neighbour) -> None:
        if (group := neighbour.group) is not None:
            group.members.discard(neighbour.config.address)
            neighbour.group = None
            if not group.members:
                self._groups = {key: each for key, each in self._groups.items() if each is not group}

    def regroup(self, neighbour: Neighbour, config: PeerConfig) -> None:
        """Tell a neighbour what a change of its export configuration changes, in the session it has."""
        group, negotiated = neighbour.group, neighbour.peer.negotiated
        neighbour.config = neighbour.peer.config = config
        if group is None or negotiated is None:
            return
        before = {prefix for prefix, _ in group.announced(config.address)}
        self._quit(neighbour)  # what it was told and has not read yet stays on its way
        self.join(neighbour)
        assert neighbour.group is not None
        lost = before - {prefix for prefix, _ in neighbour.group.announced(config.address)}
        neighbour.send(encode_withdraw(sorted(lost), negotiated))

    def refresh(self, neighbour: Neighbour, family: Family) -> None:
        """Answer a ROUTE-REFRESH (RFC 2918), between BoRR and EoRR where both can (RFC 7313)."""
        negotiated = neighbour.peer.negotiated
        if neighbour.group is not None and negotiated is not None and family in negotiated.families:
            enhanced = negotiated.enhanced_refresh
            neighbour.send(neighbour.group.refresh(neighbour.config.address, family, enhanced=enhanced))

    def tell(self, changes: Mapping[Prefix, Selection | None]) -> None:
        """Tell every group what has changed. Who reflects nothing tells of its own prefixes alone."""
        own = {prefix for prefix, selection in changes.items() if selection is not None and not selection.best.peer}
        past = {prefix for prefix in self._own.intersection(changes) if prefix not in own}
        if not self._config.cluster_id:
            changes = {prefix: selection for prefix, selection in changes.items() if prefix in own or prefix in past}
        self._own |= own
        self._own -= past
        if changes:
            self._tell_all(changes)

    def _tell_all(self, changes: Mapping[Prefix, Selection | None]) -> None:
        for group in self._groups.values():
            outgoing = group.changed(changes)
            for member in group.members:
                self._find(member).send(outgoing.of(member))


def _exported(config: SpeakerConfig) -> tuple[object, ...]:
    """Return what of a configuration decides on what is told of a route."""
    clients = frozenset(address for address, peer in config.peers.items() if peer.reflector_client)
    return config.asn, config.advertise_pods_externally, config.cluster_id, config.next_hops, clients
