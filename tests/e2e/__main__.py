"""``python -m e2e`` (from tests/): Kubernetes' own end-to-end suite against a test cluster, and the page about it.

Starts the cluster with cluster DNS and the images that the specs want, runs every spec of the network that is not
left out with a reason (selection.py), keeps what came out (runs/native.json) and writes docs/conformance.md. The
exit status is 1 where a spec failed of which nothing is known, or where one has neither a result nor a reason.
``--focus`` runs some specs only and keeps nothing; ``--page`` only writes the page anew.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from cluster import agents, dns
from cluster import images as cluster_images
from cluster.cluster import Cluster
from e2e import images, listing, page, selection
from e2e.measure import Against, measure
from e2e.results import FAILED, FOLDER, Kept, Run, kept

NATIVE = Kept(FOLDER / "native.json")
NATIVELY = Against(
    "Natively",
    "Real kubelets and containerd on this kernel, the agent installed by `kubectl apply -k`: our firewall, our routes, "
    "our CNI configuration. This kernel has no IPVS, so **kube-proxy (nftables) serves Services here, not us**: what "
    "specs of Services say counts for the network beneath them only.",
    services_by="kube-proxy",
)


def main() -> None:
    """Run, keep, write, judge."""
    arguments = _arguments()
    if arguments.page:
        page.PATH.write_text(page.render(kept()))
        return
    if os.geteuid() != 0:
        sys.exit("e2e: needs root, for namespaces and containers: sudo make e2e")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    run = _run(arguments)
    if arguments.focus:
        for result in run.results:
            print(f"{result.outcome:8}{result.seconds:4} s  {result.name}  {result.said}")
        return
    NATIVE.save(run)
    page.PATH.write_text(page.render(kept()))
    sys.exit(_judge(run))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="e2e", description="Kubernetes' own suite against a test cluster.")
    parser.add_argument("--at-once", type=int, default=4, metavar="N", help="specs at once (default: 4)")
    parser.add_argument("--focus", default="", help="only specs that this regular expression finds; nothing is kept")
    parser.add_argument("--agent", type=Path, help="an image's archive, instead of one built now")
    parser.add_argument("--logs", type=Path, help="a folder for the suite's and the agents' logs")
    parser.add_argument("--page", action="store_true", help="only write the page of what is kept")
    return parser.parse_args()


def _run(arguments: argparse.Namespace) -> Run:
    started = time.monotonic()

    def say(text: object) -> None:
        print(f"{time.monotonic() - started:6.1f} s  {text}", flush=True)

    work = Path(tempfile.mkdtemp(prefix="kr-e2e-"))
    try:
        archives = [images.suite(work, say), dns.image(work, say), arguments.agent or cluster_images.agent(work)]
        say("images built")
        with Cluster(nodes=2) as cluster:
            cluster.load([cluster_images.agnhost(work), *archives])
            cluster.start_kube_proxies()
            agents.install(cluster)
            dns.install(cluster)
            say("nodes ready, cluster DNS answers")
            return measure(
                cluster,
                NATIVELY,
                arguments.logs or work,
                focus=arguments.focus or selection.focus(),
                skip=selection.skip(),
                at_once=arguments.at_once,
                left_out=[spec for spec in listing.specs() if selection.in_family(spec) and selection.reason(spec)],
                say=say,
            )
    finally:
        shutil.rmtree(work)


def _judge(run: Run) -> int:
    wrong = [f"failed: {result.name}: {result.said}" for result in page.unknown_failures(run)]
    wrong += [f"neither a result nor a reason: {spec}" for spec in page.unaccounted(run, listing.specs())]
    print(*wrong, sep="\n")
    failed = sum(result.outcome == FAILED for result in run.results)
    print(f"{len(run.results) - failed} of {len(run.results)} specs did not fail; the page is {page.PATH}")
    return 1 if wrong else 0


if __name__ == "__main__":
    main()
