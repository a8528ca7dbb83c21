"""A node for the agent in a test: a network namespace with a way to the API server, and pods behind kube-bridge.

    10.0.2.2 (the host, with the API server) ── this machine, masquerading ── node 169.254.77.2 ── kube-bridge ── pods

The namespace can be thrown away and made anew under the same name while the journal stays: that is a reboot.
"""

import os
import secrets
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harness.machine import until
from harness.netns import run_in, sh
from harness.zygote import Zygote, runs

from kube_router.core.ask import ask
from kube_router.events.errors import PeerError

ADDRESS = "169.254.77.2"


class _Echo(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line)


class _EchoServer(socketserver.ThreadingTCPServer):
    daemon_threads = True


class Connection:
    """A TCP connection that is kept."""

    def __init__(self, client: socket.socket) -> None:
        self._client = client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._client.close()

    def ask(self, text: str) -> str:
        """Send a line and return the line that comes back."""
        self._client.sendall(text.encode() + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            chunk = self._client.recv(4096)
            assert chunk, "the connection was closed"
            answer += chunk
        return answer.decode().strip()


class Node:
    """One node and its agent. ``flags`` are those of ``kr run``, with the names of journal, socket and node added."""

    def __init__(self, zygote: Zygote, *flags: str, name: str = "node-1") -> None:
        self.name = name
        self.netns = f"krt-{secrets.token_hex(3)}"
        self.folder = Path(tempfile.mkdtemp(prefix="kr-node-"))
        self.journal, self.log = self.folder / "journal", self.folder / "agent.log"
        self.pid = 0
        self._zygote, self._flags = zygote, flags

    def __enter__(self) -> Self:
        self.boot()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None and self.log.exists():
            print(f"--- log of {self.name}\n{self.log.read_text()[-6000:]}")
        self.kill()
        self.shut_down()
        shutil.rmtree(self.folder)

    # -- the machine ---------------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Make the namespace: nothing is in its kernel yet."""
        sh(
            f"""
            ip netns add {self.netns}
            ip link add {self.netns} type veth peer name eth0 netns {self.netns}
            ip addr add 169.254.77.1/30 dev {self.netns}
            ip link set {self.netns} up
            sysctl -qw net.ipv4.ip_forward=1
            nft add table ip {self.netns}
            nft add chain ip {self.netns} post '{{ type nat hook postrouting priority 100; }}'
            nft add rule ip {self.netns} post ip saddr 169.254.77.0/30 masquerade
            """
        )
        self.run(
            f"""
            ip link set lo up
            ip addr add {ADDRESS}/30 dev eth0
            ip link set eth0 up
            ip route add default via 169.254.77.1
            ip link add kube-bridge type bridge
            ip addr add 10.244.1.1/24 dev kube-bridge
            ip link set kube-bridge up
            sysctl -qw net.ipv4.ip_forward=1
            """
        )

    def shut_down(self) -> None:
        """Throw the namespace away, with all its kernel holds."""
        sh(f"ip netns del {self.netns}; ip link del {self.netns} 2>/dev/null || true; nft delete table ip {self.netns}")

    def run(self, command: str) -> str:
        """Run a shell command on the node."""
        return run_in(self.netns, lambda: sh(command))

    @contextmanager
    def pod(self, address: str, *, port: int) -> Iterator[None]:
        """Run a pod behind kube-bridge that sends back what it is sent over TCP."""
        pod = f"{self.netns}-{secrets.token_hex(2)}"
        port_of_bridge = pod[4:]
        sh(
            f"""
            ip netns add {pod}
            ip link add {port_of_bridge} netns {self.netns} type veth peer name tmp{port_of_bridge}
            ip link set tmp{port_of_bridge} netns {pod} name eth0
            """
        )
        self.run(f"ip link set {port_of_bridge} master kube-bridge up; ip route add {address}/32 dev kube-bridge")
        commands = f"""
            ip link set lo up; ip addr add {address}/32 dev eth0; ip link set eth0 up
            ip route add 10.244.1.1 dev eth0; ip route add default via 10.244.1.1
        """
        run_in(pod, lambda: sh(commands))
        server = run_in(pod, lambda: _EchoServer((address, port), _Echo))
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            sh(f"ip netns del {pod}")

    def connect(self, address: str, port: int) -> Connection:
        """Open a TCP connection from the node itself."""
        return Connection(run_in(self.netns, lambda: socket.create_connection((address, port), timeout=60)))

    # -- the agent -----------------------------------------------------------------------------------------------------

    @property
    def argv(self) -> list[str]:
        """The agent's flags."""
        return [
            f"--hostname-override={self.name}",
            f"--journal-dir={self.journal}",
            f"--control-socket={self.folder / 'kr.sock'}",
            "--health-port=0",
            "--run-router=false",  # it would write a file that all nodes of this machine share
            *self._flags,
        ]

    def start(self) -> None:
        """Start the agent."""
        self.pid = self._zygote.start(self.argv, netns=self.netns, log=self.log)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End the agent, by default with -9, and wait until it has."""
        if self.pid and runs(self.pid):
            os.kill(self.pid, number)
            until(lambda: not runs(self.pid), what="the agent to end")
        self.pid = 0

    def clean_up(self) -> None:
        """Run ``kr cleanup`` on the node."""
        self.run(f"{sys.executable} -m kube_router.cli cleanup --control-socket={self.folder / 'kr.sock'}")

    def status(self) -> dict[str, Any]:
        """Return what ``kr status`` would show, nothing where the agent does not answer yet."""
        try:
            found: dict[str, Any] = ask(str(self.folder / "kr.sock"), "status")
        except PeerError:
            return {}
        return found

    def plugin(self, name: str = "proxy") -> dict[str, Any]:
        """Return the part of the status that is about one plugin."""
        found = [plugin for plugin in self.status().get("plugins", []) if plugin["name"] == name]
        return found[0] if found else {}

    # -- what the kernel holds -----------------------------------------------------------------------------------------

    def ipvs(self) -> list[str]:
        """Return the lines of ``ipvsadm -Sn``, sorted."""
        return sorted(self.run("ipvsadm -Sn").splitlines())

    def wait_for_ipvs(self, expected: list[str], *, timeout_s: float = 10) -> None:
        """Wait until IPVS holds exactly this, and say what is otherwise if it does not in time."""
        deadline = time.monotonic() + timeout_s * 15
        while (found := self.ipvs()) != expected:
            if time.monotonic() > deadline:
                missing, extra = sorted(set(expected) - set(found))[:5], sorted(set(found) - set(expected))[:5]
                raise AssertionError(f"IPVS lacks {missing} and has besides {extra}; status: {self.status()}")
            time.sleep(0.2)

    def replayed(self, *arguments: str) -> list[str]:
        """Return what ``kr replay JOURNAL --plan proxy`` prints, sorted, run as a person without root would."""
        argv = [
            sys.executable,
            "-m",
            "kube_router.cli",
            "replay",
            str(self.journal),
            "--plan",
            "proxy",
            "--node",
            self.name,
            *arguments,
        ]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        return sorted(done.stdout.splitlines())
