"""Prefixes as an UPDATE holds them: one octet of length in bits, then as few octets as hold them (pure).

Bits beyond the length mean nothing (RFC 4271 section 4.3): they are cleared, so that equal prefixes are equal values.
With ADD-PATH four octets of path identifier go first (RFC 7911). A length that no address of the family has, or a last
prefix cut short, leaves no way to say which prefixes were meant: the caller has to reset the session (RFC 7606 section
5.3).
"""

from collections.abc import Iterable

from kube_router.plugins.routing.bgp.model import Family, Prefix

_OCTETS = tuple((length + 7) // 8 for length in range(256))
_LENGTH = tuple(bytes((length,)) for length in range(256))
_SIZES = {Family.IPV4: 4, Family.IPV6: 16}


class Malformed(ValueError):
    """Bytes that are no prefixes; its text says why."""


class _Shape:
    """What the prefixes of a family look like, by their length in bits."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.length_max = size * 8
        self.padding = tuple(bytes(size - _OCTETS[length]) for length in range(self.length_max + 1))
        self.masks = tuple(
            (1 << self.length_max) - (1 << (self.length_max - length)) for length in range(self.length_max + 1)
        )

    def clear(self, network: bytes, length: int) -> bytes:
        """Return an address without the bits beyond a length."""
        return (int.from_bytes(network) & self.masks[length]).to_bytes(self.size)


_SHAPES = {family: _Shape(size) for family, size in _SIZES.items()}
_new = tuple.__new__  # half the time of calling the NamedTuple


def parse_prefixes(data: bytes, family: Family, add_path: bool) -> tuple[list[Prefix], list[int] | None]:
    """Return prefixes and, with ADD-PATH, their path identifiers. Malformed where the bytes are none."""
    if add_path:
        return _parse_with_paths(data, _SHAPES[family])
    shape = _SHAPES[family]
    length_max, padding = shape.length_max, shape.padding
    prefixes: list[Prefix] = []
    append = prefixes.append
    at, end = 0, len(data)
    while at < end:
        length = data[at]
        if length > length_max:
            raise Malformed(f"a prefix of {length} bits, above {length_max}")
        start = at + 1
        at = start + _OCTETS[length]
        network = data[start:at] + padding[length]
        append(_new(Prefix, (shape.clear(network, length) if length & 7 else network, length)))
    if at != end:
        raise Malformed(f"the last prefix lacks {at - end} octets")
    return prefixes, None


def _parse_with_paths(data: bytes, shape: _Shape) -> tuple[list[Prefix], list[int]]:
    prefixes: list[Prefix] = []
    path_ids: list[int] = []
    at, end = 0, len(data)
    while at < end:
        if at + 5 > end:
            raise Malformed(f"{end - at} octets are left for a path identifier and a prefix")
        length = data[at + 4]
        if length > shape.length_max:
            raise Malformed(f"a prefix of {length} bits, above {shape.length_max}")
        path_ids.append(int.from_bytes(data[at : at + 4]))
        start = at + 5
        at = start + _OCTETS[length]
        network = data[start:at] + shape.padding[length]
        prefixes.append(Prefix(shape.clear(network, length) if length & 7 else network, length))
    if at != end:
        raise Malformed(f"the last prefix lacks {at - end} octets")
    return prefixes, path_ids


def pack_prefixes(prefixes: Iterable[Prefix]) -> list[bytes]:
    """Return each prefix as an UPDATE holds it. This speaker sends no path identifiers."""
    return [_LENGTH[length] + network[: _OCTETS[length]] for network, length in prefixes]
