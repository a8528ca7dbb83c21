"""Wanted against what the kernel holds → an edit (pure).

Between two rulesets that agree on the fixed part there is an edit. It takes up to three transactions, for a packet does
not see a transaction as one: it reads the generation of rules when it enters a base chain, and that of a set at each
look. First comes what is new (sets, policies' chains, classes' chains, each before what refers to it), which nobody
refers to yet; then the maps and sets change, which is the moment that counts; and when no packet is under way any more
that may have been sent there before, what nobody refers to any more goes.

Where a name stands for something else than before there is no edit, and the table is replaced as a whole: the names of
all but the fixed part are hashes of the content.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from kube_router.plugins.firewall.model import Chain, Ruleset, SetType, Touched


@dataclass
class Edit:
    """What to change, by name of set, map or chain. ``elements`` are for sets that are there already or new."""

    sets: dict[str, SetType] = field(default_factory=dict)
    chains: dict[str, Chain] = field(default_factory=dict)
    elements: dict[str, list[str]] = field(default_factory=dict)
    cut_elements: dict[str, list[str]] = field(default_factory=dict)
    verdicts: dict[str, dict[str, str]] = field(default_factory=dict)
    cut_verdicts: dict[str, list[str]] = field(default_factory=dict)
    dropped_chains: list[str] = field(default_factory=list)
    dropped_sets: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return any(
            (
                *(self.sets, self.chains, self.elements, self.cut_elements, self.verdicts, self.cut_verdicts),
                *(self.dropped_chains, self.dropped_sets),
            )
        )

    def parts(self) -> tuple["Edit", "Edit", "Edit"]:
        """Return its three transactions, of which any may be empty: what is new, what changes, what goes."""
        new = Edit(sets=self.sets, chains=self.chains)
        new.elements = {name: found for name, found in self.elements.items() if name in self.sets}
        changed = replace(self, sets={}, chains={}, dropped_chains=[], dropped_sets=[])
        changed.elements = {name: found for name, found in self.elements.items() if name not in self.sets}
        return new, changed, Edit(dropped_chains=self.dropped_chains, dropped_sets=self.dropped_sets)

    @property
    def changes(self) -> Mapping[str, int]:
        """Return how many of what are changed, for a receipt."""
        counts = {
            "set added": len(self.sets),
            "set removed": len(self.dropped_sets),
            "chain added": len(self.chains),
            "chain removed": len(self.dropped_chains),
            "element added": _total(self.elements.values()) + _total(self.verdicts.values()),
            "element removed": _total(self.cut_elements.values()) + _total(self.cut_verdicts.values()),
        }
        return {what: count for what, count in counts.items() if count}


def _total(collections: Iterable[list[str] | dict[str, str]]) -> int:
    return sum(map(len, collections))


def everything(wanted: Ruleset, actual: Ruleset) -> Touched:
    """Return all that may differ between two rulesets."""
    return Touched(
        {*wanted.sets, *wanted.chains, *actual.sets, *actual.chains},
        {(name, each) for ruleset in (wanted, actual) for name, found in ruleset.elements.items() for each in found},
        {(name, each) for ruleset in (wanted, actual) for name, found in ruleset.verdicts.items() for each in found},
    )


def plan(wanted: Ruleset, actual: Ruleset, touched: Touched) -> Edit | None:
    """Return what turns ``actual`` into ``wanted``, given where they may differ; None where only a replacement does."""
    if wanted.verdicts.keys() != actual.verdicts.keys():
        return None
    edit = Edit()
    for name in sorted(touched.objects):
        if not _plan_object(edit, name, wanted, actual):
            return None
    for name, element in sorted(touched.elements):
        is_wanted, is_there = (element in ruleset.elements.get(name, ()) for ruleset in (wanted, actual))
        if is_wanted and not is_there:
            edit.elements.setdefault(name, []).append(element)
        elif is_there and not is_wanted and name in wanted.sets:  # else it goes with its set
            edit.cut_elements.setdefault(name, []).append(element)
    for name, address in sorted(touched.verdicts):
        verdict, old = (ruleset.verdicts[name].get(address, "") for ruleset in (wanted, actual))
        if verdict != old:
            if old:
                edit.cut_verdicts.setdefault(name, []).append(address)
            if verdict:
                edit.verdicts.setdefault(name, {})[address] = verdict
    return edit


def _plan_object(edit: Edit, name: str, wanted: Ruleset, actual: Ruleset) -> bool:
    """Plan one set or chain; return whether that can be done."""
    if wanted.sets.get(name) != actual.sets.get(name):
        if name in wanted.sets and name in actual.sets:
            return False
        if name in wanted.sets:
            edit.sets[name] = wanted.sets[name]
        else:
            edit.dropped_sets.append(name)
    if wanted.chains.get(name) != actual.chains.get(name):
        if name in wanted.chains and name in actual.chains:
            return False
        if name in wanted.chains:
            edit.chains[name] = wanted.chains[name]
        else:
            edit.dropped_chains.append(name)
    return True


def carry_out(edit: Edit, actual: Ruleset) -> None:
    """Make the edit in our own picture of the kernel."""
    for name, type in edit.sets.items():
        actual.add_set(name, type)
    for name, chain in edit.chains.items():
        actual.add_chain(name, chain)
    for name, elements in edit.elements.items():
        for element in elements:
            actual.add_element(name, element)
    for name, elements in edit.cut_elements.items():
        for element in elements:
            actual.cut_element(name, element)
    for name, addresses in edit.cut_verdicts.items():
        for address in addresses:
            actual.set_verdict(name, address, "")
    for name, verdicts in edit.verdicts.items():
        for address, verdict in verdicts.items():
            actual.set_verdict(name, address, verdict)
    for name in edit.dropped_chains:
        actual.drop_chain(name)
    for name in edit.dropped_sets:
        actual.drop_set(name)
    actual.take_touched()
