"""Netlink messages and attributes as bytes: packed for ``core/netlink.py``, read from what the kernel answers (pure).

A netlink message is a header (length, type, flags, sequence number, port), a header of its family (``genlmsghdr``,
``rtmsg``, ``nfgenmsg``) and a run of attributes, each of them a length, a type and a value padded to four bytes; a
nested attribute's value is such a run again. Numbers are in the machine's byte order unless a family says otherwise;
``struct``'s ``=`` is that order without the compiler's padding.

Sequence numbers and acknowledgement belong to the socket: a message packed here carries neither.
"""

import struct
from collections.abc import Callable, Iterator
from operator import itemgetter

from kube_router.events.errors import KernelError

NLM_F_REQUEST, NLM_F_MULTI, NLM_F_ACK, NLM_F_DUMP_INTR = 0x1, 0x2, 0x4, 0x10
NLM_F_CAPPED, NLM_F_ACK_TLVS = 0x100, 0x200
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
NLM_F_DUMP = 0x300
NLMSG_NOOP, NLMSG_ERROR, NLMSG_DONE, NLMSG_OVERRUN = 1, 2, 3, 4
NLA_TYPE_MASK, NLA_F_NESTED = 0x3FFF, 0x8000

AF_INET, AF_INET6 = 2, 10
LAYOUTS_MAX = 64

HEADER = struct.Struct("=IHHII")
ATTR = struct.Struct("=HH")
GENL = struct.Struct("=BBH")
U8, U16, U32, U64 = struct.Struct("=B"), struct.Struct("=H"), struct.Struct("=I"), struct.Struct("=Q")


Fields = tuple[bytes | None, ...]


class Malformed(KernelError):
    """Bytes that are no netlink message, or lack an attribute that the kernel always gives."""


class Attrs(dict[int, memoryview]):
    """Attributes by type. ``[]`` raises ``Malformed`` for one that is not there."""

    def __missing__(self, kind: int) -> memoryview:
        raise Malformed(f"an answer of the kernel lacks attribute {kind}")


def message(kind: int, flags: int, *parts: bytes) -> bytes:
    """Return a request of this type, its parts being the family's header and the attributes."""
    body = b"".join(parts)
    return HEADER.pack(HEADER.size + len(body), kind, flags | NLM_F_REQUEST, 0, 0) + body


def attr(kind: int, value: bytes) -> bytes:
    """Return one attribute, padded to four bytes."""
    return ATTR.pack(ATTR.size + len(value), kind) + value + bytes(-len(value) % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """Return an attribute that holds attributes."""
    return attr(kind | NLA_F_NESTED, b"".join(attributes))


def u16(kind: int, value: int) -> bytes:
    return attr(kind, U16.pack(value))


def u32(kind: int, value: int) -> bytes:
    return attr(kind, U32.pack(value))


def be16(kind: int, value: int) -> bytes:
    """Return an attribute in network byte order, as ports are."""
    return attr(kind, value.to_bytes(2, "big"))


def be32(kind: int, value: int) -> bytes:
    """Return an attribute in network byte order, as netfilter's families want it."""
    return attr(kind, value.to_bytes(4, "big"))


def text(kind: int, value: str) -> bytes:
    """Return a NUL-terminated string attribute."""
    return attr(kind, value.encode() + b"\0")


def attributes(data: memoryview, offset: int = 0) -> Attrs:
    """Return the attributes from ``offset`` on, by type; of a repeated type the last, as the kernel takes it.

    Raises ``Malformed`` where a length leaves the data.
    """
    return Attrs((kind & NLA_TYPE_MASK, value) for kind, value in _walk(data, offset))


class Decoder:
    """Reads certain attributes out of messages that are mostly laid out alike, as those of a dump are.

    The layout of a message is learned once for each length; the next of that length is taken apart by one ``struct``
    call, and if all its attribute headers are the same it needs no other look: several times as fast as walking it.
    """

    def __init__(self, offset: int, *kinds: int) -> None:
        """Read from ``offset`` of a message on; two kinds at least."""
        self._offset, self._kinds = offset, kinds
        self._layouts: dict[int, tuple[struct.Struct, tuple[bytes, ...], Callable[[Fields], Fields]]] = {}

    def __call__(self, data: memoryview) -> Fields:
        """Return the values of the kinds, in their order, ``None`` for one that is not there.

        Raises ``Malformed`` as ``attributes`` does.
        """
        layout = self._layouts.get(len(data))
        if layout is not None:
            packing, headers, pick = layout
            fields: Fields = packing.unpack_from(data, self._offset)
            if fields[::2] == headers:
                return pick((*fields, None))
        return self._learn(data)

    def _learn(self, data: memoryview) -> Fields:
        form, kinds = "=", []
        headers: list[bytes] = []
        for kind, value in _walk(data, self._offset):
            form += f"4s{len(value)}s{-len(value) % 4}x"
            headers.append(ATTR.pack(4 + len(value), kind))
            kinds.append(kind & NLA_TYPE_MASK)
        packing = struct.Struct(form)
        # Of a repeated kind the last counts; one that is not there is the None behind all fields.
        places = {kind: 2 * place + 1 for place, kind in enumerate(kinds)}
        if len(self._layouts) >= LAYOUTS_MAX:
            self._layouts.clear()
        if self._offset + packing.size <= len(data):  # the last one's padding may be missing
            pick = itemgetter(*(places.get(kind, -1) for kind in self._kinds))
            self._layouts[len(data)] = packing, tuple(headers), pick
        found = attributes(data, self._offset)
        return tuple(bytes(found[kind]) if kind in found else None for kind in self._kinds)


def _walk(data: memoryview, offset: int) -> Iterator[tuple[int, memoryview]]:
    end = len(data)
    while offset + 4 <= end:
        length, kind = ATTR.unpack_from(data, offset)
        if length < 4 or offset + length > end:
            raise Malformed(f"attribute {kind & NLA_TYPE_MASK} says {length} bytes of {end - offset}")
        yield kind, data[offset + 4 : offset + length]
        offset += length + 3 & ~3


def values(data: memoryview, kind: int) -> list[memoryview]:
    """Return the values of a repeated attribute, in order. Raises ``Malformed`` as ``attributes`` does."""
    return [value for got, value in _walk(data, 0) if got & NLA_TYPE_MASK == kind]


def string(value: memoryview) -> str:
    """Return a string attribute's text; bytes that are no UTF-8 become U+FFFD."""
    return bytes(value).rstrip(b"\0").decode(errors="replace")


def number(value: memoryview) -> int:
    """Return an attribute in the machine's byte order as a number, whatever its width."""
    size = len(value)
    packed = {4: U32, 2: U16, 1: U8, 8: U64}.get(size)
    if packed is None:
        raise Malformed(f"a number of {size} bytes")
    return int(packed.unpack(value)[0])


def split(data: memoryview) -> list[tuple[int, int, int, memoryview]]:
    """Return (type, flags, seq, payload) of each message of one datagram.

    Raises ``Malformed`` where a length leaves the data.
    """
    messages = []
    offset, end = 0, len(data)
    while offset + 16 <= end:
        length, kind, flags, seq, _ = HEADER.unpack_from(data, offset)
        if length < 16 or offset + length > end:
            raise Malformed(f"message {kind} says {length} bytes of {end - offset}")
        messages.append((kind, flags, seq, data[offset + 16 : offset + length]))
        offset += length + 3 & ~3
    return messages
