"""What is wrong with a peer's bytes, and what a NOTIFICATION says of it (pure).

RFC 4271 section 6 names each error by a code and a subcode; RFC 4486, 7313, 8538 and 9384 add to its lists and RFC 9003
adds words of the operator to two of them. A ``Fault`` is the error as an exception: all it holds is what goes into the
NOTIFICATION, and words for our log. Which error deserves a reset is not decided here.
"""

import struct
from typing import NamedTuple

MARKER = b"\xff" * 16
HEADER_LENGTH = 19
COMMUNICATION_MAX = 255  # octets of text in a Shutdown Communication (RFC 9003 section 2)
HARD_RESET = 9

_HEADER = struct.Struct("!16sHB")
_NOTIFICATION = 3

_CODES = {
    1: "message header error",
    2: "OPEN message error",
    3: "UPDATE message error",
    4: "hold timer expired",
    5: "finite state machine error",
    6: "cease",
    7: "ROUTE-REFRESH message error",
    8: "send hold timer expired",
}

_SUBCODES = {
    (1, 1): "connection not synchronized",
    (1, 2): "bad message length",
    (1, 3): "bad message type",
    (2, 1): "unsupported version number",
    (2, 2): "bad peer AS",
    (2, 3): "bad BGP identifier",
    (2, 4): "unsupported optional parameter",
    (2, 5): "authentication failure",
    (2, 6): "unacceptable hold time",
    (2, 7): "unsupported capability",
    (2, 11): "role mismatch",
    (3, 1): "malformed attribute list",
    (3, 2): "unrecognized well-known attribute",
    (3, 3): "missing well-known attribute",
    (3, 4): "attribute flags error",
    (3, 5): "attribute length error",
    (3, 6): "invalid ORIGIN attribute",
    (3, 7): "AS routing loop",
    (3, 8): "invalid NEXT_HOP attribute",
    (3, 9): "optional attribute error",
    (3, 10): "invalid network field",
    (3, 11): "malformed AS_PATH",
    (5, 1): "unexpected message in OpenSent",
    (5, 2): "unexpected message in OpenConfirm",
    (5, 3): "unexpected message in Established",
    (6, 1): "maximum number of prefixes reached",
    (6, 2): "administrative shutdown",
    (6, 3): "peer de-configured",
    (6, 4): "administrative reset",
    (6, 5): "connection rejected",
    (6, 6): "other configuration change",
    (6, 7): "connection collision resolution",
    (6, 8): "out of resources",
    (6, 9): "hard reset",
    (6, 10): "BFD down",
    (7, 1): "invalid message length",
}


class Fault(Exception):
    """A peer's bytes that end the session: what NOTIFICATION to send, and why in words for our log."""

    def __init__(self, code: int, subcode: int, words: str, data: bytes = b"") -> None:
        super().__init__(code, subcode, words, data)
        self.code = code
        self.subcode = subcode
        self.words = words
        self.data = data

    def __str__(self) -> str:
        return f"{error_name(self.code, self.subcode)}: {self.words}"

    @property
    def message(self) -> bytes:
        """The NOTIFICATION to send."""
        return notification(self.code, self.subcode, self.data)


class Notification(NamedTuple):
    """A NOTIFICATION's content."""

    code: int
    subcode: int
    data: bytes = b""

    @property
    def hard(self) -> bool:
        """Whether routes are to go at once although graceful restart covers NOTIFICATIONs (RFC 8538)."""
        return self.code == 6 and self.subcode == HARD_RESET

    @property
    def within(self) -> int:
        """The subcode of the Cease that a Hard Reset carries, 0 where there is none."""
        return self.data[1] if self.hard and len(self.data) >= 2 and self.data[0] == 6 else 0

    @property
    def words(self) -> str:
        """What it says, in one printable line."""
        name = error_name(self.code, self.subcode)
        if self.hard and len(self.data) >= 2:
            inner = Notification(self.data[0], self.data[1], self.data[2:])
            # One that carries another of its kind is nonsense, and could go on for two thousand levels.
            return f"{name}: {error_name(6, HARD_RESET) if inner.hard else inner.words}"
        if self.code == 6 and self.subcode in (2, 4) and self.data:
            return f'{name}: "{_communication(self.data)}"'
        return f"{name} (data {self.data[:16].hex()})" if self.data else name


def error_name(code: int, subcode: int) -> str:
    """Return the RFCs' name of an error, its numbers where they have none."""
    name = _CODES.get(code, f"error {code}")
    detail = _SUBCODES.get((code, subcode), f"subcode {subcode}" if subcode else "")
    return f"{name}: {detail}" if detail else name


def notification(code: int, subcode: int, data: bytes = b"") -> bytes:
    """Return a NOTIFICATION message; data that would not fit into a message of 4096 octets is cut."""
    data = data[: 4096 - HEADER_LENGTH - 2]
    return _HEADER.pack(MARKER, HEADER_LENGTH + 2 + len(data), _NOTIFICATION) + bytes((code, subcode)) + data


def parse_notification(body: bytes) -> Notification:
    """Return what a NOTIFICATION says. Fault 1/2 where it is too short to say anything."""
    if len(body) < 2:
        length = HEADER_LENGTH + len(body)
        raise Fault(1, 2, f"a NOTIFICATION of {length} octets, below 21", length.to_bytes(2))
    return Notification(body[0], body[1], body[2:])


def communication(text: str) -> bytes:
    """Return the data of a Cease that tells the peer's operator why (RFC 9003), cut between characters to fit."""
    octets = text.encode("utf-8", "replace")[:COMMUNICATION_MAX].decode("utf-8", "ignore").encode()
    return bytes((len(octets),)) + octets


def hard_reset(code: int, subcode: int, data: bytes = b"") -> bytes:
    """Return the Hard Reset that carries an error which graceful restart must not cover (RFC 8538 section 3.1)."""
    return notification(6, HARD_RESET, bytes((code, subcode)) + data)


def _communication(data: bytes) -> str:
    """Return a Shutdown Communication, made harmless for a log."""
    text = data[1 : 1 + data[0]].decode("utf-8", "replace")
    return "".join(letter if letter.isprintable() and letter != '"' else "\N{REPLACEMENT CHARACTER}" for letter in text)
