"""What changed in an object between two of its versions, in words (pure).

Lists whose items have an identity (ports by name, endpoints by address, labels by key) are compared item by item,
everything else field by field. Any Struct will do, so that third parties' kinds are told like ours.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache

import msgspec
from msgspec import Raw, Struct

from kube_router.cli.words import condition, value
from kube_router.events.model import Endpoint, EndpointPort, Object, ServicePort

ITEMS_MAX = 6  # changes told of one list; more are counted

UNTOLD = frozenset({"name", "namespace", "uid"})
UNTOLD_WHEN_NEW = UNTOLD | {"created", "type"}  # the type is told first, without a label
LABELS: Mapping[str, str] = {
    "cluster_ips": "cluster IPs",
    "external_ips": "external IPs",
    "load_balancer_ips": "load-balancer IPs",
    "ip_families": "IP families",
    "pod_cidrs": "pod CIDRs",
    "ips": "IPs",
    "session_affinity_timeout_s": "session affinity (seconds)",
}


def changes(before: Object | Raw | None, after: Object | Raw | None) -> tuple[str, ...]:
    """Return what changed, in words. ``None`` is: not there."""
    if after is None:
        return ("removed",)
    if isinstance(after, Raw) or isinstance(before, Raw):
        return ("of a kind this version does not know: kept as it is",)
    if before is None or type(before) is not type(after):
        return ("added", *_news(after))
    told = [] if before.uid == after.uid else ["is another object of the same name"]
    for field in type(after).__struct_fields__:
        old, new = getattr(before, field), getattr(after, field)
        if field not in UNTOLD and old != new:
            told += _field_changes(field, old, new)
    return tuple(told) or ("nothing that matters here",)


def _news(new: Object) -> list[str]:
    """Return what a new object says, without what is as by default."""
    told = []
    for field, default in _told_when_new(type(new)):
        said = getattr(new, field)
        if said and said != default:
            told.append(f"{_label(field)}: {_listed(said)}")
    if hasattr(new, "type"):
        told.insert(0, value(new.type))
    return told


@cache
def _told_when_new(kind: type[Object]) -> tuple[tuple[str, object], ...]:
    """Return the fields, with their defaults, that a new object is told by."""
    fields = msgspec.structs.fields(kind)
    return tuple((field.name, field.default) for field in fields if field.name not in UNTOLD_WHEN_NEW)


def _listed(said: object) -> str:
    if isinstance(said, tuple) and len(said) > ITEMS_MAX:
        return f"{value(said[:ITEMS_MAX])} and {len(said) - ITEMS_MAX} more"
    return value(said)


def _label(field: str) -> str:
    return LABELS.get(field, field.replace("_", " "))


def _field_changes(field: str, old: object, new: object) -> list[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return _limited(_items(_singular(field), dict(old), dict(new), _mapping_change), _label(field))
    if _all_are(old, new, Endpoint):
        return _limited(_items("endpoint", _by_address(old), _by_address(new), _endpoint_change), "endpoints")
    if _all_are(old, new, ServicePort) or _all_are(old, new, EndpointPort):
        return _limited(_items("port", _by_name(old), _by_name(new), _port_change), "ports")
    if isinstance(old, tuple) and isinstance(new, tuple) and _are_parts(old + new):
        return _limited(_rules(_singular(field), old, new), _label(field))
    if _listed(old) == _listed(new):  # None and "" differ where the API tells absent from empty
        return [f"{_label(field)}: {old!r} → {new!r}"]
    return [f"{_label(field)}: {_listed(old)} → {_listed(new)}"]


def _all_are(old: object, new: object, kind: type[Struct]) -> bool:
    both = (*old, *new) if isinstance(old, tuple) and isinstance(new, tuple) else ()
    return bool(both) and all(isinstance(each, kind) for each in both)


def _are_parts(items: Sequence[object]) -> bool:
    return bool(items) and all(isinstance(each, Struct) for each in items)


def _singular(field: str) -> str:
    label = _label(field)
    return (
        f"{label} rule"
        if field in ("ingress", "egress")
        else label.removesuffix("es" if label.endswith("sses") else "s")
    )


def _limited(told: list[str], label: str) -> list[str]:
    if not told:
        return [f"{label}: reordered"]
    if len(told) <= ITEMS_MAX:
        return told
    return [*told[:ITEMS_MAX], f"and {len(told) - ITEMS_MAX} more changes of {label}"]


Change = Callable[[str, object, object], str]


def _items(word: str, old: Mapping[str, object], new: Mapping[str, object], change: Change) -> list[str]:
    """Return the changes of items by identity: gone, come, changed."""
    told = [f"{word} {change(key, old[key], None)}" for key in old if key not in new]
    told += [f"{word} {change(key, None, new[key])}" for key in new if key not in old]
    told += [f"{word} {change(key, old[key], new[key])}" for key in new if key in old and old[key] != new[key]]
    return told


def _rules(word: str, old: tuple[object, ...], new: tuple[object, ...]) -> list[str]:
    """Return the changes of items that have no identity: what is in one and not in the other."""
    told = [f"{word} removed: {value(each)}" for each in old if each not in new]
    return told + [f"{word} added: {value(each)}" for each in new if each not in old]


def _mapping_change(key: str, old: object, new: object) -> str:
    if new is None:
        return f"{key} removed"
    return f"{key}={new} added" if old is None else f"{key}: {value(old)} → {value(new)}"


def _port_change(key: str, old: object, new: object) -> str:
    if new is None:
        return f"{value(old)} removed"
    return f"{value(new)} added" if old is None else f"{value(old)} → {value(new)}"


def _endpoint_change(key: str, old: object, new: object) -> str:
    if not isinstance(new, Endpoint):
        return f"{key} removed"
    if not isinstance(old, Endpoint):
        return f"{value(new)} added"
    if condition(old) != condition(new):
        return f"{key}: {condition(old)} → {condition(new)}"
    told = [
        f"{_label(field)} {value(getattr(old, field))} → {value(getattr(new, field))}"
        for field in Endpoint.__struct_fields__
        if getattr(old, field) != getattr(new, field)
    ]
    return f"{key}: {', '.join(told)}"


def _by_address(endpoints: object) -> dict[str, object]:
    return {",".join(each.addresses): each for each in _tuple(endpoints) if isinstance(each, Endpoint)}


def _by_name(ports: object) -> dict[str, object]:
    named: Iterable[object] = _tuple(ports)
    return {f"{each.name}/{each.protocol}": each for each in named if isinstance(each, (ServicePort, EndpointPort))}


def _tuple(items: object) -> tuple[object, ...]:
    return items if isinstance(items, tuple) else ()
