"""What plugin authors program against. Everything here is stable; docs/plugins.md is the guide.

A plugin is found through an entry point of the group ``kube_router.plugins`` and built by its
``kube_router_plugin(context)`` hook. Building does no I/O and needs no root. From then on the runner calls
``reconcile`` whenever something the plugin ``needs`` has changed, never twice at once, and always with the whole
state at hand: a plugin acts on what *is*, not on what happened.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import pluggy
from prometheus_client import CollectorRegistry

from kube_router.core.options import Option, Options
from kube_router.core.view import Cause, ClusterView, Dirty, Line, Ref, Stored
from kube_router.events.errors import ConfigError, KernelError, ObjectError, Problem
from kube_router.events.model import Object
from kube_router.events.resource import Normalized, Resource, local_kind

__all__ = [
    "Cause",
    "ClusterView",
    "ConfigError",
    "Context",
    "Dirty",
    "KernelError",
    "Line",
    "Normalized",
    "ObjectError",
    "Option",
    "Options",
    "Plugin",
    "Problem",
    "Receipt",
    "Ref",
    "Resource",
    "Stored",
    "hookimpl",
    "local_kind",
]

PROJECT = "kube_router"
hookimpl = pluggy.HookimplMarker(PROJECT)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What one reconcile did.

    ``changes`` counts kernel writes by what they were; ``problems`` are *all* that stand now. ``failed`` says in words
    what the kernel refused: the rest was done, and the plugin is called again after a back-off with everything dirty.
    """

    changes: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    failed: str = ""


class Publish(Protocol):
    """See ``Context.publish``."""

    def __call__(
        self, model: type[Object], objects: Iterable[Object] = (), gone: Iterable[str] = (), *, journaled: bool = True
    ) -> None: ...


def _published_nowhere(
    model: type[Object], objects: Iterable[Object] = (), gone: Iterable[str] = (), *, journaled: bool = True
) -> None:
    return None


@dataclass(frozen=True)
class Context:
    """What the agent gives a plugin.

    ``run`` runs a blocking call in the plugin's own worker thread and returns its result; a call that hangs costs the
    plugin its thread, not the agent its loop. ``fenced`` tells code in such a thread that it was given up: a long loop
    of kernel writes asks before each batch. ``secret`` returns the plaintext of a redacted value while it is known.
    ``note`` writes a line about the plugin into the journal: something it saw that explains the node later.

    ``publish(model, objects, gone=())`` adds, replaces and removes (by key) objects of a local kind that the plugin
    brings (``Resource(local=True)``): what it found out by itself and plans from. It is journaled, makes dirty, and is
    seen in the view like everything else; ``journaled=False`` is for tables too large for a journal: from then on the
    kind stays out of it.
    ``confirm(model)`` says once that the list is whole: until then the view is not ``in_sync``.

    Offline (``kr replay``) ``run`` and ``secret`` are not to be called; ``note``, ``publish`` and ``confirm`` do
    nothing.
    """

    node: str
    options: Options
    metrics: CollectorRegistry
    run: Callable[..., Awaitable[Any]]
    fenced: Callable[[], bool] = lambda: False
    secret: Callable[[str], str | None] = lambda digest: None
    note: Callable[[str], None] = lambda text: None
    publish: Publish = _published_nowhere
    confirm: Callable[[type[Object]], None] = lambda model: None


@runtime_checkable
class Plugin(Protocol):
    """The runtime contract.

    More attributes are looked for and may be missing:

    ``resync_s``                seconds after which everything is compared again although nothing happened; 300
    ``debounce_s``              how long nothing may happen before a reconcile begins; 0.05
    ``deadline_s``              how long a reconcile may take before it is given up; 60
    ``capabilities()``          which Linux capabilities the process needs: their names (``NET_ADMIN``), and why. Asked
                                once, before anything is done; without one of them the agent does not start
    ``async watch(changed)``    runs beside and calls ``changed()`` when somebody else changes what is ours
    ``ready()``                 whether ``/readyz`` may be 200, once what the API server confirmed has been reconciled
    ``status()``                a mapping of words to words that ``kr status`` shows besides
    ``answer(question)``        answers a local client's question, a mapping, with what can be JSON; ValueError for one
                                that makes no sense
    ``explain(view, question)`` the same from a view of all kinds and nothing else: pure, so that it answers offline too
    """

    name: str
    needs: frozenset[type[Object]]

    async def reconcile(self, view: ClusterView, dirty: Dirty) -> Receipt:
        """Make the kernel hold what ``view`` wants.

        Raise to be called again, with everything dirty, after a back-off.
        """
        ...

    async def cleanup(self) -> None:
        """Remove from the kernel all that is ours and only that (``kr cleanup``)."""
        ...

    def render(self, view: ClusterView) -> Iterable[Line]:
        """Return what the kernel would hold: pure, offline, without root (``kr replay --plan``)."""
        ...
