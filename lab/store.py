"""What a lab remembers between commands, in one folder: /run/kube-router-lab/NAME, or below $KR_LAB_DIR.

    lab.json        what it is made of, and what was given out
    written.yaml    the manifests it was given
    manifests/      what the controllers derived: the "API server" of the agents
    servers.sock    where the pods' servers are told what to serve
    nodes/NODE/     journal/, kr.sock, agent.log, agent.pid

lab.json is written before the first namespace is made, so that ``down`` also finds what a crash left half built.
"""

import os
from pathlib import Path

import msgspec
from msgspec import Struct

from kube_router.events.errors import ConfigError
from kube_router.lab.allocate import Allocations
from kube_router.lab.manifests import dump, put, read
from kube_router.lab.objects import Json
from kube_router.lab.topology import IPV4, check_name


class Lab(Struct, frozen=True, kw_only=True):
    """A lab on disk. ``agent_args`` go to every agent; ``plugins`` None is all."""

    name: str
    nodes: tuple[str, ...]
    subnets: int = 1
    families: tuple[str, ...] = (IPV4,)
    pod_cidrs: dict[str, tuple[str, ...]] = {}
    routes: bool = True
    kubeconfig: str = ""
    plugins: tuple[str, ...] | None = None
    agent_args: tuple[str, ...] = ()
    allocations: Allocations = Allocations()


class LabFolder:
    """The folder of one lab. The path's length matters: a unix socket's may have 107 characters."""

    def __init__(self, name: str) -> None:
        self.path = root() / check_name(name)

    @property
    def manifests(self) -> Path:
        return self.path / "manifests"

    @property
    def servers(self) -> Path:
        return self.path / "servers.sock"

    def node(self, name: str) -> Path:
        """Return the folder of a node."""
        return self.path / "nodes" / name

    @property
    def exists(self) -> bool:
        return (self.path / "lab.json").exists()

    def load(self) -> Lab:
        """Return the lab. ConfigError if there is none, or none that can be read."""
        try:
            return msgspec.json.decode((self.path / "lab.json").read_bytes(), type=Lab)
        except FileNotFoundError:
            there = ", ".join(names()) or "none"
            raise ConfigError(f"there is no lab {self.path.name} (there: {there}); kr lab up makes one") from None
        except msgspec.DecodeError as error:
            raise ConfigError(f"{self.path}/lab.json: {error}; kr lab down removes the lab") from error

    def save(self, lab: Lab) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        put(self.path / "lab.json", msgspec.json.format(msgspec.json.encode(lab)).decode() + "\n")

    def written(self) -> list[Json]:
        """Return the manifests the lab was given."""
        path = self.path / "written.yaml"
        return read([path]) if path.exists() else []

    def save_written(self, objects: list[Json]) -> None:
        put(self.path / "written.yaml", "---\n".join(map(dump, objects)))


def root() -> Path:
    """Return where all labs are."""
    return Path(os.environ.get("KR_LAB_DIR") or "/run/kube-router-lab")


def names() -> list[str]:
    """Return the names of all labs of this machine."""
    return sorted(path.parent.name for path in root().glob("*/lab.json"))
