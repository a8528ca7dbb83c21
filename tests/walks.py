"""Walks from cluster to cluster by small changes: an object goes, comes, or differs in one part while others stay."""

from collections.abc import Mapping
from random import Random

from msgspec.structs import replace
from policies import Pick, cluster, namespace, node, pod, policy, seeds
from strategies import World, by_key

from kube_router.events.model import Namespace, NetworkPolicy, Node, Object, Pod

PARTS: Mapping[type[Object], tuple[str, ...]] = {
    Node: ("addresses", "pod_cidrs"),
    Namespace: ("labels",),
    Pod: ("labels", "ips", "phase", "terminating", "ports", "node_name"),
    NetworkPolicy: ("pod_selector", "policy_types", "ingress", "egress"),
}
OFTEN = {"nodes": 1, "namespaces": 2, "pods": 3, "networkpolicies": 6}  # a node that changes changes everything


def fresh(pick: Pick, old: Object) -> Object:
    """Return another object of the same kind and name."""
    made: Object
    if isinstance(old, Node):
        made = node(pick, old.name)
    elif isinstance(old, Namespace):
        made = namespace(pick)
    else:
        made = pod(pick, old.name) if isinstance(old, Pod) else policy(pick)
    return replace(made, namespace=old.namespace, name=old.name)


def changed(pick: Pick, world: World) -> World:
    """Return a world of which some objects are gone, or new, or differ in one part."""
    then = dict(world)
    refs = [ref for ref in sorted(world) for _ in range(OFTEN[ref[0]])]
    for ref in [pick(refs) for _ in range(pick((1, 1, 2, 3))) if refs]:
        old, how = world[ref], pick(("part", "part", "new", "turned", "gone"))
        if how == "gone":
            then.pop(ref, None)
            continue
        if how == "turned" and isinstance(old, NetworkPolicy):
            then[ref] = replace(old, ingress=old.ingress[::-1], egress=old.egress[::-1])
            continue
        new = fresh(pick, old)
        part = pick(PARTS[type(old)])
        then[ref] = replace(old, **{part: getattr(new, part)}) if how == "part" else new
    more = pick((None, None, pod, policy))
    added = pod(pick, pick(("g", "h"))) if more is pod else policy(pick) if more is policy else None
    return {**by_key([added] if added is not None else []), **then}


def walk(pick: Pick) -> list[World]:
    """Return clusters of which each is the one before with a few changes."""
    worlds = [cluster(pick)]
    for _ in range(pick((1, 2, 4, 8))):
        worlds.append(changed(pick, worlds[-1]))
    return worlds


random_walks = seeds.map(lambda seed: walk(Random(seed).choice))
