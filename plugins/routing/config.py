"""What this node's BGP speaker is to be: a function of Nodes, Services, EndpointSlices and options (pure)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from kube_router.core.view import ClusterView
from kube_router.events.errors import Problem
from kube_router.plugins.routing.announce import AnnounceTable
from kube_router.plugins.routing.bgp.model import Prefix, SpeakerConfig
from kube_router.plugins.routing.options import RoutingOptions

Secret = Callable[[str], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Configured:
    """``config`` None: this node cannot speak (yet); ``problems`` say why.

    ``waiting`` are the addresses of peers left out because their password is not known. ``pod_why`` says of each own
    pod CIDR where it is from.
    """

    config: SpeakerConfig | None
    problems: tuple[Problem, ...] = ()
    waiting: tuple[str, ...] = ()
    pod_why: Mapping[Prefix, str] = field(default_factory=dict)


def speaker_config(
    view: ClusterView,
    options: RoutingOptions,
    node: str,
    secret: Secret,
    *,
    announced: AnnounceTable | None = None,
    cni_cidrs: tuple[str, ...] = (),
) -> Configured:
    """Return the whole configuration.

    ``announced`` is a table that is up to date with the view; without one it is made anew. ``cni_cidrs`` are those of
    the CNI configuration, for a node that has no others.
    """
    raise NotImplementedError
