"""The BGP speaker: its neighbours' sessions, the routing table between them, and what each is told.

``configure`` says all that it is to be, each time; what differs is changed, and only neighbours whose session depends
on it are reset. Without I/O of its own it wires together: peer.py and listener.py (sessions), rib.py (tables),
policy.py (what is taken and told), adjout.py (update groups), restart.py (graceful restart), bfd.py (liveness).

A restarting speaker keeps its forwarding state in the kernel, and says so (RFC 4724): the Restart State bit until
``complete``, the Forwarding State bit for families of which the kernel held routes when it started.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial

from kube_router.plugins.routing.bgp import policy, restart
from kube_router.plugins.routing.bgp.best import Selection
from kube_router.plugins.routing.bgp.bfd import Bfd
from kube_router.plugins.routing.bgp.bfd_session import Status
from kube_router.plugins.routing.bgp.caps import Capabilities
from kube_router.plugins.routing.bgp.groups import Groups
from kube_router.plugins.routing.bgp.listening import Listening
from kube_router.plugins.routing.bgp.model import Family, PeerConfig, Prefix, SpeakerConfig
from kube_router.plugins.routing.bgp.neighbour import Neighbour, Timers
from kube_router.plugins.routing.bgp.offer import bfd_sessions, capabilities, own_paths, peer_info
from kube_router.plugins.routing.bgp.peer import LocalConfig, Peer
from kube_router.plugins.routing.bgp.restart import Action, Do
from kube_router.plugins.routing.bgp.rib import Rib
from kube_router.plugins.routing.bgp.telling import Changes, Telling
from kube_router.plugins.routing.bgp.update import Update
from kube_router.plugins.routing.bgp.wire import RouteRefresh

BFD_SETTLE_S = 0.1  # a peer's BFD daemon may tell of the end of its BGP daemon before TCP does
CEASE, ADMINISTRATIVE_SHUTDOWN, PEER_DECONFIGURED, CONFIGURATION_CHANGE, BFD_DOWN = 6, 2, 3, 6, 10


@dataclass(frozen=True, slots=True)
class Hooks:
    """Whom the speaker tells, on the event loop.

    ``routes``: changed selections of what was learned, ``None`` for a prefix that has no such path any more.
    ``session``: a neighbour's address, its AS, whether its session is up, and why not. ``settled``: every neighbour has
    told all it knows, or has had the time to.
    """

    routes: Callable[[Mapping[Prefix, Selection | None]], None]
    session: Callable[[str, int, bool, str], None]
    settled: Callable[[], None]


class Speaker:
    """A speaker, from ``configure`` to ``configure``. ``preserved``: families of which the kernel holds our routes."""

    def __init__(self, hooks: Hooks, *, preserved: Collection[Family] = ()) -> None:
        self.rib = Rib()
        self.settled = False
        self._hooks, self._preserved = hooks, frozenset(preserved)
        self._config: SpeakerConfig | None = None
        self._neighbours: dict[str, Neighbour] = {}
        self._groups = Groups(self.rib, lambda address: self._neighbours[address])
        self._deferral: restart.Deferral | None = None
        self._timers = Timers(self._expired)
        self._listening = Listening(self._find)
        self._bfd: Bfd | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._telling = Telling(self.rib, self._tell)

    # -- what it is to be ----------------------------------------------------------------------------------------------

    @property
    def config(self) -> SpeakerConfig | None:
        """What it was last told to be."""
        return self._config

    @property
    def neighbours(self) -> Mapping[str, Neighbour]:
        """The neighbours by address."""
        return self._neighbours

    @property
    def awaited(self) -> Mapping[str, frozenset[Family]]:
        """The neighbours that have not told all they know since the start, and of which families."""
        return self._deferral.awaited() if self._deferral is not None and not self.settled else {}

    def has_heard(self, peers: Collection[str] | None) -> bool:
        """Return whether these have told all they know since the start, of all neighbours where ``None``.

        A peer that is no neighbour any more is not waited for.
        """
        if self.settled or self._deferral is None or peers is None:
            return self.settled
        return self._deferral.awaited().keys().isdisjoint(peers)

    @property
    def trouble(self) -> str:
        """Why it does not listen, in words."""
        return self._listening.trouble

    @property
    def strangers(self) -> int:
        """How many connections from addresses of no neighbour were closed."""
        return self._listening.strangers

    def bfd_status(self) -> Mapping[str, Status]:
        """Return the state of each BFD session by the neighbour's address."""
        return self._bfd.status() if self._bfd is not None else {}

    def configure(self, config: SpeakerConfig) -> None:
        """Be this from now on. Costs nothing where nothing differs."""
        before, self._config = self._config, config
        if self._loop is None or config == before:
            return
        self._apply(before, config)

    def set_preserved(self, families: Collection[Family]) -> None:
        """Say of which families the kernel holds our routes: before the first session."""
        self._preserved = frozenset(families)

    async def run(self) -> None:
        """Speak until cancelled."""
        self._loop = asyncio.get_running_loop()
        self._bfd = Bfd(self._bfd_state, self._loop)
        try:
            if self._config is not None:
                self._apply(None, self._config)
            await self._listening.run()
        finally:
            self._stop()

    def _apply(self, before: SpeakerConfig | None, config: SpeakerConfig) -> None:
        self._telling.all()  # what happened before is told as before
        anew = before is None or (before.asn, before.router_id) != (config.asn, config.router_id)
        if self._deferral is None:
            self._deferral = restart.Deferral(config.peers, config.deferral_s, preserved=bool(self._preserved))
            self._restarted(self._deferral.start())
        if anew:
            for address in list(self._neighbours):
                self._remove(address, CONFIGURATION_CHANGE, "the AS or router id of this node has changed")
        self.rib.ecmp_max = config.ecmp_max
        self.rib.set_filter(policy.PrefixFilter(config))
        self.rib.originate(own_paths(config))
        self._groups.configure(before, config)
        assert self._bfd is not None
        self._bfd.set_sessions(bfd_sessions(config))
        self._set_neighbours(config.peers)
        self._restarted(self._deferral.configure(config.peers))
        self._listening.configure(before, config)
        if before is not None and (before.cluster_id, before.next_hops) != (config.cluster_id, config.next_hops):
            for address, neighbour in self._neighbours.items():
                self.rib.rejudge(address, partial(policy.judge, config, neighbour.config))
        self._telling.all()

    def _set_neighbours(self, wanted: Mapping[str, PeerConfig]) -> None:
        for address in self._neighbours.keys() - wanted.keys():
            self._remove(address, PEER_DECONFIGURED, "it is no neighbour of this node any more")
        for address, config in wanted.items():
            have = self._neighbours.get(address)
            if have is not None and have.config != config:
                if have.config.session == config.session:
                    self._telling.all()
                    self._groups.regroup(have, config)
                    continue
                self._remove(address, CONFIGURATION_CHANGE, "its configuration on this node has changed")
                have = None
            if have is None:
                self._add(config)

    def _add(self, config: PeerConfig) -> None:
        assert self._config is not None
        neighbour = Neighbour(config, self._neighbour_expired)
        local = LocalConfig(asn=self._config.asn, router_id=self._config.router_id, capabilities=self._capabilities)
        neighbour.peer = Peer(config, local=local, owner=self, loop=self._loop)
        self._neighbours[config.address] = neighbour
        neighbour.peer.start()

    def _remove(self, address: str, subcode: int, words: str, *, silent: bool = False) -> None:
        neighbour = self._neighbours.pop(address)
        self._groups.leave(neighbour)
        neighbour.timers.stop_all()
        neighbour.peer.stop(CEASE, subcode, words, silent=silent)
        self.rib.forget(address)
        self._telling.soon()

    def _find(self, address: str) -> Peer | None:
        neighbour = self._neighbours.get(address)
        return neighbour.peer if neighbour is not None else None

    def _stop(self) -> None:
        graceful = {a for a, n in self._neighbours.items() if n.config.graceful_restart_s is not None}
        for address in list(self._neighbours):
            self._remove(address, ADMINISTRATIVE_SHUTDOWN, "the agent stops", silent=address in graceful)
        self.rib.take_changes()  # an end withdraws nothing: what was learned stays as the stale routes of a restart
        self._telling.stop()
        self._listening.close()
        if self._bfd is not None:
            self._bfd.stop(admin_down=True)
            self._bfd = None
        self._timers.stop_all()
        self._loop = self._deferral = None
        self.settled = False
        self._groups.clear()

    # -- what sessions tell (peer.PeerOwner) ---------------------------------------------------------------------------

    def established(self, peer: Peer) -> None:
        neighbour = self._neighbours[peer.config.address]
        negotiated = peer.negotiated
        assert negotiated is not None
        assert self._deferral is not None
        self.rib.set_peer(peer.config.address, peer_info(peer.config.address, negotiated))
        self._act(neighbour, neighbour.helper.established(negotiated.graceful_restart, negotiated.families))
        self._restarted(
            self._deferral.established(peer.config.address, negotiated.graceful_restart, negotiated.families)
        )
        self._hooks.session(peer.config.address, negotiated.asn, True, "")

    def down(self, peer: Peer, why: str, graceful: bool) -> None:
        address = peer.config.address
        neighbour = self._neighbours.get(address)
        self._hooks.session(address, peer.config.asn, False, why)
        assert self._deferral is not None
        self._restarted(self._deferral.lost(address))
        if neighbour is not None:  # else it is being removed: its paths go with it
            self._groups.leave(neighbour)
            self._act(neighbour, neighbour.helper.lost(graceful))

    def update(self, peer: Peer, update: Update) -> None:
        address, config = peer.config.address, self._config
        neighbour = self._neighbours.get(address)
        if neighbour is None or config is None:
            return
        if update.faults:
            neighbour.note_faults(update.faults)
        for withdrawn in update.withdrawn:
            self.rib.withdraw(address, withdrawn.prefixes, withdrawn.path_ids)
        if update.attributes is not None:
            for reach in update.reaches:
                refused = policy.judge(config, neighbour.config, update.attributes, reach.next_hop)
                self.rib.announce(
                    address, reach.prefixes, reach.path_ids, update.attributes, reach.next_hop, refused=refused
                )
        self._telling.soon()
        if update.end_of_rib is not None:
            self._end_of_rib(neighbour, update.end_of_rib)

    def refresh(self, peer: Peer, refresh: RouteRefresh) -> None:
        neighbour = self._neighbours.get(peer.config.address)
        if neighbour is None or refresh.family is None:
            return
        if refresh.subtype:  # a mark around a refresh of its own (RFC 7313)
            self._act(neighbour, neighbour.helper.refreshed(refresh.family, refresh.subtype))
            return
        self._telling.all()
        self._groups.refresh(neighbour, refresh.family)

    def writable(self, peer: Peer) -> None:
        neighbour = self._neighbours.get(peer.config.address)
        if neighbour is not None:
            neighbour.writable()

    def _end_of_rib(self, neighbour: Neighbour, family: Family) -> None:
        self._act(neighbour, neighbour.helper.end_of_rib(family))  # now: marks of a refresh may be right behind it
        told = partial(self._all_told, neighbour, neighbour.peer.established_at, family)
        self._telling.then(told)  # who waits for it shall find the routes

    def _all_told(self, neighbour: Neighbour, session: float | None, family: Family) -> None:
        if self._deferral is not None and neighbour.peer.established_at == session is not None:
            self._restarted(self._deferral.end_of_rib(neighbour.config.address, family))

    def _bfd_state(self, address: str, up: bool, words: str) -> None:
        """End the session with a neighbour to whom the path failed; bfd.py says why, and why not while it restarts."""
        neighbour, loop = self._neighbours.get(address), self._loop
        if not up and neighbour is not None and loop is not None and neighbour.peer.established_at is not None:
            loop.call_later(BFD_SETTLE_S, self._path_failed, neighbour.peer, neighbour.peer.established_at, words)

    def _path_failed(self, peer: Peer, session: float, words: str) -> None:
        if peer.established_at == session:
            peer.reset(CEASE, BFD_DOWN, f"BFD: {words}", hard=True)

    # -- what is told --------------------------------------------------------------------------------------------------

    def _may_tell(self, neighbour: Neighbour) -> bool:
        """Return whether it may be told routes: a reflector that restarts waits for what it will reflect.

        Who keeps nothing of a session that ended is told what there is.
        """
        assert self._config is not None
        assert self._deferral is not None
        agreed = neighbour.peer.negotiated
        keeps = agreed is not None and agreed.graceful_restart is not None
        return not self._config.cluster_id or self._deferral.selected or not keeps

    def _join(self, neighbour: Neighbour) -> None:
        self._telling.all()
        if neighbour.group is None:  # what was to be done when all is told may have been this
            self._groups.join(neighbour)

    def _tell(self, changes: Changes) -> None:
        """Tell who plans the kernel what was learned, and neighbours what is for them."""
        learned = {
            prefix: selection if selection is not None and selection.best.peer else None
            for prefix, selection in changes.items()
        }
        self._hooks.routes(learned)
        self._groups.tell(changes)

    # -- graceful restart ----------------------------------------------------------------------------------------------

    def _capabilities(self, peer: PeerConfig) -> Capabilities:
        assert self._config is not None
        return capabilities(self._config, peer, settled=self.settled, preserved=self._preserved)

    def _act(self, neighbour: Neighbour, actions: Collection[Action]) -> None:
        address = neighbour.config.address
        for action in actions:
            match action.do:
                case Do.MARK_STALE:
                    self.rib.mark_stale(address, action.families)
                case Do.SWEEP:
                    self.rib.sweep(address, action.families)
                case Do.DROP:
                    self.rib.drop(address, action.families)
                case Do.START_TIMER:
                    neighbour.timers.start(action.timer, action.seconds)
                case Do.STOP_TIMER:
                    neighbour.timers.stop(action.timer)
        self._telling.soon()

    def _neighbour_expired(self, neighbour: Neighbour, timer: str) -> None:
        self._act(neighbour, neighbour.helper.expired(timer))

    def _restarted(self, actions: Collection[Action]) -> None:
        """Do what the deferral says, tell those who now may be told, and notice when it is over."""
        assert self._deferral is not None
        for action in actions:
            if action.do is Do.START_TIMER:
                self._timers.start(action.timer, action.seconds)
            elif action.do is Do.STOP_TIMER:
                self._timers.stop(action.timer)
        for neighbour in self._neighbours.values():
            if neighbour.group is None and neighbour.peer.established_at is not None and self._may_tell(neighbour):
                self._join(neighbour)
        if self._deferral.complete and not self.settled:
            self.settled = True
            self._telling.all()
            self._hooks.settled()

    def _expired(self, timer: str) -> None:
        assert self._deferral is not None
        self._restarted(self._deferral.expired(timer))
