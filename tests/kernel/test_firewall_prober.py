"""Through fifty kills and five hundred changes nothing forbidden passes and nothing allowed breaks.

What every version of the policies forbids is tried all the time, and so is what every version allows: by a connection
that is kept, and by new ones. A packet that met a table half written would be one of them.
"""

import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from harness.machine import until
from harness.policed import Policed, policed, policies

from kube_router.lab import netns

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(300)]

CHANGES, KILLS = 500, 50
# Each of these lets x/a in to port 80 of x/b, and x/c to nothing of it.
TO_B = "{podSelector: {matchLabels: {app: b}}, policyTypes: [Ingress], ingress: [%s]}"
VERSIONS = [
    TO_B % "{from: [{podSelector: {matchLabels: {app: a}}}]}",
    TO_B % "{from: [{podSelector: {matchLabels: {app: a}}}], ports: [{port: 80}]}",
    TO_B % "{from: [{podSelector: {matchExpressions: [{key: env, operator: DoesNotExist}]}}], ports: [{port: web}]}",
    TO_B % "{from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: a}}}]}",
    TO_B % "{from: [{ipBlock: {cidr: 10.244.0.0/16, except: [%s/32]}}], ports: [{port: 80, endPort: 81}]}",
]  # fmt: skip


@pytest.fixture(scope="module", name="lab")
def _lab() -> Iterator[Policed]:
    with policed("prober") as made:
        yield made


class Prober:
    """Threads that try connections until they are stopped, and count what came of them."""

    def __init__(self, lab: Policed) -> None:
        self.seen: Counter[str] = Counter()
        self._lab, self._stop = lab, threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, source: str, body: Callable[[], None]) -> None:
        namespace = self._lab.lab.machines.namespace_of(source)
        thread = threading.Thread(target=netns.run_in, args=(namespace, partial(self._repeat, body)), daemon=True)
        thread.start()
        self._threads.append(thread)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()

    def _repeat(self, body: Callable[[], None]) -> None:
        while not self._stop.is_set():
            body()
            time.sleep(0.002)

    def new(self, what: str, address: str, port: int) -> None:
        """Try a new connection."""
        try:
            with socket.create_connection((address, port), timeout=5) as client:
                client.sendall(b"who\n")
                self.seen[f"{what} answered" if client.recv(100) else f"{what} closed"] += 1
        except ConnectionRefusedError:
            self.seen[f"{what} refused"] += 1
        except OSError as error:
            self.seen[f"{what}: {error}"] += 1

    def datagram(self, what: str, address: str, port: int) -> None:
        """Try a datagram."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(0.05)
            client.connect((address, port))
            try:
                client.send(b"who\n")
                client.recv(100)
                self.seen[f"{what} answered"] += 1
            except OSError:
                self.seen[f"{what} refused"] += 1

    def kept(self, what: str, client: socket.socket) -> None:
        """Use a connection that is kept."""
        try:
            client.sendall(b"who\n")
            self.seen[f"{what} answered" if client.recv(100) else f"{what} closed"] += 1
        except OSError as error:
            self.seen[f"{what}: {error}"] += 1


def test_nothing_forbidden_passes_and_nothing_allowed_breaks(lab: Policed) -> None:
    b, c = lab.reach.address("x/b", 4), lab.reach.address("x/c", 4)
    versions = [text % c if "%s" in text else text for text in VERSIONS]
    lab.enforce(f"x/in: {versions[0]}")
    prober = Prober(lab)
    kept = netns.run_in(lab.lab.machines.namespace_of("x/a"), partial(socket.create_connection, (b, 80), timeout=10))
    prober.start("x/c", partial(prober.new, "forbidden", b, 80))
    prober.start("x/c", partial(prober.datagram, "forbidden datagram", b, 53))
    prober.start("x/a", partial(prober.new, "allowed", b, 80))
    prober.start("x/a", partial(prober.kept, "kept", kept))
    killer = threading.Thread(target=_kill, args=(lab,), daemon=True)
    killer.start()
    chance = random.Random(50)
    for number in range(CHANGES):
        extra = f"\ny/more: {TO_B % '{}'}" if number % 3 == 0 else "\nx/more: {podSelector: {matchLabels: {app: c}}}"
        lab.lab.apply(policies(f"x/in: {chance.choice(versions)}{extra}"))
        time.sleep(0.06)
    killer.join(200)
    assert not killer.is_alive()
    lab.enforce(f"x/in: {versions[1]}")
    prober.stop()
    kept.close()
    print(dict(prober.seen))
    assert set(prober.seen) == {"forbidden refused", "forbidden datagram refused", "allowed answered", "kept answered"}
    assert min(prober.seen.values()) > 100


def _kill(lab: Policed) -> None:
    """Kill one agent after the other with -9 and start it again."""
    for number in range(KILLS):
        node = f"node-{number % 2 + 1}"
        lab.lab.kill_agent(node)
        lab.lab.agent(node).start()
        until(partial(_works, lab, node), what=f"the agent of {node}")


def _works(lab: Policed, node: str) -> bool:
    try:
        return bool(lab.status(node)["reconciles"])
    except Exception:  # noqa: BLE001 - it is starting
        return False
