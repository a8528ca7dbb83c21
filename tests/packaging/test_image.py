"""The image: the same bytes from the same sources, small, and nothing in it that an agent does not need."""

import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import images
from harness.oci import Image

from kube_router import __version__

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1200)]

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
SIZE_MAX_MIB = 60
SHELLS = {"sh", "bash", "dash", "busybox"}
TOOLS = {"pip", "pip3", "gcc", "cc", "ld", "apt", "apt-get", "dpkg", "perl"}


@pytest.fixture(scope="module")
def opened(image: Path) -> Iterator[Image]:
    with Image(image) as opened:
        yield opened


@pytest.fixture(scope="module")
def members(opened: Image) -> list[tarfile.TarInfo]:
    return list(opened.members())


def test_it_is_small(image: Path) -> None:
    assert image.stat().st_size <= SIZE_MAX_MIB * MIB


def test_its_name_bears_the_version(opened: Image) -> None:
    assert opened.name == f"localhost/kube-router:{__version__}"


def test_the_same_sources_give_the_same_image(opened: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KR_IMAGE", raising=False)
    with Image(images.agent(tmp_path)) as again:
        assert again.digest == opened.digest


def test_its_entry_point_is_kube_router_and_plugins_are_found(opened: Image) -> None:
    assert opened.config["Entrypoint"] == ["kube-router"]
    assert "PYTHONPATH=/opt/plugins" in opened.config["Env"]


def test_nothing_in_it_is_anothers_or_makes_root_of_anybody(members: list[tarfile.TarInfo]) -> None:
    odd = [member.name for member in members if (member.uid, member.gid) != (0, 0)]
    assert odd == []
    assert [member.name for member in members if member.mode & (stat.S_ISUID | stat.S_ISGID)] == []
    sticky = [member.name for member in members if member.mode & stat.S_ISVTX]  # as /tmp: none removes another's files
    open_to_all = [member.name for member in members if member.mode & stat.S_IWOTH and not member.issym()]
    assert set(open_to_all) <= set(sticky)


def test_no_shell_no_compiler_no_package_manager_and_no_cache_is_in_it(members: list[tarfile.TarInfo]) -> None:
    names = {Path(member.name).name for member in members if "bin" in Path(member.name).parts}
    assert names & (SHELLS | TOOLS) == set()
    paths = [member.name for member in members]
    assert [path for path in paths if "/.cache/" in path or "/var/cache/" in path or "/dist-packages/pip" in path] == []


def test_it_brings_what_the_agent_starts(members: list[tarfile.TarInfo]) -> None:
    names = {Path(member.name).name for member in members}
    assert names >= {"kr", "kube-router", "modprobe", "conntrack", "ipset", "iptables-nft-save", "iptables-legacy-save"}
    assert names >= {"libnftables.so.1", "bridge", "host-local", "loopback", "portmap"}


def test_nothing_of_the_machine_that_built_it_is_in_it(members: list[tarfile.TarInfo]) -> None:
    paths = {member.name.strip("./") for member in members}
    assert paths & {"etc/hostname", "etc/resolv.conf", "etc/machine-id"} == set()
    assert [path for path in paths if str(ROOT).strip("/") in path] == []


def test_what_git_does_not_know_does_not_get_in(members: list[tarfile.TarInfo]) -> None:
    listed = subprocess.run(["git", "ls-files", "core", "cli"], cwd=ROOT, capture_output=True, text=True, check=True)
    known = {f"kube_router/{name}" for name in listed.stdout.split() if name.endswith(".py")}
    site = "usr/local/lib/python3.11/dist-packages/"
    found = {member.name.strip("./").removeprefix(site) for member in members if member.name.endswith(".py")}
    assert {name for name in found if name.startswith(("kube_router/core/", "kube_router/cli/"))} == known
