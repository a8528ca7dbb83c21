"""The fixture ``cluster``: one real cluster with the agent installed, for all tests of a session that ask for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import agents, images
from cluster.cluster import Cluster
from cluster.turns import Clusters


@pytest.fixture(scope="session")
def agnhost(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of Kubernetes' test program's image."""
    return images.agnhost(tmp_path_factory.mktemp("agnhost"))


@pytest.fixture(scope="session")
def clusters() -> Iterator[Clusters]:
    """Whoever has a cluster of a kind of its own gets it here."""
    clusters = Clusters()
    try:
        yield clusters
    finally:
        clusters.close()


@pytest.fixture(scope="module")
def _running(clusters: Clusters, image: Path, agnhost: Path) -> Cluster:
    def prepare(cluster: Cluster) -> None:
        cluster.load([agnhost, image])
        cluster.start_kube_proxies()
        agents.install(cluster)

    return clusters.get("native", lambda: Cluster(nodes=2), prepare)


@pytest.fixture
def cluster(_running: Cluster) -> Cluster:
    """Two nodes, ready. Whoever changes the agents puts them back."""
    return _running
