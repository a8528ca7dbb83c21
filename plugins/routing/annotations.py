"""What the annotations and addresses of a Node mean for BGP; one bad item harms only itself (pure).

Every fault says which annotation, which item of it, and what now. The annotations of external peers are in
external.py. What is read of *other* nodes (their AS number, their part in route reflection, their pod CIDRs) is read
by the same functions on every node, so that two nodes come to the same conclusion about their session.
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, TypeVar

from kube_router.events.faults import Faults, quoted
from kube_router.events.model import Node
from kube_router.plugins.routing import values
from kube_router.plugins.routing.bgp.model import Family, Prefix

OURS = "kube-router.io/"
NODE_ASN = OURS + "node.asn"
RR_SERVER, RR_CLIENT = OURS + "rr.server", OURS + "rr.client"
COMMUNITIES = OURS + "node.bgp.communities"
IMPORT_REJECT = OURS + "node.bgp.customimportreject"
PREPEND_AS, PREPEND_TIMES = OURS + "path-prepend.as", OURS + "path-prepend.repeat-n"
LOCAL_ADDRESSES = OURS + "bgp-local-addresses"
POD_CIDRS, POD_CIDR = OURS + "pod-cidrs", OURS + "pod-cidr"

V = TypeVar("V")
Role = Literal["", "server", "client"]


class Reflection(NamedTuple):
    """A node's part in route reflection (RFC 4456) and its cluster id."""

    role: Role = ""
    cluster_id: int = 0


class Prepend(NamedTuple):
    """How often which AS number is put in front of the AS path."""

    asn: int = 0
    times: int = 0


class Communities(NamedTuple):
    standard: tuple[int, ...] = ()
    large: tuple[values.LargeCommunity, ...] = ()


class PodCidrs(NamedTuple):
    """Pod CIDRs, and the field or annotation they are from."""

    prefixes: tuple[Prefix, ...] = ()
    source: str = ""


def where(name: str, item: int | None = None) -> str:
    """Return how faults name an annotation and an item of it."""
    return f"metadata.annotations[{name}]" + (f"[{item}]" if item is not None else "")


# -- addresses ---------------------------------------------------------------------------------------------------------


def addresses(node: Node) -> dict[Family, str]:
    """Return the node's best address of each family it has one of: InternalIP before ExternalIP, primary first."""
    found: dict[Family, str] = {}
    for kind in ("InternalIP", "ExternalIP"):
        for each in node.addresses:
            if each.type == kind:
                found.setdefault(values.family(each.address), each.address)
    return found


def primary_address(node: Node) -> str:
    """Return the first InternalIP, else the first ExternalIP, of whichever family; "" where there is none."""
    return next(iter(addresses(node).values()), "")


def best_address(node: Node, family: Family) -> str:
    """Return the node's address of a family: InternalIP before ExternalIP, "" where it has none."""
    return addresses(node).get(family, "")


def next_hops(
    node: Node, pods: tuple[Prefix, ...] | None = None, *, own: Mapping[Family, str] | None = None
) -> dict[Family, str]:
    """Return the node's own address for routes of each family.

    An IPv6 address serves IPv4 routes too (RFC 8950) where the node has IPv4 pods and no IPv4 address. ``pods`` are
    the node's pod CIDRs, ``own`` its ``addresses``, where they are known already.
    """
    found = addresses(node) if own is None else dict(own)
    if Family.IPV6 in found and Family.IPV4 not in found:
        pods = pod_cidrs(node, Faults("Node", node.name)) if pods is None else pods
        if any(prefix.family is Family.IPV4 for prefix in pods):
            found[Family.IPV4] = found[Family.IPV6]
    return found


# -- pod CIDRs ---------------------------------------------------------------------------------------------------------


def pod_cidrs(node: Node, faults: Faults, *, cni: tuple[str, ...] = ()) -> tuple[Prefix, ...]:
    """Return a node's pod CIDRs: annotation pod-cidrs, else pod-cidr, else spec.podCIDRs, else the CNI's."""
    return pod_cidrs_from(node, faults, cni=cni).prefixes


def pod_cidrs_from(node: Node, faults: Faults, *, cni: tuple[str, ...] = ()) -> PodCidrs:
    """Return a node's pod CIDRs and where they are from.

    An annotation that is there decides, even if nothing of it can be read: it was written because spec.podCIDRs are
    not what should be announced.
    """
    for name in (POD_CIDRS, POD_CIDR):
        if node.annotations.get(name, "").strip():
            return PodCidrs(_each(node, name, values.prefix, faults), f"annotation {name}")
    if node.pod_cidrs:
        return PodCidrs(tuple(dict.fromkeys(values.prefix(cidr) for cidr in node.pod_cidrs)), "spec.podCIDRs")
    if cni:
        return PodCidrs(tuple(dict.fromkeys(values.prefix(cidr) for cidr in cni)), "the CNI configuration")
    return PodCidrs()


# -- AS numbers and route reflection -----------------------------------------------------------------------------------


def node_asn(node: Node, faults: Faults, *, consequence: str) -> int | None:
    """Return the AS number of a node where there is no full mesh, None where it has none that can be used."""
    return _one(node, NODE_ASN, lambda text: values.asn(text, values.NODE_ASNS), faults, consequence)


def reflection(node: Node, faults: Faults) -> Reflection:
    """Return a node's part in route reflection; a server that is annotated as client too is a server."""
    if not node.annotations:  # as most of a large mesh's
        return Reflection()
    ignored = "ignored, as if it were not there"
    server = _one(node, RR_SERVER, values.cluster_id, faults, ignored)
    if server is not None:
        return Reflection("server", server)
    client = _one(node, RR_CLIENT, values.cluster_id, faults, ignored)
    return Reflection("client", client) if client is not None else Reflection()


# -- policy towards external peers -------------------------------------------------------------------------------------


def communities(node: Node, faults: Faults) -> Communities:
    """Return the communities to send with what is announced to external peers."""
    found = _each(node, COMMUNITIES, values.community, faults)
    standard = tuple(each for each in found if isinstance(each, int))
    return Communities(standard, tuple(each for each in found if not isinstance(each, int)))


def import_reject(node: Node, faults: Faults) -> tuple[Prefix, ...]:
    """Return the prefixes that are taken from nobody, nor anything more specific."""
    return _each(node, IMPORT_REJECT, values.prefix, faults)


def prepend(node: Node, faults: Faults) -> Prepend:
    """Return what to put in front of the AS path; how often without what means nothing."""
    nothing = "nothing is prepended"
    asn = _one(node, PREPEND_AS, lambda text: values.asn(text, values.NODE_ASNS), faults, nothing)
    if asn is None:
        return Prepend()
    if not node.annotations.get(PREPEND_TIMES, "").strip():
        faults.add(where(PREPEND_AS), f"{PREPEND_TIMES} is missing, so it is not known how often; {nothing}")
        return Prepend()
    times = _one(node, PREPEND_TIMES, lambda text: values.between(text, 0, 255), faults, nothing)
    return Prepend(asn, times) if times else Prepend()


def local_addresses(node: Node, faults: Faults) -> tuple[str, ...]:
    """Return the addresses to listen on: those annotated, else the node's best one of each family."""
    found = _each(node, LOCAL_ADDRESSES, values.address, faults)
    if not found and node.annotations.get(LOCAL_ADDRESSES, "").strip():
        faults.add(where(LOCAL_ADDRESSES), "holds no address; the node's own are listened on")
    own = addresses(node)
    return found or tuple(own[family] for family in sorted(own))


# -- one annotation ----------------------------------------------------------------------------------------------------


def _one(node: Node, name: str, parse: Callable[[str], V], faults: Faults, consequence: str) -> V | None:
    """Return the value of an annotation, None without one or with one that is wrong."""
    text = node.annotations.get(name, "").strip()
    if not text:
        return None
    try:
        return parse(text)
    except ValueError as error:
        faults.add(where(name), f"{quoted(text)} {error}; {consequence}")
        return None


def _each(node: Node, name: str, parse: Callable[[str], V], faults: Faults) -> tuple[V, ...]:
    """Return the values of a comma list without repetitions; an item that is wrong is left out."""
    found: dict[V, None] = {}
    for i, text in values.items(node.annotations.get(name, "")):
        try:
            found[parse(text)] = None
        except ValueError as error:
            faults.add(where(name, i), f"{quoted(text)} {error}; left out")
    return tuple(found)
