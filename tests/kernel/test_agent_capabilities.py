"""The real agent with few capabilities: where one is missing it says so and changes nothing, with enough it serves."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.daemon import Daemon
from harness.machine import until
from harness.netns import run_in_new, sh

from kube_router.core.ask import ask
from kube_router.events.errors import PeerError

pytestmark = [pytest.mark.root]

PROGRAM = "import sys; from kube_router.cli.main import kube_router; sys.exit(kube_router())"
MANIFESTS = """
apiVersion: v1
kind: Node
metadata: {name: node-1}
spec: {podCIDRs: [10.244.1.0/24]}
status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: default}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: default, labels: {app: web}}
spec: {nodeName: node-1}
status: {phase: Running, podIP: 10.244.1.5, podIPs: [{ip: 10.244.1.5}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed, namespace: default}
spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]}
"""


class Pod:
    """The agent in this thread's network namespace, with these capabilities and no other."""

    def __init__(self, folder: Path, *capabilities: str) -> None:
        self._folder = folder
        (folder / "manifests").mkdir()
        (folder / "manifests" / "all.yaml").write_text(MANIFESTS)
        kept = "".join(f",+{name.lower()}" for name in capabilities)
        flags = ["--run-service-proxy=false", f"--manifests={folder}/manifests", "--hostname-override=node-1"]
        flags += [f"--journal-dir={folder}/journal", f"--control-socket={folder}/kr.sock", "--health-port=0"]
        self._daemon = Daemon(
            [
                *("setpriv", f"--bounding-set=-all{kept}", f"--inh-caps=-all{kept}"),
                *("env", f"KUBE_ROUTER_CNI_CONF_FILE={folder}/10-kuberouter.conflist"),
                *(sys.executable, "-c", PROGRAM, *flags),
            ],
            folder / "log",
        )

    def start(self) -> None:
        self._daemon.start()

    def ended(self) -> int:
        """Return its exit status, once it has ended."""
        return self._daemon.wait_ended(30)

    def stop(self) -> None:
        self._daemon.stop()

    def log(self) -> str:
        return (self._folder / "log").read_text()

    def states(self) -> dict[str, str]:
        """Return the state of each plugin."""
        self._daemon.check()
        try:
            return {each["name"]: each["state"] for each in ask(f"{self._folder}/kr.sock", "status")["plugins"]}
        except PeerError:  # it is about to listen
            return {}


def on_a_node(body: Callable[[], None]) -> None:
    """Run it in a namespace with one link."""

    def inside() -> None:
        sh("ip link add eth0 type veth peer name eth1; ip link set eth0 up; ip link set eth1 up")
        sh("ip addr add 192.0.2.1/24 dev eth0; ip route add 10.244.2.0/24 via 192.0.2.2 proto 75 metric 75")
        body()

    run_in_new(inside)


def held() -> str:
    """Return what the kernel holds that an agent would write."""
    return sh("nft list ruleset; ip -o link; ip route; ip rule; cat /proc/sys/net/ipv4/ip_forward")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        pytest.param(
            ("NET_BIND_SERVICE", "NET_RAW"),
            "missing capabilities: NET_ADMIN (firewall: writes the nftables table of the policies and reads denied "
            "packets; routing: writes routes, rules, tunnels, nftables and sysctls); in a pod add them to "
            "securityContext.capabilities.add",
            id="NET_ADMIN",
        ),
        pytest.param(
            ("NET_ADMIN",),
            "missing capabilities: NET_BIND_SERVICE (routing: BGP listens on port 179, ports below",
            id="NET_BIND_SERVICE",
        ),
    ],
)
def test_without_a_capability_it_ends_with_words_and_the_kernel_stays_as_it_was(
    tmp_path: Path, given: tuple[str, ...], told: str
) -> None:
    def body() -> None:
        sh("nft add table inet kube-router-firewall")
        before = held()
        pod = Pod(tmp_path, *given)
        pod.start()
        assert pod.ended() == 2
        assert told in pod.log()
        assert held() == before

    on_a_node(body)


def test_with_what_the_plugins_state_and_no_more_it_serves(tmp_path: Path) -> None:
    def body() -> None:
        pod = Pod(tmp_path, "NET_ADMIN", "NET_BIND_SERVICE")
        pod.start()
        try:
            until(lambda: pod.states() == {"firewall": "in sync", "routing": "in sync"}, what="in sync", timeout_s=30)
            assert "10.244.1.5" in sh("nft list table inet kube-router-firewall")
            assert "10.244.1.0/24" in sh("nft list table inet kube-router-routing")
            assert "kube-bridge" in sh("ip -o link show up")
            assert "10.244.2.0/24" not in sh("ip route show proto 75"), "what nobody tells any more is removed"
            assert "192.0.2.1:179" in sh("ss -Hltn")
            assert sh("cat /proc/sys/net/ipv4/ip_forward") == "1\n"
            assert "EPERM" not in pod.log()
            assert "Operation not permitted" not in pod.log()
        finally:
            pod.stop()

    on_a_node(body)
