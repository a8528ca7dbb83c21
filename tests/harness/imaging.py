"""The fixture ``image``: the agent's image of this checkout, built once for all tests of a session that ask for it."""

from pathlib import Path

import pytest
from cluster import images


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The OCI archive. The test needs the marker ``cluster``."""
    return images.agent(tmp_path_factory.mktemp("image"))
