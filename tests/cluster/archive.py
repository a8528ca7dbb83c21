"""Images in one archive in the format of ``docker save``: images that share layers, which are stored once (I/O)."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Image:
    """One image: what it is called, its layers from the lowest up (tar archives), and what it starts."""

    names: tuple[str, ...]
    layers: tuple[Path, ...]
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


def layer(path: Path, programs: Mapping[str, Path]) -> Path:
    """Write a layer of programs, each by its path in the image; return the layer."""
    with tarfile.open(path, mode="w") as tar:
        for name, program in sorted(programs.items()):
            with program.open("rb") as data:
                tar.addfile(_member(name, program.stat().st_size, mode=0o755), data)
    return path


def write(archive: Path, images: Sequence[Image]) -> None:
    """Write the archive."""
    layers = list(dict.fromkeys(layer for image in images for layer in image.layers))
    digests = {layer: _digest(layer) for layer in layers}
    manifest = []
    with tarfile.open(archive, mode="w") as tar:
        for layer in layers:
            with layer.open("rb") as data:
                tar.addfile(_member(f"{digests[layer]}.tar", layer.stat().st_size), data)
        for image in images:
            config = _config(image, digests)
            name = f"{hashlib.sha256(config).hexdigest()}.json"
            tar.addfile(_member(name, len(config)), io.BytesIO(config))
            files = [f"{digests[layer]}.tar" for layer in image.layers]
            manifest.append({"Config": name, "RepoTags": list(image.names), "Layers": files})
        text = json.dumps(manifest).encode()
        tar.addfile(_member("manifest.json", len(text)), io.BytesIO(text))


def _config(image: Image, digests: Mapping[Path, str]) -> bytes:
    process = {
        "Entrypoint": list(image.entrypoint),
        "Cmd": list(image.command),
        "Env": [f"{name}={value}" for name, value in image.environment.items()],
    }
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{digests[layer]}" for layer in image.layers]}
    return json.dumps({"architecture": "amd64", "os": "linux", "config": process, "rootfs": rootfs}).encode()


def _digest(path: Path) -> str:
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def _member(name: str, size: int, *, mode: int = 0o644) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, mode
    return member
