"""Writes the firewall's table as fast as it can, one ruleset and then the other, until it is killed.

    python -m harness.tablewriter replace|edit

``replace`` writes whole tables; ``edit`` goes the way of the plugin, in up to three transactions, between which only
what nobody refers to may differ.
"""

import os
import re
import signal
import sys
from functools import cache
from itertools import count
from typing import NoReturn

from harness.firewalling import folded, from_scratch
from harness.shop import node, pod, policy
from strategies import World

from kube_router.plugins.firewall.kernel import Kernel
from kube_router.plugins.firewall.model import Ruleset
from kube_router.plugins.firewall.table import Table

PODS, POLICIES = 120, 40
INGRESS = "{podSelector: {matchLabels: {app: a%d}}, ingress: [{from: [%s]}]}"
PEERS = ("{podSelector: {matchLabels: {app: a%d}}}", "{ipBlock: {cidr: 10.%d.0.0/16}}")
_REFERENCE = re.compile(r"(?:jump |goto |@)(\w+)")


@cache
def rulesets() -> tuple[Ruleset, Ruleset]:
    """Return two rulesets that have all pods in common and hardly a policy."""
    pods = [pod(f"shop/p{number}", 1, 10 + number, f"app=a{number % POLICIES}") for number in range(PODS)]
    found = []
    for peer in PEERS:
        policies = [policy(INGRESS % (number, peer % (number + 1)), f"shop/q{number}") for number in range(POLICIES)]
        world: World = {("nodes", "n1"): node(1)}
        world |= {("pods", each.key): each for each in pods}
        world |= {("networkpolicies", each.key): each for each in policies}
        found.append(from_scratch(folded(world), "n1").ruleset)
    return found[0], found[1]


def live(ruleset: Ruleset) -> Ruleset:
    """Return what a packet can come to: the base chains and what is referred to from there."""
    queue = [name for name, chain in ruleset.chains.items() if chain.hook]
    reached = set(queue)
    while queue:
        name = queue.pop()
        texts = ruleset.chains[name].rules if name in ruleset.chains else ruleset.verdicts.get(name, {}).values()
        new = {found for text in texts for found in _REFERENCE.findall(text)} - reached
        reached |= new
        queue += new
    left = ruleset.copy()
    for name in ruleset.chains.keys() - reached:
        left.drop_chain(name)
    for name in ruleset.sets.keys() - reached:
        left.drop_set(name)
    return left


def main(how: str) -> None:
    """Fork a writer for each line of stdin; a line out is its pid, once the table is there."""
    rulesets()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies: a test sees at once that a writer has ended
    for _ in sys.stdin:
        if os.fork() == 0:
            write(how)


def write(how: str) -> NoReturn:
    """Write for ever."""
    kernel = Kernel()
    table = Table(kernel)
    for number in count():
        ruleset = rulesets()[number % 2]
        if how == "replace":
            kernel.replace(ruleset)
        else:
            table.bring(ruleset.copy(), None, in_sync=True)
        if number == 0:
            print(os.getpid(), flush=True)
    raise AssertionError("for ever has ended")


if __name__ == "__main__":
    main(sys.argv[1])
