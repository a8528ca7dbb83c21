"""Print how long routes take from a BGP session into the kernel and out of it, ours and BIRD; into the RIB: GoBGP.

    python -m benchmarks.bgp_convergence [--routes 10000,100000]        (root, with ./tests on the path)

All stand side by side, each in a namespace of its own, and are told the same messages by the same sender in turn,
several times over; the median of each counts. *In the kernel*: from the moment at which the session is established, and
the sender begins, until the kernel holds as many routes more. *In the RIB*: the sender sends all its routes and then
asks for the receiver's own (RFC 2918), of which there is one; whoever answers has taken in what came before. Ours is
the whole agent: each of 10k routes is journaled and planned besides; beyond 20k a digest of them is.

The bar: 10k routes are in the kernel no later than with BIRD.
"""

import argparse
import time
from contextlib import ExitStack
from statistics import median

from harness.bgpd import Neighbour
from harness.bgpnet import Network
from harness.bird import Bird
from harness.gobgp import Gobgp

from benchmarks.bgp_receivers import Receiver, agent, other
from benchmarks.bgp_session import Session, announcements, withdrawals
from benchmarks.figures import Figure, report
from kube_router.plugins.routing.bgp.model import Family
from kube_router.plugins.routing.bgp.wire import route_refresh

SENDER, SENDER_ASN = "10.66.0.9", 65009
ROUTES_S_MAX = 120.0
SETTLE_S = 1.0
BAR_ROUTES = 10_000

Times = dict[str, dict[str, list[float]]]


class Bench:
    """Receivers, a sender, and what was measured."""

    def __init__(self, stack: ExitStack) -> None:
        network = stack.enter_context(Network())
        self._sender = network.add("sender", 9)
        neighbour = Neighbour(address=SENDER, asn=SENDER_ASN, passive=True, graceful_restart=False)
        flags = (f"--peer-router-ips={SENDER}", f"--peer-router-asns={SENDER_ASN}")
        self.receivers: list[Receiver] = []
        self._add(stack, agent(network, 1, *flags))
        self._add(stack, other(Bird, network, 2, [neighbour])[0])
        self._add(stack, other(Gobgp, network, 3, [neighbour])[0])

    def _add(self, stack: ExitStack, receiver: Receiver) -> None:
        stack.callback(receiver.stop)
        self.receivers.append(receiver)

    def session(self, receiver: Receiver) -> Session:
        """Return a session with a receiver."""
        return Session(self._sender, SENDER, receiver.address, asn=SENDER_ASN)

    def warm_up(self) -> None:
        """Wait until each has its session, and take it away again."""
        for receiver in self.receivers:
            with self.session(receiver) as session:
                session.wait_quiet()

    def into_kernel(self, receiver: Receiver, count: int) -> tuple[float, float, float]:
        """Return the seconds until so many routes are in the kernel, and out of it; and the bytes of memory of each."""
        there, gone = announcements(count, SENDER_ASN, SENDER), withdrawals(count)
        before, memory = receiver.routes(), receiver.rss_mb()
        with self.session(receiver) as session:
            session.send(there)
            came = receiver.wait_routes(before + count, ROUTES_S_MAX) - session.established_at
            time.sleep(SETTLE_S)  # BIRD takes half of its memory when the kernel has all routes already
            grown = receiver.rss_mb() - memory
            began = session.send(gone)
            went = receiver.wait_routes(before, ROUTES_S_MAX) - began
        return came, went, grown * 1e6 / count

    def into_rib(self, receiver: Receiver, count: int) -> float:
        """Return the seconds until so many routes are in the RIB."""
        there, before = announcements(count, SENDER_ASN, SENDER), receiver.routes()
        with self.session(receiver) as session:
            session.wait_quiet()
            since = session.updates
            began = session.send([*there, route_refresh(Family.IPV4)])
            took = session.wait_update(since, ROUTES_S_MAX) - began
        receiver.wait_routes(before, ROUTES_S_MAX)
        return took


def measure(bench: Bench, count: int, rounds: int) -> tuple[Times, dict[str, float]]:
    """Return by figure and receiver the times of each round; and each one's memory for a route, from the first."""
    ours, bird, gobgp = bench.receivers
    times: Times = {"in": {}, "out": {}, "rib": {}}
    memory: dict[str, float] = {}
    for _ in range(rounds):
        for receiver in (ours, bird):
            came, went, grown = bench.into_kernel(receiver, count)
            times["in"].setdefault(receiver.name, []).append(came)
            times["out"].setdefault(receiver.name, []).append(went)
            memory.setdefault(receiver.name, grown)
        for receiver in (ours, gobgp):
            times["rib"].setdefault(receiver.name, []).append(bench.into_rib(receiver, count))
    return times, memory


def tell(count: int, times: Times, memory: dict[str, float]) -> None:
    """Report the figures of one size."""

    def value(what: str, who: str) -> float:
        return 1000 * median(times[what][who])

    bar = 1.0 if count == BAR_ROUTES else None
    for what, words, peer in (
        ("in", "established → in the kernel", "BIRD"),
        ("out", "withdrawn → out of the kernel", "BIRD"),
        ("rib", "told → in the RIB", "GoBGP"),
    ):
        figure = Figure(
            f"{count:,} routes, {words}",
            value(what, "ours"),
            "ms",
            peer=value(what, peer),
            peer_name=peer,
            bar=bar if what == "in" else None,
            of_peer=bar is not None and what == "in",
        )
        report(figure)
    name = f"{count:,} routes, memory of each (RSS)"
    report(Figure(name, memory["ours"], "B", peer=max(memory["BIRD"], 1.0), peer_name="BIRD"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--routes", default="10000,100000", help="sizes to measure")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for count in map(int, options.routes.split(",")):
        with ExitStack() as stack:  # anew for each, so that memory is that of this size
            bench = Bench(stack)
            bench.warm_up()
            tell(count, *measure(bench, count, options.rounds))


if __name__ == "__main__":
    main()
