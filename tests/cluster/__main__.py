"""``python -m cluster`` (from tests/): a Kubernetes cluster with our network on this machine, until Ctrl-C.

Builds the image, starts a control plane and nodes with real kubelets, installs the agent with ``kubectl apply -k``, and
shows that pods on different nodes reach each other over routes learned by BGP, but for those that a NetworkPolicy keeps
out. ``--check`` ends there.
"""

import argparse
import os
import shlex
import signal
import sys
import time

from cluster import agents, images
from cluster.cluster import Cluster
from cluster.layout import FABRIC, inside
from cluster.show import show


def main() -> None:
    """Start, show, wait, stop."""
    parser = argparse.ArgumentParser(prog="cluster", description="A Kubernetes cluster with our network.")
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--check", action="store_true", help="end after the checks instead of waiting for Ctrl-C")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("cluster: needs root, for namespaces and containers: sudo make cluster")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - started:6.1f} s  {text}", flush=True)

    with Cluster(nodes=arguments.nodes) as cluster:
        say("control plane and kubelets run")
        cluster.load([images.agnhost(cluster.folder), images.agent(cluster.folder)])
        say("images built and imported")
        cluster.start_kube_proxies()
        agents.install(cluster)
        say("kubectl apply -k tests/cluster/native: agents in sync, nodes ready")
        show(cluster, say)
        if not arguments.check:
            kubectl = [
                *inside(FABRIC),
                str(cluster.plane.access.kubectl),
                f"--kubeconfig={cluster.plane.access.kubeconfig}",
            ]
            print(f"\nIt runs until Ctrl-C. Talk to it with\n\n    alias kubectl={shlex.quote(shlex.join(kubectl))}\n")
            signal.pause()


if __name__ == "__main__":
    main()
