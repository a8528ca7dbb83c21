"""Print how long the firewall takes to plan its table and to bring it into the kernel, cold and per change.

    python -m benchmarks.firewall_programming [--sizes 1000x100,1000x1000,5000x100]     (root, with ./tests on the path)

Pods × policies, all pods on the node (benchmarks/policed_node.py). *Plan* is Python: state → ruleset → edit. *Kernel*
is the transaction with its text and stamp, as plugins/firewall/kernel.py makes it. Changes are a new pod, a pod's label
(which moves it to other policies), and a policy's port. Starts and changes are made several times over and the fastest
is told, for other work only slows. CPU seconds are those of the thread, in Python and in the kernel.

The peer does in the same run what kube-router does at a start and at every change: it restores all sets with ``ipset``
and the whole filter table with ``iptables-restore`` (benchmarks/classic.py). Making its texts is not counted. It does
so twice, the second time over the first. With many policies most of it is the swapping of sets, for which the kernel
waits each time until nobody looks at the old one.
"""

import argparse
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from harness.netns import run_in_new

from benchmarks import classic
from benchmarks.figures import Figure, report
from benchmarks.policed_node import NODE, Cluster, Json, PolicedNode
from kube_router.core.view import Dirty
from kube_router.events.model import NetworkPolicy
from kube_router.plugins.firewall import wanted
from kube_router.plugins.firewall.kernel import Kernel
from kube_router.plugins.firewall.plan import carry_out, plan

PEERS = ("iptables-legacy", "iptables-nft")
COLD, NEW_POD = "cold start", "a new pod"
BARS = {(COLD, "1000x1000"): 2.5}  # s
KERNEL_BARS = {(NEW_POD, "5000x100"): 10}  # ms
RESTORE_S_MAX = 600


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds of Python and of the transaction, and the CPU seconds of both."""

    plan: float
    kernel: float
    cpu: float

    @property
    def whole(self) -> float:
        return self.plan + self.kernel


class Agent:
    """What the agent does, in a network namespace of this thread's."""

    def __init__(self, world: PolicedNode) -> None:
        self.cluster = Cluster(world)
        self._kernel = Kernel()

    def start(self) -> Took:
        """Take in everything and write the table."""
        self.wanted = wanted.Cluster(NODE)
        cpu, began = time.thread_time(), time.perf_counter()
        self.wanted.update(self.cluster.view, Dirty(everything=True))
        planned = time.perf_counter()
        self._kernel.replace(self.wanted.ruleset)
        done = time.perf_counter()
        took = Took(planned - began, done - planned, time.thread_time() - cpu)
        self._actual = self.wanted.ruleset.copy()
        self.wanted.ruleset.take_touched()
        return took

    def change(self, *manifests: Json) -> Took:
        """Create or replace objects, and write what follows from it."""
        refs = frozenset(self.cluster.put(manifest) for manifest in manifests)
        cpu, began = time.thread_time(), time.perf_counter()
        self.wanted.update(self.cluster.view, Dirty(refs))
        ruleset = self.wanted.ruleset
        edit = plan(ruleset, self._actual, ruleset.take_touched())
        planned = time.perf_counter()
        assert edit, "nothing to do, or only a replacement does it"
        self._kernel.edit(edit, ruleset.digest)
        done = time.perf_counter()
        carry_out(edit, self._actual)
        assert self._actual.digest == ruleset.digest
        return Took(planned - began + time.perf_counter() - done, done - planned, time.thread_time() - cpu)


def changes(world: PolicedNode, times: int) -> Mapping[str, Iterable[Json]]:
    """Return by its name what changes again and again."""
    middle = world.pods // 2
    return {
        NEW_POD: (world.pod(world.pods + number) for number in range(times)),
        "a pod's label": (world.pod(middle, group=middle + 1 + number) for number in range(times)),
        "a policy's port": (world.policy(world.policies // 2, port=10_000 + number) for number in range(times)),
    }


def ours(world: PolicedNode, *, starts: int, times: int) -> dict[str, Took]:
    """Return what we take, by what for."""

    def measure() -> dict[str, Took]:
        agent = Agent(world)
        found = {COLD: min((agent.start() for _ in range(starts)), key=lambda took: took.whole)}
        for name, manifests in changes(world, times).items():
            found[name] = min((agent.change(manifest) for manifest in manifests), key=lambda took: took.whole)
        return found

    return run_in_new(measure)


def theirs(world: PolicedNode) -> dict[str, tuple[float, float]]:
    """Return the seconds that the classic layout takes at a start and at any change, by what restores the rules."""
    cluster, population = Cluster(world), wanted.Cluster(NODE)
    population.update(cluster.view, Dirty(everything=True))
    policies = list(cluster.view.each(NetworkPolicy))
    versions = [classic.layout(population.population, policies, version=version) for version in range(2)]

    def measure() -> dict[str, tuple[float, float]]:
        found: dict[str, list[float]] = {program: [] for program in PEERS}
        for layout in versions:
            sets = load("ipset", "restore", text=layout.sets)
            for program in PEERS:
                found[program].append(sets + load(f"{program}-restore", "--wait", text=layout.rules))
        return {program: (cold, change) for program, (cold, change) in found.items()}

    return run_in_new(measure)


def load(*command: str, text: str) -> float:
    """Let a program read a text; return the seconds it took."""
    began = time.perf_counter()
    subprocess.run(command, input=text, text=True, check=True, timeout=RESTORE_S_MAX)
    return time.perf_counter() - began


def tell(size: str, found: Mapping[str, Took], peers: Mapping[str, tuple[float, float]]) -> None:
    """Report the figures of one size."""
    for name, took in found.items():
        unit, factor = ("s", 1) if name == COLD else ("ms", 1000)
        whole = f"{name}, {size.replace('x', ' × ')}"
        report(Figure(whole, took.whole * factor, unit, bar=BARS.get((name, size))))
        for program, (cold, change) in peers.items():
            peer = (cold if name == COLD else change) * factor
            report(Figure("  the same", took.whole * factor, unit, peer=peer, peer_name=f"{program} + ipset"))
        report(Figure("  of it plan", took.plan * factor, unit))
        report(Figure("  of it kernel", took.kernel * factor, unit, bar=KERNEL_BARS.get((name, size))))
        report(Figure("  CPU, plan and kernel", took.cpu * factor, f"CPU {unit}"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="1000x100,1000x1000,5000x100", help="pods x policies")
    parser.add_argument("--starts", type=int, default=5, help="how often the table is written")
    parser.add_argument("--times", type=int, default=9, help="how often each change is made")
    options = parser.parse_args()
    for size in options.sizes.split(","):
        pods, policies = map(int, size.split("x"))
        world = PolicedNode(pods, policies)
        tell(size, ours(world, starts=options.starts, times=options.times), theirs(world))


if __name__ == "__main__":
    main()
