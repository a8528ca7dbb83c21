"""Where pods are sent: to the chain of their class, which tries the chains of its policies and then denies (pure).

Pods with the same policies share a class chain; it goes with the last address that is sent there. A class whose
policies have no rules needs no chain: its pods are sent to what denies.
"""

from collections import Counter
from collections.abc import Iterable

from kube_router.plugins.firewall.model import Chain, Direction, Ruleset, deny_chain, is_class_chain, name_of


class Classes:
    """Keeps the verdict maps and the class chains."""

    def __init__(self, ruleset: Ruleset) -> None:
        self._ruleset = ruleset
        self._uses: Counter[str] = Counter()  # class chain → addresses that are sent there

    def verdict(self, direction: Direction, names: Iterable[str]) -> str:
        """Return where a pod is sent whose policies have these chains; "" where it has none for the direction."""
        names = sorted(names)
        if not names:
            return ""
        deny = f"goto {deny_chain(direction)}"
        rules = (*(f"jump {name}" for name in names if self._ruleset.chains[name].rules), deny)
        if len(rules) == 1:
            return deny
        name = name_of(f"c{direction[0]}", *rules)
        if name not in self._ruleset.chains:
            self._ruleset.add_chain(name, Chain(rules))
        return f"goto {name}"

    def send(self, map: str, ip: str, verdict: str) -> None:
        """Let a map send an address there, "" for nowhere."""
        old = self._ruleset.verdicts[map].get(ip, "")
        if old == verdict:
            return
        self._ruleset.set_verdict(map, ip, verdict)
        if verdict:
            self._uses[verdict.removeprefix("goto ")] += 1
        if old:
            name = old.removeprefix("goto ")
            self._uses[name] -= 1
            if not self._uses[name]:
                del self._uses[name]
                if is_class_chain(name):
                    self._ruleset.drop_chain(name)
