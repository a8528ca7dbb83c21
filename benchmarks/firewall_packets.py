"""Print what a packet between two policed pods costs: our ruleset, conntrack alone, and kube-router's classic layout.

    python -m benchmarks.firewall_packets [--pods 10,100,1000,5000]        (root, with ./tests on the path)

Both pods are on the node, in the middle of all, and under three policies each, of which the second that is tried admits
the packet, at either end. *New*: every packet is the SYN of another connection. *Established*: all are of one that has
been answered. All layouts stand side by side and are measured in turn, several times over; the best time of each
counts. Before that each is shown to let a packet through that the policies admit, and no other.

Bars: a new flow costs at most 1.6 times what conntrack alone costs, and no greater multiple with 5000 pods than with
10, but for a fifth.
"""

import argparse
import subprocess
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import NamedTuple

from benchmarks import classic
from benchmarks.figures import Figure, report
from benchmarks.forwarding import Line
from benchmarks.policed_node import ADMITTED, DENIED, NODE, Cluster, Pair, PolicedNode, address
from kube_router.core.view import Dirty
from kube_router.events.model import NetworkPolicy
from kube_router.plugins.firewall import wanted
from kube_router.plugins.firewall.kernel import Kernel
from kube_router.plugins.firewall.model import Direction

POLICIES_MAX = 200
BAR, FLAT = 1.6, 1.2
CONNTRACK, OURS = "conntrack only", "ours"
CLASSIC = {"iptables-legacy": "iptables-legacy + ipset", "iptables-nft": "iptables-nft + ipset"}
CONNTRACK_RULES = """
table inet conntrack {
    chain forward {
        type filter hook forward priority filter
        ct state vmap { invalid : drop, established : accept, related : accept }
    }
}
"""
RESTORE_S_MAX = 300


@dataclass(frozen=True, slots=True)
class Cost:
    """Nanoseconds per packet."""

    new: float
    established: float


class Found(NamedTuple):
    """A world, as the agent sees it, and two pods of it."""

    world: PolicedNode
    cluster: Cluster
    ours: wanted.Cluster
    pair: Pair


def find(pods: int) -> Found:
    """Return pods in the middle for which our ruleset tries the policy that admits second of three, at either end.

    The order is that of the chains' names, which are hashes: other names of the policies give another order.
    """
    for suffix in count():
        world = PolicedNode(pods, min(pods, POLICIES_MAX), suffix=str(suffix))
        cluster, ours = Cluster(world), wanted.Cluster(NODE)
        ours.update(cluster.view, Dirty(everything=True))
        for pair in world.pairs():
            egress = place(world, ours, "egress", pair.source, pair.egress_policy)
            if egress == 1 == place(world, ours, "ingress", pair.destination, pair.ingress_policy):
                return Found(world, cluster, ours, pair)
    raise AssertionError("unreachable")


def place(world: PolicedNode, ours: wanted.Cluster, direction: Direction, pod: int, policy: int) -> int:
    """Return as which, from 0, our ruleset tries a policy for a pod."""
    verdict = ours.ruleset.verdicts[f"{direction}4"][address(pod)]
    rules = ours.ruleset.chains[verdict.removeprefix("goto ")].rules
    owners = ours.chain_owners()
    tried = [owners[rule.removeprefix("jump ")][1] for rule in rules if rule.startswith("jump ")]
    return tried.index(world.policy_key(policy))


def in_order(found: Found) -> list[NetworkPolicy]:
    """Return all policies, so that of the three at either end the one that admits is the second."""
    world, pair = found.world, found.pair
    ranks: dict[str, int] = {}
    for pod, admits in ((pair.source, pair.egress_policy), (pair.destination, pair.ingress_policy)):
        first, last = (number for number in world.policies_of(pod) if number != admits)
        ranks |= {world.policy_key(first): -1, world.policy_key(last): 1}
    return sorted(found.cluster.view.each(NetworkPolicy), key=lambda policy: ranks.get(policy.key, 0))


def load_text(program: str, text: str, *options: str) -> None:
    """Let a program read a text in this thread's namespace."""
    subprocess.run([program, *options], input=text, text=True, check=True, timeout=RESTORE_S_MAX)


def installers(found: Found) -> Mapping[str, Callable[[], None]]:
    """Return by name of a layout what puts it into a router."""
    layout = classic.layout(found.ours.population, in_order(found))

    def install_classic(program: str) -> None:
        load_text("ipset", layout.sets, "restore")
        load_text(f"{program}-restore", layout.rules, "--wait")

    return {
        CONNTRACK: lambda: load_text("nft", CONNTRACK_RULES, "-f", "-"),
        OURS: lambda: Kernel().replace(found.ours.ruleset),
        **{name: partial(install_classic, program) for program, name in CLASSIC.items()},
    }


def measure(pods: int, *, rounds: int, packets: int) -> dict[str, Cost]:
    """Return the cost of a packet through each layout."""
    found = find(pods)
    source, destination = map(address, found.pair[:2])
    with ExitStack() as stack:
        lines: dict[str, Line] = {}
        for number, (name, install) in enumerate(installers(found).items()):
            lines[name] = line = stack.enter_context(Line(f"{number}", source, destination))
            line.run("router", install)
            passes = line.passes(ADMITTED), line.passes(DENIED)
            assert passes == (True, name == CONNTRACK), f"{name} lets through (admitted, other) {passes}"
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in lines}
        for _ in range(rounds):
            for name, line in lines.items():
                new = line.cost(ADMITTED, new=True, packets=packets)
                times[name].append((new, line.cost(ADMITTED, new=False, packets=packets)))
    return {name: Cost(*map(min, zip(*its, strict=True))) for name, its in times.items()}


def tell(pods: int, costs: Mapping[str, Cost]) -> None:
    """Report the figures of one size."""
    for what in ("new", "established"):
        ours, base = (getattr(costs[name], what) for name in (OURS, CONNTRACK))
        bar = BAR if what == "new" else None
        name = f"packet of {'a new' if what == 'new' else 'an established'} flow, {pods:,} pods"
        report(Figure(name, ours, "ns", peer=base, peer_name=CONNTRACK, bar=bar, of_peer=True))
        for peer in CLASSIC.values():
            report(Figure("  the same", ours, "ns", peer=getattr(costs[peer], what), peer_name=peer))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", default="10,100,1000,5000", help="sizes to measure, the smallest first")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--packets", type=int, default=6000, help="how many at most in a round")
    options = parser.parse_args()
    sizes = [int(text) for text in options.pods.split(",")]
    found = {}
    for pods in sizes:
        found[pods] = measure(pods, rounds=options.rounds, packets=options.packets)
        tell(pods, found[pods])
    first, last = sizes[0], sizes[-1]
    if first != last:
        multiples = {pods: found[pods][OURS].new / found[pods][CONNTRACK].new for pods in (first, last)}
        name = f"a new flow's multiple of conntrack only, {last:,} pods"
        report(
            Figure(name, multiples[last], "×", peer=multiples[first], peer_name=f"{first} pods", bar=FLAT, of_peer=True)
        )


if __name__ == "__main__":
    main()
