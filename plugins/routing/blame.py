"""Which objects caused each line of what routing announces and installs (pure)."""

from collections.abc import Iterator, Mapping
from ipaddress import ip_address

from kube_router.core.view import Cause, ClusterView, Line, causes_of
from kube_router.events.faults import Faults
from kube_router.events.model import Node, Service
from kube_router.plugins.routing import annotations, facts, nftables, render
from kube_router.plugins.routing.announce import AnnounceTable
from kube_router.plugins.routing.bgp.model import Kind
from kube_router.plugins.routing.config import Configured
from kube_router.plugins.routing.model import Wanted
from kube_router.plugins.routing.wanted import Cluster


def lines(
    view: ClusterView, node: str, configured: Configured, announced: AnnounceTable, cluster: Cluster, *, egress: bool
) -> list[Line]:
    """Return all that this node would say and hold: the speaker's in words, the kernel's as ip(8) and nft write it."""
    nodes = _owners(view)
    found = [*_speaker(view, node, configured, announced, nodes), *_kernel(view, cluster.wanted, nodes)]
    for one in view.each(facts.RouteDigest):
        text = f"# {one.count} routes are not in the journal (sha256 {one.sha256})"
        found.append(Line(text, causes_of(view, facts.RouteDigest, one.name)))
    if egress:
        members = nftables.members(**cluster.egress)
        found += [
            Line(text, _named(view, text, nodes) or causes_of(view, Node, node)) for text in nftables.lines(members)
        ]
    return found


def _speaker(
    view: ClusterView, node: str, configured: Configured, announced: AnnounceTable, nodes: Mapping[str, str]
) -> Iterator[Line]:
    config, own = configured.config, causes_of(view, Node, node)
    if config is None:
        yield from (Line(f"# {problem}") for problem in configured.problems)
        return
    yield Line(f"bgp as {config.asn} router-id {ip_address(config.router_id)}", own)
    for address, peer in sorted(config.peers.items()):
        role = "internal" if peer.internal else "external"
        yield Line(f"bgp neighbour {address} as {peer.asn} {role}", _named(view, address, nodes) or own)
    for prefix, kind in sorted(config.originated.items()):
        if kind is Kind.POD:
            yield Line(f"announce {prefix} ({configured.pod_why.get(prefix, 'pod CIDR')})", own)
        else:
            because = tuple(c for key in announced.owners(prefix) for c in causes_of(view, Service, key))
            yield Line(f"announce {prefix} (service)", because or own)


def _kernel(view: ClusterView, wanted: Wanted, nodes: Mapping[str, str]) -> Iterator[Line]:
    seen: dict[str, tuple[Cause, ...]] = {}  # by what a line makes: later ones name it alone
    for text in render.lines(wanted):
        words = text.split()
        because = causes_of(view, facts.Route, words[3]) if words[1] == "route" else ()
        because = because or _named(view, text, nodes) or next((seen[word] for word in words if word in seen), ())
        if words[1:3] == ["link", "add"]:
            seen[words[4]] = because
        elif words[0] == "bridge":
            seen[words[3]] = because
        yield Line(text, because)


def _named(view: ClusterView, text: str, nodes: Mapping[str, str]) -> tuple[Cause, ...]:
    """Return the nodes whose addresses and pod CIDRs a line names."""
    names = [nodes.get(word) or nodes.get(word.partition("/")[0]) for word in text.split()]
    return tuple(cause for name in dict.fromkeys(names) if name for cause in causes_of(view, Node, name))


def _owners(view: ClusterView) -> dict[str, str]:
    """Return whose addresses and pod CIDRs are whose."""
    owners = dict[str, str]()
    for node in view.each(Node):
        owners |= {each.address: node.name for each in node.addresses}
        owners |= {str(cidr): node.name for cidr in annotations.pod_cidrs(node, Faults("Node", node.name))}
    return owners
