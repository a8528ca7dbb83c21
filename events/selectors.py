"""Say whether an object's JSON is selected by a resource's field and label selectors, as the API server would (pure).

The API server filters what it sends; a folder does not, so the source asks here. What is no selector selects all.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

_terms = re.compile(r"[^,()]+(?:\([^()]*\))?").findall
_compared = re.compile(r"([^=!\s]+)\s*(==?|!=)\s*(.*)").fullmatch
_in_set = re.compile(r"(\S+)\s+(in|notin)\s*\(([^()]*)\)").fullmatch


def selects(selectors: Mapping[str, str], obj: Mapping[str, Any]) -> bool:
    """Tell whether all of them select the object. Keys are the API's: fieldSelector, labelSelector."""
    labels = _at(obj, ("metadata", "labels"))
    by_label = labels if isinstance(labels, Mapping) else {}
    return _all(selectors.get("fieldSelector", ""), lambda path: _field(obj, path)) and _all(
        selectors.get("labelSelector", ""), by_label.get
    )


def _all(selector: str, value_of: Callable[[str], Any]) -> bool:
    return all(_holds(term.strip(), value_of) for term in _terms(selector))


def _holds(term: str, value_of: Callable[[str], Any]) -> bool:
    if found := _in_set(term):
        name, operator, words = found.groups()
        return (value_of(name) in [word.strip() for word in words.split(",")]) == (operator == "in")
    if found := _compared(term):
        name, operator, wanted = found.groups()
        is_wanted: bool = value_of(name) == wanted
        return is_wanted == (operator != "!=")
    if term.startswith("!"):
        return value_of(term[1:].strip()) is None
    return not term or value_of(term) is not None


def _field(obj: Mapping[str, Any], path: str) -> Any:
    """Return the field's value; absent is the empty text, as for the API server."""
    value = _at(obj, path.split("."))
    return "" if value is None else value


def _at(obj: Any, path: tuple[str, ...] | list[str]) -> Any:
    for name in path:
        if not isinstance(obj, Mapping):
            return None
        obj = obj.get(name)
    return obj
