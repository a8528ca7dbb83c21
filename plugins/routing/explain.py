"""Where a packet from this node to an address goes, and by whose word; whether the address is announced (pure).

It answers from the view alone, so ``kr explain --route`` works on a journal as it does on a running agent: the routes
are those of the journal, and what they lead through is planned anew.
"""

from collections.abc import Iterable, Mapping
from ipaddress import ip_address, ip_interface, ip_network

from kube_router.core.view import ClusterView, Dirty, causes_of
from kube_router.events.model import Node, Object, Service
from kube_router.plugins.routing import facts
from kube_router.plugins.routing.announce import AnnounceTable
from kube_router.plugins.routing.model import MAIN, Hop
from kube_router.plugins.routing.settings import RoutingOptions
from kube_router.plugins.routing.wanted import Cluster


def explain(
    view: ClusterView,
    question: Mapping[str, object],
    options: RoutingOptions,
    node: str,
    *,
    cni_cidrs: tuple[str, ...] = (),
) -> Mapping[str, object]:
    """Answer ``{"route": ADDRESS}``. ValueError where it is no address.

    ``way``: ``learned`` by BGP, ``link`` (a network of this node's own), ``local`` (its own address), ``pods`` (its
    own), ``gateway``, or ``none``.
    """
    text = str(question.get("route", ""))
    try:
        address = ip_address(text)
    except ValueError:
        raise ValueError(f"{text[:100]!r} is no IP address") from None
    cluster = Cluster(node, options, cni_cidrs=cni_cidrs)
    cluster.update(view, Dirty(everything=True))
    announced = AnnounceTable(options, node, cni_cidrs=cni_cidrs)
    announced.update(view, Dirty(everything=True))
    answer: dict[str, object] = {"address": str(address), "node": node, "seq": view.seq}
    answer |= _way(view, cluster, str(address), node)
    claims = announced.explain(str(address))
    answer["announced"] = [
        {
            "prefix": str(claim.prefix),
            "announced": claim.announced,
            "why": claim.why,
            "because": _service(view, claim.service),
        }
        for claim in claims
    ]
    return answer


def _way(view: ClusterView, cluster: Cluster, text: str, node: str) -> dict[str, object]:
    address, around = ip_address(text), cluster.surroundings
    words: dict[str, object]
    ways: list[tuple[int, int, dict[str, object]]] = []
    for id, route in cluster.wanted.routes.items():
        network = ip_network(id.destination)
        if id.table == MAIN and address in network:
            ways.append((network.prefixlen, 0, _learned(view, id.destination, route.hops)))
    for cidr in around.pods:
        if address in ip_network(cidr):
            because = _causes(view, Node, node)
            words = {"way": "pods", "prefix": cidr, "through": "kube-bridge", "because": because}
            ways.append((ip_network(cidr).prefixlen, 2, words))
    host = view.get(facts.Host, node) or facts.Host(name=node)
    because = _causes(view, facts.Host, node)
    for link in host.links:
        for interface in map(ip_interface, link.addresses):
            way, network = "link", interface.network
            if address == interface.ip:
                way, network = "local", ip_network(address)
            if address in network and (link.up or way == "local"):
                words = {"way": way, "prefix": str(network), "through": link.name, "because": because}
                ways.append((network.prefixlen, 2, words))
    for gateway in host.gateways:
        network = ip_network(gateway.destination)
        if address in network:
            through = f"{gateway.via} dev {gateway.device}"
            words = {"way": "gateway", "prefix": gateway.destination, "through": through, "because": because}
            ways.append((network.prefixlen, 1, words))
    if ways:
        return max(ways, key=lambda way: way[:2])[2]
    return {"way": "none", "why": "this node knows no route there", **_stranded(view, cluster, text)}


def _learned(view: ClusterView, prefix: str, hops: Iterable[Hop]) -> dict[str, object]:
    route = view.get(facts.Route, prefix)
    assert route is not None
    through = [f"{hop.via} dev {hop.device}".strip() for hop in hops]
    return {
        "way": "learned",
        "prefix": prefix,
        "through": ", ".join(through),
        "next_hops": list(route.next_hops),
        "peers": list(route.peers),
        "as_path": route.as_path,
        "why": route.why,
        "because": _causes(view, facts.Route, prefix),
    }


def _stranded(view: ClusterView, cluster: Cluster, text: str) -> dict[str, object]:
    """Return why a learned route that covers the address is not installed."""
    address = ip_address(text)
    covering = [route for route in view.each(facts.Route) if address in ip_network(route.name)]
    if not covering:
        return {}
    route = max(covering, key=lambda each: ip_network(each.name).prefixlen)
    words = [f"next hop {hop}: {cluster.surroundings.reach(hop).why}" for hop in route.next_hops]
    return {"prefix": route.name, "why": "; ".join(words)}


def _service(view: ClusterView, key: str) -> list[dict[str, object]]:
    return _causes(view, Service, key) if key else []


def _causes(view: ClusterView, model: type[Object], key: str) -> list[dict[str, object]]:
    return [cause._asdict() for cause in causes_of(view, model, key)]
