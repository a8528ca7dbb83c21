"""The fixture ``cluster``: one real cluster with the agent installed, for all tests of a session that ask for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import agents, images
from cluster.cluster import Cluster


@pytest.fixture(scope="session")
def agnhost(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of Kubernetes' test program's image."""
    return images.agnhost(tmp_path_factory.mktemp("agnhost"))


@pytest.fixture(scope="session")
def _running(image: Path, agnhost: Path) -> Iterator[Cluster]:
    with Cluster(nodes=2) as cluster:
        cluster.load([agnhost, image])
        cluster.start_kube_proxies()
        agents.install(cluster)
        yield cluster


@pytest.fixture
def cluster(_running: Cluster) -> Cluster:
    """Two nodes, ready. Whoever changes the agents puts them back."""
    return _running
