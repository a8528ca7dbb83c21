"""The best paths of the routing table as objects of the journal (pure)."""

from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256
from ipaddress import ip_address
from typing import Any

from kube_router.plugins.routing.bgp.best import Selection
from kube_router.plugins.routing.bgp.model import Attributes, Prefix, SegmentType
from kube_router.plugins.routing.facts import Route, RouteDigest

DIGEST = "routes"  # the name of the one digest
TEXTS_MAX = 4096
_BRACKETS = {
    SegmentType.AS_SEQUENCE: ("", "", " "),
    SegmentType.AS_SET: ("{", "}", ","),
    SegmentType.AS_CONFED_SEQUENCE: ("(", ")", " "),
    SegmentType.AS_CONFED_SET: ("[", "]", ","),
}


def routes_of(selections: Iterable[tuple[Prefix, Selection | None]]) -> list[Route]:
    """Return each prefix that has a selection, with all paths that are used for it, the best first.

    Thousands of prefixes share one selection: it is put into words once.
    """
    worded: dict[int, dict[str, Any]] = {}  # by identity: all of them live as long as this call
    found = []
    for prefix, selection in selections:
        if selection is not None:
            words = worded.get(id(selection))
            if words is None:
                words = worded[id(selection)] = _words(selection)
            found.append(Route(name=str(prefix), **words))
    return found


def _words(selection: Selection) -> dict[str, Any]:
    best, paths = selection.best.attributes, selection.multipath
    return {
        "next_hops": tuple(dict.fromkeys([_text(path.next_hop.address) for path in paths])),
        "peers": tuple(dict.fromkeys([path.peer for path in paths])),
        "internal": selection.source is None or selection.source.internal,
        "as_path": as_path(best),
        "local_pref": best.local_pref,
        "med": best.med,
        "communities": communities(best),
        "why": selection.why,
    }


@lru_cache(maxsize=TEXTS_MAX)  # thousands of routes share few next hops
def _text(address: bytes) -> str:
    return str(ip_address(address))


def as_path(attributes: Attributes) -> str:
    """Return an AS_PATH as it is usually written: ``64513 {64514,64515}``."""
    words = []
    for segment in attributes.as_path:
        left, right, between = _BRACKETS[segment.type]
        words.append(f"{left}{between.join(map(str, segment.asns))}{right}")
    return " ".join(words)


def communities(attributes: Attributes) -> tuple[str, ...]:
    """Return communities as they are usually written: ``64512:100``, large ones ``64512:1:2``."""
    standard = [f"{value >> 16}:{value & 0xFFFF}" for value in attributes.communities]
    large = [":".join(map(str, value)) for value in attributes.large_communities]
    return (*standard, *large)


def digest(routes: Iterable[Route]) -> RouteDigest:
    """Return what stands for many routes, in whatever order they are. Takes a while: for a thread."""
    lines = sorted(f"{route.name} {','.join(route.next_hops)}" for route in routes)
    return RouteDigest(name=DIGEST, count=len(lines), sha256=sha256("\n".join(lines).encode()).hexdigest())
