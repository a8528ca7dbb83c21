"""The control plane of a test cluster: a real one, with scheduler and service accounts, on the nodes' network (I/O)."""

import secrets

from cluster.layout import (
    API_PORT,
    API_URL,
    CONTROL_ADDRESS,
    ETCD_PEER_PORT,
    ETCD_PORT,
    FABRIC,
    POD_CIDR,
    SERVICE_CIDR,
    Seat,
    inside,
)
from harness.client import Access
from harness.controlplane import ControlPlane
from harness.daemon import Daemon
from harness.gomodules import KUBERNETES

from kube_router.lab import netns

CONTROLLERS = ("*", "-bootstrapsigner", "-tokencleaner", "-node-route-controller", "-cloud-node-lifecycle-controller")


class ClusterControlPlane(ControlPlane):
    """As a production cluster's, but for etcd's fsync and tokens from a file."""

    def __init__(self, seats: tuple[Seat, ...]) -> None:
        self.node_tokens = {seat.name: secrets.token_hex(16) for seat in seats}
        self.proxy_token = secrets.token_hex(16)
        super().__init__()
        self.access = Access(
            url=API_URL,
            token=self.access.token,
            ca_file=self.access.ca_file,
            kubeconfig=self.access.kubeconfig,
            kubectl=self.access.kubectl,
        )
        self._scheduler = Daemon(self._scheduler_argv(), self.folder / "kube-scheduler.log")

    def start(self) -> None:
        """Start all four; return when the API is ready."""
        super().start()
        self._scheduler.start()

    def close(self) -> None:
        """Stop everything and remove its data."""
        self._scheduler.stop(kill=True)
        super().close()

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """Return what kubectl prints; subprocess.CalledProcessError if it fails."""
        return netns.run_in(FABRIC, lambda: super(ClusterControlPlane, self).kubectl(*arguments, stdin=stdin))

    def _is_ready(self) -> bool:
        return netns.run_in(FABRIC, super()._is_ready)

    def _tokens(self) -> list[str]:
        nodes = [f"{token},system:node:{name},{name},system:nodes" for name, token in self.node_tokens.items()]
        return [*super()._tokens(), *nodes, f"{self.proxy_token},system:kube-proxy,system:kube-proxy"]

    def _etcd_urls(self) -> tuple[str, str]:
        return f"http://127.0.0.1:{ETCD_PORT}", f"http://127.0.0.1:{ETCD_PEER_PORT}"

    def _etcd_argv(self) -> list[str]:
        return [*inside(FABRIC), *super()._etcd_argv()]

    def _api_argv(self) -> list[str]:
        changed = {
            "--bind-address": CONTROL_ADDRESS,
            "--advertise-address": CONTROL_ADDRESS,
            "--secure-port": str(API_PORT),
            "--service-cluster-ip-range": SERVICE_CIDR,
            "--authorization-mode": "Node,RBAC",
            "--enable-admission-plugins": "NodeRestriction",
            "--kubelet-preferred-address-types": "InternalIP",
            "--allow-privileged": "true",
        }
        return [*inside(FABRIC), *_with(super()._api_argv(), changed, without=("--disable-admission-plugins",))]

    def _controllers_argv(self) -> list[str]:
        changed = {
            "--controllers": ",".join(CONTROLLERS),
            "--cluster-cidr": POD_CIDR,
            "--service-cluster-ip-range": SERVICE_CIDR,
            "--root-ca-file": str(self.access.ca_file),
            "--service-account-private-key-file": str(self.folder / "service-account.key"),
            "--use-service-account-credentials": "true",
            # A node that was powered off is noticed soon enough for a test.
            "--node-monitor-grace-period": "20s",
        }
        return [*inside(FABRIC), *_with(super()._controllers_argv(), changed)]

    def _scheduler_argv(self) -> list[str]:
        program = str(KUBERNETES.program("kube-scheduler"))
        return [
            *inside(FABRIC),
            program,
            f"--kubeconfig={self.access.kubeconfig}",
            "--leader-elect=false",
            "--secure-port=0",
        ]


def _with(argv: list[str], changed: dict[str, str], *, without: tuple[str, ...] = ()) -> list[str]:
    """Return a command line with some flags given another value, or added, and some left out."""
    kept = [word for word in argv if word.partition("=")[0] not in {*changed, *without}]
    return [*kept, *(f"{flag}={value}" for flag, value in changed.items())]
