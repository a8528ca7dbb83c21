"""The state machine of one BFD session in Asynchronous mode (RFC 5880 section 6.8), told the time (pure).

    Down ──(Down)──▶ Init ──(Init, Up)──▶ Up         the words in brackets are the peer's state in its packet
    Down ──(Init)──────────────────────▶ Up          Init or Up and no packet for the detection time: Down
    Init, Up ──(AdminDown)──▶ Down    Up ──(Down)──▶ Down

There are no timers, only deadlines that follow from what is known: the next periodic packet is due one interval, times
the jitter drawn with the last one, after the last one; the detection time ends one detection time after the last packet
that came. So whatever changes an interval moves both at once (section 6.8.3), and there is no timer to forget. And a
packet is due at once whenever what it would say differs from what was said last (section 6.8.7). ``_derive`` works all
this out anew after each change; a packet that says nothing new, as nearly all do, only moves the time of the last one.

Timers that change are told by a Poll Sequence: packets carry P until one comes with F. Until then an interval that
grew is not used for sending, and one that shrank not for detection. Until Up we send at most once a second.

Not here: authentication, the Echo function, and Demand mode of our own. A peer that asks for Demand mode is sent no
periodic packets while both are Up, as section 6.8.6 demands; it then probes by Polls, which are always answered.
"""

from kube_router.plugins.routing.bgp.bfd_wire import Control, Diagnostic, State, diagnostic_words
from kube_router.plugins.routing.bgp.model import BfdConfig

SLOW_US = 1_000_000  # section 6.8.3: not faster than this until Up
JITTER_MIN, JITTER_MAX, JITTER_MAX_ALONE = 0.75, 1.0, 0.9
NEVER, NOW = float("inf"), float("-inf")


def jitter(detect_mult: int, fraction: float) -> float:
    """Return what an interval is multiplied with, of a random fraction in 0-1 (section 6.8.7)."""
    greatest = JITTER_MAX_ALONE if detect_mult == 1 else JITTER_MAX
    return JITTER_MIN + (greatest - JITTER_MIN) * fraction


class Machine:
    """One session. Times are seconds of any clock that never goes back.

    ``receive`` takes a packet that belongs to this session. After each call ``deadline`` says when ``expire`` or
    ``transmit`` has something to do; calling them earlier or more often does nothing.
    """

    __slots__ = (
        "_config",
        "_content",
        "_gap_s",
        "_heard_at",
        "_jitter",
        "_patience_s",
        "_poll",
        "_required_us",
        "_sent",
        "_sent_at",
        "_tx_us",
        "diagnostic",
        "local_discriminator",
        "remote",
        "state",
    )

    def __init__(self, config: BfdConfig, *, local_discriminator: int) -> None:
        assert local_discriminator, "zero is no discriminator"
        self._config = config
        self.local_discriminator = local_discriminator
        self.state = State.DOWN
        self.diagnostic = Diagnostic.NONE
        # What came last from the peer, None when it was not heard of for a detection time.
        self.remote: Control | None = None
        self._heard_at = 0.0
        self._sent: Control | None = None
        self._sent_at = 0.0
        self._jitter = 1.0
        self._poll: Control | None = None  # whose timers the Poll Sequence under way is about
        # The timers that the peer is sure to know of.
        self._tx_us, self._required_us = self._desired_us(), config.required_min_rx_ms * 1000
        self._derive()

    def _derive(self) -> None:
        """Work out what a packet says (but for P and F), when the next one goes, and how long silence is borne."""
        remote = self.remote
        self._content = Control(
            state=self.state,
            detect_mult=self._config.detect_mult,
            my_discriminator=self.local_discriminator,
            your_discriminator=remote.my_discriminator if remote else 0,
            desired_min_tx_us=self._desired_us(),
            required_min_rx_us=self._config.required_min_rx_ms * 1000,
            diagnostic=self.diagnostic,
        )
        self._poll_if_changed()
        if self._content != self._sent:
            self._gap_s = NOW
        elif self._silent():
            self._gap_s = NEVER
        else:
            self._gap_s = self.transmit_interval_us() * self._jitter / 1e6
        self._patience_s = self.detection_time_us() / 1e6 if remote else NEVER

    # -- What comes ---------------------------------------------------------------------------------------------------

    def receive(self, packet: Control, now: float) -> Control | None:
        """Take a packet of the peer's. Return the answer that a Poll asks for at once."""
        self._heard_at = now
        if packet == self.remote and self.state is State.UP and not (packet.poll or packet.final):
            return None  # what it said before led here
        self.remote = packet
        if packet.final and self._poll is not None:
            self._confirmed(self._poll)
            self._poll = None
        if self.state is not State.ADMIN_DOWN:
            self._follow(packet.state)
        self._derive()
        return self._say(final=True) if packet.poll else None

    def _follow(self, theirs: State) -> None:
        if theirs is State.ADMIN_DOWN:
            if self.state is not State.DOWN:
                self._enter(State.DOWN, Diagnostic.NEIGHBOR_SIGNALED_DOWN)
        elif self.state is State.DOWN:
            if theirs is State.DOWN:
                self._enter(State.INIT, self.diagnostic)
            elif theirs is State.INIT:
                self._enter(State.UP, Diagnostic.NONE)
        elif self.state is State.INIT:
            if theirs is not State.DOWN:
                self._enter(State.UP, Diagnostic.NONE)
        elif theirs is State.DOWN:
            self._enter(State.DOWN, Diagnostic.NEIGHBOR_SIGNALED_DOWN)

    def expire(self, now: float) -> None:
        """Notice that the peer was not heard of for the detection time."""
        if now < self._heard_at + self._patience_s:
            return
        self.remote, self._poll = None, None
        if self.state > State.DOWN:
            self._enter(State.DOWN, Diagnostic.DETECTION_TIME_EXPIRED)
        self._derive()

    # -- What is told to do -------------------------------------------------------------------------------------------

    def configure(self, config: BfdConfig) -> None:
        """Use other timers from now on; a Poll Sequence tells the peer."""
        self._config = config
        self._derive()

    def disable(self) -> None:
        """Go to AdminDown: the peer takes that for no failure of the path (RFC 5882 section 3.2)."""
        self._enter(State.ADMIN_DOWN, Diagnostic.ADMINISTRATIVELY_DOWN)
        self._poll = None
        self._derive()

    # -- What goes ----------------------------------------------------------------------------------------------------

    def deadline(self) -> float:
        """Return when there is something to do; at once and never are infinitely far."""
        return min(self._sent_at + self._gap_s, self._heard_at + self._patience_s)

    def transmit(self, now: float, fraction: float) -> Control | None:
        """Return the packet that is due, if one is. ``fraction`` is random in 0-1, for the next interval's jitter."""
        if now < self._sent_at + self._gap_s:
            return None
        self._sent_at, self._jitter = now, jitter(self._config.detect_mult, fraction)
        return self._say()

    def _silent(self) -> bool:
        """Say whether no periodic packets may be sent: the peer wants none, or is in Demand mode."""
        if self.remote is None:
            return False
        both_up = self.state is State.UP and self.remote.state is State.UP
        return self.remote.required_min_rx_us == 0 or (self.remote.demand and both_up and self._poll is None)

    def _say(self, *, final: bool = False) -> Control:
        self._sent = self._content
        self._derive()
        return self._content._replace(final=final, poll=self._poll is not None and not final)

    # -- Timers -------------------------------------------------------------------------------------------------------

    def transmit_interval_us(self) -> int:
        """Return the interval of our periodic packets, before jitter (section 6.8.2)."""
        ours = min(self._desired_us(), self._tx_us) if self.state is State.UP else self._desired_us()
        return max(ours, self.remote.required_min_rx_us if self.remote else 1)

    def detection_time_us(self) -> int:
        """Return for how long the peer may be silent, 0 while it is not heard of (section 6.8.4)."""
        if self.remote is None:
            return 0
        ours = self._config.required_min_rx_ms * 1000
        if self.state is State.UP:
            ours = max(ours, self._required_us)
        return self.remote.detect_mult * max(ours, self.remote.desired_min_tx_us)

    def _desired_us(self) -> int:
        configured = self._config.desired_min_tx_ms * 1000
        return configured if self.state is State.UP else max(configured, SLOW_US)

    def _enter(self, state: State, diagnostic: Diagnostic) -> None:
        self.state, self.diagnostic = state, diagnostic

    def _poll_if_changed(self) -> None:
        """Begin a Poll Sequence if the peer may not know our timers; one at a time, about the timers of its start."""
        if self.remote is None or self.state is State.ADMIN_DOWN:
            self._confirmed(self._content)  # whoever hears us next hears them first
        elif self._poll is None and _timers(self._content) != (self._tx_us, self._required_us):
            self._poll = self._content

    def _confirmed(self, told: Control) -> None:
        self._tx_us, self._required_us = _timers(told)


def _timers(packet: Control) -> tuple[int, int]:
    return packet.desired_min_tx_us, packet.required_min_rx_us


def down_words(machine: Machine) -> str:
    """Return why the session is not Up, in words fit for an operator."""
    remote = machine.remote
    if machine.state is State.ADMIN_DOWN:
        return "administratively down here"
    if remote is not None and remote.state is State.ADMIN_DOWN:
        return "administratively down at the neighbor"
    words = diagnostic_words(machine.diagnostic)
    if machine.diagnostic is Diagnostic.NEIGHBOR_SIGNALED_DOWN and remote is not None and remote.diagnostic:
        return f"{words}: {diagnostic_words(remote.diagnostic)}"
    return words
