"""What ``kr bgp`` shows of a running speaker, as rows of plain values (pure).

A row of a route says of one path where it is from, what it says, and whether it is used and why or why not.
"""

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from kube_router.plugins.routing.bgp.model import Attributes, NextHop, Path, Prefix
from kube_router.plugins.routing.bgp.neighbour import Neighbour
from kube_router.plugins.routing.bgp.speaker import Speaker
from kube_router.plugins.routing.config import Configured
from kube_router.plugins.routing.learned import as_path, communities
from kube_router.plugins.routing.metrics import PeerFigures

Row = dict[str, object]
ROWS_MAX = 10_000  # of one answer: a client that wants more asks for a prefix


def us(speaker: Speaker, configured: Configured) -> Row:
    """Return who this node is to its neighbours, and what hinders it."""
    config = speaker.config
    if config is None:
        return {"speaks": False, "why": [str(problem) for problem in configured.problems]}
    return {
        "speaks": True,
        "asn": config.asn,
        "router_id": str(ip_address(config.router_id)),
        "listen": list(config.listen),
        "port": config.port,
        "trouble": speaker.trouble,
        "cluster_id": str(ip_address(config.cluster_id)) if config.cluster_id else "",
        "prefixes": len(speaker.rib),
        "originated": len(config.originated),
        "waiting": list(configured.waiting),
        "strangers": speaker.strangers,
        "settled": speaker.settled,
    }


def status(speaker: Speaker, configured: Configured) -> dict[str, object]:
    """Return the few words of ``kr status``."""
    config = speaker.config
    if config is None:
        return {"bgp": "does not speak: see the problems"}
    up = sum(neighbour.peer.established_at is not None for neighbour in speaker.neighbours.values())
    words = {
        "bgp": f"AS {config.asn}, {up} of {len(config.peers)} neighbours established",
        "routes": f"{len(speaker.rib)} prefixes, {len(config.originated)} of them this node's own",
    }
    if speaker.trouble:
        words["listening"] = speaker.trouble
    if configured.waiting:
        words["waiting for passwords of"] = ", ".join(configured.waiting)
    if speaker.awaited:
        words["still to be heard"] = ", ".join(sorted(speaker.awaited))
    return dict(words)


def figures(speaker: Speaker) -> list[PeerFigures]:
    """Return what is exported of each neighbour; also for a thread beside the loop."""
    return [
        PeerFigures(
            address,
            neighbour.config.asn,
            mesh=neighbour.config.mesh,
            state=neighbour.peer.state.name.lower(),
            flaps=neighbour.peer.flaps,
            received=speaker.rib.count(address),
            stale=_stale(speaker, address, neighbour),
            sent=neighbour.told,
            faults=neighbour.faults,
        )
        for address, neighbour in sorted(dict(speaker.neighbours).items())
    ]


def neighbours(speaker: Speaker) -> list[Row]:
    """Return a row for each neighbour, by address."""
    awaited, bfd, rows = speaker.awaited, speaker.bfd_status(), []
    for address, neighbour in sorted(speaker.neighbours.items()):
        row: Row = {"address": address, "asn": neighbour.config.asn, "mesh": neighbour.config.mesh}
        row |= neighbour.peer.describe()
        row |= {
            "received": speaker.rib.count(address),
            "stale": _stale(speaker, address, neighbour),
            "sent": neighbour.told,
            "faulty_updates": neighbour.faults,
            "last_fault": neighbour.last_fault,
            "awaited": sorted(family.name for family in awaited.get(address, ())),
        }
        if (state := bfd.get(address)) is not None:
            row["bfd"] = state._asdict()
        rows.append(row)
    return rows


def _stale(speaker: Speaker, address: str, neighbour: Neighbour) -> int:
    """Return how many of a neighbour's paths are stale, without going through them where none can be."""
    return speaker.rib.stale(address) if neighbour.helper.is_keeping else 0


def routes(speaker: Speaker, which: str, *, prefix: str = "", peer: str = "") -> list[Row]:
    """Return the rows of ``best`` (what is used), ``in`` (all that was told) or ``out`` (what neighbours are told).

    ``prefix``: an address is looked up as a packet would be, a CIDR stands for itself and what is inside. ``peer``
    leaves only what is from or for this neighbour. ValueError for what is neither, or no neighbour.
    """
    if peer and peer not in speaker.neighbours:
        raise ValueError(f"{peer} is no neighbour; there are {', '.join(sorted(speaker.neighbours)) or 'none'}")
    asked = ip_network(prefix, strict=False) if prefix else None
    if which not in _WHICH:
        raise ValueError(f"{which!r} is none of {', '.join(_WHICH)}")
    found = _WHICH[which](speaker, peer)
    rows = [(ip_network(str(where)), row) for where, row in found]
    if asked is not None:
        rows = _matching(rows, asked, is_address="/" not in prefix)
    rows.sort(key=lambda each: (each[0].version, each[0], str(each[1].get("peer")), not each[1].get("best")))
    return [row for _, row in rows[:ROWS_MAX]]


def _matching(
    rows: list[tuple[IPv4Network | IPv6Network, Row]], asked: IPv4Network | IPv6Network, *, is_address: bool
) -> list[tuple[IPv4Network | IPv6Network, Row]]:
    same = [(where, row) for where, row in rows if where.version == asked.version]
    if not is_address:
        return [(where, row) for where, row in same if _is_inside(where, asked)]
    covering = [(where, row) for where, row in same if _is_inside(asked, where)]
    longest = max((where.prefixlen for where, _ in covering), default=0)
    return [(where, row) for where, row in covering if where.prefixlen == longest]


def _is_inside(inner: IPv4Network | IPv6Network, outer: IPv4Network | IPv6Network) -> bool:
    return outer.prefixlen <= inner.prefixlen and outer.network_address in (
        inner.supernet(new_prefix=outer.prefixlen).network_address,
    )


def _best(speaker: Speaker, peer: str) -> Iterator[tuple[Prefix, Row]]:
    for prefix, selection in speaker.rib.each_selection():
        for path in selection.multipath:
            if not peer or path.peer == peer:
                best = path == selection.best
                why = selection.why if best else "as good as the best"
                now = next((one for one in speaker.rib.paths(prefix) if _same(one, path)), path)
                yield prefix, {**_path(prefix, now), "best": best, "used": True, "why": why}


def _same(one: Path, other: Path) -> bool:
    """Whether two are the same path but for its being stale, which a selection does not follow."""
    return (one.peer, one.path_id) == (other.peer, other.path_id)


def _received(speaker: Speaker, peer: str) -> Iterator[tuple[Prefix, Row]]:
    for address in [peer] if peer else ["", *speaker.neighbours]:
        for prefix, path in speaker.rib.routes_of(address):
            yield prefix, {**_path(prefix, path), **_fate(speaker, prefix, path)}


def _fate(speaker: Speaker, prefix: Prefix, path: Path) -> Row:
    if path.refused:
        return {"best": False, "used": False, "why": path.refused}
    ranking = speaker.rib.ranking(prefix)
    if ranking is None:
        return {"best": False, "used": False, "why": "no path to the prefix may be used"}
    if path == ranking.best:
        return {"best": True, "used": True, "why": ranking.why}
    used = path in ranking.multipath
    return {"best": False, "used": used, "why": "as good as the best" if used else ranking.lost.get(path, "")}


def _told(speaker: Speaker, peer: str) -> Iterator[tuple[Prefix, Row]]:
    for address, neighbour in speaker.neighbours.items():
        if neighbour.group is not None and (not peer or address == peer):
            for prefix, exported in neighbour.group.announced(address):
                yield prefix, {"peer": address, **_attributes(prefix, exported.attributes, exported.next_hop)}


def _path(prefix: Prefix, path: Path) -> Row:
    row: Row = {"peer": path.peer or "this node", **_attributes(prefix, path.attributes, path.next_hop)}
    if path.path_id:
        row["path_id"] = path.path_id
    if path.stale:
        row["stale"] = True
    return row


def _attributes(prefix: Prefix, attributes: Attributes, next_hop: NextHop) -> Row:
    row: Row = {
        "prefix": str(prefix),
        "next_hop": str(ip_address(next_hop.address)),
        "as_path": as_path(attributes),
        "origin": attributes.origin.name,
    }
    optional: Mapping[str, object] = {
        "local_pref": attributes.local_pref,
        "med": attributes.med,
        "communities": list(communities(attributes)) or None,
        "originator_id": None if attributes.originator_id is None else str(ip_address(attributes.originator_id)),
        "cluster_list": [str(ip_address(each)) for each in attributes.cluster_list] or None,
    }
    return row | {name: value for name, value in optional.items() if value is not None}


_WHICH = {"best": _best, "in": _received, "out": _told}
