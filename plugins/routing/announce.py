"""Which service addresses this node announces, and why or why not, kept up incrementally (pure).

Each Service makes *claims*: one for each of its addresses, granted or not, with the reason (claims.py). A prefix is
announced while at least one Service has a granted claim on it. So what is announced depends on the claims alone, and
every order of events gives the same result.
"""

from collections.abc import Iterable, Mapping
from ipaddress import ip_network

from kube_router.core.slices import SliceOwners
from kube_router.core.view import ClusterView, Dirty
from kube_router.events.errors import Problem
from kube_router.events.faults import Faults
from kube_router.events.model import Node, Service
from kube_router.plugins.routing.annotations import next_hops, pod_cidrs
from kube_router.plugins.routing.bgp.model import Kind, Prefix
from kube_router.plugins.routing.claims import NO_FACTS, Claim, Facts, judge, range_claims
from kube_router.plugins.routing.settings import RoutingOptions

RANGES = ""  # the owner of the ranges of cluster IPs: no Service has this key


class AnnounceTable:
    """The service prefixes of one node. ``update`` (or ``dirty_services`` and ``reclaim``) is the way to change it.

    ``announced`` is what to announce now; it is not to be changed. ``cni_cidrs`` as for ``speaker_config``.
    """

    def __init__(self, options: RoutingOptions, node: str, *, cni_cidrs: tuple[str, ...] = ()) -> None:
        self.node = node
        self._options = options
        self._cni_cidrs = cni_cidrs
        self._facts = NO_FACTS
        self._announced: dict[Prefix, Kind] = {}
        self._at: dict[Prefix, dict[str, Claim]] = {}  # claims by prefix and Service
        self._of: dict[str, tuple[Claim, ...]] = {}  # claims by Service
        self._problems: dict[str, tuple[Problem, ...]] = {}
        self._slices = SliceOwners()

    @property
    def announced(self) -> Mapping[Prefix, Kind]:
        """What to announce now."""
        return self._announced

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Return what is wrong with the Services, in order."""
        return tuple(problem for key in sorted(self._problems) for problem in self._problems[key])

    def owners(self, prefix: Prefix) -> tuple[str, ...]:
        """Return the keys of the Services for which a prefix is announced, in order; "" for a range of cluster IPs."""
        return tuple(sorted(key for key, claim in self._at.get(prefix, {}).items() if claim.announced))

    def explain(self, text: str) -> tuple[Claim, ...]:
        """Return every claim on an address or CIDR and on what covers it, granted ones first. ValueError for neither.

        Nothing: no Service has it.
        """
        asked = ip_network(text, strict=False)
        covering = [asked.supernet(new_prefix=length) for length in range(asked.prefixlen + 1)]
        prefixes = [Prefix(each.network_address.packed, each.prefixlen) for each in covering]
        found = [claim for prefix in prefixes for claim in self._at.get(prefix, {}).values()]
        return tuple(sorted(found, key=lambda claim: (not claim.announced, -claim.prefix.length, claim.service)))

    def claims(self) -> tuple[Claim, ...]:
        """Return all claims, in order."""
        return tuple(sorted(claim for at in self._at.values() for claim in at.values()))

    # -- changes -------------------------------------------------------------------------------------------------------

    def update(self, view: ClusterView, dirty: Dirty) -> set[Prefix]:
        """Take in all that is dirty; return the prefixes that are newly announced or no longer."""
        return self.reclaim(view, self.dirty_services(view, dirty))

    def dirty_services(self, view: ClusterView, dirty: Dirty) -> set[str]:
        """Return the keys to ``reclaim``: all of them when this node has changed."""
        facts = facts_of(view.get(Node, self.node), self._cni_cidrs)
        everything = dirty.everything or facts != self._facts
        self._facts = facts
        if everything:
            self._slices.reset(view)
            return {RANGES, *self._of, *(service.key for service in view.each(Service))}
        return self._slices.dirty_services(view, dirty)

    def reclaim(self, view: ClusterView, keys: Iterable[str]) -> set[Prefix]:
        """Judge some Services anew; return the prefixes that are newly announced or no longer."""
        touched: set[Prefix] = set()
        for key in keys:
            touched |= self._replace(key, *self._judged(view, key))
        return {prefix for prefix in touched if self._settle(prefix)}

    def _judged(self, view: ClusterView, key: str) -> tuple[tuple[Claim, ...], tuple[Problem, ...]]:
        if key == RANGES:
            return range_claims(self._options, self._facts), ()
        service = view.get(Service, key)
        if service is None:
            return (), ()
        return judge(service, view.slices_of(key), self._facts, self._options)

    def _replace(self, key: str, made: tuple[Claim, ...], problems: tuple[Problem, ...]) -> set[Prefix]:
        """Replace the claims of one Service; return the prefixes where they differ from before."""
        before = self._of.pop(key, ())
        if made:
            self._of[key] = made
        self._problems.pop(key, None)
        if problems:
            self._problems[key] = problems
        if made == before:
            return set()
        for claim in before:
            self._at[claim.prefix].pop(key)
        for claim in made:
            self._at.setdefault(claim.prefix, {})[key] = claim
        return {claim.prefix for claim in (*before, *made)}

    def _settle(self, prefix: Prefix) -> bool:
        """Announce a prefix while a claim on it is granted; return whether that has changed."""
        at = self._at[prefix]
        if not at:
            del self._at[prefix]
        announced = any(claim.announced for claim in at.values())
        if announced == (prefix in self._announced):
            return False
        if announced:
            self._announced[prefix] = Kind.SERVICE
        else:
            del self._announced[prefix]
        return True


def facts_of(node: Node | None, cni_cidrs: tuple[str, ...] = ()) -> Facts:
    """Return what the claims depend on of this node."""
    if node is None:
        return NO_FACTS
    pods = pod_cidrs(node, Faults("Node", node.name), cni=cni_cidrs)
    families = frozenset(next_hops(node, pods))
    return Facts(node.name, frozenset(each.address for each in node.addresses), families)
