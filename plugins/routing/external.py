"""The external peers that a Node's annotations name (pure).

kube-router.io/peers is a list of mappings; YAML as written, JSON as it gets here, its passwords replaced by digests
(events/normalize_node.py). The older peer.ips, peer.asns, peer.ports, peer.passwords, peer.localips are comma lists
that go together item by item; they count only where there is no ``peers``. A peer that is wrong is left out and named;
lists of unequal length leave out all, for nobody knows what belongs to what.
"""

import json
from collections.abc import Callable, Mapping
from typing import TypeVar

from kube_router.events.faults import Faults, quoted
from kube_router.events.model import Node
from kube_router.events.normalize_node import BFD_FIELDS, PASSWORD, PEER_FIELDS, PEER_PASSWORDS, PEERS
from kube_router.plugins.routing import values
from kube_router.plugins.routing.annotations import OURS, where
from kube_router.plugins.routing.bgp.model import BGP_PORT, BfdConfig
from kube_router.plugins.routing.settings import ExternalPeer

PEER_IPS, PEER_ASNS = OURS + "peer.ips", OURS + "peer.asns"
PEER_PORTS, PEER_LOCAL_IPS = OURS + "peer.ports", OURS + "peer.localips"
LEFT_OUT = "peer left out"

V = TypeVar("V")
Secret = Callable[[str], str | None]


class _Wrong(ValueError):
    """One field of one peer is wrong; the message begins with the field's path."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(path, what)
        self.path, self.what = path, what


def annotated_peers(node: Node, secret: Secret, faults: Faults) -> tuple[ExternalPeer, ...]:
    """Return the external peers of a node, by its annotations. Of two with one address the first stands."""
    listed = node.annotations.get(PEERS, "").strip()
    fields = _from_list(listed, faults) if listed else _from_columns(node, faults)
    peers: dict[str, ExternalPeer] = {}
    for path, entry in fields:
        try:
            peer = _peer(path, entry, secret)
        except _Wrong as wrong:
            faults.add(wrong.path, f"{wrong.what}; {LEFT_OUT}")
            continue
        if peer.address in peers:
            faults.add(path, f"{peer.address} is there twice; {LEFT_OUT}, the first one stands")
        else:
            peers[peer.address] = peer
    return tuple(peers.values())


# -- how they are written ----------------------------------------------------------------------------------------------

Written = list[tuple[str, Mapping[str, object]]]  # path, fields


def _from_list(text: str, faults: Faults) -> Written:
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError):
        return []  # the digest of what was no list of peers: where it was read, it was told
    if not isinstance(entries, list):
        faults.add(where(PEERS), "could not be read as a list of peers; no peer of it is used")
        return []
    found: Written = []
    for i, entry in enumerate(entries):
        path = where(PEERS, i)
        if not isinstance(entry, dict):
            faults.add(path, f"is no mapping; {LEFT_OUT}")
            continue
        _name_strangers(path, entry, PEER_FIELDS | {"bfd", PASSWORD}, faults)
        _name_strangers(f"{path}.bfd", entry.get("bfd"), BFD_FIELDS, faults)
        found.append((path, entry))
    return found


def _name_strangers(path: str, entry: object, known: frozenset[str], faults: Faults) -> None:
    for name in sorted(entry.keys() - known) if isinstance(entry, dict) else ():
        faults.add(path, f"{quoted(name)} is no field of it; ignored")


def _from_columns(node: Node, faults: Faults) -> Written:
    columns = {
        "remoteip": PEER_IPS,
        "remoteasn": PEER_ASNS,
        "port": PEER_PORTS,
        PASSWORD: PEER_PASSWORDS,
        "localip": PEER_LOCAL_IPS,
    }
    texts = {field: node.annotations.get(name, "") for field, name in columns.items()}
    lists = {field: [item.strip() for item in text.split(",")] for field, text in texts.items() if text.strip()}
    if not lists:
        return []
    length = len(lists.get("remoteip", ()))
    for field, items in lists.items():
        if len(items) != length:
            words = f"has {len(items)} items, but {PEER_IPS} has {length}"
            faults.add(where(columns[field]), f"{words}; no peer of the lists is used")
            return []
    if "remoteasn" not in lists:
        faults.add(where(PEER_IPS), f"{PEER_ASNS} is missing; no peer of the lists is used")
        return []
    rows = [{field: items[i] for field, items in lists.items()} for i in range(length)]
    return [(where(PEER_IPS, i), row) for i, row in enumerate(rows)]


# -- one peer ----------------------------------------------------------------------------------------------------------


def _peer(path: str, entry: Mapping[str, object], secret: Secret) -> ExternalPeer:
    """Return the peer that some fields describe. ``_Wrong`` for the first field that is."""
    address = _field(path, entry, "remoteip", values.unicast)
    asn = _field(path, entry, "remoteasn", values.asn)
    if address is None or asn is None:
        raise _Wrong(f"{path}.{'remoteip' if address is None else 'remoteasn'}", "missing")
    local = _field(path, entry, "localip", values.unicast) or ""
    if local and values.family(local) is not values.family(address):
        raise _Wrong(f"{path}.localip", f"{local} is not of the family of {address}")
    password = _password(path, entry.get(PASSWORD), secret)
    return ExternalPeer(
        address=address,
        asn=asn,
        port=_field(path, entry, "port", values.port) or BGP_PORT,
        local_address=local,
        password=password or "",
        waiting=password is None,
        bfd=_bfd(f"{path}.bfd", entry.get("bfd")),
        where=path,
    )


def _field(path: str, entry: Mapping[str, object], name: str, parse: Callable[[object], V]) -> V | None:
    """Return the value of a field, None for one that is absent or blank."""
    written = entry.get(name)
    if written is None or (isinstance(written, str) and not written.strip()):
        return None
    try:
        return parse(written)
    except ValueError as error:
        raise _Wrong(f"{path}.{name}", f"{_shown(written)} {error}") from None


def _password(path: str, digest: object, secret: Secret) -> str | None:
    """Return the password behind a digest, "" for none, None where it is not known."""
    if digest is None or digest == "":
        return ""
    encoded = secret(digest) if isinstance(digest, str) else None
    if encoded is None:
        return None
    try:
        return values.password(encoded)
    except ValueError as error:
        raise _Wrong(f"{path}.{PASSWORD}", str(error)) from None


def _bfd(path: str, entry: object) -> BfdConfig | None:
    if entry is None or entry == "":
        return None
    if not isinstance(entry, dict):
        raise _Wrong(path, "is no mapping")
    enabled = entry.get("enabled")
    if enabled not in (None, True, False, "true", "false", ""):
        raise _Wrong(f"{path}.enabled", f"{_shown(enabled)} is neither true nor false")
    interval = _within(1, values.BFD_INTERVAL_MAX_MS)
    bfd = BfdConfig()
    bfd = BfdConfig(
        port=_field(path, entry, "port", values.port) or bfd.port,
        detect_mult=_field(path, entry, "detection_multiplier", _within(1, 255)) or bfd.detect_mult,
        desired_min_tx_ms=_field(path, entry, "desired_min_tx_interval", interval) or bfd.desired_min_tx_ms,
        required_min_rx_ms=_field(path, entry, "required_min_rx_interval", interval) or bfd.required_min_rx_ms,
    )
    return bfd if enabled in (True, "true") else None


def _within(low: int, high: int) -> Callable[[object], int]:
    return lambda value: values.between(value, low, high)


def _shown(value: object) -> str:
    return quoted(value) if isinstance(value, str | int) or value is None else f"a {type(value).__name__}"
