"""Prefixes as bytes (pure)."""

from collections.abc import Iterable

from kube_router.plugins.routing.bgp.model import Family, Prefix


def parse_prefixes(data: bytes, family: Family, add_path: bool) -> tuple[list[Prefix], list[int] | None]:
    """Return prefixes and, with ADD-PATH, their path identifiers. ValueError where the bytes are no prefixes."""
    raise NotImplementedError


def pack_prefixes(prefixes: Iterable[Prefix]) -> list[bytes]:
    """Return each prefix as an UPDATE holds it."""
    raise NotImplementedError
