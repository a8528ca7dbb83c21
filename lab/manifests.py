"""Read what people wrote, write what the controllers derived: YAML files, each put in place in one step.

One object, one file (``service.default.web.yaml``): who watches the folder sees each change by itself, and a person can
read what the lab's "API server" holds. An EndpointSlice that changes gets the time of its change, as the real
controller notes it (endpoints.kubernetes.io/last-change-trigger-time).
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from kube_router.events.errors import ConfigError
from kube_router.lab.objects import Json, items, key, kind

TRIGGER = "endpoints.kubernetes.io/last-change-trigger-time"
SUFFIXES = (".yaml", ".yml", ".json")
# The C versions are an order of magnitude faster, and may be missing where PyYAML was built without libyaml.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def read(paths: Iterable[Path]) -> list[Json]:
    """Return all objects in files and folders, in order. ConfigError names the file and line that cannot be read."""
    found: list[Json] = []
    for path in paths:
        if path.is_dir():
            for one in sorted(one for one in path.iterdir() if one.suffix in SUFFIXES):
                found += _read_file(one, may_be_gone=True)
        else:
            found += _read_file(path)
    return found


def _read_file(path: Path, *, may_be_gone: bool = False) -> list[Json]:
    """Return a file's objects. ``may_be_gone``: since the folder was listed, as if the listing had come later."""
    try:
        text = path.read_bytes()
    except OSError as error:
        if may_be_gone and isinstance(error, FileNotFoundError):
            return []
        raise ConfigError(f"{path}: {error.strerror}") from error
    try:
        documents = list(yaml.load_all(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise ConfigError(f"{path}:{line}: {error.problem}") from error
    except (yaml.YAMLError, ValueError) as error:  # bytes that are no text, dates that are none
        raise ConfigError(f"{path}: {error}") from error
    return [obj for document in documents for obj in _objects(document, path)]


def _objects(document: object, path: Path) -> list[Json]:
    if document is None:
        return []
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: holds a {type(document).__name__} where a Kubernetes object was expected")
    if kind(document).endswith("List") and "items" in document:
        return [obj for item in items(document, "items") for obj in _objects(item, path)]
    return [document]


def merge(objects: Sequence[Json], changes: Iterable[Json]) -> list[Json]:
    """Return the objects with the changed ones in the place of those of the same kind and name (pure)."""
    merged = {(kind(obj), key(obj)): obj for obj in objects}
    merged |= {(kind(obj), key(obj)): obj for obj in changes}
    return list(merged.values())


def dump(obj: Mapping[str, object]) -> str:
    """Return an object as YAML."""
    text = yaml.dump(obj, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    assert isinstance(text, str)
    return text


class Folder:
    """The derived manifests. Remembers what it has written, so that only changes are written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self._held: dict[str, str] = {}  # file → text without the trigger time
        for file in path.glob("*.yaml"):
            self._held[file.name] = _without_trigger(file.read_text())

    def write(self, objects: Iterable[Json]) -> int:
        """Make the folder hold exactly these objects; return how many files changed."""
        wanted = {file_name(obj): obj for obj in objects}
        changed = 0
        for name, obj in wanted.items():
            text = dump(obj)
            if self._held.get(name) != text:
                put(self.path / name, dump(_with_trigger(obj)))
                self._held[name] = text
                changed += 1
        for name in [name for name in self._held if name not in wanted]:
            (self.path / name).unlink(missing_ok=True)
            del self._held[name]
            changed += 1
        return changed


def file_name(obj: Json) -> str:
    """Return the name of an object's file. Kubernetes names have no slash; others are made harmless."""
    name = f"{kind(obj).lower()}.{key(obj).replace('/', '.', 1)}"
    return re.sub(r"[^A-Za-z0-9._-]", "_", name) + ".yaml"


def put(path: Path, text: str) -> None:
    """Write a file in one step: readers see the old one or the new one, whole."""
    scratch = path.with_name(f".{path.name}.tmp")
    scratch.write_text(text)
    os.replace(scratch, path)


def _with_trigger(obj: Json) -> Json:
    if kind(obj) != "EndpointSlice":
        return obj
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    metadata = obj["metadata"]
    return {**obj, "metadata": {**metadata, "annotations": {**metadata.get("annotations", {}), TRIGGER: now}}}


def _without_trigger(text: str) -> str:
    obj = yaml.load(text, Loader=_Loader)
    annotations = obj.get("metadata", {}).get("annotations", {}) if isinstance(obj, dict) else {}
    if TRIGGER not in annotations:
        return text
    del annotations[TRIGGER]
    if not annotations:
        del obj["metadata"]["annotations"]
    return dump(obj)
