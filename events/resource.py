"""The catalogue: which Kubernetes resources there are, where the API serves them and how they become our models.

A ``Resource`` ties the journal's short name (``services``) to the API's path, the model and the normalizer. The six
built-in ones are in events/normalize.py (``BUILTIN``); third parties add theirs through the hook
``kube_router_resources``.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from msgspec import Raw

from kube_router.events.errors import ObjectError, Problem
from kube_router.events.event import ObjectDecoder, object_decoder
from kube_router.events.model import Object


@dataclass(frozen=True, slots=True)
class Normalized:
    """What became of one API object.

    ``problems`` name what had to be left out; ``obj`` is what is left. ``trigger_ms`` is the slice's
    last-change-trigger-time in Unix milliseconds, 0 without one.
    """

    obj: Object
    rv: str
    trigger_ms: int = 0
    problems: tuple[Problem, ...] = ()


Redact = Callable[[str], str]


@dataclass(frozen=True)
class Resource:
    """One kind of object.

    ``name`` is the API's plural and the journal's ``r``; ``api`` such as ``/apis/discovery.k8s.io/v1``; ``selectors``
    are query parameters (labelSelector, fieldSelector) sent with LIST and WATCH. ``normalize`` takes one object as the
    API's JSON and the redactor of secrets, and raises ObjectError for what cannot be used at all.

    A ``local`` kind is watched nowhere: a plugin publishes its objects, what the node found out by itself, and they
    are journaled and planned from like all others.
    """

    name: str
    api: str
    kind: str
    model: type[Object]
    normalize: Callable[[bytes | Raw, Redact], Normalized]
    selectors: Mapping[str, str] = field(default_factory=dict)
    namespaced: bool = True
    local: bool = False

    @property
    def api_version(self) -> str:
        """``v1`` or ``group/version``, as manifests write it."""
        return self.api.removeprefix("/apis/").removeprefix("/api/")


def local_kind(name: str, model: type[Object]) -> Resource:
    """Return the resource of what a node finds out by itself."""

    def normalize(raw: bytes | Raw, redact: Redact) -> Normalized:
        raise ObjectError(model.__name__, "?", "is no Kubernetes object: the node itself finds it out")

    return Resource(name, "", model.__name__, model, normalize, namespaced=False, local=True)


class Catalogue:
    """Resources by name and by model. Iteration is in order of registration."""

    def __init__(self, resources: Iterable[Resource] = ()) -> None:
        self._by_name: dict[str, Resource] = {}
        self._by_model: dict[type[Object], Resource] = {}
        self.decoders: dict[str, ObjectDecoder] = {}
        for resource in resources:
            self.add(resource)

    def add(self, resource: Resource) -> None:
        """Add a resource. ValueError if its name or model is taken."""
        if resource.name in self._by_name or resource.model in self._by_model:
            raise ValueError(
                f"resource {resource.name}: its name or model {resource.model.__name__} is registered already"
            )
        self._by_name[resource.name] = resource
        self._by_model[resource.model] = resource
        self.decoders[resource.name] = object_decoder(resource.model)

    def __iter__(self) -> Iterator[Resource]:
        return iter(self._by_name.values())

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    @property
    def watched(self) -> tuple[Resource, ...]:
        """Those that a source delivers."""
        return tuple(resource for resource in self if not resource.local)

    def by_name(self, name: str) -> Resource:
        """KeyError for a name nobody registered."""
        return self._by_name[name]

    def by_model(self, model: type[Object]) -> Resource:
        """KeyError for a model nobody registered."""
        return self._by_model[model]
