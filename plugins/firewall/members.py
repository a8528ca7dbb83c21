"""The sets whose elements are pods: who is in a peer set, and which number a named port has at each pod (pure).

Several pods may hold one address, for a while or by mistake, so each element is counted: it goes with the last pod
that brings it.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from kube_router.events.model import ContainerPort
from kube_router.plugins.firewall.compile import NamedKey, PeerKey
from kube_router.plugins.firewall.model import PORTS_KEY, Family, Ruleset, SetType, family_of
from kube_router.plugins.firewall.pods import PodFacts
from kube_router.plugins.firewall.terms import LabelIndex, SelectorIndex, Terms, selects


class Population:
    """All actionable pods of the cluster, and the labels of all namespaces."""

    def __init__(self) -> None:
        self.pods: dict[str, PodFacts] = {}
        self.namespaces: dict[str, Mapping[str, str]] = {}
        self._labels: LabelIndex[str] = LabelIndex()
        self._named: dict[tuple[str, str], dict[str, None]] = {}  # (port name, protocol) → pods

    def put(self, key: str, facts: PodFacts) -> None:
        """Add a pod that is not there."""
        self.pods[key] = facts
        self._labels.add(facts.namespace, key, facts.labels)
        for port in facts.ports:
            self._named.setdefault((port.name, port.protocol), {})[key] = None

    def remove(self, key: str) -> None:
        """Remove a pod that is there."""
        facts = self.pods.pop(key)
        self._labels.remove(facts.namespace, key)
        for port in facts.ports:
            pods = self._named.get((port.name, port.protocol), {})
            pods.pop(key, None)
            if not pods:
                self._named.pop((port.name, port.protocol), None)

    def at(self, address: str) -> str:
        """Return the first pod with an address, "" where none has it. Looks at every pod: for people's questions."""
        return min((key for key, facts in self.pods.items() if address in facts.ips), default="")

    def selected(self, peer: PeerKey) -> Iterable[str]:
        """Return the pods a peer selects."""
        for namespace in self.namespaces_of(peer):
            yield from self._labels.selected(namespace, peer.pods)

    def in_namespace(self, namespace: str, pods: Terms) -> Iterable[str]:
        """Return the pods of one namespace that are selected."""
        return self._labels.selected(namespace, pods)

    def namespaces_of(self, peer: PeerKey) -> Iterable[str]:
        """Return the namespaces a peer looks into. One whose labels nobody knows matches no selector."""
        if peer.namespace is not None:
            return (peer.namespace,)
        return [name for name, labels in self.namespaces.items() if selects(peer.namespaces, labels)]

    def having(self, key: NamedKey) -> Iterable[str]:
        """Return the pods that have a port of this name."""
        return self._named.get((key.name, key.protocol), ())


class _Use(NamedTuple):
    """A set in use, for how many policies."""

    key: PeerKey | NamedKey
    family: Family
    policies: int


class Members:
    """Keeps the elements of the sets that are in use."""

    def __init__(self, ruleset: Ruleset, population: Population) -> None:
        self._ruleset, self._population = ruleset, population
        self._uses: dict[str, _Use] = {}
        self._counts: dict[str, dict[str, int]] = {}
        self._by_namespace: dict[str, SelectorIndex[str]] = {}  # peer sets of one namespace's pods
        self._anywhere: SelectorIndex[str] = SelectorIndex()  # peer sets across namespaces, by their pods' terms
        self._named: dict[tuple[str, str], dict[str, None]] = {}  # (port name, protocol) → sets

    # -- sets come and go ----------------------------------------------------------------------------------------------

    def use(self, name: str, key: PeerKey | NamedKey, family: Family) -> None:
        """Note that one more policy uses a set; the first brings it into being, filled."""
        if name in self._uses:
            self._uses[name] = self._uses[name]._replace(policies=self._uses[name].policies + 1)
            return
        self._uses[name] = _Use(key, family, 1)
        self._counts[name] = {}
        if isinstance(key, PeerKey):
            self._ruleset.add_set(name, SetType(family.type))
            self._peer_index(key).add(name, key.pods)
            pods = self._population.selected(key)
        else:
            self._ruleset.add_set(name, SetType(f"{family.type} . {PORTS_KEY}"))
            self._named.setdefault((key.name, key.protocol), {})[name] = None
            pods = self._population.having(key)
        for pod in pods:
            self._put(name, self._population.pods[pod])

    def release(self, name: str) -> None:
        """Note that one policy less uses a set; it goes with the last."""
        key, _, policies = self._uses[name]
        if policies > 1:
            self._uses[name] = self._uses[name]._replace(policies=policies - 1)
            return
        if isinstance(key, PeerKey):
            index = self._peer_index(key)
            index.remove(name)
            if key.namespace is not None and not index:
                del self._by_namespace[key.namespace]
        else:
            sets = self._named[key.name, key.protocol]
            del sets[name]
            if not sets:
                del self._named[key.name, key.protocol]
        del self._uses[name], self._counts[name]
        self._ruleset.drop_set(name)

    def _peer_index(self, key: PeerKey) -> SelectorIndex[str]:
        if key.namespace is None:
            return self._anywhere
        return self._by_namespace.setdefault(key.namespace, SelectorIndex())

    # -- pods come and go ----------------------------------------------------------------------------------------------

    def pod_came(self, facts: PodFacts) -> None:
        """Put a pod into all sets it belongs to; its namespace's labels are those of the population."""
        for name in self._sets_of(facts):
            self._put(name, facts)

    def pod_went(self, facts: PodFacts) -> None:
        """Take a pod out of all sets it is in."""
        for name in self._sets_of(facts):
            self._cut(name, facts)

    def _sets_of(self, facts: PodFacts) -> list[str]:
        own = self._by_namespace.get(facts.namespace)
        found = list(own.selecting(facts.labels)) if own is not None else []
        labels = self._population.namespaces.get(facts.namespace)
        if labels is not None and len(self._anywhere):
            found += [
                name for name in self._anywhere.selecting(facts.labels) if selects(self._namespaces_of(name), labels)
            ]
        for port in dict.fromkeys((port.name, port.protocol) for port in facts.ports):
            found += self._named.get(port, ())
        return found

    def _namespaces_of(self, name: str) -> Terms:
        key = self._uses[name].key
        assert isinstance(key, PeerKey)
        return key.namespaces

    # -- elements ------------------------------------------------------------------------------------------------------

    def _put(self, name: str, facts: PodFacts) -> None:
        counts = self._counts[name]
        for element in self._elements(name, facts):
            if element not in counts:
                self._ruleset.add_element(name, element)
            counts[element] = counts.get(element, 0) + 1

    def _cut(self, name: str, facts: PodFacts) -> None:
        counts = self._counts[name]
        for element in self._elements(name, facts):
            counts[element] -= 1
            if not counts[element]:
                del counts[element]
                self._ruleset.cut_element(name, element)

    def _elements(self, name: str, facts: PodFacts) -> list[str]:
        """Return what a pod brings into a set, each once."""
        key, family, _ = self._uses[name]
        ips = [ip for ip in facts.ips if family_of(ip) is family]
        if isinstance(key, PeerKey):
            return ips
        if key.local and not facts.local:
            return []
        ports = dict.fromkeys(_number(port) for port in facts.ports if (port.name, port.protocol) == key[1:])
        return [f"{ip} . {port}" for ip in ips for port in ports]


def _number(port: ContainerPort) -> str:
    return f"{port.protocol.lower()} . {port.port}"
