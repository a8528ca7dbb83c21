"""An image's OCI archive, read: what it is called, how it starts, what is in it.

Format: https://github.com/opencontainers/image-spec/blob/main/image-layout.md, in a tar.
"""

import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Self


class Image:
    """Open within the context; ``config`` is the image's configuration of its process."""

    def __init__(self, archive: Path) -> None:
        self._tar = tarfile.open(archive)  # noqa: SIM115 - closed on leaving the context
        (entry,) = json.load(self._open("index.json"))["manifests"]
        self.digest = str(entry["digest"])
        self.name = str(entry["annotations"]["org.opencontainers.image.ref.name"])
        self._manifest = json.load(self._blob(self.digest))
        self.config: dict[str, Any] = json.load(self._blob(self._manifest["config"]["digest"]))["config"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tar.close()

    def members(self) -> Iterator[tarfile.TarInfo]:
        """Return what is in all layers."""
        for layer in self._layers():
            with tarfile.open(fileobj=layer) as inner:
                yield from inner

    def unpack(self, root: Path) -> None:
        """Lay all layers out in a folder, the lowest first."""
        for layer in self._layers():
            subprocess.run(["tar", "--extract", "--gzip", "-C", root], input=layer.read(), check=True)

    def _layers(self) -> Iterator[IO[bytes]]:
        return (self._blob(layer["digest"]) for layer in self._manifest["layers"])

    def _blob(self, digest: str) -> IO[bytes]:
        return self._open(f"blobs/{digest.replace(':', '/')}")

    def _open(self, name: str) -> IO[bytes]:
        stream = self._tar.extractfile(name)
        assert stream is not None, name
        return stream
