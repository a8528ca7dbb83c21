"""``make e2e-ipvs``, or ``python -m e2e.ipvs`` from tests/: chosen specs against our own service proxy, in the VM.

The nodes are emulated, so a spec takes minutes, and only those are chosen that say something about who serves Services
or that want SCTP, of which the machine's own kernel may know nothing. What came out is kept (runs/ipvs.json), and
docs/conformance.md written anew. The exit status is 1 where a spec failed of which nothing is known, or was skipped.
"""

import argparse
import re
import shutil
import sys
import tempfile
from pathlib import Path

from cluster import agents, dns
from cluster import images as cluster_images
from cluster.guestcluster import GuestCluster
from e2e import images, page, selection
from e2e.measure import Against, measure
from e2e.results import FOLDER, SKIPPED, Kept, Run, kept

IPVS = Path(__file__).parents[1] / "cluster" / "ipvs"
MEMORY_MIB = 9000  # the suite's images, on both nodes
KEPT = Kept(FOLDER / "ipvs.json")
WITH_IPVS = Against(
    "With IPVS",
    "Chosen specs against the same cluster without kube-proxy: **the agent serves Services, by IPVS**. The nodes are "
    "in the lab's VM with Debian's kernel, for this machine's has no IPVS; emulated, they need minutes for a spec. "
    "That kernel has SCTP too, so specs that want it are run here. Specs of what the proxy does not serve yet are "
    "among them, and fail.",
    services_by=selection.OUR_PROXY,
)
SPECS = (
    "Services should serve a basic endpoint from pods",
    "Services should serve multiport endpoints from pods",
    "Services should be able to create a functioning NodePort service [Conformance]",
    "Services should be able to change the type from ExternalName to ClusterIP",
    "Services should be able to update service type to NodePort listening on same port number but different protocols",
    "Networking Granular Checks: Services should function for pod-Service: http",
    "Networking Granular Checks: Services should function for pod-Service: udp",
    "Networking Granular Checks: Services should function for node-Service: http",
    "Networking Granular Checks: Services should function for node-Service: udp",
    "Services should have session affinity work for service with type clusterIP",
    "Services should allow pods to hairpin back to themselves through services",
    "Services should respect internalTrafficPolicy=Local Pod to Pod",
    "Services should be possible to connect to a service via ExternalIP when the external IP is not assigned to a node",
    "Networking Granular Checks: Services should function for pod-Service: sctp",
    "Networking Granular Checks: Pods should function for intra-pod communication: sctp",
    "NetworkPolicy between server and client using SCTP should support a 'default-deny-ingress' policy",
    "NetworkPolicy between server and client using SCTP should enforce policy based on Ports",
    "NetworkPolicy between server and client using SCTP should enforce policy to allow traffic only from a pod in a "
    "different namespace based on PodSelector and NamespaceSelector",
)


def main() -> None:
    """Run, keep, write, judge."""
    parser = argparse.ArgumentParser(prog="e2e.ipvs", description="Specs of Services against our service proxy.")
    parser.add_argument("--at-once", type=int, default=2, metavar="N", help="specs at once (default: 2)")
    parser.add_argument("--logs", type=Path, help="a folder for the suite's and the agents' logs")
    arguments = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="kr-e2e-"))
    try:
        run = _run(work, arguments.logs or work, at_once=arguments.at_once)
    finally:
        shutil.rmtree(work)
    KEPT.save(run)
    page.PATH.write_text(page.render(kept()))
    wrong = page.unknown_failures(run) + [result for result in run.results if result.outcome == SKIPPED]
    print(*(f"{result.outcome}: {result.name}: {result.said}" for result in wrong), sep="\n")
    sys.exit(1 if wrong else 0)


def focus() -> str:
    """Return the suite's regular expression for the chosen specs."""
    return "|".join(f"{re.escape(name)}$|{re.escape(name)} " for name in SPECS)


def _run(work: Path, logs: Path, *, at_once: int) -> Run:
    archives = [cluster_images.agnhost(work), images.suite(work), cluster_images.agent(work), dns.image(work)]
    with GuestCluster(archives=archives, memory_mib=MEMORY_MIB) as cluster:
        agents.install(cluster, IPVS)
        dns.install(cluster)
        return measure(cluster, WITH_IPVS, logs, focus=focus(), at_once=at_once, say=print)


if __name__ == "__main__":
    main()
