"""Reading manifests while somebody else writes them."""

from pathlib import Path

import pytest

from kube_router.events.errors import ConfigError
from kube_router.lab.manifests import read


def test_a_file_that_goes_while_its_folder_is_read_is_as_if_it_came_later(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("{kind: Pod, metadata: {name: a}}")
    (tmp_path / "b.yaml").symlink_to(tmp_path / "gone")  # listed, and not there when it is opened
    assert [obj["metadata"]["name"] for obj in read([tmp_path])] == ["a"]


def test_what_a_folder_holds_that_is_no_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").mkdir()
    with pytest.raises(ConfigError, match=r"a\.yaml: Is a directory"):
        read([tmp_path])
