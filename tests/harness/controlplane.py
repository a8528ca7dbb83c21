"""A real control plane on this machine: etcd, kube-apiserver and kube-controller-manager, up in a few seconds.

    with ControlPlane() as plane, plane.client() as client:
        client.create(...)
        plane.kubectl("get", "services", "--all-namespaces")

It listens on free ports of the loopback interface; the lab's VM reaches the same at 10.0.2.2, which is in the
certificate. Two families, node CIDRs allocated, EndpointSlices made by the real controller. Nobody plays the kubelet:
a pod runs once someone patches its status. ``stop_api`` and ``start_api`` take the API server away and bring it back at
the same port over the same data. Everything ends with this process, even if that is killed.

No service account admission, no scheduler, no TLS towards etcd: the users are tests and benchmarks.
"""

import secrets
import shutil
import tempfile
import time
from pathlib import Path

from harness.binaries import Binaries, binaries
from harness.client import Access, Client, kubectl
from harness.daemon import Daemon, free_ports, new_private_key
from harness.started import Started

VM_HOST = "10.0.2.2"  # what the lab's VM calls our loopback
SERVICE_CIDRS = "10.96.0.0/16,fd00:96::/112"
CLUSTER_CIDRS = "10.244.0.0/16,fd00:244::/56"
CONTROLLERS = (
    "endpointslice-controller",
    "endpointslice-mirroring-controller",
    "namespace-controller",
    "replicaset-controller",
    "deployment-controller",
    "daemonset-controller",
    "garbage-collector-controller",
    "node-ipam-controller",
)
READY_S_MAX = 60
POLL_S = 0.05


class ControlPlane(Started):
    """Starts on entering the context, is gone on leaving it."""

    def __init__(self, programs: Binaries | None = None) -> None:
        self._programs = programs or binaries()
        self.folder = Path(tempfile.mkdtemp(prefix="kr-controlplane-"))
        self._port, self._etcd_port, self._etcd_peer_port = free_ports(3)
        self.access = Access(
            url=f"https://127.0.0.1:{self._port}",
            token=secrets.token_hex(16),
            ca_file=self.folder / "certs" / "apiserver.crt",
            kubeconfig=self.folder / "kubeconfig",
            kubectl=self._programs.kubectl,
        )
        self._etcd = Daemon(self._etcd_argv(), self.folder / "etcd.log")
        self._api = Daemon(self._api_argv(), self.folder / "kube-apiserver.log")
        self._controllers = Daemon(self._controllers_argv(), self.folder / "kube-controller-manager.log")

    def start(self) -> None:
        """Start all three; return when the API is ready."""
        (self.folder / "service-account.key").write_text(new_private_key())
        (self.folder / "tokens.csv").write_text("".join(f"{line}\n" for line in self._tokens()))
        self.access.write_kubeconfig()
        self._etcd.start()
        self.start_api()
        self._controllers.start()

    def close(self) -> None:
        """Stop everything and remove its data."""
        for daemon in (self._controllers, self._api, self._etcd):
            daemon.stop(kill=True)
        shutil.rmtree(self.folder)

    def start_api(self) -> None:
        """Start the API server, if it does not run, and wait until it is ready."""
        self._api.start()
        deadline = time.monotonic() + READY_S_MAX
        while not self._is_ready():
            self._api.check()
            self._etcd.check()
            if time.monotonic() > deadline:
                raise RuntimeError(f"kube-apiserver is not ready after {READY_S_MAX} s:\n{self._api.last_words()}")
            time.sleep(POLL_S)

    def stop_api(self, *, kill: bool = True) -> None:
        """Stop the API server alone. Without ``kill`` it says goodbye to every watch first, which takes 10 s."""
        self._api.stop(kill=kill)

    def client(self) -> Client:
        """Return a client with connections of its own."""
        return Client(self.access)

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """Return what kubectl prints; subprocess.CalledProcessError if it fails."""
        return kubectl(self.access, *arguments, stdin=stdin)

    def _is_ready(self) -> bool:
        if not self.access.ca_file.exists():  # the server writes it as it starts
            return False
        with Client(self.access, connections=1) as client:
            return client.is_ready()

    def _tokens(self) -> list[str]:
        return [f"{self.access.token},test,test,system:masters"]

    def _etcd_urls(self) -> tuple[str, str]:
        """Return what etcd's clients use, and its peers."""
        return f"http://127.0.0.1:{self._etcd_port}", f"http://127.0.0.1:{self._etcd_peer_port}"

    def _etcd_argv(self) -> list[str]:
        client, peer = self._etcd_urls()
        return [
            str(self._programs.etcd),
            f"--data-dir={self.folder / 'etcd'}",
            "--unsafe-no-fsync",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
        ]

    def _api_argv(self) -> list[str]:
        key = self.folder / "service-account.key"
        # It makes its own certificate, for the addresses it binds and advertises.
        return [
            str(self._programs.kube_apiserver),
            f"--etcd-servers={self._etcd_urls()[0]}",
            "--bind-address=127.0.0.1",
            f"--advertise-address={VM_HOST}",
            f"--secure-port={self._port}",
            f"--cert-dir={self.folder / 'certs'}",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            f"--service-cluster-ip-range={SERVICE_CIDRS}",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--authorization-mode=RBAC",
            "--disable-admission-plugins=ServiceAccount",
        ]

    def _controllers_argv(self) -> list[str]:
        return [
            str(self._programs.kube_controller_manager),
            f"--kubeconfig={self.access.kubeconfig}",
            f"--controllers={','.join(CONTROLLERS)}",
            "--allocate-node-cidrs",
            f"--cluster-cidr={CLUSTER_CIDRS}",
            f"--service-cluster-ip-range={SERVICE_CIDRS}",
            "--leader-elect=false",
            "--secure-port=0",
        ]
