"""Turn the API's Node and Namespace into ours, with the BGP passwords in a Node's annotations redacted.

kube-router.io/peers is YAML (a list of mappings) and kube-router.io/peer.passwords a comma list. What may stand in them
is a short list of known fields; everything else in them is replaced by its digest, since a secret under a misspelt
key is a secret still. The peers come out as JSON, which is YAML too.
"""

import json
from collections.abc import Mapping

import msgspec
import yaml
from msgspec import Raw

from kube_router.events import canonical, model, wire
from kube_router.events.faults import Faults, decode, identify, quoted
from kube_router.events.normalize_service import own_annotations
from kube_router.events.resource import Normalized, Redact

PEERS = "kube-router.io/peers"
PEER_PASSWORDS = "kube-router.io/peer.passwords"

# The fields of one peer that are no secrets, and those of its ``bfd``.
PEER_FIELDS = frozenset({"remoteip", "remoteasn", "localip", "port"})
BFD_FIELDS = frozenset(
    {"enabled", "port", "detection_multiplier", "desired_min_tx_interval", "required_min_rx_interval"}
)
PASSWORD = "password"

# A node with hundreds of peers needs a tenth of this; parsing more than this would hold up the loop.
PEERS_LENGTH_MAX = 65536

_nodes = msgspec.json.Decoder(wire.Node)
_namespaces = msgspec.json.Decoder(wire.Namespace)
_Loader: type[yaml.SafeLoader] | type[yaml.CSafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def normalize_namespace(raw: bytes | Raw, redact: Redact) -> Normalized:
    """Return the Namespace."""
    written = decode(_namespaces, raw, "Namespace")
    _, name, faults = identify("Namespace", written.metadata, namespaced=False)
    meta = written.metadata or wire.LabelledMeta()
    namespace = model.Namespace(name=name, uid=meta.uid or "", labels=canonical.labels(meta.labels))
    return Normalized(namespace, meta.resource_version or "", 0, faults.found())


def normalize_node(raw: bytes | Raw, redact: Redact) -> Normalized:
    """Return the Node, every password in it replaced by ``redact`` of it."""
    written = decode(_nodes, raw, "Node")
    _, name, faults = identify("Node", written.metadata, namespaced=False)
    meta = written.metadata or wire.AnnotatedMeta()
    node = model.Node(
        name=name,
        uid=meta.uid or "",
        addresses=_addresses(written.status or wire.NodeStatus(), faults),
        pod_cidrs=_pod_cidrs(written.spec or wire.NodeSpec(), faults),
        labels=canonical.labels(meta.labels),
        annotations=_redacted(own_annotations(meta), redact, faults),
    )
    return Normalized(node, meta.resource_version or "", 0, faults.found())


def _addresses(status: wire.NodeStatus, faults: Faults) -> tuple[model.NodeAddress, ...]:
    addresses = []
    for i, written in enumerate(status.addresses or ()):
        if written.type not in ("InternalIP", "ExternalIP"):
            continue
        address = canonical.address(written.address or "")
        if address is None:
            faults.add(f"status.addresses[{i}].address", f"{quoted(written.address)} is no address; left out")
        else:
            addresses.append(model.NodeAddress(type=canonical.intern(written.type), address=address))
    return tuple(addresses)


def _pod_cidrs(spec: wire.NodeSpec, faults: Faults) -> tuple[str, ...]:
    path = "spec.podCIDRs" if spec.pod_cidrs else "spec.podCIDR"
    cidrs: dict[str, None] = {}
    for i, text in enumerate(spec.pod_cidrs or ([spec.pod_cidr] if spec.pod_cidr else [])):
        cidr = canonical.network(text)
        if cidr is None:
            faults.add(f"{path}[{i}]", f"{quoted(text)} is no CIDR; left out")
        else:
            cidrs[cidr] = None
    return tuple(cidrs)


# -- Secrets ---------------------------------------------------------------------------------------------------------


def _redacted(annotations: Mapping[str, str], redact: Redact, faults: Faults) -> Mapping[str, str]:
    safe = {}
    for name, text in annotations.items():
        if name == PEERS:
            safe[name] = _redacted_peers(text, redact, faults)
        elif PASSWORD in name.lower() or name == PEER_PASSWORDS:
            # Blank items are peers without a password; the list keeps its length.
            safe[name] = ",".join(redact(item.strip()) if item.strip() else "" for item in text.split(","))
        else:
            safe[name] = text
    return safe


def _redacted_peers(text: str, redact: Redact, faults: Faults) -> str:
    try:
        peers = _load_peers(text)
        return json.dumps([_redacted_peer(peer, redact) for peer in peers], allow_nan=False, ensure_ascii=False)
    # ValueError: of YAML's numbers and dates, of JSON's. RecursionError: lists nested a thousand deep.
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        # The parser's own words quote the text, and the text may be the password.
        what = str(error) if isinstance(error, _NotPeers) else "is no YAML that can be read"
        faults.add(f"metadata.annotations[{PEERS}]", f"{what}; no peer of it is used")
        return redact(text) if text.strip() else ""


class _NotPeers(ValueError):
    """The text is no list of peers; its message quotes nothing of it."""


def _load_peers(text: str) -> list[dict[object, object]]:
    """Return the peers; a password is the text of its scalar even where YAML would read a number or a date."""
    if len(text) > PEERS_LENGTH_MAX:
        raise _NotPeers(f"is longer than {PEERS_LENGTH_MAX} characters")
    # A few aliases can stand for gigabytes; nobody needs them here.
    if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=_Loader)):
        raise _NotPeers("uses YAML aliases, which are not supported here")
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if not isinstance(root, yaml.SequenceNode):
            raise _NotPeers("is no list of peers")
        if not all(isinstance(peer, yaml.MappingNode) for peer in root.value):
            raise _NotPeers("holds something that is no mapping")
        for peer in root.value:
            _keep_passwords_text(peer)
        peers: list[dict[object, object]] = loader.construct_document(root)
        return peers
    finally:
        loader.dispose()


def _keep_passwords_text(peer: yaml.MappingNode) -> None:
    for name, secret in peer.value:
        if isinstance(name, yaml.ScalarNode) and name.value == PASSWORD and isinstance(secret, yaml.ScalarNode):
            null = secret.tag == "tag:yaml.org,2002:null"
            secret.tag = "tag:yaml.org,2002:str"
            secret.value = "" if null else secret.value


def _redacted_peer(peer: Mapping[object, object], redact: Redact) -> dict[str, object]:
    safe: dict[str, object] = {}
    for name, entry in peer.items():
        if name in PEER_FIELDS and _is_scalar(entry):
            safe[str(name)] = entry
        elif name == "bfd" and isinstance(entry, dict):
            safe["bfd"] = {
                str(key): part if key in BFD_FIELDS and _is_scalar(part) else redact(str(part))
                for key, part in entry.items()
            }
        else:
            safe[str(name)] = redact(str(entry)) if entry not in (None, "") else ""
    return safe


def _is_scalar(entry: object) -> bool:
    return entry is None or isinstance(entry, str | int | float)
