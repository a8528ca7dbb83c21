"""Cluster DNS in a test cluster: CoreDNS at the address that the kubelets tell pods (I/O)."""

from pathlib import Path

from cluster import archive
from cluster.cluster import Cluster
from harness.gomodules import COREDNS, Say

MANIFESTS = Path(__file__).parent / "coredns"
IMAGE = "localhost/coredns:test"
READY_S = 120


def image(folder: Path, say: Say | None = None) -> Path:
    """Return the archive of CoreDNS's image: the program and nothing else."""
    layer = archive.layer(folder / "coredns.layer.tar", {"coredns": COREDNS.program("coredns", say)})
    path = folder / "coredns.tar"
    archive.write(path, [archive.Image((IMAGE,), (layer,), entrypoint=("/coredns",))])
    return path


def install(cluster: Cluster) -> None:
    """Start cluster DNS, of an ``image`` the nodes have; return when it answers. CalledProcessError if it does not."""
    cluster.kubectl("apply", "--kustomize", str(MANIFESTS))
    timeout = f"--timeout={READY_S * cluster.slowness}s"
    cluster.kubectl("rollout", "status", "deployment/coredns", "--namespace=kube-system", timeout)
