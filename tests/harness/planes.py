"""The fixtures ``control_plane`` and ``namespace``, and the one control plane of a pytest session.

It is started when a test first asks for it, or when the VM is booted with tests that will; guest and host tests share
it, never at the same time.
"""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import binaries, machine
from harness.client import Client, named
from harness.controlplane import ControlPlane
from harness.gomodules import Say
from harness.remote import Door, Plane, Remote

HANDOVER, WHY_NOT = "KR_CONTROLPLANE", "KR_NO_CONTROLPLANE"
PLANE_KEY = pytest.StashKey[ControlPlane]()
DOOR_KEY = pytest.StashKey[Door]()


def why_none() -> str:
    """Return why tests marked ``controlplane`` cannot run here, "" if they can."""
    if machine.in_guest():
        return "" if HANDOVER in os.environ else os.environ.get(WHY_NOT, "the host gave this guest no control plane")
    return binaries.why_none()


def shared(session: pytest.Session) -> ControlPlane:
    """Return this session's control plane, started now if need be."""
    if (plane := session.stash.get(PLANE_KEY, None)) is None:
        plane = ControlPlane(binaries.binaries(_say(session.config)))
        session.stash[PLANE_KEY] = plane
        plane.start()
    return plane


def guest_environment(session: pytest.Session, folder: Path) -> list[str]:
    """Return the variables by which a guest finds this session's control plane, started if need be."""
    if reason := why_none():
        return [f"{WHY_NOT}={reason}"]
    session.stash[DOOR_KEY] = Door(shared(session), folder)
    return [f"{HANDOVER}={session.stash[DOOR_KEY].handover}"]


def close(session: pytest.Session) -> None:
    """Leave nothing running."""
    if (door := session.stash.get(DOOR_KEY, None)) is not None:
        door.close()
    if (plane := session.stash.get(PLANE_KEY, None)) is not None:
        plane.close()


@pytest.fixture(scope="session")
def control_plane(request: pytest.FixtureRequest) -> Plane:
    """A real API server with etcd and controllers. The test needs the marker ``controlplane``."""
    if handover := os.environ.get(HANDOVER):
        return Remote(Path(handover))
    return shared(request.session)


@pytest.fixture(scope="session")
def api(control_plane: Plane) -> Iterator[Client]:
    """A client of it."""
    with control_plane.client() as client:
        yield client


@pytest.fixture
def namespace(api: Client) -> Iterator[str]:
    """The name of a Namespace of the test's own, gone after it with all that is in it."""
    name = f"test-{secrets.token_hex(4)}"
    api.create(named("Namespace", name))
    yield name
    api.delete(named("Namespace", name))


def _say(config: pytest.Config) -> Say:
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    return print if terminal is None else terminal.write_line
