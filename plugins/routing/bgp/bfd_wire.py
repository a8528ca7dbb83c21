"""BFD Control packets to and from bytes (RFC 5880 section 4.1), without authentication (pure).

A packet is 24 octets in one UDP datagram. ``parse`` makes those checks of section 6.8.6 that need nothing but the
packet; which session it belongs to, and what it means there, is for others. Bytes after the packet's own length are
ignored, as section 6.8.6 has it.

Not here: authentication (a packet that carries it is refused, as by a system that uses none) and Echo packets, which
have no format of their own.
"""

import struct
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

from kube_router.events.errors import PeerError

SINGLE_HOP_PORT, MULTIHOP_PORT = 3784, 4784  # RFC 5881 section 4, RFC 5883 section 5
VERSION = 1
LENGTH = 24
LENGTH_AUTHENTICATED = 26
LENGTH_MAX = 255  # the Length field is one octet
PARSED_MAX = 4096  # a peer says the same again and again
_FORMAT = struct.Struct("!BBBBIIIII")
_POLL, _FINAL, _INDEPENDENT, _AUTHENTICATED, _DEMAND, _MULTIPOINT = 0x20, 0x10, 0x08, 0x04, 0x02, 0x01


class Malformed(PeerError):
    """A datagram that is no BFD Control packet we may look at; it is dropped and nothing else happens."""


class State(IntEnum):
    ADMIN_DOWN = 0
    DOWN = 1
    INIT = 2
    UP = 3


class Diagnostic(IntEnum):
    """Why a system's session last left Up."""

    NONE = 0
    DETECTION_TIME_EXPIRED = 1
    ECHO_FAILED = 2
    NEIGHBOR_SIGNALED_DOWN = 3
    FORWARDING_PLANE_RESET = 4
    PATH_DOWN = 5
    CONCATENATED_PATH_DOWN = 6
    ADMINISTRATIVELY_DOWN = 7
    REVERSE_CONCATENATED_PATH_DOWN = 8


_WORDS = {
    Diagnostic.NONE: "no diagnostic",
    Diagnostic.DETECTION_TIME_EXPIRED: "control detection time expired",
    Diagnostic.ECHO_FAILED: "echo function failed",
    Diagnostic.NEIGHBOR_SIGNALED_DOWN: "neighbor signaled session down",
    Diagnostic.FORWARDING_PLANE_RESET: "forwarding plane reset",
    Diagnostic.PATH_DOWN: "path down",
    Diagnostic.CONCATENATED_PATH_DOWN: "concatenated path down",
    Diagnostic.ADMINISTRATIVELY_DOWN: "administratively down",
    Diagnostic.REVERSE_CONCATENATED_PATH_DOWN: "reverse concatenated path down",
}


def diagnostic_words(code: int) -> str:
    """Return RFC 5880's words for a diagnostic code, or its number where it has none."""
    return _WORDS[Diagnostic(code)] if code in _WORDS else f"reserved diagnostic {code}"


class Control(NamedTuple):
    """One Control packet. Intervals are in microseconds, as on the wire; ``diagnostic`` may be a reserved number."""

    state: State
    detect_mult: int
    my_discriminator: int
    your_discriminator: int = 0
    desired_min_tx_us: int = 0
    required_min_rx_us: int = 0
    required_min_echo_rx_us: int = 0
    diagnostic: int = 0
    poll: bool = False
    final: bool = False
    control_plane_independent: bool = False
    demand: bool = False


def encode(control: Control) -> bytes:
    """Return the packet's 24 octets."""
    flags = (
        (_POLL if control.poll else 0)
        | (_FINAL if control.final else 0)
        | (_INDEPENDENT if control.control_plane_independent else 0)
        | (_DEMAND if control.demand else 0)
    )
    return _FORMAT.pack(
        VERSION << 5 | control.diagnostic,
        control.state << 6 | flags,
        control.detect_mult,
        LENGTH,
        control.my_discriminator,
        control.your_discriminator,
        control.desired_min_tx_us,
        control.required_min_rx_us,
        control.required_min_echo_rx_us,
    )


@lru_cache(maxsize=PARSED_MAX)
def parse(datagram: bytes) -> Control:
    """Return the packet in a datagram. Raises Malformed for what section 6.8.6 says must be discarded."""
    if len(datagram) < LENGTH:
        raise Malformed(f"BFD packet of {len(datagram)} octets: {LENGTH} are the least")
    first, second, detect_mult, length, mine, yours, tx, rx, echo = _FORMAT.unpack_from(datagram)
    if wrong := _wrong(first >> 5, second, detect_mult, length, len(datagram)):
        raise Malformed(f"BFD packet: {wrong}")
    state = State(second >> 6)
    if mine == 0:
        raise Malformed("BFD packet: My Discriminator is zero")
    if yours == 0 and state > State.DOWN:
        raise Malformed(f"BFD packet: Your Discriminator is zero in state {state.name}")
    return Control(
        state=state,
        detect_mult=detect_mult,
        my_discriminator=mine,
        your_discriminator=yours,
        desired_min_tx_us=tx,
        required_min_rx_us=rx,
        required_min_echo_rx_us=echo,
        diagnostic=first & 0x1F,
        poll=bool(second & _POLL),
        final=bool(second & _FINAL),
        control_plane_independent=bool(second & _INDEPENDENT),
        demand=bool(second & _DEMAND),
    )


def _wrong(version: int, flags: int, detect_mult: int, length: int, payload: int) -> str:
    if version != VERSION:
        return f"version {version}, not {VERSION}"
    least = LENGTH_AUTHENTICATED if flags & _AUTHENTICATED else LENGTH
    if not least <= length <= payload:
        return f"Length is {length}, in a datagram of {payload} octets, and {least} are the least"
    if detect_mult == 0:
        return "Detect Mult is zero"
    if flags & _MULTIPOINT:
        return "the Multipoint bit is set"
    if flags & _AUTHENTICATED:
        return "it is authenticated, and no authentication is in use"
    return ""
