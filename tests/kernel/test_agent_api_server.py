"""A node whose API server has the address of a Service that nobody serves: the real agent, the real API server.

All of it is in one network namespace. The API server's endpoint, as its EndpointSlice says, is 10.0.2.2, which leads to
it while the test wants; packets to the Service's address are dropped.
"""

import shutil
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from harness.certificates import certificate
from harness.client import Client, named
from harness.controlplane import VM_HOST, ControlPlane
from harness.daemon import Daemon
from harness.machine import until
from harness.netns import Inside, sh
from harness.relay import Relay

from kube_router.core.ask import ask
from kube_router.events.errors import PeerError

pytestmark = [pytest.mark.root, pytest.mark.controlplane, pytest.mark.slow, pytest.mark.timeout(240)]

T = TypeVar("T")
SERVICE = "10.96.0.1"
MOVED, FALSE = "10.0.2.3", "10.0.2.4"
LINKS = f"""
ip link add eth0 type veth peer name eth1; ip link set eth0 up; ip link set eth1 up
ip addr add 192.0.2.1/24 dev eth0; ip route add default via 192.0.2.254
ip addr add {VM_HOST}/32 dev lo; ip addr add {MOVED}/32 dev lo; ip addr add {FALSE}/32 dev lo
nft add table ip hole; nft 'add chain ip hole out {{ type filter hook output priority 0; }}'
nft add rule ip hole out ip daddr {SERVICE} drop
"""
REBOOT = "nft delete table inet kube-router-routing; ip link del kube-bridge; ip rule flush protocol 75"
IN_A_POD = """
mount -t tmpfs none /run
mkdir -p /run/secrets/kubernetes.io
cp -r {account} /run/secrets/kubernetes.io/serviceaccount
exec "$@"
"""


class World:
    """The control plane and one node, each thing in the namespace."""

    def __init__(self, inside: Inside, folder: Path) -> None:
        self.run: Callable[[Callable[[], Any]], Any] = inside.run
        self.folder, self.socket = folder, folder / "kr.sock"
        self.plane: ControlPlane = inside.run(ControlPlane)
        self.port = int(self.plane.access.url.rpartition(":")[2])
        self.endpoint, self.moved = (
            Relay((address, self.port), ("127.0.0.1", self.port)) for address in (VM_HOST, MOVED)
        )
        self._agent = Daemon([], folder / "log")

    def api(self, body: Callable[[Client], T]) -> T:
        """Do something with a client of the API server, wherever the node thinks that it is."""

        def inside() -> T:
            with self.plane.client() as client:
                return body(client)

        done: T = self.run(inside)
        return done

    # -- the agent -----------------------------------------------------------------------------------------------------

    def start(self, *flags: str) -> None:
        """Start the agent, in a pod unless flags say otherwise."""
        account = self.folder / "account"
        account.mkdir(exist_ok=True)
        (account / "token").write_text(self.plane.access.token)
        shutil.copy(self.plane.access.ca_file, account / "ca.crt")
        (self.folder / "pod").write_text(IN_A_POD.format(account=account))
        argv = [
            *("unshare", "-m", "sh", "-e", str(self.folder / "pod"), "env"),
            *(f"KUBERNETES_SERVICE_HOST={SERVICE}", "KUBERNETES_SERVICE_PORT=443"),
            f"KUBE_ROUTER_CNI_CONF_FILE={self.folder}/10-kuberouter.conflist",
            *(sys.executable, "-m", "kube_router.cli", "run", "--run-proxy=false", "--run-firewall=false"),
            *("--hostname-override=node-1", "--health-port=0"),
            *(f"--journal-dir={self.folder}/journal", f"--control-socket={self.socket}", *flags),
        ]
        self._agent = Daemon(argv, self.folder / "log")
        self.run(self._agent.start)

    def stop(self) -> None:
        self.run(self._agent.stop)

    def status(self) -> dict[str, Any]:
        """Return what it says, nothing while it does not."""
        self._agent.check()
        try:
            found: dict[str, Any] = ask(str(self.socket), "status")
        except PeerError:
            return {}
        return found

    def state(self) -> str:
        return next((str(plugin["state"]) for plugin in self.status().get("plugins", ())), "")

    def server(self) -> str:
        """Return the API server that it says it uses."""
        (said,) = {stream["server"] for stream in self.status()["source"].values()}
        return str(said)

    def errors(self) -> str:
        return " ".join(stream["last_error"] for stream in self.status()["source"].values())

    def knows(self, kind: str) -> int:
        """Return how many objects of a kind it knows."""
        return int(self.status()["sync"][kind]["objects"])

    def announce(self, name: str, address: str, port: int) -> None:
        """Add an EndpointSlice to the Service default/kubernetes, and wait until the agent knows it."""
        before = self.knows("endpointslices")
        self.api(lambda api: api.create(slice_of(name, address, port)))
        until(lambda: self.knows("endpointslices") == before + 1, what="the slice")


def slice_of(name: str, address: str, port: int) -> dict[str, Any]:
    labels = {"kubernetes.io/service-name": "kubernetes"}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": "default", "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address]}],
    }


def service(name: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 80}]}}


@pytest.fixture(scope="module", name="planes")
def _planes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with Inside() as inside:
        inside.run(partial(sh, LINKS))
        world = World(inside, tmp_path_factory.mktemp("node"))
        try:
            inside.run(world.plane.start)
            node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}}
            addresses = {"status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}}
            world.api(lambda api: api.create(node))
            world.api(lambda api: api.patch(named("Node", "node-1"), addresses, subresource="status"))
            # The journal of a node that has reached its API server before.
            world.start(f"--kubeconfig={world.plane.access.kubeconfig}")
            until(lambda: world.state() == "in sync", what="in sync", timeout_s=30)
            assert world.server() == f"{world.plane.access.url} (kubeconfig)"
            world.stop()
            yield world
        finally:
            inside.run(world.plane.close)


@pytest.fixture(name="world")
def _world(planes: World) -> Iterator[World]:
    """The node with its agent stopped, and the API server at its endpoint."""
    planes.run(planes.endpoint.open)
    yield planes
    planes.stop()
    for relay in (planes.endpoint, planes.moved):
        relay.close()
    for it in planes.api(lambda api: api.list("EndpointSlice")):
        if it["metadata"]["name"] != "kubernetes":
            planes.api(lambda api, name=it["metadata"]["name"]: api.delete(  # type: ignore[misc]
                named("EndpointSlice", name, namespace="default")
            ))  # fmt: skip


def at(world: World, address: str) -> str:
    return f"https://{address}:{world.port} (endpoint of default/kubernetes)"


def test_the_endpoint_that_the_journal_knows_is_asked_and_told(world: World) -> None:
    world.start()
    until(lambda: world.state() == "in sync", what="in sync", timeout_s=30)
    assert world.server() == at(world, VM_HOST)
    printed = sh(f"{sys.executable} -m kube_router.cli status --control-socket {world.socket}")
    assert f"https://{VM_HOST}:{world.port} (endpoint of" in printed
    assert f"api_server_chosen server='{at(world, VM_HOST)}'" in (world.folder / "log").read_text()
    assert "certificate" not in world.errors()


def test_an_api_server_that_moves_is_followed_where_the_slices_say(world: World) -> None:
    world.start()
    until(lambda: world.state() == "in sync", what="in sync", timeout_s=30)
    world.run(world.moved.open)
    world.announce("kubernetes-moved", MOVED, world.port)
    world.endpoint.close()
    before = world.knows("services")
    world.api(lambda api: api.create(service("after")))
    until(lambda: world.knows("services") == before + 1, what="the new Service", timeout_s=30)
    assert world.server() == at(world, MOVED)


def test_a_rebooted_node_puts_its_state_back_and_is_in_sync_once_the_endpoint_answers(world: World) -> None:
    world.endpoint.close()
    world.run(partial(sh, REBOOT))
    world.start()
    until(lambda: world.state() == "presumed from the journal", what="the journal's state", timeout_s=30)
    assert "kube-bridge" in world.run(partial(sh, "ip link"))
    assert "10.244." in world.run(partial(sh, "nft list table inet kube-router-routing"))
    assert world.server() == ""
    world.run(world.endpoint.open)
    until(lambda: world.state() == "in sync", what="in sync", timeout_s=60)
    assert world.server() == at(world, VM_HOST)


def test_an_endpoint_with_a_certificate_of_another_ca_gets_no_token_and_the_next_is_asked(
    world: World, tmp_path: Path
) -> None:
    world.start()
    until(lambda: world.state() == "in sync", what="in sync", timeout_s=30)
    impostor = Impostor(tmp_path, world.port)
    world.run(impostor.open)
    try:
        world.announce("kubernetes-false", FALSE, world.port)
        world.endpoint.close()
        until(lambda: f"{FALSE}:{world.port} (" in world.errors(), what="the impostor to be tried", timeout_s=30)
        assert "certificate verify failed" in world.errors()
        world.run(world.endpoint.open)
        before = world.knows("services")
        world.api(lambda api: api.create(service("true")))
        until(lambda: world.knows("services") == before + 1, what="the new Service", timeout_s=60)
    finally:
        impostor.close()
    assert world.server() == at(world, VM_HOST)
    assert impostor.heard == b""


class Impostor:
    """Answers TLS at the false endpoint, with a certificate for the Service's address that its own CA has signed.

    ``heard`` is all that was said once a connection stood.
    """

    def __init__(self, folder: Path, port: int) -> None:
        certificate(folder, "false", SERVICE, FALSE)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(folder / "false.crt", folder / "false.key")
        self.heard = b""
        self._port = port

    def open(self) -> None:
        """Listen in this thread's namespace."""
        self._listening = socket.create_server((FALSE, self._port))
        threading.Thread(target=self._take, daemon=True).start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _take(self) -> None:
        with suppress(OSError):  # closed: it is over
            while True:
                client, _ = self._listening.accept()
                with suppress(OSError), self._context.wrap_socket(client, server_side=True) as secured:
                    self.heard += secured.recv(4096)
