"""The paths to a prefix as a value that prefixes share (pure).

A peer announces thousands of prefixes with the same attributes, and its neighbours announce the same ones: whole runs
of prefixes have the same candidates, hence the same selection. So candidates are interned: the table holds a reference
for each prefix, and what is selected is decided once for all that share it, when somebody asks.

An interned value lives as long as a prefix refers to it.
"""

from bisect import insort
from collections.abc import Callable, Iterator
from weakref import WeakValueDictionary

from kube_router.plugins.routing.bgp.best import Candidate, Selection, select
from kube_router.plugins.routing.bgp.model import Path


def _place(candidate: Candidate) -> tuple[str, int]:
    return candidate.path.peer, candidate.path.path_id


class Candidates:
    """Paths with who told them, by peer and path id. ``barred`` says why only our own may be used, "" if all may."""

    __slots__ = ("__weakref__", "_selection", "barred", "ecmp_max", "held")

    def __init__(self, held: tuple[Candidate, ...], barred: str, ecmp_max: int) -> None:
        self.held = held
        self.barred = barred
        self.ecmp_max = ecmp_max
        self._selection: Selection | bool | None = False  # False: not asked yet

    @property
    def selection(self) -> Selection | None:
        """What is used. Whether a path is stale makes no difference to it, and is not shown in it."""
        if self._selection is False:
            fresh = [c if not c.path.stale else c._replace(path=c.path._replace(stale=False)) for c in self._usable()]
            self._selection = select(fresh, self.ecmp_max)
        assert not isinstance(self._selection, bool)
        return self._selection

    def _usable(self) -> tuple[Candidate, ...]:
        if not self.barred:
            return self.held
        return tuple(candidate for candidate in self.held if not candidate.path.peer)

    def paths(self) -> Iterator[Path]:
        """Yield the paths; those that may not be used say why."""
        for path, _ in self.held:
            yield path._replace(refused=self.barred) if self.barred and path.peer and not path.refused else path

    def count(self, peer: str) -> int:
        return sum(1 for candidate in self.held if candidate.path.peer == peer)


class Pool:
    """All candidates in use."""

    def __init__(self, ecmp_max: int) -> None:
        self.ecmp_max = ecmp_max
        self._known: WeakValueDictionary[tuple[tuple[Candidate, ...], str], Candidates] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._known)

    def of(self, held: tuple[Candidate, ...], barred: str) -> Candidates | None:
        """Return the one value with these candidates, ``None`` where there are none."""
        return self._one(held, barred) if held else None

    def _one(self, held: tuple[Candidate, ...], barred: str) -> Candidates:
        found = self._known.get((held, barred))
        if found is None:
            found = self._known[held, barred] = Candidates(held, barred, self.ecmp_max)
        return found

    def with_path(self, old: Candidates | None, new: Candidate, barred: str) -> Candidates:
        """Return the old candidates with a path in addition, or instead of that of the same peer and path id."""
        held = [] if old is None else [candidate for candidate in old.held if _place(candidate) != _place(new)]
        insort(held, new, key=_place)
        return self._one(tuple(held), barred)

    def without_path(self, old: Candidates, peer: str, path_id: int) -> Candidates | None:
        return self.of(tuple(c for c in old.held if _place(c) != (peer, path_id)), old.barred)

    def changed(self, old: Candidates, peer: str, change: Callable[[Candidate], Candidate | None]) -> Candidates | None:
        """Return the old candidates with those of a peer changed, or gone where ``change`` says ``None``."""
        held = [change(candidate) if candidate.path.peer == peer else candidate for candidate in old.held]
        return self.of(tuple(candidate for candidate in held if candidate is not None), old.barred)
