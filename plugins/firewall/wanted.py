"""What the table should hold for the pods of this node, kept up incrementally (pure).

A policy is *active* while it selects a pod of this node: only then are its chains and sets there, so a node's table
grows with what runs on it, not with the cluster. A pod that no active policy selects is in no map; any other is sent,
in each direction some of them are for, to the chain of its class (classes.py).

Everything depends on the state alone, never on the way to it. ``stale`` says that something came up on which all rules
depend (the node's addresses, a family that nobody had): then the cluster has to be taken in anew.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator

from kube_router.core.view import ClusterView, Dirty, Ref
from kube_router.events.errors import Problem
from kube_router.events.model import Namespace, NetworkPolicy, Node, Object, Pod
from kube_router.plugins.firewall.classes import Classes
from kube_router.plugins.firewall.compile import Compiled, FixedSet, compile_policy
from kube_router.plugins.firewall.fixed import Settings, fixed_ruleset
from kube_router.plugins.firewall.members import Members, Population
from kube_router.plugins.firewall.model import (
    DIRECTIONS,
    FAMILIES,
    Direction,
    Family,
    family_of,
    map_name,
)
from kube_router.plugins.firewall.pods import PodFacts, facts_of
from kube_router.plugins.firewall.terms import SelectorIndex, terms_of
from kube_router.plugins.firewall.validity import faults_of

RESOURCES: dict[str, type[Object]] = {
    "nodes": Node,
    "namespaces": Namespace,
    "pods": Pod,
    "networkpolicies": NetworkPolicy,
}
FAILS_CLOSED = "the policy admits nothing to or from the pods it selects until this is mended"


class Cluster:
    """What follows from the state for this node. ``update`` and ``take`` are the only ways to change it."""

    def __init__(
        self, node: str, *, default_deny: bool = False, judge_icmp: bool = False, strict: bool = False
    ) -> None:
        self.node, self.default_deny, self.judge_icmp, self.strict = node, default_deny, judge_icmp, strict
        self._begin(None, frozenset())

    @property
    def stale(self) -> bool:
        """Whether something has changed on which all rules depend."""
        return self._in_play() != self.settings.families or _pod_cidrs(self._node) != self.settings.pod_cidrs

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Return what is wrong with policies, with pods that claim one address, and with the default deny."""
        found = [
            Problem("NetworkPolicy", key, f"{fault}; {FAILS_CLOSED}")
            for key, faults in sorted(self._faults.items())
            for fault in faults
        ]
        found += self._contested()
        if self.default_deny and not self.settings.pod_cidrs:
            text = "has no podCIDRs, so that --netpol-default-deny knows no addresses to deny"
            found.append(Problem("Node", self.node, text))
        return tuple(found)

    @property
    def faulty(self) -> int:
        """How many policies fail closed."""
        return len(self._faults)

    @property
    def local_addresses(self) -> Collection[str]:
        """The addresses of this node's actionable pods."""
        return self._claims.keys()

    def policies_of(self, address: str, direction: Direction) -> list[str]:
        """Return the policies that isolate a local pod's address in a direction, sorted."""
        pod = self._holder(address)
        policies = self._policies_of.get(pod or "", frozenset())
        return sorted(key for key in policies if direction in self._compiled[key].names)

    def chain_owners(self) -> dict[str, tuple[Direction, str]]:
        """Return the direction and the policy of each policy chain."""
        return {name: (direction, key) for key, its in self._compiled.items() for direction, name in its.names.items()}

    def update(self, view: ClusterView, dirty: Dirty) -> None:
        """Take in all that is dirty, everything where that is needed."""
        if not dirty.everything:
            self.take(view, dirty.refs)
        if dirty.everything or self.stale:
            self.begin(view)
            self.take(view, all_refs(view))
            assert not self.stale, "the view says something else when it is asked twice"

    def begin(self, view: ClusterView) -> None:
        """Forget everything and look at what all rules depend on; ``all_refs`` is to be taken in next."""
        pods = (facts_of(pod, self.node) for pod in view.each(Pod))
        families = {family_of(ip) for facts in pods if facts is not None and facts.local for ip in facts.ips}
        self._begin(view.get(Node, self.node), frozenset(families))

    def take(self, view: ClusterView, refs: Iterable[Ref]) -> None:
        """Take in some objects as they are now."""
        for resource, key in refs:
            if resource == "pods":
                self._pod(key, facts_of(view.get(Pod, key), self.node))
            elif resource == "namespaces":
                self._namespace(key, view.get(Namespace, key))
            elif resource == "networkpolicies":
                self._policy(key, view.get(NetworkPolicy, key))
            elif resource == "nodes" and key == self.node:
                self._node = view.get(Node, key)
        self._settle()

    def _begin(self, node: Node | None, pod_families: frozenset[Family]) -> None:
        self._node = node
        self._pod_families: Counter[Family] = Counter()  # of the addresses of local pods
        families = _families(node) | pod_families
        in_play = tuple(family for family in FAMILIES if family in families)
        self.settings = Settings(in_play, _pod_cidrs(node), self.default_deny, self.judge_icmp, self.strict)
        self.ruleset = fixed_ruleset(self.settings)
        self.population = Population()
        self._members, self._classes = Members(self.ruleset, self.population), Classes(self.ruleset)
        self._policies: dict[str, NetworkPolicy] = {}
        self._faults: dict[str, tuple[str, ...]] = {}
        self._selectors: dict[str, SelectorIndex[str]] = {}  # policies by namespace, by their podSelector
        self._compiled: dict[str, Compiled] = {}  # the active ones
        self._fixed_uses: Counter[str] = Counter()
        self._selected: dict[str, set[str]] = {}  # active policy → local pods
        self._policies_of: dict[str, frozenset[str]] = {}  # local pod → policies
        self._claims: dict[str, dict[str, None]] = {}  # address → local pods that have it
        self._unsettled: set[str] = set()  # addresses whose verdicts have to be found anew

    def _in_play(self) -> tuple[Family, ...]:
        families = _families(self._node) | {family for family, count in self._pod_families.items() if count}
        return tuple(family for family in FAMILIES if family in families)

    # -- objects -------------------------------------------------------------------------------------------------------

    def _pod(self, key: str, facts: PodFacts | None) -> None:
        old = self.population.pods.get(key)
        if old == facts:
            return
        if old is not None:
            self._members.pod_went(old)
            self.population.remove(key)
        if facts is not None:
            self.population.put(key, facts)
            self._members.pod_came(facts)
        self._claim(key, old, facts)
        index = self._selectors.get(facts.namespace) if facts is not None and facts.local else None
        self._select(key, frozenset(index.selecting(facts.labels)) if index and facts is not None else frozenset())

    def _claim(self, key: str, old: PodFacts | None, new: PodFacts | None) -> None:
        """Note which local pod has which addresses."""
        for ip in old.ips if old is not None and old.local else ():
            self._unsettled.add(ip)
            self._pod_families[family_of(ip)] -= 1
            del self._claims[ip][key]
            if not self._claims[ip]:
                del self._claims[ip]
        for ip in new.ips if new is not None and new.local else ():
            self._unsettled.add(ip)
            self._pod_families[family_of(ip)] += 1
            self._claims.setdefault(ip, {})[key] = None

    def _namespace(self, name: str, namespace: Namespace | None) -> None:
        labels = namespace.labels if namespace is not None else None
        if self.population.namespaces.get(name) == labels:
            return
        pods = [facts for facts in map(self.population.pods.get, self.population.in_namespace(name, ())) if facts]
        for facts in pods:
            self._members.pod_went(facts)
        if labels is None:
            del self.population.namespaces[name]
        else:
            self.population.namespaces[name] = labels
        for facts in pods:
            self._members.pod_came(facts)

    def _policy(self, key: str, policy: NetworkPolicy | None) -> None:
        old = self._policies.pop(key, None)
        if old is not None:
            index = self._selectors[old.namespace]
            index.remove(key)
            if not len(index):
                del self._selectors[old.namespace]
            self._faults.pop(key, None)
        if policy is not None:
            self._policies[key] = policy
            self._selectors.setdefault(policy.namespace, SelectorIndex()).add(key, terms_of(policy.pod_selector))
            if faults := faults_of(policy):
                self._faults[key] = faults
        before = self._selected.get(key, set())
        selected = self._local_pods(policy)
        replaced = self._activate(key, policy if selected else None)
        for pod in before - selected:
            self._select(pod, self._policies_of[pod] - {key})
        for pod in selected - before:
            self._select(pod, self._policies_of.get(pod, frozenset()) | {key})
        for pod in selected & before:
            self._unsettled.update(self.population.pods[pod].ips)
        self._retire(key, replaced)

    def _local_pods(self, policy: NetworkPolicy | None) -> set[str]:
        if policy is None:
            return set()
        pods = self.population.in_namespace(policy.namespace, terms_of(policy.pod_selector))
        return {pod for pod in pods if self.population.pods[pod].local}

    # -- which policies are active, for whom ---------------------------------------------------------------------------

    def _select(self, pod: str, policies: frozenset[str]) -> None:
        """Let exactly these policies select a local pod."""
        before = self._policies_of.get(pod, frozenset())
        for key in policies - before:
            if key not in self._compiled:
                self._activate(key, self._policies[key])
            self._selected.setdefault(key, set()).add(pod)
        for key in before - policies:
            pods = self._selected[key]
            pods.discard(pod)
            if not pods:
                del self._selected[key]
                self._retire(key, self._activate(key, None))
        if policies:
            self._policies_of[pod] = policies
        else:
            self._policies_of.pop(pod, None)
        facts = self.population.pods.get(pod)
        if policies != before and facts is not None:
            self._unsettled.update(facts.ips)

    def _activate(self, key: str, policy: NetworkPolicy | None) -> Compiled | None:
        """Compile a policy and bring its sets and chains into being; return what it was compiled to before."""
        old = self._compiled.pop(key, None)
        if policy is None:
            return old
        new = self._compiled[key] = compile_policy(policy, self.settings.families, faulty=key in self._faults)
        for name, (peer, family) in (new.uses.peers | new.uses.named).items():
            self._members.use(name, peer, family)
        for name, fixed in new.uses.fixed.items():
            self._use_fixed(name, fixed)
        for name, chain in new.chains.items():
            if name not in self.ruleset.chains:
                self.ruleset.add_chain(name, chain)
        return old

    def _retire(self, key: str, old: Compiled | None) -> None:
        """Let go of what a policy was compiled to; a chain that is its chain still stays."""
        if old is None:
            return
        now = self._compiled.get(key)
        for name in old.chains:
            if now is None or name not in now.chains:
                self.ruleset.drop_chain(name)
        for name in old.uses.peers | old.uses.named:
            self._members.release(name)
        for name in old.uses.fixed:
            self._fixed_uses[name] -= 1
            if not self._fixed_uses[name]:
                del self._fixed_uses[name]
                self.ruleset.drop_set(name)

    def _use_fixed(self, name: str, fixed: FixedSet) -> None:
        if not self._fixed_uses[name]:
            self.ruleset.add_set(name, *fixed)
        self._fixed_uses[name] += 1

    # -- verdicts ------------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Find the verdicts of all addresses that something has changed for."""
        for ip in self._unsettled:
            family = family_of(ip)
            known = ip in self._claims
            self._hold(f"known{family}", ip, wanted=known)
            policies = self._policies_of.get(self._holder(ip) or "", frozenset())
            judged = False
            for direction in DIRECTIONS:
                verdict = self._classes.verdict(direction, self._chains(direction, policies))
                self._classes.send(map_name(direction, family), ip, verdict)
                judged |= bool(verdict)
            self._hold(f"self{family}", f"{ip} . {ip}", wanted=judged)
        self._unsettled.clear()

    def _holder(self, ip: str) -> str | None:
        """Return which of the pods that claim an address counts: one that is not terminating, then the first."""
        claims = self._claims.get(ip, {})
        return min(claims, key=lambda key: (self.population.pods[key].terminating, key), default=None)

    def _contested(self) -> Iterator[Problem]:
        for ip in sorted(ip for ip, claims in self._claims.items() if len(claims) > 1):
            claimants = sorted(key for key in self._claims[ip] if not self.population.pods[key].terminating)
            for key in claimants[1:]:
                text = f"has the address {ip}, which is Pod {claimants[0]}'s too; only that one's policies are enforced"
                yield Problem("Pod", key, text)

    def _hold(self, name: str, element: str, *, wanted: bool) -> None:
        if wanted and element not in self.ruleset.elements[name]:
            self.ruleset.add_element(name, element)
        elif not wanted and element in self.ruleset.elements[name]:
            self.ruleset.cut_element(name, element)

    def _chains(self, direction: Direction, policies: Iterable[str]) -> list[str]:
        """Return the chains of those policies that are for a direction."""
        compiled = (self._compiled[key] for key in policies)
        return [each.names[direction] for each in compiled if direction in each.names]


def all_refs(view: ClusterView) -> list[Ref]:
    """Return everything there is, in the order in which taking it in costs least: policies last."""
    return [Ref(resource, obj.key) for resource, model in RESOURCES.items() for obj in view.each(model)]


def _families(node: Node | None) -> set[Family]:
    if node is None:
        return set()
    return {family_of(text) for text in (*node.pod_cidrs, *(each.address for each in node.addresses))}


def _pod_cidrs(node: Node | None) -> tuple[str, ...]:
    return node.pod_cidrs if node is not None else ()
