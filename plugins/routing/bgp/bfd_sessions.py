"""All BFD sessions of this node: whose packet it is, when which is due, and what became of them.

A heap holds one valid entry for each session: its deadline. An entry that comes too early, since the deadline moved
away (as with each packet heard), is put back when it is popped; so hearing costs no heap work.

A session that is wanted no more says AdminDown until the peer has answered or its detection time is over, so that the
peer does not take our leaving for a broken path. Likewise a peer that says AdminDown is not told of as down: RFC 5882
section 3.2 has the session's client do nothing then.

An error of one session, even a bug, is its own: it is logged, and the session begins anew.
"""

import logging
import random
import secrets
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from heapq import heappop, heappush
from logging import INFO, WARNING

from kube_router.plugins.routing.bgp import bfd_wire
from kube_router.plugins.routing.bgp.bfd_fsm import NEVER, down_words
from kube_router.plugins.routing.bgp.bfd_session import Session, Status, Wanted
from kube_router.plugins.routing.bgp.bfd_socket import TTL, Datagram, Sockets, family_of
from kube_router.plugins.routing.bgp.bfd_wire import Control, State

logger = logging.getLogger(__name__)

REOPEN_S = 2.0  # how long until a socket that could not be opened is tried again
RENEW_S = 1.0
Changed = Callable[[str, bool, str], None]


class Sessions:
    """Belongs to one thread. ``changed(peer, up, words)`` is called as sessions come Up and fail."""

    def __init__(self, sockets: Sockets, changed: Changed) -> None:
        self._sockets, self._changed = sockets, changed
        self._of_peer: dict[str, Session] = {}
        self._of_discriminator: dict[int, Session] = {}
        self._due: list[tuple[float, int]] = []
        self._reopen_at = NEVER
        self.dropped: Counter[str] = Counter()

    def __bool__(self) -> bool:
        """Say whether any session is left, be it one that is leaving."""
        return bool(self._of_discriminator)

    # -- What is wanted -----------------------------------------------------------------------------------------------

    def want(self, wanted: Mapping[str, Wanted], now: float) -> None:
        """Have these sessions and no others; one whose timers alone changed goes on."""
        told = dict(_understood(wanted))
        for peer, session in list(self._of_peer.items()):
            new = told.get(peer)
            if new is not None and new.same_ends(session.wanted):
                session.wanted = new
                session.machine.configure(new.config)
                self._schedule(session)
            else:
                self._leave(session, now)
        for peer in told.keys() - self._of_peer.keys():
            self._begin(peer, told[peer], now)
        self._open(now)

    def _begin(self, peer: str, wanted: Wanted, starts_at: float) -> None:
        discriminator = 0
        while not discriminator or discriminator in self._of_discriminator:
            discriminator = secrets.randbits(32)
        session = Session(peer, wanted, discriminator=discriminator, starts_at=starts_at)
        self._of_peer[peer] = self._of_discriminator[discriminator] = session
        self._schedule(session)

    def _leave(self, session: Session, now: float) -> None:
        del self._of_peer[session.peer]
        session.leaving_until = now + session.machine.detection_time_us() / 1e6
        session.machine.disable()
        self._step(session, now)  # now, while its sockets are surely open
        self._schedule(session)

    def _open(self, now: float) -> None:
        sessions = self._of_discriminator.values()
        self._sockets.need(
            {(family_of(each.peer), each.wanted.port) for each in sessions},
            {(family_of(each.peer), each.wanted.local_address) for each in sessions},
        )
        self._reopen_at = now + REOPEN_S if self._sockets.errors else NEVER

    # -- What comes ---------------------------------------------------------------------------------------------------

    def hear(self, datagram: Datagram, now: float) -> None:
        """Take what came to one of the listeners, or drop and count it."""
        try:
            packet = bfd_wire.parse(datagram.data)
        except bfd_wire.Malformed:
            self.dropped["malformed"] += 1
            return
        session = self._session_of(packet, datagram.source)
        if session is None:
            self.dropped["no_session"] += 1
        elif not session.wanted.multihop and datagram.ttl != TTL:
            self.dropped["ttl"] += 1
            error = f"its packets come with TTL {datagram.ttl}, not {TTL}: it is more than one hop away"
            if session.hop_error != error:
                session.hop_error = error
                logger.warning(f"bfd_packet_dropped peer={session.peer} error={error!r}")
        else:
            self._take(session, packet, now)

    def _session_of(self, packet: Control, source: str) -> Session | None:
        if not packet.your_discriminator:
            return self._of_peer.get(source)
        session = self._of_discriminator.get(packet.your_discriminator)
        return session if session is not None and session.peer == source else None

    def _take(self, session: Session, packet: Control, now: float) -> None:
        try:
            session.hop_error = ""
            if answer := session.machine.receive(packet, now):
                self._send(session, answer)
            self._tell(session, now)
        except Exception as error:  # noqa: BLE001  (a bug must not take the other sessions down)
            self._renew(session, error, now)
        self._schedule(session)

    # -- What is due --------------------------------------------------------------------------------------------------

    def deadline(self) -> float:
        """Return when ``run_due`` has something to do."""
        return min(self._due[0][0] if self._due else NEVER, self._reopen_at)

    def run_due(self, now: float) -> None:
        """Do what is due. All that had come by ``now`` must have been heard, or a peer might be wronged."""
        if now >= self._reopen_at:
            self._open(now)
        due: list[Session] = []
        while self._due and self._due[0][0] <= now:
            at, discriminator = heappop(self._due)
            session = self._of_discriminator.get(discriminator)
            if session is not None and session.scheduled == at:
                session.scheduled = NEVER
                due.append(session)
        for session in due:
            self._step(session, now)
            if not session.has_left(now):
                self._schedule(session)
        if left := [session for session in due if session.has_left(now)]:
            for session in left:
                self._of_discriminator.pop(session.machine.local_discriminator, None)
            self._open(now)

    def _schedule(self, session: Session) -> None:
        deadline = session.deadline()
        if deadline < session.scheduled:
            session.scheduled = deadline
            heappush(self._due, (deadline, session.machine.local_discriminator))

    def _step(self, session: Session, now: float) -> None:
        try:
            session.machine.expire(now)
            self._tell(session, now)
            if packet := session.machine.transmit(now, random.random()):
                self._send(session, packet)
        except Exception as error:  # noqa: BLE001  (a bug must not take the other sessions down)
            self._renew(session, error, now)

    def _send(self, session: Session, packet: Control) -> None:
        wanted = session.wanted
        try:
            self._sockets.send(
                bfd_wire.encode(packet), local_address=wanted.local_address, peer=session.peer, port=wanted.port
            )
        except OSError as error:  # the periodic transmission is the retry
            words = f"cannot send: {error.strerror or error}"
            if session.send_error != words:
                session.send_error = words
                logger.warning(f"bfd_packet_not_sent peer={session.peer} error={words!r}")
        else:
            session.send_error = ""

    def _tell(self, session: Session, now: float) -> None:
        machine = session.machine
        up = machine.state is State.UP
        if up == session.up:
            return
        session.up, session.since = up, now
        if up:
            logger.info(f"bfd_session_up peer={session.peer}")
            self._changed(session.peer, True, "")
            return
        session.flaps += 1
        words = down_words(machine)
        on_purpose = machine.state is State.ADMIN_DOWN or (
            machine.remote is not None and machine.remote.state is State.ADMIN_DOWN
        )
        logger.log(INFO if on_purpose else WARNING, f"bfd_session_down peer={session.peer} why={words!r}")
        if not on_purpose:
            self._changed(session.peer, False, words)

    def _renew(self, session: Session, error: Exception, now: float) -> None:
        """Begin a session anew whose machine met a bug of ours, after a pause that keeps the log readable."""
        logger.error(f"bfd_session_failed peer={session.peer} error={error!r}", exc_info=error)
        self._of_discriminator.pop(session.machine.local_discriminator, None)
        if self._of_peer.get(session.peer) is session:
            if session.up:
                self._changed(session.peer, False, f"a bug here: {error!r}")
            self._begin(session.peer, session.wanted, now + RENEW_S)

    # -- What is shown ------------------------------------------------------------------------------------------------

    def status(self, now: float) -> dict[str, Status]:
        """Return the wanted sessions by peer."""
        errors = self._sockets.errors
        return {
            peer: each.status(
                now,
                errors.get((family_of(peer), each.wanted.port))
                or errors.get((family_of(peer), each.wanted.local_address), ""),
            )
            for peer, each in sorted(self._of_peer.items())
        }


def _understood(wanted: Mapping[str, Wanted]) -> Iterator[tuple[str, Wanted]]:
    """Yield each peer's address as the kernel tells it of a packet's source; one that is none harms only itself."""
    for peer, each in wanted.items():
        family = family_of(peer)
        try:
            yield socket.inet_ntop(family, socket.inet_pton(family, peer)), each
        except OSError:
            logger.error(f"bfd_peer_ignored peer={peer!r} error='it is no IP address'")
