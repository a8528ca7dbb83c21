"""Rulesets and edits as nft text (pure).

A chain refers to others by name, so what is referred to is written first: sets, what denies, policies, classes, what
dispatches, hooks. Within a kind the order is that of the names, which makes equal rulesets equal texts.
"""

from collections.abc import Iterable, Iterator, Mapping

from kube_router.plugins.firewall.model import STAMP, TABLE, Chain, Ruleset, SetType, is_class_chain, is_policy_chain
from kube_router.plugins.firewall.plan import Edit

_FIXED_FIRST = ("exempt", "deny_egress", "deny_ingress", "invalid_egress", "invalid_ingress")
STAMP_TYPE = SetType("inet_service")


def stamp_text(generation: int, digest: int) -> str:
    """Return the one element of the stamp: after which commit the table held what."""
    return f'1 comment "{generation} {digest:016x}"'


def write_table(ruleset: Ruleset, stamp: str = "") -> str:
    """Return the transaction that replaces the whole table, there or not."""
    elements = {name: sorted(found) for name, found in ruleset.elements.items() if found}
    verdicts = {name: _pairs(found) for name, found in ruleset.verdicts.items() if found}
    return "\n".join([*_frame(ruleset), *_stamped(stamp), *_changed({}, elements), *_changed({}, verdicts)]) + "\n"


def lines(ruleset: Ruleset) -> Iterator[str]:
    """Return the same for people to read and compare: each element of a set or map is a line of its own."""
    yield from _frame(ruleset)
    for name in sorted(ruleset.elements):
        yield from (element_line("add", name, [each]) for each in sorted(ruleset.elements[name]))
    for name in sorted(ruleset.verdicts):
        yield from (element_line("add", name, [each]) for each in _pairs(ruleset.verdicts[name]))


def _frame(ruleset: Ruleset) -> Iterator[str]:
    """Return everything but the elements."""
    yield from delete_table().splitlines()
    yield f"table inet {TABLE} {{"
    for counter in sorted(ruleset.counters):
        yield f"    counter {counter} {{ }}"
    yield from _set(STAMP, STAMP_TYPE)
    for name in sorted(ruleset.sets):
        yield from _set(name, ruleset.sets[name])
    for name in sorted(ruleset.verdicts):
        yield f"    map {name} {{ type {'ipv6_addr' if name.endswith('6') else 'ipv4_addr'} : verdict; }}"
    for name in sorted(ruleset.chains, key=lambda name: (_rank(name, ruleset.chains[name]), name)):
        yield from _chain(name, ruleset.chains[name])
    yield "}"


def write_edit(edit: Edit, stamp: str = "") -> str:
    """Return the transaction that makes an edit."""
    return "\n".join(_edit_lines(edit, stamp)) + "\n"


def delete_table() -> str:
    """Return the transaction that removes our table, there or not: nft knows ``destroy`` only since 1.0.8."""
    return f"add table inet {TABLE}\ndelete table inet {TABLE}"


def element_line(verb: str, name: str, elements: Iterable[str]) -> str:
    """Return the command that adds elements to a set or map, or deletes them."""
    return f"{verb} element inet {TABLE} {name} {{ {', '.join(elements)} }}"


def _rank(name: str, chain: Chain) -> int:
    """Return which chains come first: those that are referred to."""
    if chain.hook:
        return len(_FIXED_FIRST) + 3
    if name in _FIXED_FIRST:
        return _FIXED_FIRST.index(name)
    if is_policy_chain(name):
        return len(_FIXED_FIRST)
    return len(_FIXED_FIRST) + (1 if is_class_chain(name) else 2)


def _set(name: str, type: SetType) -> Iterator[str]:
    yield f"    set {name} {{ type {type.key};{' flags interval;' if type.interval else ''} }}"


def _chain(name: str, chain: Chain) -> Iterator[str]:
    yield f"    chain {name} {{"
    if chain.comment:
        yield f'        comment "{chain.comment}"'
    if chain.hook:
        yield f"        {chain.hook}"
    yield from (f"        {rule}" for rule in chain.rules)
    yield "    }"


def _edit_lines(edit: Edit, stamp: str) -> Iterator[str]:
    if edit.sets or edit.chains:
        yield f"table inet {TABLE} {{"
        yield from (f"    counter {name} {{ }}" for name in sorted(edit.chains) if is_policy_chain(name))
        for name in sorted(edit.sets):
            yield from _set(name, edit.sets[name])
        for name in sorted(edit.chains, key=lambda name: (_rank(name, edit.chains[name]), name)):
            yield from _chain(name, edit.chains[name])
        yield "}"
    yield from _changed(edit.cut_elements, edit.elements)
    yield from _changed(edit.cut_verdicts, {name: _pairs(each) for name, each in edit.verdicts.items()})
    dropped = sorted(edit.dropped_chains, key=lambda name: (is_policy_chain(name), name))  # classes first
    yield from (f"delete chain inet {TABLE} {name}" for name in dropped)
    yield from (f"delete counter inet {TABLE} {name}" for name in dropped if is_policy_chain(name))
    yield from (f"delete set inet {TABLE} {name}" for name in sorted(edit.dropped_sets))
    yield from _stamped(stamp)


def _stamped(stamp: str) -> Iterator[str]:
    if stamp:  # flushed, not deleted: what is not there cannot be deleted
        yield f"flush set inet {TABLE} {STAMP}"
        yield element_line("add", STAMP, [stamp])


def _pairs(verdicts: Mapping[str, str]) -> list[str]:
    return [f"{address} : {verdicts[address]}" for address in sorted(verdicts)]


def _changed(cut: Mapping[str, list[str]], added: Mapping[str, list[str]]) -> Iterator[str]:
    yield from (element_line("delete", name, elements) for name, elements in sorted(cut.items()))
    yield from (element_line("add", name, elements) for name, elements in sorted(added.items()))
