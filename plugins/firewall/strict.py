"""How ``--netpol-strict`` judges established flows: by the reference evaluator, at its own end only (pure).

A node ends what its own pods' policies deny; what the other end's deny, its node ends. The judge looks at a snapshot,
since it works in the plugin's thread while the loop goes on changing the state.
"""

from collections.abc import Iterable, Mapping
from typing import Any, cast

from kube_router.core.view import ClusterView, T
from kube_router.events.model import Namespace, NetworkPolicy, Node, Object, Pod
from kube_router.plugins.firewall.evaluate import Settings, evaluate
from kube_router.plugins.firewall.flows import Judge, Question
from kube_router.plugins.firewall.world import World

MODELS: tuple[type[Object], ...] = (Pod, Namespace, NetworkPolicy, Node)


class Snapshot:
    """A view's objects at one moment."""

    def __init__(self, view: ClusterView) -> None:
        self._objects: Mapping[type, Mapping[str, Any]] = {
            model: {obj.key: obj for obj in view.each(model)} for model in MODELS
        }

    def get(self, model: type[T], key: str) -> T | None:
        """Return one object."""
        return cast("T | None", self._objects[model].get(key))

    def each(self, model: type[T]) -> Iterable[T]:
        """Return all objects of a kind."""
        return self._objects[model].values()


def judge_of(view: ClusterView, settings: Settings) -> Judge:
    """Return who says of a flow whether this node's pods may go on with it."""
    world = World(Snapshot(view))

    def judge(question: Question) -> bool:
        source, destination = world.party(question.source), world.party(question.destination)
        verdict = evaluate(world, source, destination, question.port, question.protocol, settings)
        egress = verdict.egress.allowed or not question.source_is_local
        return egress and (verdict.ingress.allowed or not question.destination_is_local)

    return judge
