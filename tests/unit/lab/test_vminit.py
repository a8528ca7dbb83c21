"""The boot archive is what the kernel and cpio read."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube_router.events.errors import ConfigError
from kube_router.lab import vm, vminit, vmkernel


def test_the_archive_holds_folders_and_files_aligned_to_four_bytes() -> None:
    archive = vminit.newc(("bin",), {"bin/hello": b"hi"})
    head, rest = archive[:110], archive[110:]
    assert head[:6] == b"070701"
    assert rest[:4] == b"bin\0"
    assert len(archive) % 4 == 0
    assert b"TRAILER!!!\0" in archive


@given(st.dictionaries(st.from_regex(r"[a-z]{1,12}", fullmatch=True), st.binary(max_size=200), max_size=6))
def test_the_archive_gives_back_each_file(files: dict[str, bytes]) -> None:
    archive = vminit.newc((), files)
    found = {}
    at = 0
    while True:
        size, name_size = (int(archive[at + o : at + o + 8], 16) for o in (54, 94))
        name = archive[at + 110 : at + 110 + name_size - 1].decode()
        data_at = (at + 110 + name_size + 3) // 4 * 4
        if name == "TRAILER!!!":
            break
        found[name] = archive[data_at : data_at + size]
        at = (data_at + size + 3) // 4 * 4
    assert found == files


def test_the_command_keeps_its_words_its_folder_and_its_environment(tmp_path: Path) -> None:
    script = vminit.command_script(
        ["/bin/sh", "-c", 'printf "%s|" "$0" "$PWD" "$A"', "two words"],
        cwd=str(tmp_path),
        env={"A": "x 'y'", "b-c": "1"},
    )
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == f"two words|{tmp_path}|x 'y'|"


def test_drivers_are_loaded_after_what_they_need_and_built_in_ones_are_left_out(tmp_path: Path) -> None:
    for name in ("virtio.ko", "fuse.ko", "virtiofs.ko"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "modules.dep").write_text("virtiofs.ko: fuse.ko virtio.ko\nfuse.ko:\nvirtio.ko:\n")
    archive = vminit.initramfs(tmp_path, shared=Path("/tmp/x"), writable=())
    assert b"virtio.ko fuse.ko virtiofs.ko" in archive
    assert b"virtio_net" not in archive


def test_a_suite_that_is_a_path_is_refused() -> None:
    with pytest.raises(ConfigError, match="not the name of a Debian suite"):
        vmkernel.kernel("../../etc")


def test_an_incomplete_cache_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KR_VM_CACHE", str(tmp_path))
    (tmp_path / "trixie").mkdir()
    with pytest.raises(ConfigError, match="remove that folder"):
        vmkernel.kernel("6.12")


def test_the_command_line_comes_back_as_it_was_given() -> None:
    wanted = vm.Machine(kernel="trixie", timeout_s=9.0, memory_mib=2048, cpus=2, writable=("/srv",), tap="tap0")
    words = vm.argv(["ls", "--", "-l"], vm=wanted)
    assert vm.parse(words[3:]) == (wanted, ["ls", "--", "-l"])
