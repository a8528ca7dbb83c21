"""One BFD session: what is wanted of it, what an operator sees of it, and what surrounds its state machine."""

from typing import NamedTuple

from kube_router.plugins.routing.bgp.bfd_fsm import NEVER, Machine, down_words
from kube_router.plugins.routing.bgp.bfd_wire import MULTIHOP_PORT, SINGLE_HOP_PORT, State
from kube_router.plugins.routing.bgp.model import BfdConfig


class Wanted(NamedTuple):
    """What a session is to be like. ``local_address`` "" leaves it to the kernel."""

    local_address: str
    config: BfdConfig
    multihop: bool = False

    @property
    def port(self) -> int:
        """The UDP port at both ends."""
        return MULTIHOP_PORT if self.multihop and self.config.port == SINGLE_HOP_PORT else self.config.port

    def same_ends(self, other: "Wanted") -> bool:
        """Say whether a session that is like the other may go on as this, with other timers at most."""
        return (self.local_address, self.multihop, self.port) == (other.local_address, other.multihop, other.port)


class Status(NamedTuple):
    """One session as an operator sees it. Times are 0 and states "" while the peer is not heard of."""

    state: str
    since_s: float  # how long it has been in Up, or out of it
    words: str  # why it is not Up, "" if it is
    flaps: int  # how often it left Up
    remote_state: str
    transmit_interval_ms: float
    detection_time_ms: float
    control_plane_independent: bool  # the peer's C bit
    error: str


class Session:
    """One session and what surrounds its machine."""

    def __init__(self, peer: str, wanted: Wanted, *, discriminator: int, starts_at: float) -> None:
        self.peer, self.wanted = peer, wanted
        self.machine = Machine(wanted.config, local_discriminator=discriminator)
        self.up = False
        self.starts_at = self.since = starts_at
        self.flaps = 0
        self.send_error = self.hop_error = ""
        self.scheduled = NEVER
        self.leaving_until = NEVER

    def deadline(self) -> float:
        return (
            self.starts_at
            if self._answered()
            else max(self.starts_at, min(self.machine.deadline(), self.leaving_until))
        )

    def has_left(self, now: float) -> bool:
        """Say whether the peer knows that we leave, or had its time to hear of it."""
        return self._answered() or now >= self.leaving_until

    def _answered(self) -> bool:
        remote = self.machine.remote
        return self.leaving_until != NEVER and (remote is None or remote.state in (State.ADMIN_DOWN, State.DOWN))

    def status(self, now: float, socket_error: str) -> Status:
        machine, remote = self.machine, self.machine.remote
        return Status(
            state=machine.state.name,
            since_s=now - self.since,
            words="" if machine.state is State.UP else down_words(machine),
            flaps=self.flaps,
            remote_state=remote.state.name if remote else "",
            transmit_interval_ms=machine.transmit_interval_us() / 1000,
            detection_time_ms=machine.detection_time_us() / 1000,
            control_plane_independent=remote is not None and remote.control_plane_independent,
            error=self.send_error or self.hop_error or socket_error,
        )
