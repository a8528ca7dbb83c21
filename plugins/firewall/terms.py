"""Label selectors in one form, and two indexes: which selectors select these labels, which labels a selector (pure).

A selector is a sorted tuple of terms; ``matchLabels`` are terms with the operator In. What is equal in meaning is
mostly equal in this form, so that two policies with the same peers share one set in the kernel.
"""

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from typing import Generic, NamedTuple, TypeVar

from kube_router.events.model import Requirement, Selector

KNOWN_OPERATORS = frozenset({"In", "NotIn", "Exists", "DoesNotExist"})


class Term(NamedTuple):
    """One requirement. ``values`` are sorted, and empty for Exists and DoesNotExist."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


Terms = tuple[Term, ...]
K = TypeVar("K", bound=Hashable)


def terms_of(selector: Selector) -> Terms:
    """Return a selector's terms. A requirement that cannot be read is left out: without it more is selected."""
    terms = {Term(key, "In", (value,)) for key, value in selector.match_labels.items()}
    terms |= {_term(requirement) for requirement in selector.match_expressions if _is_readable(requirement)}
    return tuple(sorted(terms))


def _is_readable(requirement: Requirement) -> bool:
    needs_values = requirement.operator in ("In", "NotIn")
    return requirement.operator in KNOWN_OPERATORS and bool(requirement.values) == needs_values


def _term(requirement: Requirement) -> Term:
    return Term(requirement.key, requirement.operator, tuple(sorted(set(requirement.values))))


def selects(terms: Terms, labels: Mapping[str, str]) -> bool:
    """Say whether labels fulfil all terms: NotIn and DoesNotExist hold for a key that is absent."""
    for key, operator, values in terms:
        if operator == "In":
            if labels.get(key) not in values:
                return False
        elif operator == "NotIn":
            if labels.get(key) in values:
                return False
        elif (key in labels) != (operator == "Exists"):
            return False
    return True


def _anchor(terms: Terms) -> Term | None:
    """Return the term that something is looked up by: the one with the fewest values."""
    return min((term for term in terms if term.operator == "In"), key=lambda term: len(term.values), default=None)


class SelectorIndex(Generic[K]):
    """Selectors by id: which of them select these labels?"""

    def __init__(self) -> None:
        self._terms: dict[K, Terms] = {}
        self._anchored: dict[tuple[str, str], dict[K, None]] = {}
        self._others: dict[K, None] = {}

    def __len__(self) -> int:
        return len(self._terms)

    def add(self, id: K, terms: Terms) -> None:
        """Add a selector under an id that is not there."""
        self._terms[id] = terms
        anchor = _anchor(terms)
        if anchor is None:
            self._others[id] = None
            return
        for value in anchor.values:
            self._anchored.setdefault((anchor.key, value), {})[id] = None

    def remove(self, id: K) -> None:
        """Remove a selector that is there."""
        anchor = _anchor(self._terms.pop(id))
        if anchor is None:
            del self._others[id]
            return
        for value in anchor.values:
            ids = self._anchored[anchor.key, value]
            del ids[id]
            if not ids:
                del self._anchored[anchor.key, value]

    def selecting(self, labels: Mapping[str, str]) -> Iterator[K]:
        """Return the ids of the selectors that select these labels."""
        for id in self._others:
            if selects(self._terms[id], labels):
                yield id
        for item in labels.items():
            for id in self._anchored.get(item, ()):
                if selects(self._terms[id], labels):
                    yield id


class LabelIndex(Generic[K]):
    """Labels by id, in groups (namespaces): which ids of a group does a selector select?"""

    def __init__(self) -> None:
        self._labels: dict[str, dict[K, Mapping[str, str]]] = defaultdict(dict)
        self._having: dict[tuple[str, str, str], dict[K, None]] = {}

    def add(self, group: str, id: K, labels: Mapping[str, str]) -> None:
        """Add labels under an id that is not in the group."""
        self._labels[group][id] = labels
        for key, value in labels.items():
            self._having.setdefault((group, key, value), {})[id] = None

    def remove(self, group: str, id: K) -> None:
        """Remove what is in the group."""
        for key, value in self._labels[group].pop(id).items():
            ids = self._having[group, key, value]
            del ids[id]
            if not ids:
                del self._having[group, key, value]
        if not self._labels[group]:
            del self._labels[group]

    def selected(self, group: str, terms: Terms) -> Iterator[K]:
        """Return the ids of a group that are selected."""
        if group not in self._labels:
            return
        labels = self._labels[group]
        for id in self._candidates(group, terms, labels):
            if selects(terms, labels[id]):
                yield id

    def _candidates(self, group: str, terms: Terms, everything: Collection[K]) -> Iterable[K]:
        anchor = _anchor(terms)
        if anchor is None:
            return list(everything)
        return [id for value in anchor.values for id in self._having.get((group, anchor.key, value), ())]
