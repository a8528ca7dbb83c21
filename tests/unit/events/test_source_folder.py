"""A folder of manifests feeds the sink live, and nothing that goes wrong with it makes an empty cluster."""

import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest
from doubles.memory_sink import MemorySink
from harness.machine import slowness

from kube_router.events.event import Put, Sync
from kube_router.events.model import Service
from kube_router.events.normalize import BUILTIN
from kube_router.events.sources import folder as source_folder
from kube_router.events.sources import inotify
from kube_router.events.sources.folder import FolderSource

DEADLINE_S = 20
POLL_S = 0.02
MISSING = "No such file or directory; not in sync, what is known stands, tried again every 2 s"


def service(name: str, address: str = "10.96.0.1") -> str:
    return f"---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{clusterIP: {address}}}\n"


async def until(condition: Callable[[], object]) -> None:
    with anyio.fail_after(DEADLINE_S * slowness()):
        while not condition():  # noqa: ASYNC110 - what is awaited is another program's view of a file system
            await anyio.sleep(POLL_S)


async def live(folder: Path, sink: MemorySink, story: Callable[[FolderSource], Awaitable[None]]) -> None:
    source = FolderSource(sink=sink, resources=BUILTIN, folder=folder, redact=str)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(source.run)
        await story(source)
        tasks.cancel_scope.cancel()


def texts(sink: MemorySink) -> list[str]:
    return sink.problem_texts()


async def test_the_first_scan_is_the_sync_of_every_resource(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(service("web"))
    sink = MemorySink()

    async def story(source: FolderSource) -> None:
        await until(lambda: len(sink.syncs()) == len(BUILTIN))
        status = source.status()["manifests"]
        assert (status.state, status.files, status.objects) == ("watched", 1, 2)  # the Service and its Namespace

    await live(tmp_path, sink, story)
    assert sink.clusters == [f"folder:{tmp_path}"]
    assert {record.r for record in sink.journal if isinstance(record, Sync)} == {each.name for each in BUILTIN}
    assert sink.syncs() == ["initial"] * len(BUILTIN)
    assert sink.names() == ["default/web"]


async def test_changes_are_seen_and_only_what_changed_is_delivered(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(service("web"))
    sink = MemorySink()

    async def story(source: FolderSource) -> None:
        await until(sink.names)
        (tmp_path / "b.yaml").write_text(service("api", "10.96.0.2"))
        await until(lambda: sink.names() == ["default/api", "default/web"])
        os.replace(_written(tmp_path / ".a.yaml.new", service("www")), tmp_path / "a.yaml")
        await until(lambda: sink.names() == ["default/api", "default/www"])
        (tmp_path / "b.yaml").unlink()
        await until(lambda: sink.names() == ["default/www"])

    await live(tmp_path, sink, story)
    changed = [record.r for record in sink.journal if isinstance(record, Sync) and record.why == "changed"]
    assert changed == ["services"] * 3


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


async def test_a_file_broken_live_keeps_its_objects_until_it_is_repaired(tmp_path: Path) -> None:
    path = _written(tmp_path / "a.yaml", service("web") + service("api", "10.96.0.2"))
    sink = MemorySink()

    async def story(source: FolderSource) -> None:
        await until(sink.names)
        path.write_text(service("web", "10.96.0.9") + "---\nkind: [\n")
        await until(lambda: texts(sink))
        assert texts(sink)[0].startswith("a.yaml:8: ")
        assert sink.names() == ["default/api", "default/web"]
        path.write_text(service("web", "10.96.0.9"))
        await until(lambda: not texts(sink))
        assert sink.names() == ["default/web"]

    await live(tmp_path, sink, story)
    put = [record.obj for record in sink.journal if isinstance(record, Put) and record.key == "default/web"]
    assert [it.cluster_ips for it in put if isinstance(it, Service)] == [("10.96.0.1",), ("10.96.0.9",)]


async def test_a_folder_removed_is_no_empty_cluster_and_is_followed_again_when_it_is_back(tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    folder.mkdir()
    (folder / "a.yaml").write_text(service("web"))
    sink = MemorySink()

    async def story(source: FolderSource) -> None:
        await until(sink.names)
        folder.rename(tmp_path / "away")
        await until(lambda: source.status()["manifests"].state == "waiting")
        assert texts(sink) == [f"{folder}: {MISSING}"]
        assert sink.names() == ["default/web"]
        (tmp_path / "away" / "b.yaml").write_text(service("api", "10.96.0.2"))
        (tmp_path / "away").rename(folder)
        await until(lambda: sink.names() == ["default/api", "default/web"])
        assert texts(sink) == []
        assert source.status()["manifests"].state == "watched"
        (folder / "a.yaml").unlink()
        await until(lambda: sink.names() == ["default/api"])

    await live(folder, sink, story)
    assert "del default/web" not in sink.history()[: sink.history().index("put default/api")]


async def test_a_folder_that_is_not_there_yet_gives_no_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_folder, "POLL_S", 0.05)
    sink = MemorySink()

    async def story(source: FolderSource) -> None:
        await until(lambda: texts(sink))
        assert sink.syncs() == []
        (tmp_path / "later").mkdir()
        await until(sink.syncs)

    await live(tmp_path / "later", sink, story)


async def test_a_file_in_the_place_of_the_folder_is_no_empty_cluster(tmp_path: Path) -> None:
    (tmp_path / "file").write_text(service("web"))
    sink = MemorySink()

    async def story(source: FolderSource) -> None:
        await until(lambda: texts(sink))

    await live(tmp_path / "file", sink, story)
    assert "Not a directory" in texts(sink)[0]
    assert sink.syncs() == []


async def test_what_the_journal_recovered_stands_while_its_file_is_broken_from_the_start(tmp_path: Path) -> None:
    path = _written(tmp_path / "a.yaml", "{{{")
    old = Service(namespace="default", name="old", cluster_ips=("10.96.0.7",))
    sink = MemorySink([Put(seq=1, t=0, r="services", key="default/old", obj=old)], cluster=f"folder:{tmp_path}")

    async def story(source: FolderSource) -> None:
        await until(lambda: len(sink.syncs()) == len(BUILTIN))
        assert sink.names() == ["default/old"]
        path.write_text(service("web"))
        await until(lambda: sink.names() == ["default/web"])

    await live(tmp_path, sink, story)


async def test_a_bad_object_recovered_from_the_journal_stands_until_it_is_repaired(tmp_path: Path) -> None:
    bad = "---\napiVersion: v1\nkind: Service\nmetadata: {name: old}\nspec: 7\n"
    path = _written(tmp_path / "a.yaml", service("web") + bad)
    old = Service(namespace="default", name="old", cluster_ips=("10.96.0.7",))
    sink = MemorySink([Put(seq=1, t=0, r="services", key="default/old", obj=old)], cluster=f"folder:{tmp_path}")

    async def story(source: FolderSource) -> None:
        await until(lambda: sink.names() == ["default/old", "default/web"] and texts(sink))
        path.write_text(service("web"))
        await until(lambda: sink.names() == ["default/web"])

    await live(tmp_path, sink, story)


async def test_a_file_being_written_counts_as_before_until_it_is_closed(tmp_path: Path) -> None:
    path = _written(tmp_path / "a.yaml", service("web"))
    sink = MemorySink()

    async def story(source: FolderSource) -> None:
        await until(sink.names)
        with path.open("w") as half:
            half.write("# nothing yet\n")
            half.flush()
            (tmp_path / "b.yaml").write_text(service("api", "10.96.0.2"))
            await until(lambda: "default/api" in sink.names())
            assert sink.names() == ["default/api", "default/web"]
            half.write(service("www"))
        await until(lambda: sink.names() == ["default/api", "default/www"])

    await live(tmp_path, sink, story)
    assert texts(sink) == []


async def test_a_mounted_config_map_is_followed_through_its_links(tmp_path: Path) -> None:
    """Kubelet swaps the link ``..data``; the manifests themselves are links through it and never change."""
    for version, name in (("..1", "web"), ("..2", "api")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "a.yaml").write_text(service(name))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    sink = MemorySink()

    async def story(source: FolderSource) -> None:
        await until(lambda: sink.names() == ["default/web"])
        (tmp_path / "..new").symlink_to("..2")
        (tmp_path / "..new").rename(tmp_path / "..data")
        await until(lambda: sink.names() == ["default/api"])

    await live(tmp_path, sink, story)


async def test_a_folder_that_is_deleted_file_by_file_and_filled_again(tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number}.yaml").write_text(service(f"s{number}", f"10.96.0.{number + 1}"))
    shutil.copytree(folder, tmp_path / "copy")
    sink = MemorySink()

    async def story(source: FolderSource) -> None:
        await until(lambda: len(sink.names()) == 30)
        shutil.rmtree(folder)
        await until(lambda: source.status()["manifests"].state == "waiting")
        shutil.copytree(tmp_path / "copy", folder)
        await until(lambda: source.status()["manifests"].state == "watched" and len(sink.names()) == 30)

    await live(folder, sink, story)


async def test_without_inotify_the_folder_is_polled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_watch(folder: Path) -> inotify.Watch:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(inotify, "watch", no_watch)
    monkeypatch.setattr(source_folder, "POLL_S", 0.05)
    sink = MemorySink()

    async def story(source: FolderSource) -> None:
        await until(sink.syncs)
        assert source.status()["manifests"].state == "polled"
        (tmp_path / "a.yaml").write_text(service("web"))
        await until(sink.names)

    await live(tmp_path, sink, story)


async def test_a_fifo_or_a_huge_file_harms_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kube_router.events.sources.scan.FILE_BYTES_MAX", 1 << 20)
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "huge.yaml").write_bytes(b"#" * (1 << 21))
    (tmp_path / "a.yaml").write_text(service("web"))
    sink = MemorySink()

    async def story(source: FolderSource) -> None:
        await until(sink.names)

    await live(tmp_path, sink, story)
    assert texts(sink) == ["huge.yaml: larger than 1 MiB; its last good objects stand"]
