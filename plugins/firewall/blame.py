"""Which objects caused each line of the table's text (pure).

A policy chain and the class chains that jump to it are the policy's; an element is the pods' that have its address.
"""

import re
from collections import defaultdict
from collections.abc import Iterator

from kube_router.core.view import Cause, ClusterView, Line, causes_of
from kube_router.events.model import NetworkPolicy, Pod
from kube_router.plugins.firewall.model import is_class_chain
from kube_router.plugins.firewall.render import lines as text_lines
from kube_router.plugins.firewall.wanted import Cluster

_element = re.compile(r"add element inet \S+ \S+ \{ (\S+)").match
_named = re.compile(r"\b([pc][ie]_[0-9a-f]+)\b").findall


def lines(cluster: Cluster, view: ClusterView) -> list[Line]:
    """Return the whole table as text that ``nft -f`` takes, with the causes of each line."""
    owners = {name: key for name, (_, key) in cluster.chain_owners().items()}
    classes = {
        name: _named(" ".join(chain.rules)) for name, chain in cluster.ruleset.chains.items() if is_class_chain(name)
    }
    pods: dict[str, list[str]] = defaultdict(list)
    for key, facts in cluster.population.pods.items():
        for ip in facts.ips:
            pods[ip].append(key)
    return list(_blamed(cluster, view, owners, classes, pods))


def _blamed(
    cluster: Cluster,
    view: ClusterView,
    owners: dict[str, str],
    classes: dict[str, list[str]],
    pods: dict[str, list[str]],
) -> Iterator[Line]:
    chain = ""
    for text in text_lines(cluster.ruleset):
        if text.startswith("    chain "):
            chain = text.split()[1]
        elif text == "    }":
            chain = ""
        because: tuple[Cause, ...] = ()
        if found := _element(text):
            keys = sorted(pods.get(found[1], ()))
            because = tuple(cause for key in keys for cause in causes_of(view, Pod, key))
        names = [*([chain] if chain else []), *_named(text)]
        policies = {owners[name] for each in names for name in (each, *classes.get(each, ())) if name in owners}
        because += tuple(cause for key in sorted(policies) for cause in causes_of(view, NetworkPolicy, key))
        yield Line(text, because)
