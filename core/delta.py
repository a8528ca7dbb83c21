"""Wanted against actual, as plain mappings: what to add, what to change, what to remove (pure).

wanted only      in both, unlike      in both, alike      actual only
── added ──      ── changed ──        (nothing)           ── removed ──
"""

from collections.abc import Mapping
from typing import Generic, NamedTuple, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Delta(NamedTuple, Generic[K, V]):
    """``added`` and ``changed`` hold the wanted value; ``removed`` the key. Order: that of the mappings compared."""

    added: dict[K, V]
    changed: dict[K, V]
    removed: list[K]


def compare(wanted: Mapping[K, V], actual: Mapping[K, V]) -> Delta[K, V]:
    """Return what turns ``actual`` into ``wanted``. Equal mappings give an empty delta."""
    added = {key: value for key, value in wanted.items() if key not in actual}
    changed = {key: value for key, value in wanted.items() if key in actual and actual[key] != value}
    return Delta(added, changed, [key for key in actual if key not in wanted])
