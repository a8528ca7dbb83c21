"""Who is measured at the other end of BGP sessions: our agent as a process, BIRD and GoBGP, each in a namespace.

Each is AS 64512, has the address 10.66.0.N on the link, and announces one route.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from io import FileIO
from pathlib import Path

from harness.bgpd import Announcement, Bgpd, Neighbour, Settings
from harness.bgpnet import Network
from harness.daemon import Daemon
from harness.netns import run_in

from benchmarks.process import exact_rss_mb

ASN = 64512
READY_S_MAX = 60.0
POLL_S = 0.005
ROOT = Path(__file__).parents[1]


class Receiver:
    """One of them."""

    def __init__(self, name: str, network: Network, number: int) -> None:
        self.name, self.number = name, number
        self.address = f"10.66.0.{number}"
        self.namespace = network.add(f"r{number}", number)
        self.folder = network.folder(f"r{number}")
        self.folder.mkdir()
        self._count = run_in(self.namespace, lambda: FileIO("/proc/thread-self/net/fib_triestat"))
        self.pid: Callable[[], int] = lambda: 0
        self.stop: Callable[[], None] = lambda: None

    def routes(self) -> int:
        """Return how many routes its kernel's main table holds; while it is given more it may be any number.

        The table comes first, and the local one, which without rules is the same, once more after it.
        """
        self._count.seek(0)
        main = self._count.read().decode().partition("\tPrefixes:")[2]
        return int(main.split()[0])

    def wait_routes(self, wanted: int, timeout_s: float) -> float:
        """Wait until its kernel holds exactly so many, and still does; return when that was first seen.

        A single answer means little: what the kernel rearranges while it counts it counts twice.
        """
        deadline, since = time.monotonic() + timeout_s, 0.0
        while True:
            now, found = time.monotonic(), self.routes()
            if found == wanted and since:
                return since
            since = now if found == wanted else 0.0
            if now > deadline:
                raise TimeoutError(f"{self.name} has {found} routes in the kernel after {timeout_s:g} s, not {wanted}")
            time.sleep(POLL_S)

    def rss_mb(self) -> float:
        """Return its resident set."""
        return exact_rss_mb(self.pid())


def node(number: int, address: str, pod_cidr: str) -> str:
    """Return a Node as a manifest."""
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": f"node-{number}"},
            "spec": {"podCIDR": pod_cidr, "podCIDRs": [pod_cidr]},
            "status": {"addresses": [{"type": "InternalIP", "address": address}]},
        }
    )


def agent(network: Network, number: int, *flags: str, nodes: Sequence[tuple[int, str, str]] = ()) -> Receiver:
    """Start our agent as node ``number``, with nothing but routing; ``nodes`` are the others."""
    receiver = Receiver("ours", network, number)
    folder = receiver.folder
    manifests = folder / "manifests"
    manifests.mkdir()
    for each in ((number, receiver.address, f"10.244.{number}.0/24"), *nodes):
        (manifests / f"node-{each[0]}.yaml").write_text(node(*each))
    argv = [sys.executable, "-m", "kube_router.cli", "run", f"--hostname-override=node-{number}"]
    argv += [f"--manifests={manifests}", f"--journal-dir={folder / 'journal'}", "--health-port=0"]
    argv += [f"--control-socket={folder / 'kr.sock'}", "--run-firewall=false", "--run-service-proxy=false"]
    argv += ["--enable-cni=false", "--enable-overlay=false", "--enable-pod-egress=false", *flags]
    daemon = Daemon(["ip", "netns", "exec", receiver.namespace, *argv], folder / "agent.log")
    os.environ["KUBE_ROUTER_CNI_CONF_FILE"] = str(folder / "10-kuberouter.conflist")
    daemon.start()
    receiver.pid, receiver.stop = lambda: daemon.pid, daemon.stop
    return receiver


def other(kind: type[Bgpd], network: Network, number: int, neighbours: Sequence[Neighbour]) -> tuple[Receiver, Bgpd]:
    """Start somebody else's daemon with these neighbours."""
    receiver = Receiver({"Bird": "BIRD", "Gobgp": "GoBGP"}[kind.__name__], network, number)
    own = (Announcement(prefix=f"10.244.{number}.0/24"),)
    settings = Settings(
        asn=ASN, router_id=receiver.address, neighbours=tuple(neighbours), announcements=own, quiet=True
    )
    daemon = kind(settings, receiver.namespace, receiver.folder)
    daemon.up()
    receiver.pid, receiver.stop = daemon.pid, daemon.down
    return receiver, daemon
